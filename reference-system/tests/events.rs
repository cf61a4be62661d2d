//! Events of orders, from the row to their consumers: none lost, none twice, none out of nothing, unless a switch says so.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::time::Duration;

use reference_system::Tier;
use reference_system::audit::Verdict;
use reference_system::bus::{Bus, Message, Queue, Topology};
use serde_json::{Value, json};
use world::{World, eventually, id_of, kill, obeyed, runs, set, verdict_of};

on_both_tiers! {
    each_event_takes_effect_once_also_when_a_consumer_or_the_broker_is_killed
}

async fn each_event_takes_effect_once_also_when_a_consumer_or_the_broker_is_killed(tier: Tier) {
    let world = World::on(tier).await;
    let broker = if tier == Tier::Real { "rabbitmq-1" } else { "mq-1" };
    for (user, victim) in [(31, "sms-1"), (32, broker), (33, "eos-x-1"), (34, "auditor-1")] {
        let id = id_of(&world.create(user, 21, None).await);
        world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
        let before = world.pid(victim).unwrap();
        kill(before);
        // Beyond the victim's respawn, a killed eos-x or broker holds the order back for a while.
        eventually("the victim is back", || async { world.pid(victim).filter(|pid| *pid != before && runs(*pid)) })
            .await;
        world.status_is(&id, 0).await;
        world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
    }
    let report = eventually("the auditor answers and all is at rest", || async {
        let url = format!("{}/audit?quiesce_ms=20000", world.system.state().auditor);
        let answer = world.http.get(url).send().await.ok()?;
        let report: reference_system::audit::AuditReport = answer.json().await.ok()?;
        report.quiet.then_some(report)
    })
    .await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    for id in ["I16", "I17", "I18", "I19"] {
        let finding = report.invariants.iter().find(|finding| finding.id == id).unwrap();
        // Of each order: created, paid, pending, cancelled.
        assert!(finding.checked >= 16, "{finding:#?}");
    }
    world.system.stop().await.unwrap();
}

/// A create while the broker is dead, and what an audit says when it is back.
async fn create_without_broker(world: &World, user: i64) -> (u16, Verdict) {
    let basket = world.basket(user, 23, None).await;
    let before = world.pid("mq-1").unwrap();
    kill(before);
    let (status, _) = world.post("/orders", basket).await;
    eventually("the broker is back", || async { world.pid("mq-1").filter(|pid| *pid != before && runs(*pid)) }).await;
    let report = world.audit().await;
    assert!(report.quiet, "{report:#?}");
    (status, verdict_of(&report, "I16"))
}

#[tokio::test]
async fn who_publishes_decides_what_a_dead_broker_costs() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(2)).await;
    assert_eq!(create_without_broker(&world, 50).await, (200, Verdict::Valid), "the outbox keeps it");

    let stores = ["st-u0-1", "st-u1-1"];
    let copies = async || world.ask("GET", "auditor", "/debug/state", None).await.1["role"]["copies"]["taken"].clone();
    let before = copies().await;
    set(&world, "bus.emit", Some("off"), None).await;
    obeyed(&world, "bus.emit", "off", &stores).await;
    world.create(51, 23, None).await;
    assert_eq!(verdict_of(&world.assert_valid().await, "I16"), Verdict::Valid, "nothing was promised");
    assert_eq!(copies().await, before, "and nothing was told");

    set(&world, "bus.emit", Some("inline_sync"), None).await;
    obeyed(&world, "bus.emit", "inline_sync", &stores).await;
    world.create(52, 23, None).await;
    eventually("it is told", || async { (copies().await != before).then_some(()) }).await;
    let (status, verdict) = create_without_broker(&world, 53).await;
    assert_eq!(
        (status, verdict),
        (503, Verdict::Invalid),
        "the user learns of it, the order is there, the event is lost"
    );
    world.system.stop().await.unwrap();

    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(2)).await;
    set(&world, "bus.emit", Some("inline"), None).await;
    obeyed(&world, "bus.emit", "inline", &stores).await;
    assert_eq!(create_without_broker(&world, 54).await, (200, Verdict::Invalid), "nobody learns of it");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn without_confirmation_the_relay_marks_what_never_arrived() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(2)).await;
    assert_eq!(create_without_broker(&world, 56).await, (200, Verdict::Valid), "it waits for the confirmation");
    set(&world, "bus.confirm", Some("off"), None).await;
    obeyed(&world, "bus.confirm", "off", &["eos-x-1"]).await;
    assert_eq!(create_without_broker(&world, 55).await, (200, Verdict::Invalid));
    world.system.stop().await.unwrap();
}

