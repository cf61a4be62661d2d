//! What goes wrong between the two sides of a migration: found, repaired, or, with the historic flaws, let through.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod corruptions;
mod migrating;
mod world;

use std::time::Duration;

use corruptions::seeded::{NEW_SIDE, OLD_SIDE};
use corruptions::spoils;
use migrating::{Customer, audit_with, finding, lines, migrate, new_store, side, start, status};
use reference_system::Tier;
use reference_system::audit::Verdict;
use reference_system::ids::{SlotHash, UserId};
use serde_json::{Value, json};
use world::{World, eventually, kill, runs, set, verdict_of};

/// Waits until an instance is back from the dead and serves.
async fn back(world: &World, instance: &str, before: u32) {
    eventually(&format!("{instance} is back"), || async {
        world.pid(instance).filter(|pid| *pid != before && runs(*pid))
    })
    .await;
    let ready = format!("http://{}/readyz", world.address(instance));
    eventually("it is ready", || async {
        world.http.get(&ready).send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await;
}

/// Kills the new stores, works while they are dead, and waits until they are back.
async fn without_new_stores<T>(world: &World, work: impl Future<Output = T>) -> T {
    let before = ["st-u0-1", "st-u1-1"].map(|store| (store, world.pid(store).unwrap()));
    before.iter().for_each(|(_, pid)| kill(*pid));
    let done = work.await;
    for (store, pid) in before {
        back(world, store, pid).await;
    }
    done
}

#[tokio::test]
async fn what_the_new_side_lacks_is_repaired_and_nothing_crosses_over_before() {
    let world = start(Tier::Embedded, Duration::from_secs(8)).await;
    let customer = Customer::of(&world);
    let ids = async |users: std::ops::Range<i64>| {
        let mut ids = Vec::new();
        for user in users {
            ids.push(customer.create(user, 33).await.unwrap());
        }
        ids
    };
    // So many that each pool has its numbers at hand.
    ids(50..60).await;
    migrate(&world, &["run", "--to", "P1"]).await.unwrap();
    let kept = without_new_stores(&world, async {
        let kept = ids(60..62).await;
        let log = eventually("the failed writes are kept", || async {
            let log = status(&world).await["failure_log"].clone();
            kept.iter().all(|id| log["orders"].as_array().unwrap().contains(&json!(id))).then_some(log)
        })
        .await;
        assert!(log["failed"].as_i64() >= Some(2), "{log}");
        let refused = migrate(&world, &["run", "--to", "P4", "--wait", "500ms"]).await.unwrap_err();
        assert!(refused.contains("does not move") && refused.contains("st-u0 does not follow"), "{refused}");
        kept
    })
    .await;
    migrate(&world, &["run", "--to", "P3"]).await.unwrap();
    eventually("the failed writes are repaired", || async {
        (status(&world).await["failure_log"]["waiting"] == 0).then_some(())
    })
    .await;
    for id in &kept {
        let new = if side(&world, "st-u0", id).await.is_some() { "st-u0" } else { "st-u1" };
        let copy = side(&world, new, id).await.unwrap();
        assert_eq!(Some(copy), side(&world, "st-old", id).await);
    }

    // A row that differs is found; with the failure log it is repaired, and without the gate stays shut.
    let store = if side(&world, "st-u0", &kept[0]).await.is_some() { "st-u0" } else { "st-u1" };
    let file = world.data().join(format!("{store}.db"));
    let set_back = format!("UPDATE orders SET status = -4, version = 0, revision = 0 WHERE order_id = {}", kept[0]);
    world::spoil(&file, &set_back).await;
    eventually("it is found and repaired", || async {
        let differ = status(&world).await["comparison"]["differ"].as_i64().unwrap();
        (differ > 0 && side(&world, store, &kept[0]).await == side(&world, "st-old", &kept[0]).await).then_some(())
    })
    .await;
    world.switch("mig.log_failures", "off", &["st-old", "mig"]).await;
    world::spoil(&file, &set_back).await;
    let refused = migrate(&world, &["run", "--to", "P4", "--calm", "1s", "--wait", "3s"]).await.unwrap_err();
    let differs = format!("1 orders differ: {} (old: status -5, version 1, revision 1; new: status -4", kept[0]);
    assert!(refused.contains(&differs), "{refused}");
    assert!(refused.contains("`system migrate back --to P1`"), "{refused}");
    migrate(&world, &["back", "--to", "P1"]).await.unwrap();
    migrate(&world, &["run", "--to", "P4", "--calm", "1s"]).await.unwrap();
    let now = side(&world, store, &kept[0]).await.unwrap();
    assert_eq!(now["status"], -5);
    set(&world, "mig.log_failures", None, None).await;
    world.assert_valid().await;

    spoils(world, Tier::Embedded, OLD_SIDE).await;
}

#[tokio::test]
async fn a_row_that_is_missing_or_different_on_the_new_side_breaks_i23_alone() {
    let world = start(Tier::Embedded, Duration::from_secs(1)).await;
    world.settled(71, 34, None).await;
    world.create(72, 34, None).await;
    migrate(&world, &["run", "--to", "P3"]).await.unwrap();
    world.assert_valid().await;
    spoils(world, Tier::Embedded, NEW_SIDE).await;
}

/// Makes older orders. Gives, of the one that is copied last, the store on the new side and the ID. One in a second, it is
/// copied after the payment's last timer, which would have it written to both sides again.
async fn copied_last(customer: &Customer) -> (&'static str, String) {
    let shard_of = |user: &i64| SlotHash::default().user_shard(UserId(*user));
    let last = (80..180).max_by_key(shard_of).unwrap();
    for user in 81..88 {
        customer.create(user, 35).await.unwrap();
    }
    (new_store(last), customer.create(last, 35).await.unwrap())
}

/// Pays an order after the page was read on which it is copied, and before it is written.
async fn pay_behind_a_page(world: &World, customer: &Customer, order: &str, to: &str) {
    migrate(world, &["continue", "--to", to, "--rate", "1"]).await.unwrap();
    eventually("the page is read", || async {
        (status(world).await["backfill"]["copied"].as_i64().unwrap() > 0).then_some(())
    })
    .await;
    customer.write(&format!("/orders/{order}/pay"), &Value::Null).await.unwrap();
    customer.has(order, "waits for its merchant", |order| order["status"].as_i64() == Some(0)).await;
    let backfill = status(world).await["backfill"].clone();
    assert!(backfill["copied"].as_i64() < backfill["total"].as_i64(), "too slow to show anything: {backfill}");
    eventually("all are copied", || async {
        let status = status(world).await;
        (status["phase"] == to && status["backfill"]["done"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_is_older_than_what_is_there_is_kept_out_only_by_its_guard() {
    for (guard, after) in [("off", -5), ("on", 0)] {
        let world = start(Tier::Embedded, Duration::from_millis(500)).await;
        let customer = Customer::of(&world);
        let (store, order) = copied_last(&customer).await;
        world.switch("mig.backfill_guard", guard, &["mig"]).await;
        migrate(&world, &["run", "--to", "P1"]).await.unwrap();
        pay_behind_a_page(&world, &customer, &order, "P2").await;
        let copy = side(&world, store, &order).await.unwrap();
        assert_eq!(copy["status"], after, "guard {guard}: {copy}");
        let told = verdict_of(&world.audit().await, "I23");
        assert_eq!(told, if after == 0 { Verdict::Valid } else { Verdict::Invalid }, "guard {guard}");
        // Comparing finds and repairs it, and the gate waits for that.
        migrate(&world, &["run", "--to", "P4", "--calm", "1s"]).await.unwrap();
        assert_eq!(side(&world, store, &order).await.unwrap()["status"], 0);
        world.assert_valid().await;
        world.system.stop().await.unwrap();
    }
}

#[tokio::test]
async fn without_failure_log_guard_and_gate_orders_are_lost_and_go_back_and_the_audit_tells() {
    let world = start(Tier::Embedded, Duration::from_secs(4)).await;
    let customer = Customer::of(&world);
    let (_, changed) = copied_last(&customer).await;
    for (switch, services) in
        [("mig.log_failures", &["st-old", "mig"][..]), ("mig.backfill_guard", &["mig"]), ("mig.gate", &["mig"])]
    {
        world.switch(switch, "off", services).await;
    }
    migrate(&world, &["run", "--to", "P1"]).await.unwrap();
    // Orders of the first second count as older ones, in case a clock is set back.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let created = without_new_stores(&world, async {
        let mut created = Vec::new();
        for user in 91..94 {
            created.push((new_store(user), customer.create(user, 35).await.unwrap()));
        }
        created
    })
    .await;
    let log = status(&world).await["failure_log"].clone();
    assert_eq!(log["failed"], 0, "nobody keeps what failed: {log}");

    pay_behind_a_page(&world, &customer, &changed, "P3").await;
    let mut lost = Vec::new();
    for (store, id) in created {
        // On a slow machine the stores were back before the last task of an order was done, and took it then.
        if side(&world, store, &id).await.is_none() {
            lost.push(id);
        }
    }
    assert!(!lost.is_empty(), "too slow to lose anything");
    migrate(&world, &["run", "--calm", "0s"]).await.unwrap();
    // Copies in the cache would hide for a while what the stores have lost.
    world.switch("cache.design", "none", &["eos-c"]).await;
    for id in &lost {
        assert_eq!(world.get(&format!("/orders/{id}")).await.0, 404, "it was acknowledged");
    }
    let (_, order) = world.get(&format!("/orders/{changed}")).await;
    assert_eq!(order["status"], -5, "it was paid for: {order}");
    let report = audit_with(&world, &lines(&customer.record)).await;
    for id in ["I1", "I23", "I6"] {
        assert_eq!(verdict_of(&report, id), Verdict::Invalid, "{id}: {report:#?}");
    }
    let told = &finding(&report, "I23").examples;
    assert!(lost.iter().all(|id| told.iter().any(|example| example.contains(id))), "{told:?}");
    assert!(told.iter().any(|example| example.contains(&changed) && example.contains("gone back")), "{told:?}");
    world.system.stop().await.unwrap();
}
