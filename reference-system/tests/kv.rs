//! The key-value servers of a running system, on both tiers: told of in metrics, obeying their switches, started again
//! when they die, and never a reason for an order to fail.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use reference_system::Tier;
use reference_system::switching::{self, Wanted};
use world::{World, eventually, id_of, kill, runs};

on_both_tiers! {
    each_purpose_has_a_server_that_obeys_its_switches
    what_a_full_server_does_and_when_it_is_full_are_switches
    orders_go_through_while_a_key_value_server_is_dead
}

/// The processes behind the three URLs.
fn servers(tier: Tier) -> [&'static str; 3] {
    match tier {
        Tier::Embedded => ["kv-cache-1", "kv-lock-1", "kv-id-1"],
        Tier::Real => ["redis-cache-1", "redis-lock-1", "redis-id-1"],
    }
}

async fn set(world: &World, name: &str, value: &str) {
    let wanted = Wanted { name: name.to_owned(), value: Some(value.to_owned()), instance: None };
    switching::set(&world.system.state().dir, &wanted).await.unwrap_or_else(|error| panic!("{error}"));
}

async fn each_purpose_has_a_server_that_obeys_its_switches(tier: Tier) {
    let world = World::on(tier).await;
    let told = async |role: &str, line: String| {
        eventually(&line, || async { world.metrics(&format!("{role}-1")).await.contains(&line).then_some(()) }).await;
    };
    for (role, by_purpose) in [("kv-cache", "allkeys-lru"), ("kv-lock", "noeviction"), ("kv-id", "noeviction")] {
        let is = |policy: &str| format!("kv_policy{{instance=\"{role}-1\",policy=\"{policy}\"}} 1");
        told(role, is(by_purpose)).await;
        told(role, format!("kv_maxmemory_bytes{{instance=\"{role}-1\"}} {}", 64 << 20)).await;
        for (value, policy) in [("noeviction", "noeviction"), ("lru", "allkeys-lru"), ("by_purpose", by_purpose)] {
            set(&world, "kv.policy", value).await;
            told(role, is(policy)).await;
        }
        for (value, bytes) in [("4mb", 4 << 20), ("16mb", 16 << 20), ("64mb", 64 << 20)] {
            set(&world, "kv.maxmem", value).await;
            told(role, format!("kv_maxmemory_bytes{{instance=\"{role}-1\"}} {bytes}")).await;
        }
        let mut server = world.key_values(role).await;
        let _: () = redis::cmd("SET").arg("seen").arg("x").query_async(&mut server).await.unwrap();
        let _: String = redis::cmd("GET").arg("seen").query_async(&mut server).await.unwrap();
        told(role, format!("kv_up{{instance=\"{role}-1\"}} 1")).await;
        eventually("the hit is counted", || async {
            let text = world.metrics(&format!("{role}-1")).await;
            let hits =
                text.lines().find_map(|line| line.strip_prefix(&format!("kv_hits_total{{instance=\"{role}-1\"}} ")));
            (hits.is_some_and(|hits| hits != "0") && text.contains("kv_hit_rate{")).then_some(())
        })
        .await;
    }
    let pids: Vec<u32> = servers(tier).iter().map(|server| world.pid(server).unwrap()).collect();
    world.system.stop().await.unwrap();
    assert!(!pids.into_iter().any(runs), "a server outlives its system");
}

/// How many values of 256 KiB a server takes, at most `most`, and whether it still has the first; they are removed then.
async fn takes(world: &World, role: &str, most: usize) -> (usize, bool) {
    let mut server = world.key_values(role).await;
    let value = vec![b'x'; 256 << 10];
    let mut taken = 0;
    while taken < most {
        let set = redis::cmd("SET").arg(format!("full-{taken}")).arg(&value).query_async::<()>(&mut server).await;
        match set {
            Ok(()) => taken += 1,
            Err(error) => {
                assert!(error.to_string().contains("OOM"), "{error}");
                break;
            }
        }
    }
    let first: Option<Vec<u8>> = redis::cmd("GET").arg("full-0").query_async(&mut server).await.unwrap();
    for n in 0..taken {
        let _: i64 = redis::cmd("DEL").arg(format!("full-{n}")).query_async(&mut server).await.unwrap();
    }
    (taken, first.is_some())
}

async fn what_a_full_server_does_and_when_it_is_full_are_switches(tier: Tier) {
    let world = World::on(tier).await;
    let told = async |role: &str, line: String| {
        eventually(&line, || async { world.metrics(&format!("{role}-1")).await.contains(&line).then_some(()) }).await;
    };
    set(&world, "kv.policy", "noeviction").await;
    told("kv-cache", "kv_policy{instance=\"kv-cache-1\",policy=\"noeviction\"} 1".to_owned()).await;
    for (value, megabytes) in [("4mb", 4), ("16mb", 16), ("64mb", 64)] {
        set(&world, "kv.maxmem", value).await;
        told("kv-cache", format!("kv_maxmemory_bytes{{instance=\"kv-cache-1\"}} {}", megabytes << 20)).await;
        let (taken, _) = takes(&world, "kv-cache", 80).await;
        // 20 MiB go into the largest; a server keeps some for itself.
        let (least, most) = if megabytes == 64 { (80, 80) } else { (megabytes * 2, megabytes * 4) };
        assert!((least..=most).contains(&taken), "{value}: {taken} values of 256 KiB");
    }
    set(&world, "kv.maxmem", "4mb").await;
    for (value, cache_gives_way, lock_gives_way) in
        [("noeviction", false, false), ("lru", true, true), ("by_purpose", true, false)]
    {
        set(&world, "kv.policy", value).await;
        for (role, gives_way) in [("kv-cache", cache_gives_way), ("kv-lock", lock_gives_way)] {
            let policy = if gives_way { "allkeys-lru" } else { "noeviction" };
            told(role, format!("kv_policy{{instance=\"{role}-1\",policy=\"{policy}\"}} 1")).await;
            told(role, format!("kv_maxmemory_bytes{{instance=\"{role}-1\"}} {}", 4 << 20)).await;
            let (taken, has_first) = takes(&world, role, 40).await;
            assert_eq!((taken == 40, !has_first), (gives_way, gives_way), "{value} at {role}: {taken} taken");
        }
    }
    world.system.stop().await.unwrap();
}

async fn orders_go_through_while_a_key_value_server_is_dead(tier: Tier) {
    let world = World::start_with(|options| {
        options.tier = tier;
        options.respawn_after = std::time::Duration::from_secs(2);
    })
    .await;
    for (n, server) in (0..).zip(servers(tier)) {
        let pid = world.pid(server).unwrap();
        kill(pid);
        eventually("it is dead", || async { (!runs(pid)).then_some(()) }).await;
        let user = 200 + n;
        let id = id_of(&world.create(user, 21, Some(user)).await);
        world.ok(&format!("/orders/{id}/pay"), serde_json::Value::Null).await;
        world.status_is(&id, 0).await;
        assert_eq!(world.get(&format!("/users/{user}/orders")).await.1.as_array().unwrap().len(), 1);
        world.ok(&format!("/restaurants/21/orders/{id}/accept"), serde_json::Value::Null).await;
        eventually("it is back", || async { world.pid(server).filter(|new| *new != pid && runs(*new)) }).await;
    }
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}
