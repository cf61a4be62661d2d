//! Bad input to any endpoint: refused with a 4xx and a reason, changes nothing, and never a 500.

mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use world::World;

/// Every endpoint that takes a body, with one that fits in shape: (instance, path, body). Path variables are drawn.
fn writes() -> Vec<(&'static str, &'static str, Value)> {
    let order = json!({
        "order_id": "1", "user_id": "1", "restaurant_id": "2", "req_id": "r", "status": -5, "version": 1, "revision": 1,
        "refund_status": 0, "delivery_status": 0, "items_fen": 1, "delivery_fee_fen": 1, "discount_fen": 0,
        "total_fen": 2, "paid_fen": 0, "coupon_id": null, "payment_id": null, "lines": [], "address": "",
        "day": null, "number": null, "created_at_ms": 0, "updated_at_ms": 0,
    });
    vec![
        (
            "gw-1",
            "/quote",
            json!({ "user_id": 1, "restaurant_id": 2, "items": [{ "dish_id": 203, "quantity": 1 }], "coupon_id": null }),
        ),
        ("gw-1", "/orders", json!({ "user_id": 1, "restaurant_id": 2, "address": "a", "quote_token": "t" })),
        ("gw-1", "/orders/{}/pay", Value::Null),
        ("gw-1", "/orders/{}/cancel", Value::Null),
        ("gw-1", "/orders/{}/delivered", Value::Null),
        ("gw-1", "/orders/{}/confirm", Value::Null),
        ("gw-1", "/courier/{}/picked", Value::Null),
        ("gw-1", "/courier/{}/done", Value::Null),
        ("gw-1", "/restaurants/{}/orders/{}/accept", Value::Null),
        ("gw-1", "/restaurants/{}/orders/{}/reject", Value::Null),
        ("gw-1", "/refunds", json!({ "order_id": "1", "amount_fen": 1, "reason": "cold" })),
        ("gw-1", "/refunds/{}/approve", Value::Null),
        ("gw-1", "/refunds/{}/reject", Value::Null),
        ("gw-1", "/refunds/{}/arbitrate", json!({ "approve": true })),
        (
            "eos-c-1",
            "/internal/pay-callback",
            json!({ "payment_id": "p1", "order_id": "1", "amount_fen": 1, "ok": true }),
        ),
        ("eos-m-1", "/internal/delivery", json!({ "order_id": "1", "delivery_status": 2 })),
        ("eps-1", "/quotes/redeem", json!({ "quote_token": "t", "user_id": 1, "restaurant_id": 2, "order_id": "1" })),
        ("eps-1", "/coupons/settle", json!([{ "coupon_id": "1", "order_id": "1", "step": "confirm" }])),
        ("ers-1", "/stock/reserve", json!({ "order_id": "1", "restaurant_id": 2, "lines": [] })),
        ("ers-1", "/stock/commit", json!([{ "order_id": "1" }])),
        ("eus-1", "/wallet/hold", json!({ "payment_id": "p1", "order_id": "1", "user_id": 1, "amount_fen": -1 })),
        ("eus-1", "/wallet/settle", json!([{ "payment_id": "none", "step": "capture" }])),
        ("ers-1", "/dead-letters/replay?limit={}", Value::Null),
        ("pay-1", "/charges", json!({ "payment_id": "p1", "order_id": "1", "amount_fen": -1 })),
        ("st-u0-1", "/orders", json!({ "order": order, "tasks": [] })),
        ("st-u0-1", "/changes", json!({ "order_id": "1", "expected_status": -5, "expected_version": 1, "tasks": [] })),
        ("st-u0-1", "/blocks", json!({ "life": "a", "first": 0 })),
        ("st-u0-1", "/mapping", json!({ "order_id": "1", "user_id": "1", "restaurant_id": "1" })),
        ("st-r0-1", "/orders/apply", json!([order])),
        ("st-r0-1", "/numbers", json!([{ "order_id": "1", "version": 1, "day": 1 }])),
    ]
}

/// Reads with variables and queries.
const READS: [(&str, &str); 15] = [
    ("gw-1", "/orders/{}"),
    ("gw-1", "/users/{}"),
    ("gw-1", "/users/{}/orders?since={}&limit={}"),
    ("gw-1", "/restaurants/{}/menu"),
    ("gw-1", "/restaurants/{}/orders?state={}&limit={}"),
    ("gw-1", "/refunds/{}"),
    ("sms-1", "/messages?recipient={}"),
    ("ers-1", "/restaurants/{}/pushes?after={}"),
    ("eps-1", "/coupons/{}/history?after={}"),
    ("ledger-1", "/statements/{}?after={}"),
    ("st-u0-1", "/orders?user_id={}&req_id={}"),
    ("st-u0-1", "/mapping/{}"),
    ("st-r0-1", "/orders?restaurant_id={}&status={}"),
    ("reg-1", "/svc/{}"),
    ("reg-1", "/watch?rev={}&timeout_ms=1"),
];

/// Values that fit nowhere, or are far outside of what is there.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(-1)),
        Just(json!(0)),
        Just(json!(i64::MIN)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!(0.5)),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!("9223372036854775808")),
        Just(json!("'; DROP TABLE orders; --")),
        Just(json!("\u{0}\u{202e}\u{1f355}")),
        Just(json!("x".repeat(70_000))),
        any::<i64>().prop_map(|n| json!(n)),
        any::<String>().prop_map(|text| json!(text)),
    ]
}

