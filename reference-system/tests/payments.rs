//! A payment service that misbehaves: late, doubled and lost callbacks, and payments that fail.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use world::{World, eventually, id_of, signal, spoil};

/// How often the order service was called back, on all its instances.
async fn callbacks(world: &World) -> u64 {
    let mut sum = 0;
    for one in world.system.state().instances.iter().filter(|one| one.service == "eos-c") {
        let text =
            world.http.get(format!("http://{}/metrics", one.address)).send().await.unwrap().text().await.unwrap();
        let counts = text.lines().filter(|line| {
            line.starts_with("http_request_seconds_count") && line.contains("route=\"/internal/pay-callback\"")
        });
        sum += counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>();
    }
    sum
}

async fn paid_for(world: &World, user: i64) -> String {
    let id = id_of(&world.create(user, 101, Some(user)).await);
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    id
}

#[tokio::test]
async fn a_callback_that_comes_twice_books_one_payment() {
    let world = World::start().await;
    let before = callbacks(&world).await;
    let once = paid_for(&world, 100).await;
    world.status_is(&once, 0).await;
    assert_eq!(callbacks(&world).await, before + 1);
    world.switch("pay.callback", "doubled", &["pay"]).await;
    let twice = paid_for(&world, 101).await;
    let order = world.status_is(&twice, 0).await;
    eventually("the second callback", || async { (callbacks(&world).await == before + 3).then_some(()) }).await;
    let balance = world.get("/users/101").await.1["balance_fen"].as_i64().unwrap();
    assert_eq!(balance, 1_000_000 - order["total_fen"].as_i64().unwrap());
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_callback_that_is_lost_comes_when_the_charge_is_asked_for_again() {
    let world = World::start().await;
    world.switch("pay.callback", "lost", &["pay"]).await;
    let before = callbacks(&world).await;
    let id = paid_for(&world, 102).await;
    world.status_is(&id, 0).await;
    assert_eq!(callbacks(&world).await, before + 1);
    let asked = "http_request_seconds_count{instance=\"pay-1\",route=\"/charges\",status=\"200\"} ";
    let pay = world.system.state().instances.iter().find(|one| one.service == "pay").unwrap().address;
    let metrics = world.http.get(format!("http://{pay}/metrics")).send().await.unwrap().text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(asked)).unwrap();
    // One of the self-test, two of this order.
    assert_eq!(line.parse::<u64>().unwrap(), 3, "{metrics}");
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

/// What a request leaves that is cut off after its commit: the charge is entered, and nobody calls back.
#[tokio::test]
async fn a_callback_that_was_forgotten_goes_out_when_the_charge_is_asked_for_again() {
    let world = World::start().await;
    let order = world.create(104, 101, None).await;
    let id = id_of(&order);
    let pay = world.pid("pay-1").unwrap();
    signal(pay, Signal::SIGSTOP);
    // Paying; the charge waits for a payment service that stands still.
    assert_ne!(world.post(&format!("/orders/{id}/pay"), Value::Null).await.0, 200);
    let charge = format!(
        "INSERT INTO charges (payment_id, order_id, amount_fen) VALUES ('p{id}', {id}, {})",
        order["total_fen"]
    );
    spoil(&world.data().join("pay.db"), &charge).await;
    signal(pay, Signal::SIGCONT);
    world.status_is(&id, 0).await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_callback_that_comes_after_the_order_was_given_up_is_refunded() {
    let world = World::start_with(|options| options.unpaid_timeout = Duration::from_secs(2)).await;
    world.switch("pay.callback", "late", &["pay"]).await;
    let id = paid_for(&world, 103).await;
    let closed = world.status_is(&id, -4).await;
    assert_eq!((&closed["paid_fen"], &closed["refund_status"]), (&json!(0), &json!(0)));
    eventually("the late payment is booked and given back", || async {
        let (_, order) = world.get(&format!("/orders/{id}")).await;
        (order["refund_status"] == 6 && order["paid_fen"] == order["total_fen"]).then_some(())
    })
    .await;
    assert_eq!(world.status_is(&id, -4).await["refunded_fen"], closed["total_fen"]);
    assert_eq!(world.get("/users/103").await.1["balance_fen"], 1_000_000);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_payment_that_fails_closes_its_order_and_frees_what_it_held() {
    let world = World::start().await;
    world.switch("pay.outcome", "some_fail", &["pay"]).await;
    let (mut failed, mut succeeded) = (0, 0);
    for user in 110..140 {
        let id = paid_for(&world, user).await;
        let status = eventually("the payment is answered", || async {
            let status = world.get(&format!("/orders/{id}")).await.1["status"].as_i64().unwrap();
            (status == -4 || status == 0).then_some(status)
        })
        .await;
        if status == 0 {
            succeeded += 1;
            continue;
        }
        failed += 1;
        eventually("the money is back, and the coupon", || async {
            let whole = world.get(&format!("/users/{user}")).await.1["balance_fen"] == 1_000_000;
            let basket = world.basket(user, 101, Some(user)).await;
            (whole && world.post("/orders", basket).await.0 == 200).then_some(())
        })
        .await;
    }
    assert!(failed > 0 && succeeded > failed, "{failed} failed, {succeeded} succeeded");
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}
