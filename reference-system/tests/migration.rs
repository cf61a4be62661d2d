//! The migration from one old order table to the sharded stores: under load and under kills, phase by phase.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

mod corruptions;
mod migrating;
#[macro_use]
mod world;

use std::time::Duration;

use corruptions::seeded::OLD_SIDE;
use corruptions::spoils;
use migrating::{Customer, Load, audit_with, command, finding, migrate, new_store, orders_in, side, start, status};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use reference_system::Tier;
use reference_system::audit::Verdict;
use reference_system::ids::mix64;
use reference_system::switching::{self, Wanted};
use serde_json::{Value, json};
use world::{World, eventually, id_of, kill, runs, set, signal};

on_both_tiers! {
    no_order_is_lost_while_the_stores_change_under_load_and_processes_are_killed
    a_backfill_goes_on_where_it_was_when_its_command_its_role_and_stores_of_both_sides_are_killed
}

async fn no_order_is_lost_while_the_stores_change_under_load_and_processes_are_killed(tier: Tier) {
    const SEED: u64 = 18;
    let world = start(tier, Duration::from_millis(300)).await;
    for user in 900..905 {
        world.settled(user, 21, None).await;
    }
    let customer = Customer::of(&world);
    let load = Load::start(&customer, 3);
    let goes_on = async || {
        // The command may be killed, too: the work does not depend on it.
        let mut first = command(&world, &["run", "--calm", "1s"]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        first.start_kill().unwrap();
        first.wait().await.unwrap();
        migrate(&world, &["run", "--calm", "1s", "--wait", "120s"]).await
    };
    let mut kills = 0;
    let killing = async {
        let victims = ["mig-1", "st-old-1", "st-u1-1", "st-u0-1", "eos-x-1"];
        for turn in 0_u64.. {
            let draw = mix64(SEED << 32 | turn);
            tokio::time::sleep(Duration::from_millis(300 + draw % 700)).await;
            let victim = victims[(draw >> 20) as usize % victims.len()];
            if let Some(pid) = world.pid(victim).filter(|pid| runs(*pid)) {
                kill(pid);
                kills += 1;
            }
            // Long enough for every phase to see some; then the rest must come to an end in peace.
            if turn == 8 {
                std::future::pending::<()>().await;
            }
        }
    };
    let arrived = tokio::select! {
        arrived = goes_on() => arrived,
        () = killing => unreachable!(),
    };
    let arrived = arrived.unwrap_or_else(|why| panic!("{why}"));
    assert!(arrived.contains("phase       P5"), "{arrived}");
    assert!(kills >= 3, "only {kills} processes were killed");
    let record = load.end().await;
    let report = audit_with(&world, &record).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    assert!(report.quiet);
    assert!(finding(&report, "I1").checked >= 5, "{:#?}", finding(&report, "I1"));
    assert!(finding(&report, "I23").checked >= report.orders - 1, "{:#?}", finding(&report, "I23"));
    assert_eq!(
        orders_in(&world, "st-u0").await + orders_in(&world, "st-u1").await,
        i64::try_from(report.orders).unwrap()
    );

    // The last step, under load, too: the old table is dropped, and the system starts without it from then on.
    let load = Load::start(&customer, 3);
    migrate(&world, &["run", "--to", "P6"]).await.unwrap();
    let record = load.end().await;
    assert_eq!(orders_in(&world, "st-old").await, 0);
    let report = audit_with(&world, &record).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    world.system.stop().await.unwrap();
}

async fn a_backfill_goes_on_where_it_was_when_its_command_its_role_and_stores_of_both_sides_are_killed(tier: Tier) {
    const OLDER: i64 = 60;
    let world = start(tier, Duration::from_millis(300)).await;
    let customer = Customer::of(&world);
    for user in 300..300 + OLDER {
        customer.create(user, 36).await.unwrap();
    }
    let load = Load::start(&customer, 2);
    let mut asking = command(&world, &["run", "--to", "P4", "--calm", "1s", "--rate", "8"]).spawn().unwrap();
    let mut copied = 0;
    for (kills, victim) in ["migrate", "st-old-1", "st-u0-1", "st-u1-1", "mig-1"].into_iter().enumerate() {
        let more = 4 + 8 * i64::try_from(kills).unwrap();
        let now = eventually(&format!("{more} older orders are copied"), || async {
            backfill(&world).await.filter(|backfill| backfill["copied"].as_i64() >= Some(more))
        })
        .await;
        assert_eq!(now["done"], false, "it is over before {victim} is killed");
        assert!(now["copied"].as_i64() >= Some(copied), "it has begun again: {now} after {copied}");
        copied = now["copied"].as_i64().unwrap();
        match world.system.state().instances.iter().find(|one| one.instance == victim) {
            Some(one) => kill(world.pid(&one.instance).unwrap()),
            None => asking.kill().await.unwrap(),
        }
    }
    let arrived = migrate(&world, &["run", "--to", "P4", "--wait", "120s"]).await.unwrap_or_else(|why| panic!("{why}"));
    assert!(arrived.contains("phase       P4"), "{arrived}");
    let backfill = backfill(&world).await.unwrap();
    assert!(backfill["total"].as_i64() >= Some(OLDER) && backfill["copied"] == backfill["total"], "{backfill}");
    let report = audit_with(&world, &load.end().await).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    assert!(report.quiet);
    assert!(finding(&report, "I23").checked >= OLDER.unsigned_abs(), "{:#?}", finding(&report, "I23"));
    spoils(world, tier, OLD_SIDE).await;
}

/// The old side is fenced and has handed over; then a store of the new side stands still, so that it cannot be opened. Whoever
/// is killed in that moment, and whatever is ordered in it.
#[tokio::test]
async fn a_hand_over_that_is_killed_between_fence_and_opening_is_finished_and_loses_nothing() {
    let world = start(Tier::Embedded, Duration::from_millis(300)).await;
    let customer = Customer::of(&world);
    // Orders of both groups, at rest: nothing of them is under way when one of the stores stands still.
    for user in 500..506 {
        customer.order(user, 37).await;
    }
    migrate(&world, &["run", "--to", "P3"]).await.unwrap();
    world.assert_valid().await;
    // The gate would wait for the store that stands still.
    world.switch("mig.gate", "off", &["mig"]).await;
    let still = world.pid("st-u1-1").unwrap();
    signal(still, SIGSTOP);
    migrate(&world, &["continue", "--to", "P4"]).await.unwrap();
    let stance = async |store: &str| world.ask("GET", store, "/migration/state", None).await.1["stance"].clone();
    let between = async || {
        let told = status(&world).await;
        let (old, new) = (stance("st-old").await, stance("st-u0").await);
        let handed = old["fenced"] == true && new == json!({ "phase": "P4", "fenced": false });
        (told["phase"] == "P3" && told["between"] == true && handed).then_some(())
    };
    eventually("the old side is fenced, and the new one half open", between).await;
    let load = Load::start(&customer, 2);
    let before = ["mig-1", "st-old-1", "st-u0-1"].map(|victim| (victim, world.pid(victim).unwrap()));
    before.iter().for_each(|(_, pid)| kill(*pid));
    for (victim, old) in before {
        eventually("it is back", || async { world.pid(victim).filter(|pid| *pid != old && runs(*pid)) }).await;
        let alive = format!("http://{}/debug/state", world.address(victim));
        eventually("it answers", || async { world.http.get(&alive).send().await.ok().map(drop) }).await;
    }
    eventually("whoever comes back finds it so, and goes no further", between).await;
    assert!(runs(still));
    signal(still, SIGCONT);
    eventually("it is finished", || async {
        let told = status(&world).await;
        (told["phase"] == "P4" && told["between"] == false).then_some(())
    })
    .await;
    set(&world, "mig.gate", None, None).await;
    let report = audit_with(&world, &load.end().await).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    assert!(report.quiet);
    let found = |id: &str| finding(&report, id).checked;
    assert!(found("I1") >= 8 && found("I23") >= 8, "{} orders promised, {} on both sides", found("I1"), found("I23"));
    world.system.stop().await.unwrap();
}

/// How far copying older orders has come; nothing while nobody tells.
async fn backfill(world: &World) -> Option<Value> {
    let url = format!("http://{}/migration", world.address("mig-1"));
    let status: Value = world.http.get(url).send().await.ok()?.json().await.ok()?;
    Some(status["backfill"].clone()).filter(Value::is_object)
}

/// What `migrate` says in a directory without a running system.
async fn migrate_nowhere(dir: &std::path::Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(world::launcher().program);
    let output = command.arg("migrate").args(args).arg("--dir").arg(dir).output().await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn what_makes_no_sense_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code, told) in [
        (&["--to", "P9"][..], 2, "`P9` is no phase; expected P0 to P6"),
        (&["run", "--rate", "0"], 2, "0 is not in 1..="),
        (&["forward"], 2, "[possible values: status, start, continue, run, pause, back]"),
        (&["pause", "--to", "P3"], 1, "--to, --calm and --rate go with run, start, continue or back"),
        (&["run"], 1, "no system runs in"),
    ] {
        let (ended, text) = migrate_nowhere(dir.path(), args).await;
        assert_eq!(ended, Some(code), "{args:?}: {text}");
        assert!(text.contains(told), "{args:?}: {text}");
    }
    // A system that never had an old table.
    let world = World::start().await;
    let why = migrate(&world, &["run"]).await.unwrap_err();
    assert!(why.contains("has no old order table; start one in an empty directory"), "{why}");
    let turned = Wanted { name: "mig.phase".to_owned(), value: Some("P3".to_owned()), instance: None };
    let why = switching::set(&world.system.state().dir, &turned).await.unwrap_err().to_string();
    assert!(why.contains("this system has no old order table"), "{why}");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn each_phase_does_what_it_says_and_leads_back_where_that_is_safe() {
    let world = start(Tier::Embedded, Duration::from_millis(500)).await;
    let restaurant = 31;
    let user = 40;
    let new = new_store(user);
    let create = async || id_of(&world.create(user, restaurant, None).await);
    let both = async |id: &str| (side(&world, "st-old", id).await, side(&world, new, id).await);

    // P0: the old table alone. Nobody but `migrate` moves the phase of all.
    let proof = orders_in(&world, "st-old").await;
    let early = create().await;
    assert!(matches!(both(&early).await, (Some(_), None)));
    assert_eq!(orders_in(&world, "st-u0").await + orders_in(&world, "st-u1").await, 0);
    let told: Value = serde_json::from_str(&migrate(&world, &["status", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&told["phase"], &told["old_orders"]), (&json!("P0"), &json!(proof + 1)));
    let turned = Wanted { name: "mig.phase".to_owned(), value: Some("P4".to_owned()), instance: None };
    let by_hand = switching::set(&world.system.state().dir, &turned).await.unwrap_err();
    assert!(by_hand.to_string().contains("moved by `system migrate`"), "{by_hand}");
    let back = migrate(&world, &["back"]).await.unwrap_err();
    assert!(back.contains("nothing to go back to"), "{back}");
    for (method, service, path, body) in [
        ("POST", "mig", "/migration", json!({ "asked": "fly" })),
        ("POST", "st-old", "/migration/stance", json!({ "phase": "P9", "fenced": false })),
        ("POST", "st-u0", "/migration/apply", json!({ "orders": [{ "shard": 1 }], "guard": "off" })),
        ("GET", "st-old", "/migration/older?created_until_ms=1&shard=0&order_id=0&limit=0", Value::Null),
    ] {
        let (status, why) = world.ask(method, service, path, Some(body)).await;
        assert_eq!((status, why["code"].as_str()), (422, Some("invalid")), "{path}: {why}");
    }

    // P1: both are written from now on, older orders are not there yet.
    migrate(&world, &["run", "--to", "P1"]).await.unwrap();
    let later = create().await;
    let (old, copy) = both(&later).await;
    assert_eq!(old, copy, "written to both sides");
    assert!(matches!(both(&early).await, (Some(_), None)));
    world.assert_valid().await;

    // P2: they are copied.
    migrate(&world, &["run", "--to", "P2"]).await.unwrap();
    let (old, copy) = both(&early).await;
    assert_eq!(old, copy, "copied");

    // P3: the old side is asked, and every read that the cache does not answer is compared.
    migrate(&world, &["--to", "P3"]).await.unwrap();
    world.switch("cache.design", "none", &["eos-c"]).await;
    let compared = status(&world).await["comparison"]["reads"].as_u64().unwrap();
    world.get(&format!("/orders/{early}")).await;
    eventually("the read is compared", || async {
        (status(&world).await["comparison"]["reads"].as_u64().unwrap() > compared).then_some(())
    })
    .await;
    world.switch("cache.design", "object_index", &["eos-c", "st-u0", "st-u1", "st-old"]).await;

    // P4: the new side decides, also for whoever has not heard of it; the old one is still written.
    migrate(&world, &["run", "--to", "P4", "--calm", "500ms"]).await.unwrap();
    set(&world, "mig.phase", Some("P3"), Some("eos-c-1")).await;
    set(&world, "mig.phase", Some("P1"), Some("eos-m-1")).await;
    world.settled(user, restaurant, None).await;
    world.settled(user, restaurant, None).await;
    set(&world, "mig.phase", None, Some("eos-c-1")).await;
    set(&world, "mig.phase", None, Some("eos-m-1")).await;
    let fourth = create().await;
    let (old, copy) = both(&fourth).await;
    assert_eq!(old, copy, "written to both sides");
    world.assert_valid().await;

    // And back, while that is safe: what was decided meanwhile is there.
    migrate(&world, &["back"]).await.unwrap();
    assert_eq!(status(&world).await["phase"], "P3");
    world.ok(&format!("/orders/{fourth}/pay"), Value::Null).await;
    world.status_is(&fourth, 0).await;
    world.assert_valid().await;

    // P5: the new side alone.
    migrate(&world, &["run", "--to", "P5", "--calm", "500ms"]).await.unwrap();
    let fifth = create().await;
    assert!(matches!(both(&fifth).await, (None, Some(_))));
    let back = migrate(&world, &["back"]).await.unwrap_err();
    assert!(back.contains("no way back from P5"), "{back}");
    world.assert_valid().await;

    // P6: the old table is gone, in the next life of the system its store, too.
    migrate(&world, &["run", "--to", "P6"]).await.unwrap();
    assert_eq!(orders_in(&world, "st-old").await, 0);
    world.ok(&format!("/restaurants/{restaurant}/orders/{fourth}/accept"), Value::Null).await;
    world.assert_valid().await;
    let World { system, dir, http } = world;
    system.stop().await.unwrap();
    let options = world::options(dir.path().join("system"));
    let again = reference_system::start(reference_system::SystemOptions { migration: true, ..options.clone() }).await;
    let refused = again.unwrap_err().to_string();
    assert!(refused.contains("are in the sharded stores already"), "{refused}");
    let system = reference_system::start(options).await.unwrap();
    let world = World { system, dir, http };
    assert!(world.system.state().instances.iter().all(|one| one.service != "st-old" && one.service != "mig"));
    assert_eq!(world.get(&format!("/orders/{early}")).await.0, 200);
    world.assert_valid().await;
    let none = migrate(&world, &["status"]).await.unwrap_err();
    assert!(none.contains("has no old order table"), "{none}");
    world.system.stop().await.unwrap();
}