/// What is put into a path or a query.
fn variable() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("9223372036854775808".to_owned()),
        Just("abc".to_owned()),
        Just("%00".to_owned()),
        Just("%2e%2e%2fetc".to_owned()),
        Just("%ff%fe".to_owned()),
        Just("1e5".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
    ]
}

/// Replaces one field somewhere in a body, or the whole of it.
fn spoilt(body: &Value, at: usize, with: Value) -> Value {
    fn places(value: &Value) -> usize {
        1 + match value {
            Value::Object(fields) => fields.values().map(places).sum(),
            Value::Array(items) => items.iter().map(places).sum(),
            _ => 0,
        }
    }
    fn replace(value: &mut Value, left: &mut usize, with: &Value) -> bool {
        if *left == 0 {
            *value = with.clone();
            return true;
        }
        *left -= 1;
        match value {
            Value::Object(fields) => fields.values_mut().any(|field| replace(field, left, with)),
            Value::Array(items) => items.iter_mut().any(|item| replace(item, left, with)),
            _ => false,
        }
    }
    let mut spoilt = body.clone();
    replace(&mut spoilt, &mut (at % places(body)), &with);
    spoilt
}

fn filled(path: &str, variables: &[String]) -> String {
    variables.iter().fold(path.to_owned(), |path, variable| path.replacen("{}", variable, 1))
}

async fn must_be_refused_or_harmless(world: &World, request: reqwest::RequestBuilder, what: &str) {
    let answer = request.send().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    let shown: String = text.chars().take(300).collect();
    assert!(status < 500, "{what}: {status} {shown}");
    if status >= 400 {
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let reason = body["error"].as_str().is_some_and(|reason| !reason.is_empty());
        assert!(reason && body["code"].is_string(), "{what}: {status} without a reason: {shown}");
    }
    assert!(world.pid("gw-1").is_some());
}

#[tokio::test]
async fn whatever_comes_in_is_refused_with_a_reason_and_changes_nothing() {
    let world = World::start().await;
    let before = world.assert_valid().await.orders;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let url = |instance: &str, path: &str| format!("http://{}{path}", world.address(instance));
    let draw = |runner: &mut TestRunner| {
        let drawn = (odd(), any::<usize>(), proptest::collection::vec(variable(), 3)).new_tree(runner);
        drawn.expect("a value").current()
    };
    for (instance, path, body) in writes() {
        for n in 0..25 {
            let (with, at, variables) = draw(&mut runner);
            let body = if n == 0 { body.clone() } else { spoilt(&body, at, with) };
            let path = filled(path, &variables);
            let shown: String = body.to_string().chars().take(200).collect();
            let request = world.http.post(url(instance, &path)).header("x-req-id", world::key()).body(body.to_string());
            must_be_refused_or_harmless(&world, request, &format!("POST {instance}{path} {shown}")).await;
        }
    }
    for (instance, path) in READS {
        for _ in 0..25 {
            let (_, _, variables) = draw(&mut runner);
            let path = filled(path, &variables);
            must_be_refused_or_harmless(&world, world.http.get(url(instance, &path)), &format!("GET {instance}{path}"))
                .await;
        }
    }
    let report = world.assert_valid().await;
    assert_eq!(report.orders, before, "an order came of it");
    world.system.stop().await.expect("stops");
}

/// A path, a body, headers, and the status that they get.
type Case = (&'static str, Vec<u8>, &'static [(&'static str, &'static str)], u16);

#[tokio::test]
async fn bodies_that_are_no_json_huge_or_say_a_thing_twice_and_expired_deadlines_are_refused() {
    let world = World::start().await;
    let gateway = world.system.state().gateway.clone();
    let twice = r#"{"user_id":1,"user_id":2,"restaurant_id":2,"items":[]}"#;
    let cases: [Case; 8] = [
        ("/quote", b"{".to_vec(), &[], 422),
        ("/quote", vec![0xff; 64], &[], 422),
        ("/quote", b"[".repeat(100_000), &[], 422),
        ("/quote", twice.into(), &[], 422),
        ("/quote", vec![b' '; 3 << 20], &[], 413),
        ("/orders", b"{}".to_vec(), &[("x-req-id", "")], 422),
        ("/orders", b"{}".to_vec(), &[("x-req-id", "k"), ("x-deadline-ms", "0")], 408),
        ("/nowhere", Vec::new(), &[], 404),
    ];
    // A server that refuses a body before it has read it closes the connection.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    for (path, body, headers, expected) in cases {
        let mut request = http.post(format!("{gateway}{path}")).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        assert_eq!(status, expected, "{path}: {text}");
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        assert!(body["error"].is_string() && body["code"].is_string(), "{path}: {text}");
    }
    for method in ["DELETE", "PATCH", "PUT"] {
        let (status, body) = world.send(method, format!("{gateway}/orders"), None, "k").await;
        assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")), "{method}");
    }
    assert_eq!(world.assert_valid().await.orders, 1, "the self-test's");
    world.system.stop().await.expect("stops");
}
