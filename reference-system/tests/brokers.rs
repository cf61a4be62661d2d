//! The brokers under orders: whichever of their processes are killed, no event of an acknowledged order is lost.
#![allow(clippy::unwrap_used, reason = "much of a drill is in functions")]

mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reference_system::Tier;
use reference_system::audit::{AuditReport, Verdict};
use world::{World, eventually, kill, runs};

/// Kills these processes at once, while orders are made, and waits until each is another one.
async fn kill_all(world: &World, victims: &[&str]) {
    let before: Vec<u32> = victims.iter().map(|victim| world.pid(victim).unwrap()).collect();
    before.iter().copied().for_each(kill);
    for (victim, before) in victims.iter().zip(before) {
        eventually(&format!("{victim} is another process"), || async {
            world.pid(victim).filter(|pid| *pid != before && runs(*pid))
        })
        .await;
    }
}

/// Makes orders during a drill, and gives what the audit says when all is at rest again.
async fn orders_during(world: &World, drill: impl AsyncFn(&dyn Fn() -> usize)) -> AuditReport {
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let traffic = world.make_orders(&stop, &acknowledged);
    let count = || acknowledged.lock().unwrap().len();
    let drilled = async {
        drill(&count).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic, drilled);
    // A broker that has just come back may need a while to hand everything out.
    let deadline = Instant::now() + Duration::from_secs(120);
    let report = loop {
        let report = world.audit().await;
        if report.quiet || Instant::now() > deadline {
            break report;
        }
    };
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    assert!(report.orders > count() as u64, "{} orders, {} acknowledged", report.orders, count());
    report
}

async fn flow(count: &dyn Fn() -> usize) {
    let before = count();
    eventually("orders go on", || async { (count() >= before + 5).then_some(()) }).await;
}

#[tokio::test]
async fn the_embedded_broker_loses_no_event_however_often_it_is_killed() {
    let world = World::start().await;
    let report = orders_during(&world, async |count| {
        for _ in 0..4 {
            flow(count).await;
            kill_all(&world, &["mq-1"]).await;
        }
        flow(count).await;
    })
    .await;
    let events = report.invariants.iter().find(|finding| finding.id == "I16").unwrap().checked;
    assert!(events > 100, "{events} events were looked at");
    world.system.stop().await.unwrap();
}

/// The instance of the node that leads a queue, as the cluster says.
fn leader(world: &World, queue: &str) -> String {
    let text = world.rabbitmqctl(&["list_queues", "name", "leader"]);
    let line = text.lines().find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'));
    let node = line.unwrap_or_else(|| panic!("no {queue}: {text}"));
    // `q2@localhost` is that of `rabbitmq-2`.
    node.replace("q", "rabbitmq-").split('@').next().unwrap().to_owned()
}

/// Waits until a node serves clients.
async fn serves(world: &World, node: &str) {
    let back = Instant::now() + Duration::from_secs(90);
    while tokio::net::TcpStream::connect(world.address(node)).await.is_err() {
        assert!(Instant::now() < back, "{node} does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_cluster_of_three_loses_no_event_whichever_of_its_nodes_are_killed_and_leaves_nothing_behind() {
    const NODES: [&str; 3] = ["rabbitmq-1", "rabbitmq-2", "rabbitmq-3"];
    let world = World::start_with(|options| {
        options.tier = Tier::Real;
        options.servers.rabbitmq_nodes = 3;
        options.ready_within = Duration::from_secs(120);
    })
    .await;
    orders_during(&world, async |count| {
        flow(count).await;
        // The leader of the messages' queue first, then the others, so that each was killed once.
        let first = leader(&world, "q.sms");
        let others = NODES.into_iter().filter(|node| *node != first);
        for node in std::iter::once(first.as_str()).chain(others) {
            kill_all(&world, &[node]).await;
            flow(count).await;
            serves(&world, node).await;
        }
        kill_all(&world, &NODES).await;
        // Orders do not need the broker.
        flow(count).await;
        for node in NODES {
            serves(&world, node).await;
        }
        flow(count).await;
    })
    .await;
    let servers = [NODES.as_slice(), &["epmd-1"]].concat();
    let servers: Vec<u32> = servers.into_iter().map(|name| world.pid(name).unwrap()).collect();
    let mapper = world.address("epmd-1");
    world.system.stop().await.unwrap();
    assert!(!servers.into_iter().any(runs), "a server outlives its system");
    assert!(tokio::net::TcpStream::connect(mapper).await.is_err(), "another port mapper took its place");
}
