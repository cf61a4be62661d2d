//! Stock: held by orders, sold by merchants, put back by the dead, and audited.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use reference_system::Tier;
use serde_json::{Value, json};
use world::{World, eventually, id_of};

on_both_tiers! {
    stock_is_held_sold_or_put_back_as_the_order_goes
}

async fn stock_is_held_sold_or_put_back_as_the_order_goes(tier: Tier) {
    let world = World::start_with(|options| {
        options.tier = tier;
        options.stock_per_dish = Some(4);
    })
    .await;
    // Each basket takes two of the same dish.
    let sold = id_of(&world.create(30, 31, None).await);
    let dropped = id_of(&world.create(31, 31, Some(31)).await);
    let coupon = world.basket(32, 31, Some(32)).await;
    let (status, refused) = world.post("/orders", coupon.clone()).await;
    assert_eq!((status, &refused["code"]), (409, &json!("sold_out")), "{refused}");

    world.ok(&format!("/orders/{sold}/pay"), Value::Null).await;
    world.status_is(&sold, 0).await;
    world.ok(&format!("/restaurants/31/orders/{sold}/accept"), Value::Null).await;
    world.ok(&format!("/orders/{dropped}/cancel"), Value::Null).await;
    // The coupon of the refused order is free, too.
    let third = eventually("what the cancelled order held is there again", || async {
        let (status, order) = world.post("/orders", coupon.clone()).await;
        (status == 200).then(|| id_of(&order))
    })
    .await;
    let (status, _) = world.post("/orders", world.basket(33, 31, None).await).await;
    assert_eq!(status, 409, "two sold, two held");
    let again = json!({ "order_id": third, "restaurant_id": 31, "lines": [{ "dish_id": 3103, "quantity": 2 }] });
    assert_eq!(world.ask("POST", "ers", "/stock/reserve", Some(again)).await.0, 200, "held already");
    let late = json!({ "order_id": dropped, "restaurant_id": 31, "lines": [{ "dish_id": 3103, "quantity": 2 }] });
    assert_eq!(world.ask("POST", "ers", "/stock/reserve", Some(late)).await.1["code"], "reservation_released");
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn stock_of_an_order_that_was_never_made_is_swept() {
    let world = World::start_with(|options| options.stock_per_dish = Some(2)).await;
    let orphan = json!({ "order_id": 77, "restaurant_id": 31, "lines": [{ "dish_id": 3103, "quantity": 2 }] });
    assert_eq!(world.ask("POST", "ers", "/stock/reserve", Some(orphan)).await.0, 200);
    let basket = world.basket(30, 31, None).await;
    assert_eq!(world.post("/orders", basket.clone()).await.0, 409);
    eventually("the stock is free", || async { (world.post("/orders", basket.clone()).await.0 == 200).then_some(()) })
        .await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn bad_reservations_are_refused_and_hold_nothing() {
    let world = World::start_with(|options| options.stock_per_dish = Some(2)).await;
    let lines = |dish: i64, quantity: Value| json!([{ "dish_id": dish, "quantity": quantity }]);
    let body = |restaurant: i64, lines: Value| json!({ "order_id": 5, "restaurant_id": restaurant, "lines": lines });
    for (path, body, expected) in [
        ("/stock/reserve", body(0, lines(3103, json!(1))), 404),
        ("/stock/reserve", body(31, lines(3203, json!(1))), 422),
        ("/stock/reserve", body(31, lines(3103, json!(0))), 422),
        ("/stock/reserve", body(31, lines(3103, json!(-1))), 422),
        ("/stock/reserve", body(31, lines(3103, json!(21))), 422),
        ("/stock/reserve", body(31, lines(3103, json!("one"))), 422),
        ("/stock/reserve", body(31, json!([])), 422),
        ("/stock/reserve", json!([1]), 422),
        ("/stock/reserve", body(31, lines(3103, json!(3))), 409),
        ("/stock/commit", json!({ "order": 1 }), 422),
        ("/stock/release", json!(["-1"]), 422),
        ("/stock/release", json!((0..1_001).collect::<Vec<_>>()), 422),
    ] {
        let (status, answer) = world.ask("POST", "ers", path, Some(body)).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"].is_string());
    }
    world.create(30, 31, None).await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}
