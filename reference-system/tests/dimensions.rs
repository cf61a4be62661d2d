//! The three ways in which a change of an order reaches its merchant (`dim.write`), while the merchant dimension is away.

mod world;

use std::time::Duration;

use reference_system::audit::Verdict;
use reference_system::ids::{SlotHash, group, shard};
use serde_json::Value;
use world::{World, eventually, id_of, kill, runs, set, verdict_of};

/// A restaurant whose orders lie in group 0 of the merchant dimension.
fn restaurant() -> i64 {
    (1..).find(|id| group(shard(SlotHash::default().slot(*id))) == 0).expect("half of all are")
}

/// Waits until `st-r0` serves again.
async fn back(world: &World, before: u32) {
    eventually("st-r0 is back", || async { world.pid("st-r0-1").filter(|pid| *pid != before && runs(*pid)) }).await;
    let ready = format!("http://{}/readyz", world.address("st-r0-1"));
    eventually("it is ready", || async {
        world.http.get(&ready).send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await;
}

/// Kills `st-r0`, works while it is dead, and waits until it is back.
async fn without_merchants<T>(world: &World, work: impl Future<Output = T>) -> T {
    let before = world.pid("st-r0-1").expect("it runs");
    kill(before);
    let done = work.await;
    back(world, before).await;
    done
}

async fn way(world: &World, value: &str) {
    world.switch("dim.write", value, &["st-u0", "st-u1"]).await;
}

#[tokio::test]
async fn a_merchant_sees_every_order_only_by_task_rows_and_half_orders_are_told_by_the_audit() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(2)).await;
    let restaurant = restaurant();

    // Task rows wait for the store: nothing is lost and nobody notices.
    let kept = without_merchants(&world, async {
        let basket = world.basket(11, restaurant, None).await;
        world.ok("/orders", basket).await
    })
    .await;
    world.assert_valid().await;
    assert_eq!(kept["status"], -5);

    // Before the answer: the caller is told of a failure, and half of the order is there.
    way(&world, "both_sync").await;
    let (status, answer, list) = without_merchants(&world, async {
        let basket = world.basket(12, restaurant, None).await;
        let (status, answer) = world.post("/orders", basket).await;
        let (_, list) = world.get("/users/12/orders").await;
        (status, answer, list)
    })
    .await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"].as_str().expect("a reason").contains("not for its merchant"), "{answer}");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "its user has the order: {list}");
    let report = world.audit().await;
    assert_eq!(verdict_of(&report, "I5"), Verdict::Invalid, "{report:#?}");
    let half = list[0]["order_id"].as_str().expect("an order").to_owned();
    // With both there, the next change carries the whole row over.
    let (status, _) = world.post(&format!("/orders/{half}/cancel"), Value::Null).await;
    assert_eq!(status, 200);
    world.assert_valid().await;

    // In the background: the caller is content, and the merchant never hears of the order.
    way(&world, "fire_forget").await;
    let seen = id_of(&world.create(13, restaurant, None).await);
    eventually("with all there, the copy arrives", || async {
        let (status, _) = world.ask("GET", "st-r0", &format!("/orders/{seen}"), None).await;
        (status == 200).then_some(())
    })
    .await;
    let unseen = without_merchants(&world, async {
        let basket = world.basket(14, restaurant, None).await;
        id_of(&world.ok("/orders", basket).await)
    })
    .await;
    set(&world, "dim.write", None, None).await;
    let report = world.audit().await;
    assert_eq!(verdict_of(&report, "I5"), Verdict::Invalid, "{report:#?}");
    let finding = report.invariants.iter().find(|one| one.id == "I5").expect("I5");
    assert_eq!(finding.examples, [format!("order {unseen} has no merchant row")]);
    world.system.stop().await.expect("stops");
}