fn unreadable(count: usize) -> Vec<Message> {
    let one = |n: usize| Message { id: format!("bad-{n}"), key: "order.paid".to_owned(), body: "no event".to_owned() };
    (0..count).map(one).collect()
}

async fn sms(world: &World, count: &str) -> u64 {
    let (_, state) = world.ask("GET", "sms", "/debug/state", None).await;
    state["role"][count].as_u64().unwrap()
}

#[tokio::test]
async fn what_a_consumer_does_with_messages_it_cannot_read_is_a_switch() {
    let world = World::start().await;
    let bus = Bus::of_orders(&world.system.state().dir).unwrap();
    let depth = async || {
        let depth = bus.depth("q.sms").await.unwrap();
        (depth.waiting, depth.resting, depth.dead)
    };
    let switched = async |value| {
        set(&world, "consumer.on_error", Some(value), None).await;
        obeyed(&world, "consumer.on_error", value, &["sms-1", "auditor-1"]).await;
    };
    switched("requeue").await;
    bus.publish(&unreadable(1), true).await.unwrap();
    eventually("it comes again and again", || async { (sms(&world, "failed").await > 20).then_some(()) }).await;
    assert_eq!(depth().await, (1, 0, 0));
    switched("ack_drop").await;
    eventually("it is dropped", || async { (depth().await == (0, 0, 0)).then_some(()) }).await;
    switched("retry_dlq").await;
    bus.publish(&unreadable(1), true).await.unwrap();
    eventually("it rests", || async { (depth().await == (0, 1, 0)).then_some(()) }).await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn how_a_consumer_takes_messages_is_a_switch() {
    let world = World::start().await;
    let bus = Bus::of_orders(&world.system.state().dir).unwrap();
    set(&world, "consumer.on_error", Some("ack_drop"), None).await;
    obeyed(&world, "consumer.on_error", "ack_drop", &["sms-1", "auditor-1"]).await;
    let mut batches = Vec::new();
    for prefetch in ["1", "50"] {
        set(&world, "consumer.prefetch", Some(prefetch), None).await;
        obeyed(&world, "consumer.prefetch", prefetch, &["sms-1"]).await;
        let (taken, rounds) = (sms(&world, "taken").await, sms(&world, "batches").await);
        // The round under way began with the other value.
        bus.publish(&unreadable(1), true).await.unwrap();
        eventually("the round has ended", || async { (sms(&world, "taken").await > taken).then_some(()) }).await;
        bus.publish(&unreadable(30), true).await.unwrap();
        eventually("all are taken", || async { (sms(&world, "taken").await == taken + 31).then_some(()) }).await;
        batches.push(sms(&world, "batches").await - rounds);
    }
    assert_eq!(batches[0], 31, "one at a time");
    assert!(batches[1] < 10, "many at a time: {batches:?}");

    // How many questions were answered, and how long all of them together waited for it.
    let answered = async || {
        let text = world.metrics("mq-1").await;
        let of = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name) && line.contains("/consume"));
            let numbers = lines.filter(|line| line.contains("200")).filter_map(|line| line.rsplit(' ').next());
            numbers.filter_map(|number| number.parse::<f64>().ok()).sum::<f64>()
        };
        (of("http_request_seconds_count"), of("http_request_seconds_sum"))
    };
    let each_waits = async || {
        let (count, sum) = answered().await;
        let (more, longer) =
            eventually("consumers ask", || async { Some(answered().await).filter(|(more, _)| *more >= count + 10.0) })
                .await;
        (longer - sum) / (more - count)
    };
    let sent = each_waits().await;
    set(&world, "consumer.mode", Some("poll_get"), None).await;
    obeyed(&world, "consumer.mode", "poll_get", &["sms-1", "auditor-1"]).await;
    // The long poll under way ends first.
    eventually("it is answered at once", || async { (each_waits().await * 10.0 < sent).then_some(()) }).await;
    world.create(60, 24, None).await;
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_on_request_is_sent_once_per_key_and_bad_ones_are_refused() {
    let world = World::start().await;
    let url = format!("http://{}/send", world.address("sms-1"));
    let good = json!({ "recipient": "user:7", "text": "hello" });
    for sent in [true, false] {
        let (status, answer) = world.send("POST", url.clone(), Some(good.clone()), "key-of-7").await;
        assert_eq!((status, &answer["sent"]), (200, &json!(sent)));
    }
    for bad in [json!({}), json!({ "recipient": "", "text": "x" }), json!({ "recipient": 7, "text": "x" })] {
        let (status, answer) = world.send("POST", url.clone(), Some(bad), "other-key").await;
        assert_eq!((status, &answer["code"]), (422, &json!("invalid")));
    }
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_consumer_held_goes_to_its_next_life_before_anything_later() {
    let world = World::start().await;
    let ask = async |path: &str, body: Value| {
        let url = format!("http://{}{path}", world.address("mq-1"));
        let (status, answer) = world.send("POST", url, Some(body), "").await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let queues = json!([{ "name": "q.life", "bindings": ["#"] }]);
    ask("/topology", json!({ "exchange": "life", "queues": queues, "retry_ms": [1_000] })).await;
    let messages: Vec<_> = ["a", "b", "c"].map(|id| json!({ "id": id, "key": "k", "body": "" })).into();
    ask("/publish", json!({ "exchange": "life", "confirm": true, "messages": messages })).await;
    let taken = async |consumer: &str, most: usize| {
        let demand = json!({ "queue": "q.life", "consumer": consumer, "most": most, "holds": [], "wait_ms": 0 });
        let handed = ask("/consume", demand).await;
        let ids: Vec<_> = handed.as_array().unwrap().iter().map(|one| one["message"]["id"].clone()).collect();
        ids
    };
    assert_eq!(taken("reader-1/100/1", 1).await, ["a"]);
    assert_eq!(taken("reader-2/300/1", 1).await, ["b"], "what another instance holds is not touched");
    assert_eq!(taken("reader-1/200/1", 9).await, ["a", "c"]);
    world.system.stop().await.unwrap();
}

/// What the other tenant has done at a broker, by its metrics.
async fn noise(world: &World, what: &str, broker: &str) -> u64 {
    let text = world.metrics("mq-noise-1").await;
    let series = format!("noise_{what}{{instance=\"mq-noise-1\",broker=\"{broker}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

/// The events of the other tenant, as whoever looks into the broker of the orders finds them there.
fn noise_at_the_orders(world: &World) -> Bus {
    let topology = Topology {
        exchange: "noise".into(),
        queues: vec![Queue::new("q.noise", &["#"])],
        retry_ms: Topology::of_orders(&[1_000, 5_000, 30_000]).retry_ms,
    };
    Bus::of_system(&world.system.state().dir, topology).unwrap()
}

async fn a_storm_of_another_tenant_reaches_the_broker_of_the_orders_only_where_they_share_it(tier: Tier) {
    let world = World::on(tier).await;
    for (tenancy, other) in [("dedicated", "shared"), ("shared", "dedicated")] {
        set(&world, "mq.tenancy", Some(tenancy), None).await;
        obeyed(&world, "mq.tenancy", tenancy, &["mq-noise-1"]).await;
        let before = noise(&world, "published_total", other).await;
        set(&world, "mq.noise", Some("storm"), None).await;
        eventually("the storm is on", || async {
            (noise(&world, "published_total", tenancy).await >= 3_000
                && noise(&world, "taken_total", tenancy).await > 0)
                .then_some(())
        })
        .await;
        assert_eq!(
            noise(&world, "published_total", other).await,
            before,
            "{tenancy}: the other broker hears nothing of it"
        );
        let orders = noise_at_the_orders(&world);
        let waiting = async || orders.depth("q.noise").await.map_or(0, |depth| depth.waiting);
        if tenancy == "shared" {
            eventually("messages of it wait at the orders' broker", || async { (waiting().await > 0).then_some(()) })
                .await;
        } else {
            assert_eq!(waiting().await, 0, "the orders' broker has nothing of it");
        }

        world.create(60, 24, None).await;
        set(&world, "mq.noise", Some("quiet"), None).await;
        eventually("it is over", || async { (noise(&world, "storms", tenancy).await == 0).then_some(()) }).await;
        let published = noise(&world, "published_total", tenancy).await;
        assert!(noise(&world, "taken_total", tenancy).await >= published, "nothing of it is left");
    }
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

on_both_tiers! { a_storm_of_another_tenant_reaches_the_broker_of_the_orders_only_where_they_share_it }
