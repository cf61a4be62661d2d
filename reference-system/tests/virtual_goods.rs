//! Virtual goods: bought, delivered once, audited.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use reference_system::Tier;
use serde_json::{Value, json};
use world::{World, eventually};

on_both_tiers! {
    a_virtual_order_is_paid_and_delivered_once
}

async fn done(world: &World, id: &Value) -> Value {
    eventually("the cards are there", || async {
        let (_, order) = world.get(&format!("/vorders/{id}")).await;
        (order["state"] == 9).then_some(order)
    })
    .await
}

fn wish(user: i64, product: &str, quantity: i64) -> Value {
    json!({ "user_id": user, "product": product, "quantity": quantity, "promotion": null })
}

async fn a_virtual_order_is_paid_and_delivered_once(tier: Tier) {
    let world = World::on(tier).await;
    let bought = json!({ "user_id": 90, "product": "breakfast_ticket", "quantity": 3, "promotion": "opening_week" });
    let order = world.post_as("same", "/vorders", bought.clone()).await.1;
    let id = order["vorder_id"].clone();
    assert_eq!((&order["state"], &order["amount_fen"]), (&json!(1), &json!(2_160)));
    assert_eq!(world.post_as("same", "/vorders", bought).await.1["vorder_id"], id);
    let pay = format!("/vorders/{id}/pay");
    for (status, answer) in futures::future::join_all((0..4).map(|_| world.post(&pay, Value::Null))).await {
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(done(&world, &id).await["cards"].as_array().unwrap().len(), 3);
    assert_eq!(world.get("/users/90").await.1["balance_fen"], 1_000_000 - 2_160);
    let (status, late) = world.post(&format!("/vorders/{id}/cancel"), Value::Null).await;
    assert_eq!((status, &late["code"]), (409, &json!("wrong_state")));

    let dropped = world.ok("/vorders", wish(90, "membership_card", 1)).await["vorder_id"].clone();
    assert_eq!(world.ok(&format!("/vorders/{dropped}/cancel"), Value::Null).await["state"], -1);
    assert_eq!(world.post(&format!("/vorders/{dropped}/pay"), Value::Null).await.0, 409);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_wallet_that_is_empty_buys_nothing_and_bad_wishes_are_refused() {
    let world = World::start().await;
    // 25 times 40 000 fen is all that there is.
    for n in 0..26 {
        let id = world.ok("/vorders", wish(91, "membership_card", 20)).await["vorder_id"].clone();
        let (status, answer) = world.post(&format!("/vorders/{id}/pay"), Value::Null).await;
        if n < 25 {
            assert_eq!(status, 200, "{answer}");
        } else {
            assert_eq!((status, &answer["code"]), (409, &json!("insufficient_funds")));
            assert_eq!(world.ok(&format!("/vorders/{id}/cancel"), Value::Null).await["state"], -1);
        }
    }
    for (path, body, expected) in [
        ("/vorders", wish(0, "membership_card", 1), 404),
        ("/vorders", wish(1, "yacht", 1), 422),
        ("/vorders", wish(1, "membership_card", 0), 422),
        ("/vorders", wish(1, "membership_card", -2), 422),
        ("/vorders", wish(1, "membership_card", 21), 422),
        ("/vorders", json!({ "user_id": 1, "product": "membership_card", "quantity": 1, "price": 1 }), 422),
        ("/vorders", Value::Null, 422),
        ("/vorders/9999/pay", Value::Null, 404),
        ("/vorders/x/pay", Value::Null, 422),
        ("/vorders/-1/cancel", Value::Null, 404),
    ] {
        let (status, answer) = world.post(path, body).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"].is_string());
    }
    for (amount, seller) in [(0, "breakfast"), (-1, "breakfast"), (1, "user:1"), (1, "")] {
        let body = json!({ "purchase_id": 5_000, "user_id": 1, "seller": seller, "amount_fen": amount });
        assert_eq!(world.ask("POST", "eus", "/wallet/purchase", Some(body)).await.0, 422, "{amount} {seller}");
    }
    assert_eq!(world.get("/vorders/9999").await.0, 404);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}
