//! What both brokers promise: the same tests against the role `mq` and against RabbitMQ.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::time::{Duration, Instant};

use reference_system::Tier;
use reference_system::bus::{Bus, Consumer, Delivery, Message, Outcome, Queue, Taking, Topology};
use world::{World, eventually, kill, runs};

const WAIT: Duration = Duration::from_millis(500);

on_both_tiers! {
    what_was_confirmed_survives_a_killed_broker
    a_message_reaches_every_queue_whose_pattern_fits_and_no_other
    a_message_is_held_by_one_consumer_and_goes_to_another_when_that_is_gone
    a_failed_message_rests_longer_each_time_and_ends_as_a_dead_letter
    a_requeued_message_comes_again_at_once_and_never_dies
}

fn topology() -> Topology {
    Topology {
        exchange: "contract".to_owned(),
        queues: vec![
            Queue::new("c.paid", &["order.paid"]),
            Queue::new("c.orders", &["order.*"]),
            Queue::new("c.all", &["#"]),
        ],
        retry_ms: vec![200, 600],
    }
}

async fn bus(world: &World) -> Bus {
    let bus = Bus::of_system(&world.system.state().dir, topology()).unwrap();
    bus.declare().await.unwrap();
    bus
}

fn message(id: &str, key: &str) -> Message {
    Message { id: id.to_owned(), key: key.to_owned(), body: format!("{{\"n\":\"{id}\"}}") }
}

fn consumer(bus: &Bus, queue: &str) -> Consumer {
    bus.consumer(queue, Taking::Consume { prefetch: 50 }).unwrap()
}

/// Takes until `count` have come.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut taken, mut refusal) = (Vec::new(), None);
    while taken.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} came; last refusal: {refusal:?}", taken.len());
        // A broker that is coming back refuses for a while.
        match consumer.next(WAIT).await {
            Ok(more) => taken.extend(more),
            Err(error) => {
                refusal = Some(error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    taken
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}

async fn settle_all(consumer: &mut Consumer, deliveries: Vec<Delivery>, outcome: Outcome) {
    consumer.settle(deliveries.into_iter().map(|one| (one, outcome)).collect()).await.unwrap();
}

async fn depth_is(bus: &Bus, queue: &str, expected: (u64, u64, u64)) {
    eventually(&format!("{queue} holds {expected:?}"), || async {
        let depth = bus.depth(queue).await.ok()?;
        ((depth.waiting, depth.resting, depth.dead) == expected).then_some(())
    })
    .await;
}

fn broker(tier: Tier) -> &'static str {
    if tier == Tier::Real { "rabbitmq-1" } else { "mq-1" }
}

async fn what_was_confirmed_survives_a_killed_broker(tier: Tier) {
    let world = World::on(tier).await;
    let bus = bus(&world).await;
    let messages: Vec<Message> = (0..120).map(|n| message(&format!("m{n:03}"), "order.paid")).collect();
    bus.publish(&messages, true).await.unwrap();
    let pid = world.pid(broker(tier)).unwrap();
    kill(pid);
    eventually("the broker is back", || async { world.pid(broker(tier)).filter(|new| *new != pid && runs(*new)) })
        .await;
    let mut consumer = consumer(&bus, "c.paid");
    let mut taken = Vec::new();
    while taken.len() < messages.len() {
        let some = take(&mut consumer, 1).await;
        taken.extend(ids(&some).iter().map(|id| (*id).to_owned()));
        settle_all(&mut consumer, some, Outcome::Done).await;
    }
    let sent: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    assert_eq!(taken, sent, "each once and in order");
    depth_is(&bus, "c.paid", (0, 0, 0)).await;
    world.system.stop().await.unwrap();
}

async fn a_message_reaches_every_queue_whose_pattern_fits_and_no_other(tier: Tier) {
    let world = World::on(tier).await;
    let bus = bus(&world).await;
    let sent = [message("1", "order.paid"), message("2", "order.created"), message("3", "refund.succeeded")];
    bus.publish(&sent[..2], true).await.unwrap();
    // Nobody waits for it; it comes all the same while the broker is well.
    bus.publish(&sent[2..], false).await.unwrap();
    for (queue, expected) in [("c.paid", &["1"][..]), ("c.orders", &["1", "2"]), ("c.all", &["1", "2", "3"])] {
        let mut consumer = consumer(&bus, queue);
        let taken = take(&mut consumer, expected.len()).await;
        assert_eq!(ids(&taken), expected, "{queue}");
        assert_eq!((taken[0].message.key.as_str(), taken[0].failures), ("order.paid", 0));
        assert_eq!(taken[0].message.body, sent[0].body);
        settle_all(&mut consumer, taken, Outcome::Done).await;
        assert!(consumer.next(WAIT).await.unwrap().is_empty(), "{queue} got more");
    }
    world.system.stop().await.unwrap();
}

async fn a_message_is_held_by_one_consumer_and_goes_to_another_when_that_is_gone(tier: Tier) {
    let world = World::on(tier).await;
    let bus = bus(&world).await;
    let sent: Vec<Message> = (0..5).map(|n| message(&n.to_string(), "order.paid")).collect();
    bus.publish(&sent, true).await.unwrap();
    let mut first = bus.consumer("c.paid", Taking::Consume { prefetch: 2 }).unwrap();
    let held = take(&mut first, 2).await;
    assert_eq!(ids(&held), ["0", "1"]);
    assert!(first.next(WAIT).await.unwrap().is_empty(), "it holds as many as it may");
    // Of another client, as in another process.
    let other = self::bus(&world).await;
    let mut second = other.consumer("c.paid", Taking::Get).unwrap();
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(take(&mut second, 1).await);
    }
    assert_eq!(ids(&got), ["2", "3", "4"]);
    assert!(second.next(WAIT).await.unwrap().is_empty(), "the others are held");
    settle_all(&mut second, got, Outcome::Done).await;
    drop((held, first, bus));
    let again = take(&mut second, 1).await;
    assert_eq!(ids(&again), ["0"]);
    settle_all(&mut second, again, Outcome::Done).await;
    let last = take(&mut second, 1).await;
    settle_all(&mut second, last, Outcome::Done).await;
    depth_is(&other, "c.paid", (0, 0, 0)).await;
    world.system.stop().await.unwrap();
}

