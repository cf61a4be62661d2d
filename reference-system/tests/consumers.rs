//! The consumers of events: what each makes of them, that none waits for another, and what becomes of what it cannot read.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::time::Duration;

use nix::sys::signal::Signal;
use reference_system::Tier;
use reference_system::bus::{Bus, Message};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};
use world::{World, eventually, id_of, kill, obeyed, runs, set, signal};

on_both_tiers! {
    each_consumer_makes_of_an_event_what_it_is_for_and_an_ill_one_delays_nobody_else
    a_reminder_waits_as_a_row_or_as_a_message_that_nobody_settles
}

async fn read(world: &World, service: &str, path: &str) -> Value {
    let (status, answer) = world.ask("GET", service, path, None).await;
    assert_eq!(status, 200, "{service}{path}: {answer}");
    answer
}

/// One field of each entry of a list.
async fn listed(world: &World, service: &str, path: &str, field: &str) -> Vec<String> {
    let list = read(world, service, path).await;
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

async fn comes_to(world: &World, service: &str, path: &str, field: &str, expected: &[&str]) {
    eventually(&format!("{service}{path} tells {expected:?}"), || async {
        (listed(world, service, path, field).await == expected).then_some(())
    })
    .await;
}

async fn metric(world: &World, instance: &str, line: &str) -> Option<f64> {
    let text = world.http.get(format!("http://{}/metrics", world.address(instance))).send().await.ok()?;
    let text = text.text().await.ok()?;
    text.lines().find_map(|one| one.strip_prefix(line)?.trim().parse().ok())
}

/// Posts as a request with a tag.
async fn tagged(world: &World, tag: &str, path: &str) {
    let url = format!("{}{path}", world.system.state().gateway);
    let sent = world.http.post(url).header("x-req-id", world::key()).header("x-tag", tag).send().await.unwrap();
    assert_eq!(sent.status().as_u16(), 200);
}

/// Keeps everybody else from writing to a store, until it is closed.
async fn locked(world: &World, store: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let text = std::fs::read(world.system.state().dir.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    let (url, lock) = match config["stores"]["postgres"]["server"].as_str() {
        Some(server) => (format!("{server}/orders_{store}"), "BEGIN; LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"),
        None => (format!("sqlite://{}", world.data().join(format!("{store}.db")).display()), "BEGIN IMMEDIATE"),
    };
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
    connection
}

async fn each_consumer_makes_of_an_event_what_it_is_for_and_an_ill_one_delays_nobody_else(tier: Tier) {
    let world = World::start_with(|options| {
        options.tier = tier;
        options.retry_ms = vec![100, 200, 300];
    })
    .await;
    let copies = async || read(&world, "auditor", "/debug/state").await["role"]["copies"]["taken"].as_u64().unwrap();

    let id = world.settled(80, 81, Some(80)).await;
    let refund = json!({ "order": id, "amount_fen": 100, "reason": "cold" });
    let refund_no = world.ok("/refunds", refund).await["refund_no"].clone();
    world.ok(&format!("/refunds/{refund_no}/approve"), Value::Null).await;
    let tickets = json!({ "user_id": 80, "product": "breakfast_ticket", "quantity": 2 });
    let virtual_order = world.ok("/vorders", tickets).await["vorder_id"].clone();
    world.ok(&format!("/vorders/{virtual_order}/pay"), Value::Null).await;
    comes_to(&world, "ers", "/restaurants/81/pushes", "kind", &["pending", "completed"]).await;
    comes_to(&world, "eps", "/coupons/80/history", "fate", &["used"]).await;
    let lines = ["order.completed", "refund.applied", "refund.granted", "refund.succeeded"];
    comes_to(&world, "ledger", "/statements/81", "kind", &lines).await;
    let told = eventually("the user is told", || async {
        let told = read(&world, "sms", "/messages?recipient=user:80").await;
        (told.as_array()?.len() == 2).then_some(told)
    })
    .await;
    assert_eq!(told, json!([format!("Order {id} is paid"), format!("Order {id} is accepted")]));
    let report = world.assert_valid().await;
    let kinds = report.invariants.iter().find(|finding| finding.id == "C5").unwrap().checked;
    // created, paid, pending, accepted, completed, refunded; assigned, delivered; three of the refund; four of the goods.
    assert!(kinds >= 15, "{kinds} kinds of events");

    // One consumer hangs, the store of another is locked, and a third cannot read what comes of a request.
    let sms = world.pid("sms-1").unwrap();
    signal(sms, Signal::SIGSTOP);
    let before = copies().await;
    let dead = id_of(&world.create(82, 83, Some(82)).await);
    world.ok(&format!("/orders/{dead}/pay"), Value::Null).await;
    world.status_is(&dead, 0).await;
    tagged(&world, "poison-ers", &format!("/orders/{dead}/cancel")).await;
    let done = world.accepted(84, 83, None).await;
    let lock = locked(&world, "ledger").await;
    world.ok(&format!("/orders/{done}/delivered"), Value::Null).await;
    world.ok(&format!("/orders/{done}/confirm"), Value::Null).await;
    comes_to(&world, "eps", "/coupons/82/history", "fate", &["used", "returned"]).await;
    comes_to(&world, "ers", "/restaurants/83/pushes", "kind", &["pending", "pending", "completed"]).await;
    // Two orders: created, paid, pending each; cancelled; accepted, delivered, completed; not always assigned.
    eventually("the copies are there", || async { (copies().await >= before + 10).then_some(()) }).await;
    assert_eq!(listed(&world, "ledger", "/statements/83", "kind").await, Vec::<String>::new(), "its store is locked");

    let letter = eventually("what ers cannot read is a dead letter", || async {
        let letters = read(&world, "ers", "/dead-letters").await;
        (letters["dead"] == 1).then(|| letters["letters"][0].clone())
    })
    .await;
    assert_eq!((&letter["key"], &letter["id"]), (&json!("order.cancelled"), &json!(format!("{dead}.5"))));
    let failed = || async {
        let mut sum = 0.0;
        for instance in ["ers-1", "ers-2"] {
            let failed = format!("bus_consumer_failed_total{{instance=\"{instance}\",queue=\"q.ers\"}}");
            sum += metric(&world, instance, &failed).await?;
        }
        Some(sum)
    };
    assert_eq!(failed().await, Some(4.0), "once, and once after each rest, at either instance");
    let gauge = "bus_queue_messages{instance=\"auditor-1\",queue=\"q.ers\",state=\"dead\"}";
    eventually("the metrics tell", || async { (metric(&world, "auditor-1", gauge).await? >= 1.0).then_some(()) }).await;
    let (status, replayed) = world.ask("POST", "ers", "/dead-letters/replay", None).await;
    assert_eq!((status, &replayed["replayed"]), (200, &json!(1)));
    eventually("it fails as often again", || async { (failed().await? >= 8.0).then_some(()) }).await;

    signal(sms, Signal::SIGCONT);
    lock.close().await.unwrap();
    comes_to(&world, "ledger", "/statements/83", "kind", &["order.completed"]).await;
    world.is_settled(&done).await;
    eventually("the restaurant is told of what was cancelled meanwhile", || async {
        // After a stop the watchdog may have ended it.
        let url = format!("http://{}/messages?recipient=restaurant:83", world.address("sms-1"));
        let told = world.http.get(url).send().await.ok()?.text().await.ok()?;
        let told: Value = serde_json::from_str(&told).ok()?;
        (told == json!([format!("Order {dead} is cancelled")])).then_some(())
    })
    .await;
    world.assert_valid().await;

    let bus = Bus::of_orders(&world.system.state().dir).unwrap();
    let stray = Message { id: "stray".to_owned(), key: "order.paid".to_owned(), body: "no event".to_owned() };
    bus.publish_to("q.eps", &[stray]).await.unwrap();
    eventually("it is a dead letter of one queue", || async {
        (bus.depth("q.eps").await.ok()?.dead == 1).then_some(())
    })
    .await;
    assert_eq!(bus.depth("q.sms").await.unwrap().dead, 0, "though its key is for others, too");
    world.system.stop().await.unwrap();
}

async fn a_reminder_waits_as_a_row_or_as_a_message_that_nobody_settles(tier: Tier) {
    let world = World::start_with(|options| {
        options.tier = tier;
        options.unpaid_timeout = Duration::from_secs(18);
        options.respawn_after = Duration::from_secs(2);
    })
    .await;
    let bus = Bus::of_orders(&world.system.state().dir).unwrap();
    let held = async || {
        let state = world.http.get(format!("http://{}/debug/state", world.address("eos-x-1"))).send().await.ok()?;
        let state: Value = serde_json::from_str(&state.text().await.ok()?).ok()?;
        state["role"]["timers"]["held"].as_u64()
    };
    let unsettled = async || bus.depth("q.timer").await.ok().map(|depth| depth.waiting);
    let (row, paid) = (id_of(&world.create(90, 91, None).await), id_of(&world.create(92, 91, None).await));
    world.ok(&format!("/orders/{paid}/pay"), Value::Null).await;
    eventually("it is a row", || async { (unsettled().await? == 0).then_some(()) }).await;
    assert_eq!(held().await, Some(0));

    set(&world, "timer.hold", Some("unacked"), None).await;
    obeyed(&world, "timer.hold", "unacked", &["eos-x-1"]).await;
    // The question for messages that is under way began as the switch was.
    eventually("the switch is obeyed", || async {
        let before = read(&world, "eos-x", "/debug/state").await["role"]["timers"]["rounds"].as_u64()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = read(&world, "eos-x", "/debug/state").await["role"]["timers"]["rounds"].as_u64()?;
        (now > before).then_some(())
    })
    .await;
    let message = id_of(&world.create(93, 91, None).await);
    eventually("it is held", || async { (held().await? == 1).then_some(()) }).await;
    let before = world.pid("eos-x-1").unwrap();
    kill(before);
    eventually("nobody holds it, and nobody has settled it", || async { (unsettled().await? == 1).then_some(()) })
        .await;
    eventually("it is back", || async { world.pid("eos-x-1").filter(|pid| *pid != before && runs(*pid)) }).await;
    eventually("the message comes again", || async { (held().await? == 1).then_some(()) }).await;

    for (user, order) in [(90, &row), (93, &message)] {
        let reminded = eventually("the user is reminded", || async {
            let told = read(&world, "sms", &format!("/messages?recipient=user:{user}")).await;
            (told != json!([])).then_some(told)
        })
        .await;
        assert_eq!(reminded, json!([format!("Order {order} is not paid yet")]));
    }
    let told = read(&world, "sms", "/messages?recipient=user:92").await;
    assert_eq!(told, json!([format!("Order {paid} is paid")]), "who has paid is not reminded");
    for order in [&row, &message] {
        world.status_is(order, -4).await;
    }
    set(&world, "timer.hold", None, None).await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}
