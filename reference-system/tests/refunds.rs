//! The reverse flow and the couriers: refunds after acceptance and after completion, and who decides on them.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use reference_system::Tier;
use reference_system::audit::Verdict;
use serde_json::{Value, json};
use world::{World, eventually, verdict_of};

on_both_tiers! {
    an_accepted_order_is_cancelled_by_a_refund_that_the_merchant_grants
    a_completed_order_is_refunded_in_parts_by_its_merchant
}

async fn refund_has(world: &World, refund_no: &Value, state: i64) {
    eventually(&format!("refund {refund_no} has state {state}"), || async {
        let (_, refund) = world.get(&format!("/refunds/{refund_no}")).await;
        (refund["state"] == state).then_some(())
    })
    .await;
}

async fn order(world: &World, id: &str) -> Value {
    world.get(&format!("/orders/{id}")).await.1
}

async fn an_accepted_order_is_cancelled_by_a_refund_that_the_merchant_grants(tier: Tier) {
    let world = World::on(tier).await;
    let id = world.accepted(70, 71, Some(70)).await;
    let (status, asked) = world.post(&format!("/orders/{id}/cancel"), Value::Null).await;
    assert_eq!((status, &asked["status"], &asked["refund_status"]), (202, &json!(2), &json!(1)), "{asked}");
    let refund_no = asked["refund_no"].clone();
    let (status, twice) = world.post(&format!("/orders/{id}/cancel"), Value::Null).await;
    assert_eq!((status, &twice["code"]), (409, &json!("refund_open")));

    world.ok(&format!("/courier/{id}/done"), Value::Null).await;
    let (status, open) = world.post(&format!("/orders/{id}/confirm"), Value::Null).await;
    assert_eq!((status, &open["code"]), (409, &json!("refund_open")));

    let granted = world.ok(&format!("/refunds/{refund_no}/approve"), Value::Null).await;
    assert_eq!((&granted["state"], &granted["order_id"]), (&json!(5), &json!(id)));
    refund_has(&world, &refund_no, 6).await;
    let gone = order(&world, &id).await;
    assert_eq!((&gone["status"], &gone["refund_status"]), (&json!(-1), &json!(6)));
    assert_eq!(gone["refunded_fen"], gone["paid_fen"]);
    assert_eq!(world.get("/users/70").await.1["balance_fen"], 1_000_000);
    assert_eq!(world.ok(&format!("/refunds/{refund_no}/approve"), Value::Null).await["state"], 6);
    let (status, late) = world.post(&format!("/refunds/{refund_no}/reject"), Value::Null).await;
    assert_eq!((status, &late["code"]), (409, &json!("wrong_state")));
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

async fn a_completed_order_is_refunded_in_parts_by_its_merchant(tier: Tier) {
    let world = World::on(tier).await;
    let id = world.settled(72, 73, Some(72)).await;
    let ask = |amount: i64| json!({ "order": id, "amount_fen": amount, "reason": "cold" });
    let first = world.post_as("first", "/refunds", ask(500)).await.1;
    assert_eq!(world.post_as("first", "/refunds", ask(500)).await.1, first, "a repeated request is the same refund");
    let (status, open) = world.post("/refunds", ask(1)).await;
    assert_eq!((status, &open["code"]), (409, &json!("refund_open")));
    world.ok(&format!("/refunds/{}/approve", first["refund_no"]), Value::Null).await;
    refund_has(&world, &first["refund_no"], 6).await;

    let second = world.ok("/refunds", ask(300)).await["refund_no"].clone();
    let (status, early) = world.post(&format!("/refunds/{second}/arbitrate"), Value::Null).await;
    assert_eq!((status, &early["code"]), (409, &json!("wrong_state")));
    world.ok(&format!("/refunds/{second}/reject"), Value::Null).await;
    assert_eq!(order(&world, &id).await["refund_status"], 2);
    world.ok(&format!("/refunds/{second}/arbitrate"), Value::Null).await;
    assert_eq!(order(&world, &id).await["refund_status"], 3);
    world.ok(&format!("/refunds/{second}/approve"), Value::Null).await;
    refund_has(&world, &second, 6).await;

    let done = order(&world, &id).await;
    assert_eq!((&done["status"], &done["refunded_fen"]), (&json!(9), &json!(800)));
    let left = done["paid_fen"].as_i64().unwrap() - 800;
    let (status, much) = world.post("/refunds", ask(left + 1)).await;
    assert_eq!((status, &much["code"]), (409, &json!("wrong_refund")), "{much}");
    let third = world.ok("/refunds", ask(left)).await["refund_no"].clone();
    for path in ["reject", "arbitrate", "reject"] {
        world.ok(&format!("/refunds/{third}/{path}"), Value::Null).await;
    }
    let (status, over) = world.post(&format!("/refunds/{third}/arbitrate"), Value::Null).await;
    assert_eq!((status, &over["code"]), (409, &json!("arbitrated")));
    let balance = world.get("/users/72").await.1["balance_fen"].as_i64().unwrap();
    assert_eq!(balance, 1_000_000 - left);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn bad_refunds_and_deliveries_are_refused_and_change_nothing() {
    let world = World::start().await;
    let id = world.accepted(74, 75, None).await;
    let unpaid = world::id_of(&world.create(74, 75, None).await);
    let ask = |order: &str, amount: Value| json!({ "order": order, "amount_fen": amount, "reason": "x" });
    for (path, body, expected) in [
        ("/refunds".to_owned(), json!({}), 422),
        ("/refunds".to_owned(), ask(&id, json!(0)), 422),
        ("/refunds".to_owned(), ask(&id, json!(-100)), 422),
        ("/refunds".to_owned(), ask(&id, json!("all")), 422),
        ("/refunds".to_owned(), ask(&id, json!(1)), 409),
        ("/refunds".to_owned(), ask(&unpaid, json!(1)), 409),
        ("/refunds".to_owned(), ask("77", json!(1)), 404),
        ("/refunds".to_owned(), json!({ "order": id, "amount_fen": 1, "reason": "x".repeat(201) }), 422),
        ("/refunds".to_owned(), json!({ "order": id, "amount_fen": 1, "colour": "red" }), 422),
        ("/refunds/99/approve".to_owned(), Value::Null, 404),
        ("/refunds/-1/reject".to_owned(), Value::Null, 404),
        ("/refunds/x/arbitrate".to_owned(), Value::Null, 422),
        (format!("/courier/{unpaid}/picked"), Value::Null, 409),
        ("/courier/77/done".to_owned(), Value::Null, 404),
        ("/courier/abc/done".to_owned(), Value::Null, 422),
    ] {
        let (status, answer) = world.post(&path, body.clone()).await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
        assert!(answer["error"].is_string());
    }
    let without_key = world.http.post(format!("{}/refunds", world.system.state().gateway));
    assert_eq!(without_key.body(ask(&id, json!(1)).to_string()).send().await.unwrap().status(), 422);
    for (service, path, body) in [
        ("eos-m", "/internal/delivery", json!({ "order_id": id, "delivery_status": 4 })),
        ("eos-m", "/internal/delivery", json!({ "order_id": id, "delivery_status": -1 })),
        ("blink", "/dispatch", json!({ "order_id": id })),
        ("blink", "/dispatch", json!([{ "order_id": "-4", "restaurant_id": 1 }])),
    ] {
        assert_eq!(world.ask("POST", service, path, Some(body)).await.0, 422, "{path}");
    }
    let untouched = order(&world, &id).await;
    assert_eq!((&untouched["status"], &untouched["refund_status"]), (&json!(2), &json!(0)));
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_delivery_goes_forward_only() {
    let world = World::start().await;
    let id = world.accepted(76, 77, None).await;
    eventually("a courier is assigned", || async { (order(&world, &id).await["delivery_status"] == 1).then_some(()) })
        .await;
    for (step, expected) in [("picked", 2), ("picked", 2), ("done", 3), ("picked", 3)] {
        let told = world.ok(&format!("/courier/{id}/{step}"), Value::Null).await;
        assert_eq!(told["delivery_status"], expected, "{step}");
    }
    assert_eq!(world.ok(&format!("/orders/{id}/confirm"), Value::Null).await["status"], 9);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn money_that_was_settled_by_timer_and_refunded_then_is_missing_and_the_auditor_tells() {
    let world = World::start().await;
    world.switch("settle.basis", "accepted_timer", &["eos-m"]).await;
    let id = world.accepted(78, 79, None).await;
    let paid = world.is_settled(&id).await["paid_fen"].clone();
    let ask = json!({ "order": id, "amount_fen": paid, "reason": "never came" });
    let refund_no = world.ok("/refunds", ask).await["refund_no"].clone();
    world.ok(&format!("/refunds/{refund_no}/approve"), Value::Null).await;
    refund_has(&world, &refund_no, 6).await;
    let report = world.audit().await;
    for (id, verdict) in [("I10", Verdict::Invalid), ("I12", Verdict::Invalid), ("I9", Verdict::Valid)] {
        assert_eq!(verdict_of(&report, id), verdict, "{report:#?}");
    }
    world.system.stop().await.unwrap();
}
