//! A promotion that is set on one instance of four (L13): whose prices differ, what binds them, and who tells.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use reference_system::audit::Verdict;
use serde_json::{Value, json};
use world::{World, eventually, id_of, obeyed, set};

const INSTANCES: [&str; 4] = ["eps-1", "eps-2", "eps-3", "eps-4"];

/// What each instance shows for the same wish.
async fn shown(world: &World, user: i64) -> Vec<Value> {
    let wish = json!({
        "user_id": user, "restaurant_id": 12, "coupon_id": null, "items": [{ "dish_id": 1203, "quantity": 2 }],
    });
    let mut quotes = Vec::new();
    for instance in INSTANCES {
        let url = format!("http://{}/quote", world.address(instance));
        let (status, quote) = world.send("POST", url, Some(wish.clone()), "q").await;
        assert_eq!(status, 200, "{quote}");
        quotes.push(quote);
    }
    quotes
}

/// The order that comes of a quote.
async fn ordered(world: &World, user: i64, quote: &Value) -> Value {
    let body = json!({
        "user_id": user, "restaurant_id": 12, "address": "5 Test Road", "quote_token": quote["quote_token"],
    });
    world.ok("/orders", body).await
}

fn totals(quotes: &[Value]) -> Vec<i64> {
    quotes.iter().map(|quote| quote["total_fen"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_promotion_on_one_instance_makes_prices_that_nobody_was_shown_unless_it_has_a_version_for_all() {
    let world = World::start_with(|options| options.instances = "eps=4".parse().unwrap()).await;
    let usual = totals(&shown(&world, 41).await)[0];
    set(&world, "promo", Some("tenth_off"), Some("eps-1")).await;
    for instance in INSTANCES {
        let line = format!("promo_instances_apart{{instance=\"{instance}\"}} 1");
        eventually(&line, || async { world.metrics(instance).await.contains(&line).then_some(()) }).await;
    }
    // The metric may be there a moment before the line is.
    let log = world.system.state().dir.join("log/eps-3.log");
    eventually("the log says so, too", || async {
        std::fs::read_to_string(&log).unwrap().contains("the promotion is not one for all instances").then_some(())
    })
    .await;
    let quotes = shown(&world, 41).await;
    assert_eq!(totals(&quotes), [usual; 4], "versioned: what one instance was told is no price");

    // Set for all, and taken back between quote and order: the quote binds.
    set(&world, "promo", None, Some("eps-1")).await;
    set(&world, "promo", Some("tenth_off"), None).await;
    obeyed(&world, "promo", "tenth_off", &INSTANCES).await;
    let quotes = shown(&world, 41).await;
    let items = quotes[0]["items_fen"].as_i64().unwrap();
    assert_eq!(totals(&quotes), [usual - items / 10; 4]);
    set(&world, "promo", None, None).await;
    obeyed(&world, "promo", "none", &INSTANCES).await;
    let order = ordered(&world, 41, &quotes[0]).await;
    assert_eq!(order["total_fen"], quotes[0]["total_fen"]);
    let id = id_of(&order);
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.status_is(&id, 0).await;
    world.assert_valid().await;

    set(&world, "promo.binding", Some("unversioned"), None).await;
    set(&world, "promo", Some("tenth_off"), Some("eps-1")).await;
    obeyed(&world, "promo.binding", "unversioned", &INSTANCES).await;
    obeyed(&world, "promo", "tenth_off", &["eps-1"]).await;
    let cheap = usual - items / 10;
    assert_eq!(totals(&shown(&world, 41).await), [cheap, usual, usual, usual], "one of four has other prices");
    let mut user = 41;
    eventually("an order costs what nobody was shown", || {
        user += 1;
        let world = &world;
        async move {
            let quote = shown(world, user).await.remove(0);
            (ordered(world, user, &quote).await["total_fen"] != quote["total_fen"]).then_some(())
        }
    })
    .await;
    let report = world.audit().await;
    let invalid: Vec<&str> = report
        .invariants
        .iter()
        .filter(|finding| finding.verdict == Verdict::Invalid)
        .map(|finding| finding.id.as_str())
        .collect();
    assert_eq!(invalid, ["I26"], "{report:#?}");
    world.system.stop().await.unwrap();
}
