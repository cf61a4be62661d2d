//! Orders through the gateway of a running system: the same on both tiers, and in the monolith.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use nix::sys::signal::Signal;
use reference_system::ids::{OrderId, SlotHash, Slots};
use serde_json::{Value, json};
use std::time::Duration;
use world::{Setting, World, id_of};

in_every_setting! {
    an_order_lives_from_quote_to_completed_and_the_books_hold
    a_paid_order_that_is_cancelled_is_refunded_and_frees_its_coupon
    a_repeated_create_gives_the_same_order_also_at_the_same_time_and_with_a_coupon
    risk_control_rejects_an_order_that_no_kitchen_has_and_everything_goes_back
    an_unpaid_order_is_closed_by_its_timer_and_cannot_be_paid_then
    what_nobody_answers_or_confirms_goes_on_by_its_timer
    bad_requests_are_refused_in_one_shape
}

async fn an_order_lives_from_quote_to_completed_and_the_books_hold(setting: Setting) {
    let world = World::set(setting).await;
    let order = world.create(7, 11, Some(7)).await;
    let id = id_of(&order);
    assert_eq!((&order["status"], &order["version"]), (&json!(-5), &json!(1)));
    let parsed = OrderId(id.parse().unwrap());
    let hash = SlotHash::default();
    assert_eq!(parsed.slots(), Some(Slots { user: hash.slot(7), merchant: hash.slot(11) }));

    assert_eq!(world.ok(&format!("/orders/{id}/pay"), Value::Null).await["status"], -3);
    let waiting = world.status_is(&id, 0).await;
    assert_eq!(waiting["number"], 1, "the first slip of the day at this kitchen");
    assert_eq!(waiting["paid_fen"], order["total_fen"]);

    world::eventually("the kitchen sees the order", || async {
        let (_, list) = world.get("/restaurants/11/orders?state=0").await;
        (list[0]["order_id"] == id.as_str()).then_some(())
    })
    .await;
    let early = world.post(&format!("/orders/{id}/confirm"), Value::Null).await;
    assert_eq!((early.0, &early.1["code"]), (409, &json!("wrong_status")));
    world.ok(&format!("/restaurants/11/orders/{id}/accept"), Value::Null).await;
    let undelivered = world.post(&format!("/orders/{id}/confirm"), Value::Null).await;
    assert_eq!((undelivered.0, &undelivered.1["code"]), (409, &json!("not_delivered")));
    world.ok(&format!("/orders/{id}/delivered"), Value::Null).await;
    let done = world.ok(&format!("/orders/{id}/confirm"), Value::Null).await;
    assert_eq!(done["status"], 9);

    let (_, list) = world.get("/users/7/orders?limit=5").await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    let (_, user) = world.get("/users/7").await;
    assert_eq!(user["balance_fen"], 1_000_000 - order["total_fen"].as_i64().unwrap());
    let report = world.assert_valid().await;
    assert_eq!(report.orders, 2, "this one and the self-test's");
    world.system.stop().await.unwrap();
}

