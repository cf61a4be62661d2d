//! Switches of callers under load and under faults: what each value changes for those who call.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use reference_system::audit::Verdict;
use reference_system::ids::{SlotHash, group, shard};
use serde_json::json;
use world::{World, eventually, id_of, kill, obeyed, runs, set, signal, state_of, verdict_of};

/// How many requests an instance has answered on a route.
async fn answered(world: &World, instance: &str, route: &str) -> u64 {
    let url = format!("http://{}/metrics", world.address(instance));
    let text = world.http.get(url).send().await.unwrap().text().await.unwrap();
    let begins = format!("http_request_seconds_count{{instance=\"{instance}\",route=\"{route}\",");
    let counts = text.lines().filter(|line| line.starts_with(&begins));
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// The share of 400 reads that reaches `eos-c-2` while its event loop is blocked most of the time, in percent.
async fn share_of_the_slow_one(world: &World) -> u64 {
    const ROUTE: &str = "/users/{user}/orders";
    let before = [answered(world, "eos-c-1", ROUTE).await, answered(world, "eos-c-2", ROUTE).await];
    let slow = format!("http://{}/debug/block?ms=40", world.address("eos-c-2"));
    let block = async {
        loop {
            world.http.post(&slow).send().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reads = futures::future::join_all((0..8).map(|_| async {
        for _ in 0..50 {
            let (status, answer) = world.get("/users/1/orders").await;
            assert_eq!(status, 200, "{answer}");
        }
    }));
    tokio::select! {
        () = block => {}
        _ = reads => {}
    }
    let quick = answered(world, "eos-c-1", ROUTE).await - before[0];
    let slow = answered(world, "eos-c-2", ROUTE).await - before[1];
    assert_eq!(quick + slow, 400);
    slow * 100 / 400
}

#[tokio::test]
async fn under_load_turns_go_to_a_slow_instance_and_the_better_of_two_spares_it() {
    let world = World::start().await;
    let mut shares = Vec::new();
    for value in ["rr", "p2c_ewma"] {
        set(&world, "lb", Some(value), None).await;
        obeyed(&world, "lb", value, &["gw-1"]).await;
        shares.push(share_of_the_slow_one(&world).await);
    }
    assert!((45..=55).contains(&shares[0]), "every second call goes there: {shares:?} %");
    assert!(shares[1] < 25, "few calls go there: {shares:?} %");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_refuses_is_left_alone_only_while_ejection_is_on() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    for (name, value) in [("lb", "rr"), ("lb.connect_retry", "off"), ("lb.eject", "off")] {
        set(&world, name, Some(value), None).await;
        obeyed(&world, name, value, &["gw-1"]).await;
    }
    let dead = world.address("eos-c-1");
    kill(world.pid("eos-c-1").unwrap());
    let entry = format!("{}/svc/eos-c/eos-c-1?ttl_ms=60000", world.system.state().registry);
    world.send("PUT", entry, Some(json!({ "address": dead, "state": "up" })), "keep").await;
    let succeeds = async || world.get("/users/1/orders").await.0 == 200;
    let in_a_row = async |wanted: u32, tries: u32| {
        let (mut row, mut best) = (0, 0);
        for _ in 0..tries {
            row = if succeeds().await { row + 1 } else { 0 };
            best = best.max(row);
            if best >= wanted {
                break;
            }
        }
        best
    };
    eventually("the dead one is called", || async { (!succeeds().await).then_some(()) }).await;
    assert!(in_a_row(10, 60).await < 10, "every second call is refused, for ever");
    set(&world, "lb.eject", Some("on"), None).await;
    obeyed(&world, "lb.eject", "on", &["gw-1"]).await;
    assert_eq!(in_a_row(10, 60).await, 10, "after five refusals it is left alone");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn without_its_registry_a_caller_goes_on_only_with_what_it_kept() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(4)).await;
    let read = async || world.get("/users/1/orders").await;
    let killed = async || {
        let reg = world.pid("reg-1").unwrap();
        kill(reg);
        eventually("it is dead", || async { (!runs(reg)).then_some(()) }).await;
        reg
    };
    let back = async |before: u32| {
        eventually("the registry is back", || async { world.pid("reg-1").filter(|pid| *pid != before && runs(*pid)) })
            .await;
        let ready = format!("{}/readyz", world.system.state().registry);
        eventually("it is ready", || async {
            world.http.get(&ready).send().await.ok().filter(|answer| answer.status() == 200).map(drop)
        })
        .await;
        eventually("everybody is found", || async { (read().await.0 == 200).then_some(()) }).await;
    };
    let reg = killed().await;
    // While it is dead, and for longer than a caller needs to notice.
    while world.pid("reg-1").is_none_or(|pid| pid == reg) {
        let (status, answer) = read().await;
        assert_eq!(status, 200, "{answer}");
    }
    back(reg).await;
    set(&world, "reg.client_cache", Some("off"), None).await;
    obeyed(&world, "reg.client_cache", "off", &["gw-1"]).await;
    let reg = killed().await;
    eventually("nobody is known any more", || async { (read().await.1["code"] == "no_instance").then_some(()) }).await;
    back(reg).await;
    set(&world, "reg.client_cache", Some("on"), None).await;
    obeyed(&world, "reg.client_cache", "on", &["gw-1"]).await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_breaker_that_looks_back_long_does_not_open_where_a_short_one_does() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    set(&world, "breaker", Some("window400"), None).await;
    obeyed(&world, "breaker", "window400", &["eos-c-1"]).await;
    // Reads shall need the store.
    set(&world, "cache.design", Some("none"), None).await;
    obeyed(&world, "cache.design", "none", &["eos-c-1"]).await;
    let user = (1..).find(|id| group(shard(SlotHash::default().slot(*id))) == 0).unwrap();
    let order = id_of(&world.create(user, 11, None).await);
    let url = format!("http://{}/orders/{order}", world.address("eos-c-1"));
    let read = async || world.send("GET", url.clone(), None, "read").await;
    for _ in 0..400 {
        assert_eq!(read().await.0, 200);
    }
    kill(world.pid("st-u0-1").unwrap());
    let refused_at_once = async || {
        let (status, answer) = read().await;
        assert_eq!(status, 503, "{answer}");
        answer["code"] == "breaker_open"
    };
    for _ in 0..60 {
        assert!(!refused_at_once().await, "four hundred good calls weigh more");
    }
    set(&world, "breaker", Some("window10"), None).await;
    obeyed(&world, "breaker", "window10", &["eos-c-1"]).await;
    // Far fewer than there were good ones.
    let mut calls = 0;
    eventually("what was good ten seconds ago counts no longer", || {
        calls += 1;
        async {
            tokio::time::sleep(Duration::from_millis(80)).await;
            refused_at_once().await.then_some(())
        }
    })
    .await;
    assert!(calls < 300, "{calls} calls");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_sends_slow_writes_again_makes_two_orders_of_one_wish() {
    const ORDERS: [&str; 2] = ["eos-c-1", "eos-c-2"];
    // As long as that gateway waits, five times the design's second.
    const PATIENCE: Duration = Duration::from_secs(5);
    let world = World::start().await;
    let orders_of = async |user: i64| {
        let (status, list) = world.get(&format!("/users/{user}/orders")).await;
        assert_eq!(status, 200, "{list}");
        list.as_array().unwrap().len()
    };
    // The gateway must find them as long as they are paused.
    set(&world, "reg.lease_ms", Some("30000"), None).await;
    eventually("the leases are long", || async {
        let state = state_of(&world, "reg-1").await;
        ORDERS.iter().all(|one| state["role"]["leases"][one].as_u64() > Some(20_000)).then_some(())
    })
    .await;
    for (user, value, expected) in [(71, "off", 1), (72, "blind", 2)] {
        set(&world, "gw.resend", Some(value), None).await;
        obeyed(&world, "gw.resend", value, &["gw-1"]).await;
        let basket = world.basket(user, 17, None).await;
        let pids = ORDERS.map(|instance| world.pid(instance).unwrap());
        pids.into_iter().for_each(|pid| signal(pid, SIGSTOP));
        let tries = if value == "off" { 1 } else { 2 };
        let began = Instant::now();
        let go_on = async {
            eventually("it was tried", || async {
                let state = state_of(&world, "gw-1").await;
                let under_way = ORDERS.map(|one| state["directory"]["under_way"][one].as_u64().unwrap_or(0));
                (under_way.iter().sum::<u64>() == tries && began.elapsed() > PATIENCE).then_some(())
            })
            .await;
            pids.into_iter().for_each(|pid| signal(pid, SIGCONT));
        };
        let ((_, answer), ()) = tokio::join!(world.post("/orders", basket), go_on);
        eventually("every try has ended", || async { (orders_of(user).await == expected).then_some(()) }).await;
        let report = world.audit().await;
        let verdict = verdict_of(&report, "I3");
        assert_eq!(verdict, if value == "off" { Verdict::Valid } else { Verdict::Invalid }, "{answer} {report:#?}");
    }
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_shard_with_a_cap_lets_its_writes_wait_for_each_other_and_those_of_other_shards_not() {
    const HASH: SlotHash = SlotHash::Mix64;
    let world = World::start().await;
    let shard_of = |user: &i64| shard(HASH.slot(*user));
    let hot = shard_of(&1);
    let same: Vec<i64> = (1..5_000).filter(|user| shard_of(user) == hot).take(8).collect();
    let mut seen = std::collections::BTreeSet::from([hot]);
    let apart: Vec<i64> = (1..5_000).filter(|user| seen.insert(shard_of(user))).take(8).collect();
    // How many writes had a turn, and whether one of them waited: of the hot shard, and of all others.
    let turns = async || {
        let (mut hot_ones, mut others) = ((0, false), (0, false));
        for instance in ["st-u0-1", "st-u1-1"] {
            for line in world.metrics(instance).await.lines().filter(|line| line.starts_with("capped_shard_w")) {
                let of = if line.contains(&format!("shard=\"{hot}\"")) { &mut hot_ones } else { &mut others };
                let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
                if line.starts_with("capped_shard_writes_total") { of.0 += value as u64 } else { of.1 |= value > 0.0 }
            }
        }
        (hot_ones, others)
    };
    let make = async |users: &[i64]| {
        let made = users.iter().map(|user| async { id_of(&world.create(*user, 17, None).await) });
        futures::future::join_all(made).await
    };
    make(&same).await;
    assert_eq!(turns().await, ((0, false), (0, false)), "without a cap nobody takes turns");
    set(&world, "store.write_cap", Some("10"), None).await;
    obeyed(&world, "store.write_cap", "10", &["st-u0-1", "st-u1-1"]).await;
    make(&apart).await;
    let (hot_ones, others) = turns().await;
    assert_eq!((hot_ones, others), ((0, false), (8, false)), "each is alone on its shard");
    // The next write of an order meets nobody, unless it comes within a tenth of a second of the last one.
    eventually("writes of one shard wait for each other", || async {
        let orders = make(&same).await;
        assert_eq!(orders.len(), same.len());
        turns().await.0.1.then_some(())
    })
    .await;
    world.system.stop().await.unwrap();
}