async fn a_failed_message_rests_longer_each_time_and_ends_as_a_dead_letter(tier: Tier) {
    let world = World::on(tier).await;
    let bus = bus(&world).await;
    bus.publish(&[message("bad", "order.paid"), message("good", "order.paid")], true).await.unwrap();
    let mut consumer = consumer(&bus, "c.paid");
    for (failures, rested) in [(0, 0), (1, 200), (2, 600)] {
        let began = Instant::now();
        let taken = take(&mut consumer, if failures == 0 { 2 } else { 1 }).await;
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(rested * 8 / 10), "{failures} failures: came after {waited:?}");
        assert_eq!((ids(&taken)[0], taken[0].failures), ("bad", failures));
        assert_eq!(taken[0].message.key, "order.paid", "the key stays");
        let outcome = |one: &Delivery| if one.message.id == "bad" { Outcome::Retry } else { Outcome::Done };
        let settled = taken.into_iter().map(|one| {
            let outcome = outcome(&one);
            (one, outcome)
        });
        consumer.settle(settled.collect()).await.unwrap();
    }
    depth_is(&bus, "c.paid", (0, 0, 1)).await;
    for look in ["first", "second"] {
        let dead = bus.dead_letters("c.paid").await.unwrap();
        assert_eq!(dead, [message("bad", "order.paid")], "the {look} look");
    }
    depth_is(&bus, "c.orders", (2, 0, 0)).await;

    assert_eq!(bus.replay("c.paid", 10).await.unwrap(), 1, "it is put back");
    let again = take(&mut consumer, 1).await;
    assert_eq!((&again[0].message, again[0].failures), (&message("bad", "order.paid"), 0), "as if it had never failed");
    settle_all(&mut consumer, again, Outcome::Done).await;
    bus.publish_to("c.paid", &[message("only", "order.created")]).await.unwrap();
    let only = take(&mut consumer, 1).await;
    assert_eq!(only[0].message, message("only", "order.created"), "whatever its key is");
    settle_all(&mut consumer, only, Outcome::Done).await;
    depth_is(&bus, "c.orders", (2, 0, 0)).await;
    world.system.stop().await.unwrap();
}

async fn a_requeued_message_comes_again_at_once_and_never_dies(tier: Tier) {
    let world = World::on(tier).await;
    let bus = bus(&world).await;
    bus.publish(&[message("poison", "order.paid")], true).await.unwrap();
    let mut consumer = consumer(&bus, "c.paid");
    for _ in 0..10 {
        let taken = take(&mut consumer, 1).await;
        assert_eq!(taken[0].failures, 0);
        settle_all(&mut consumer, taken, Outcome::Requeue).await;
    }
    depth_is(&bus, "c.all", (1, 0, 0)).await;
    assert!(bus.dead_letters("c.paid").await.unwrap().is_empty());
    world.system.stop().await.unwrap();
}
