//! Bad input to any endpoint: refused with a 4xx and a reason, changes nothing, and never a 500.

mod endpoints;
mod known;
mod routes;
mod spoiling;
mod stores;
mod testing;
#[path = "../world/mod.rs"]
#[macro_use]
mod world;

use std::collections::BTreeSet;

use endpoints::Endpoint;
use known::Known;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use routes::Route;
use serde_json::{Value, json};
use spoiling::Spoilt;
use testing::Tested;
use world::World;

#[test]
fn every_route_of_every_role_is_in_the_list() {
    let known = Known::named();
    let listed: BTreeSet<Route> = [endpoints::everywhere(&known), endpoints::of_a_migration(&known)]
        .concat()
        .into_iter()
        .map(|one| (one.role.to_owned(), one.method.to_owned(), one.path.to_owned()))
        .collect();
    let mut there = routes::in_the_sources();
    assert!(there.len() > 100, "{there:?}");
    // It is answered with 500: that is what it is for.
    assert!(there.remove(&("frame".to_owned(), "POST".to_owned(), "/debug/panic".to_owned())));
    let missing: Vec<&Route> = there.difference(&listed).collect();
    let gone: Vec<&Route> = listed.difference(&there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in the list: {missing:#?}; not in the sources: {gone:#?}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_reason_and_changes_nothing() {
    let world = World::start().await;
    let mut known = Known::of(&world).await;
    let mut tested = Tested::new(world).await;
    known.life = tested.stores.text("st-u0", "SELECT life FROM counter_lives ORDER BY epoch DESC LIMIT 1").await;
    let endpoints = endpoints::everywhere(&known);
    let orders = tested.world.assert_valid().await.orders;
    tested.all_reach_their_handlers(&endpoints).await;
    tested.refuses_what_is_spoilt(&endpoints).await;
    assert_eq!(tested.world.assert_valid().await.orders, orders, "an order came of it");
    tested.end().await;
}

#[tokio::test]
async fn what_does_not_fit_into_a_migration_is_refused_with_a_reason_and_changes_nothing() {
    let world = World::start_with(|options| options.migration = true).await;
    let known = Known::before_a_migration(&world).await;
    let mut tested = Tested::new(world).await;
    let endpoints = endpoints::of_a_migration(&known);
    tested.all_reach_their_handlers(&endpoints).await;
    tested.refuses_what_is_spoilt(&endpoints).await;
    tested.world.assert_valid().await;
    tested.end().await;
}

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

/// A request of which one value of the body and some of the address are drawn. It may fit by chance.
fn drawn(endpoint: &Endpoint, runner: &mut TestRunner) -> Spoilt {
    let draw = (odd(), any::<prop::sample::Index>(), prop::collection::vec(prop::option::of(variable()), 8));
    let (with, at, mut variables) = draw.new_tree(runner).expect("a value").current();
    let mut put = |fits: &mut String| {
        if let Some(drawn) = variables.pop().flatten() {
            *fits = drawn;
        }
    };
    let mut spoilt = endpoint.clone();
    spoilt.at.iter_mut().for_each(&mut put);
    spoilt.query.iter_mut().filter(|(name, _)| !spoiling::is_a_wait(name)).for_each(|(_, fits)| put(fits));
    if let Some(body) = &mut spoilt.body {
        let mut places = spoiling::places(body);
        places.retain(|place| !spoiling::is_a_wait(place.rsplit('/').next().unwrap_or_default()));
        *body = spoiling::with(body, at.get(&places).as_str(), with);
    }
    Spoilt { how: "as drawn".to_owned(), ..spoiling::fitting(&spoilt) }
}

#[tokio::test]
async fn whatever_comes_in_is_answered_and_what_is_refused_changes_nothing() {
    const DRAWS: usize = 20;
    let world = World::start().await;
    let mut known = Known::of(&world).await;
    let mut tested = Tested::new(world).await;
    known.life = tested.stores.text("st-u0", "SELECT life FROM counter_lives ORDER BY epoch DESC LIMIT 1").await;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for endpoint in endpoints::gateway(&known) {
        for _ in 0..DRAWS {
            tested.answers(&endpoint, &drawn(&endpoint, &mut runner)).await;
        }
    }
    // Whatever clients send, the books are in order.
    tested.world.assert_valid().await;
    // What roles tell each other may be wrong in ways that only the auditor sees.
    for endpoint in endpoints::everywhere(&known).into_iter().filter(|one| one.role != "gw") {
        for _ in 0..DRAWS {
            tested.answers(&endpoint, &drawn(&endpoint, &mut runner)).await;
        }
    }
    tested.end().await;
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