async fn a_paid_order_that_is_cancelled_is_refunded_and_frees_its_coupon(setting: Setting) {
    let world = World::set(setting).await;
    let id = id_of(&world.create(8, 12, Some(8)).await);
    let taken = world.basket(8, 12, Some(8)).await;
    let (status, refused) = world.post("/orders", taken.clone()).await;
    assert_eq!((status, &refused["code"]), (409, &json!("coupon_taken")));

    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.status_is(&id, 0).await;
    assert_eq!(world.ok(&format!("/orders/{id}/cancel"), Value::Null).await["status"], -1);
    world::eventually("the money is back", || async {
        let (_, order) = world.get(&format!("/orders/{id}")).await;
        (order["refund_status"] == 6).then_some(())
    })
    .await;
    assert_eq!(world.get("/users/8").await.1["balance_fen"], 1_000_000);
    let again = world.post(&format!("/orders/{id}/cancel"), Value::Null).await;
    assert_eq!(again.0, 409);
    world::eventually("the coupon is free", || async {
        let (status, _) = world.post("/orders", taken.clone()).await;
        (status == 200).then_some(())
    })
    .await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

async fn risk_control_rejects_an_order_that_no_kitchen_has_and_everything_goes_back(setting: Setting) {
    let world = World::set(setting).await;
    let says_no = async |id: &str| {
        let verdict = json!({ "order_id": id, "reason": "a stolen card" });
        world.ask("POST", "eos-m", "/internal/risk-reject", Some(verdict)).await
    };
    let unpaid = id_of(&world.create(17, 12, Some(17)).await);
    let (status, rejected) = says_no(&unpaid).await;
    assert_eq!((status, &rejected["status"]), (200, &json!(-6)), "{rejected}");
    let (status, again) = says_no(&unpaid).await;
    assert_eq!((status, &again["version"]), (200, &rejected["version"]), "said twice, it is the same");
    let (status, refused) = world.post(&format!("/orders/{unpaid}/pay"), Value::Null).await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_status")));

    // Paid, and no kitchen has it: the store of the merchant stands still, so that nobody gives it a number.
    let paid = id_of(&world.create(18, 12, Some(18)).await);
    let kitchens: Vec<u32> = ["st-r0-1", "st-r1-1"].iter().map(|store| world.pid(store).unwrap()).collect();
    kitchens.iter().for_each(|pid| world::signal(*pid, Signal::SIGSTOP));
    world.ok(&format!("/orders/{paid}/pay"), Value::Null).await;
    world.status_is(&paid, -2).await;
    let (status, rejected) = says_no(&paid).await;
    kitchens.iter().for_each(|pid| world::signal(*pid, Signal::SIGCONT));
    assert_eq!((status, &rejected["status"]), (200, &json!(-6)), "{rejected}");
    world::eventually("the money is back", || async {
        let (_, order) = world.get(&format!("/orders/{paid}")).await;
        (order["refund_status"] == 6 && order["refunded_fen"] == order["paid_fen"]).then_some(())
    })
    .await;
    assert_eq!(world.get("/users/18").await.1["balance_fen"], 1_000_000);

    let waiting = id_of(&world.create(19, 12, None).await);
    world.ok(&format!("/orders/{waiting}/pay"), Value::Null).await;
    world.status_is(&waiting, 0).await;
    let (status, refused) = says_no(&waiting).await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_status")), "a kitchen has it: {refused}");
    // The audit counts portions (I14), coupons (I13), money (I10, I11) and events with each consumer (I16).
    world.assert_valid().await;
    for user in [17, 18] {
        let (_, fates) = world.ask("GET", "eps", &format!("/coupons/{user}/history"), None).await;
        let last = fates.as_array().and_then(|fates| fates.last()).cloned().unwrap_or_default();
        assert_eq!(last["fate"], "returned", "the closed event has told of coupon {user}: {fates}");
        world.create(user, 12, Some(user)).await;
    }
    world.system.stop().await.unwrap();
}

async fn a_repeated_create_gives_the_same_order_also_at_the_same_time_and_with_a_coupon(setting: Setting) {
    let world = World::set(setting).await;
    for coupon in [None, Some(9)] {
        let basket = world.basket(9, 13, coupon).await;
        let key = format!("same-{coupon:?}");
        let tries = (0..6).map(|_| world.post_as(&key, "/orders", basket.clone()));
        let answers = futures::future::join_all(tries).await;
        let mut ids: Vec<String> = answers
            .iter()
            // Of two at the same time one may find the coupon locked before the order is there.
            .filter(|(status, _)| coupon.is_none() || *status == 200)
            .map(|(status, order)| {
                assert_eq!(*status, 200, "{order}");
                id_of(order)
            })
            .collect();
        let (status, later) = world.post_as(&key, "/orders", basket).await;
        assert_eq!(status, 200, "{later}");
        ids.push(id_of(&later));
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
    assert_eq!(world.assert_valid().await.orders, 3);
    world.system.stop().await.unwrap();
}

async fn an_unpaid_order_is_closed_by_its_timer_and_cannot_be_paid_then(setting: Setting) {
    let world = World::start_with(|options| {
        setting.apply(options);
        // Long enough for the self-test's own order to be paid.
        options.unpaid_timeout = Duration::from_secs(2);
    })
    .await;
    let id = id_of(&world.create(10, 14, None).await);
    world.status_is(&id, -4).await;
    let (status, refused) = world.post(&format!("/orders/{id}/pay"), Value::Null).await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_status")));
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

async fn what_nobody_answers_or_confirms_goes_on_by_its_timer(setting: Setting) {
    let world = World::start_with(|options| {
        setting.apply(options);
        // Long enough for those that are answered.
        options.unanswered_timeout = Duration::from_secs(4);
        options.unconfirmed_timeout = Duration::from_secs(3);
    })
    .await;
    let pays = async |user: i64| {
        let id = id_of(&world.create(user, 15, None).await);
        world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
        id
    };
    let unanswered = pays(11).await;
    let unconfirmed = world.accepted(12, 15, None).await;
    world.ok(&format!("/orders/{unconfirmed}/delivered"), Value::Null).await;
    let disputed = world.accepted(13, 15, None).await;
    let (status, asked) = world.post(&format!("/orders/{disputed}/cancel"), Value::Null).await;
    assert_eq!(status, 202, "a refund is asked for: {asked}");

    assert_eq!(world.status_is(&unconfirmed, 9).await["delivery_status"], 3, "completed by its timer");
    let given_back = async |id: &str| {
        world.status_is(id, -1).await;
        world::eventually("the money is back", || async {
            let (_, order) = world.get(&format!("/orders/{id}")).await;
            (order["refunded_fen"] == order["paid_fen"] && order["refund_status"] == 6).then_some(())
        })
        .await;
    };
    given_back(&unanswered).await;
    given_back(&disputed).await;
    for user in [11, 13] {
        assert_eq!(world.get(&format!("/users/{user}")).await.1["balance_fen"], 1_000_000);
    }
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

async fn bad_requests_are_refused_in_one_shape(setting: Setting) {
    let world = World::set(setting).await;
    let basket = world.basket(1, 2, None).await;
    let mut other = basket.clone();
    other["user_id"] = json!(2);
    let mut broken = basket.clone();
    broken["quote_token"] = json!("0123456789abcdef{}");
    let wish = |dish: i64| json!({ "user_id": 1, "restaurant_id": 2, "items": [{ "dish_id": dish, "quantity": 1 }] });
    for (path, body, expected, code) in [
        ("/orders", other, 422, "invalid"),
        ("/orders", broken, 422, "invalid"),
        ("/orders", json!({}), 422, "invalid"),
        ("/quote", wish(999), 422, "invalid"),
        ("/quote", json!({ "user_id": 9_999_999, "restaurant_id": 2, "items": [] }), 404, "not_found"),
        ("/orders/77/pay", Value::Null, 404, "not_found"),
        ("/orders/abc/pay", Value::Null, 422, "invalid"),
        ("/nowhere", Value::Null, 404, "not_found"),
    ] {
        let (status, answer) = world.post(path, body).await;
        assert_eq!((status, &answer["code"]), (expected, &json!(code)), "{path}: {answer}");
        assert!(answer["error"].is_string());
    }
    for (path, expected) in [("/users/5001", 404), ("/restaurants/0/menu", 404), ("/users/1/orders?limit=0", 422)] {
        assert_eq!(world.get(path).await.0, expected, "{path}");
    }
    let without_key = world.http.post(format!("{}/orders", world.system.state().gateway)).body(basket.to_string());
    let answer = without_key.send().await.unwrap();
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.unwrap().contains("x-req-id"));
    let late = world.http.get(format!("{}/users/1", world.system.state().gateway)).header("x-deadline-ms", "0");
    assert_eq!(late.send().await.unwrap().status(), 408);
    world.system.stop().await.unwrap();
}
