//! What keeps a sick instance from taking others along: breakers, compartments, workers, the watchdog, and when an
//! instance is registered.

mod world;

use std::cell::Cell;
use std::time::Duration;

use nix::sys::signal::Signal;
use reference_system::SystemOptions;
use serde_json::{Value, json};
use world::{World, eventually, obeyed, set, signal, state_of};

/// One instance of the restaurant service, which comes back soon: whoever asks for a menu asks that one.
fn alone(options: &mut SystemOptions) {
    options.instances = "ers=1".parse().expect("a count");
    options.respawn_after = Duration::from_millis(100);
}

async fn create_at(world: &World, address: &str, basket: &Value) -> (u16, Value) {
    world.send("POST", format!("http://{address}/orders"), Some(basket.clone()), &world::key()).await
}

#[tokio::test]
async fn a_breaker_refuses_calls_to_a_failing_service_at_once_and_lets_them_through_when_it_is_well() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(2)).await;
    let (basket, at) = (world.basket(7, 11, None).await, world.address("eos-c-1"));
    for (value, opens) in [("off", false), ("window10", true)] {
        set(&world, "breaker", Some(value), None).await;
        obeyed(&world, "breaker", value, &["eos-c-1"]).await;
        let eps = world.pid("eps-1").expect("eps runs");
        world::kill(eps);
        let mut codes = Vec::new();
        for _ in 0..40 {
            let (status, answer) = create_at(&world, &at, &basket).await;
            assert_eq!(status, 503, "{answer}");
            codes.push(answer["code"].as_str().unwrap_or_default().to_owned());
        }
        assert_eq!(codes.iter().any(|code| code == "breaker_open"), opens, "{value}: {codes:?}");
        assert_ne!(codes[0], "breaker_open");
        eventually("the service is back and calls get through", || async {
            let fresh = world.pid("eps-1").is_some_and(|pid| pid != eps);
            (fresh && create_at(&world, &at, &basket).await.0 == 200).then_some(())
        })
        .await;
    }
    let known = state_of(&world, "eos-c-1").await["dependencies"]["eps"].clone();
    assert_eq!((&known["open"], &known["openings"]), (&json!(false), &json!(1)), "{known}");
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn a_hanging_service_holds_its_own_compartment_and_without_one_every_worker() {
    let world = World::start().await;
    let at = world.address("eos-c-1");
    // One user orders one thing at a time.
    let mut baskets = Vec::new();
    for user in 7..47 {
        baskets.push(world.basket(user, 11, None).await);
    }
    // So that it is compartments that matter, and nothing frees a worker early.
    set(&world, "breaker", Some("off"), None).await;
    set(&world, "rpc.timeout", Some("soft"), None).await;
    let creates = || futures::future::join_all(baskets.iter().map(|basket| create_at(&world, &at, basket)));
    for (value, served) in [("per_dep", true), ("shared", false)] {
        set(&world, "rpc.bulkhead", Some(value), None).await;
        obeyed(&world, "rpc.bulkhead", value, &["eos-c-1"]).await;
        let eps = world.pid("eps-1").expect("eps runs");
        signal(eps, Signal::SIGSTOP);
        let creates = creates();
        let look = eventually("the creates hang", || async {
            let state = state_of(&world, "eos-c-1").await;
            let held = state["dependencies"]["eps"]["under_way"].as_u64().unwrap_or(0);
            // A compartment of 24, or all 32 workers.
            (held >= if served { 24 } else { 32 }).then_some(held)
        });
        let polls = async {
            let held = look.await;
            let url = format!("http://{at}/orders/77");
            let answer = world.http.get(url).timeout(Duration::from_millis(150)).send().await;
            (held, answer.is_ok())
        };
        let (creates, (held, answered)) = futures::future::join(creates, polls).await;
        signal(eps, Signal::SIGCONT);
        assert_eq!(answered, served, "{value}: {held} calls under way");
        let full = creates.iter().filter(|(_, answer)| answer["code"] == "bulkhead_full").count();
        assert_eq!(full > 0, served, "{value}");
        eventually("it is well again", || async { (create_at(&world, &at, &baskets[0]).await.0 == 200).then_some(()) })
            .await;
    }
    // Of forty requests that all wait for one service, as many are at work as there are workers; in a compartment,
    // three quarters of them.
    for (bulkhead, workers, waiting) in [("shared", "128", 40), ("shared", "8", 8), ("per_dep", "8", 6)] {
        set(&world, "rpc.bulkhead", Some(bulkhead), None).await;
        set(&world, "rpc.workers", Some(workers), None).await;
        obeyed(&world, "rpc.bulkhead", bulkhead, &["eos-c-1"]).await;
        obeyed(&world, "rpc.workers", workers, &["eos-c-1"]).await;
        let eps = world.pid("eps-1").expect("eps runs");
        signal(eps, Signal::SIGSTOP);
        let most = async {
            let most = Cell::new(0);
            eventually("they wait", || async {
                let now = state_of(&world, "eos-c-1").await["dependencies"]["eps"]["under_way"].as_u64().unwrap_or(0);
                most.set(most.get().max(now));
                (now >= waiting).then_some(())
            })
            .await;
            // One more look: nobody else joins them.
            let again = state_of(&world, "eos-c-1").await["dependencies"]["eps"]["under_way"].as_u64().unwrap_or(0);
            signal(eps, Signal::SIGCONT);
            most.get().max(again)
        };
        let (_, most) = futures::future::join(creates(), most).await;
        assert_eq!(most, waiting, "rpc.bulkhead={bulkhead}, rpc.workers={workers}");
    }
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn a_blocked_event_loop_is_ended_by_the_watchdog_unless_timeouts_are_soft() {
    let world = World::start_with(alone).await;
    let at = world.address("ers-1");
    let block = |ms: u64| world.http.post(format!("http://{at}/debug/block?ms={ms}")).send();
    assert_eq!(block(0).await.expect("an answer").status(), 422);
    set(&world, "rpc.timeout", Some("soft"), None).await;
    obeyed(&world, "rpc.timeout", "soft", &["ers-1"]).await;
    let before = world.pid("ers-1");
    let blocked = block(4_000).await.expect("it goes on after its block");
    assert_eq!((blocked.status().as_u16(), world.pid("ers-1")), (200, before));
    set(&world, "rpc.timeout", None, None).await;
    obeyed(&world, "rpc.timeout", "hard", &["ers-1"]).await;
    assert!(block(30_000).await.is_err(), "the process ended");
    eventually("another took its place and serves", || async {
        let other = world.pid("ers-1").is_some_and(|pid| Some(pid) != before);
        (other && world.get("/restaurants/11/menu").await.0 == 200).then_some(())
    })
    .await;
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn a_process_that_was_paused_longer_than_the_watchdog_waits_is_not_taken_for_blocked() {
    let world = World::start_with(alone).await;
    let before = world.pid("ers-1").expect("ers runs");
    signal(before, Signal::SIGSTOP);
    let asked = world.http.get(format!("http://{}/healthz", world.address("ers-1")));
    // A pause of three seconds, seen from outside.
    assert!(asked.timeout(Duration::from_secs(3)).send().await.is_err());
    signal(before, Signal::SIGCONT);
    eventually("it serves again", || async { (world.get("/restaurants/11/menu").await.0 == 200).then_some(()) }).await;
    assert_eq!(world.pid("ers-1"), Some(before));
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn an_instance_that_registers_when_it_listens_is_called_before_it_can_serve() {
    let world = World::start_with(alone).await;
    set(&world, "warm_up", Some("5s"), None).await;
    for (value, early) in [("ready", false), ("listen", true)] {
        set(&world, "reg.register_at", Some(value), None).await;
        obeyed(&world, "reg.register_at", value, &["ers-1"]).await;
        let before = world.pid("ers-1").expect("ers runs");
        // In good order: it takes its registration back.
        signal(before, Signal::SIGTERM);
        let url = format!("http://{}", world.address("ers-1"));
        let alive = async || world.http.get(format!("{url}/healthz")).send().await.is_ok();
        let ready = async || world.http.get(format!("{url}/readyz")).send().await.is_ok_and(|r| r.status() == 200);
        eventually("another lives", || async {
            (world.pid("ers-1").is_some_and(|pid| pid != before) && alive().await).then_some(())
        })
        .await;
        let (listed_early, called_early) = (Cell::new(false), Cell::new(false));
        eventually("it is ready", || async {
            let (_, list) = world.registry("GET", "/svc/ers").await;
            let listed = list.as_array().is_some_and(|list| !list.is_empty());
            let refused = world.get("/restaurants/11/menu").await.1["code"] == "not_ready";
            if ready().await {
                return Some(());
            }
            listed_early.set(listed_early.get() || listed);
            called_early.set(called_early.get() || refused);
            None
        })
        .await;
        assert_eq!((listed_early.get(), called_early.get()), (early, early), "{value}");
        eventually("it serves", || async { (world.get("/restaurants/11/menu").await.0 == 200).then_some(()) }).await;
    }
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn the_dead_stay_listed_for_their_lease_which_follows_its_switch() {
    // Nobody comes back while this looks.
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    let leases = [("eos-c-1", "0"), ("eos-c-2", "30000"), ("blink-1", "3000")];
    let left = async |instance: &str| state_of(&world, "reg-1").await["role"]["leases"][instance].clone();
    // Each had another one before.
    for (n, turn) in [1, 0].into_iter().enumerate() {
        for (place, (instance, _)) in leases.iter().enumerate() {
            let value = leases[(place + turn) % leases.len()].1;
            set(&world, "reg.lease_ms", Some(value), Some(instance)).await;
            eventually(&format!("{instance} has a lease of {value}, turn {n}"), || async {
                let left = left(instance).await;
                let right = match value {
                    "0" => left.is_null(),
                    "30000" => left.as_u64().is_some_and(|left| left > 3_000),
                    _ => left.as_u64().is_some_and(|left| left <= 3_000),
                };
                right.then_some(())
            })
            .await;
        }
    }
    for (instance, _) in leases {
        world::kill(world.pid(instance).expect("it runs"));
    }
    let listed = async |instance: &str| {
        let (_, all) = world.registry("GET", "/svc").await;
        all["services"].as_object().is_some_and(|services| {
            services
                .values()
                .flat_map(|list| list.as_array().into_iter().flatten())
                .any(|one| one["instance"] == instance)
        })
    };
    eventually("the shortest lease ends", || async { (!listed("blink-1").await).then_some(()) }).await;
    assert!(listed("eos-c-2").await, "its lease is ten times as long");
    assert!(listed("eos-c-1").await, "it is listed until somebody removes it");
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_request_or_its_process_which_comes_back_later_each_time() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(1)).await;
    let panics = async || world.send("POST", format!("http://{}/debug/panic", world.address("eps-1")), None, "p").await;
    let before = world.pid("eps-1");
    let (status, answer) = panics().await;
    assert_eq!((status, &answer["code"]), (500, &json!("panicked")), "{answer}");
    assert_eq!(answer["error"], "eps-1 panicked: asked for by POST /debug/panic");
    let (status, answer) = world.post("/debug/panic/eps", Value::Null).await;
    assert_eq!((status, &answer["code"]), (500, &json!("panicked")), "through the gateway: {answer}");
    assert_eq!(world.post("/debug/panic/reg", Value::Null).await.0, 404);
    world.create(7, 11, None).await;
    assert_eq!(world.pid("eps-1"), before, "the process lives");

    set(&world, "panic", Some("exit"), None).await;
    obeyed(&world, "panic", "exit", &["eps-1"]).await;
    let dir = world.system.state().dir.clone();
    let told = async || {
        let status = reference_system::launch::status(&dir).await.expect("a status");
        status.instances.into_iter().find(|one| one.instance == "eps-1").expect("eps-1")
    };
    for deaths in 1..=2 {
        eventually("it can serve", || async { (world.post("/quote", json!({})).await.0 == 422).then_some(()) }).await;
        let url = format!("http://{}/debug/panic", world.address("eps-1"));
        assert!(world.http.post(url).send().await.is_err(), "the process ended");
        let down = eventually("it is told when it starts again", || async {
            let told = told().await;
            (!told.up && told.restarts == deaths).then_some(told)
        })
        .await;
        let most = if deaths == 1 { 1_000 } else { 2_000 };
        assert!(down.starts_in_ms.is_some_and(|ms| ms <= most), "{down:?}");
        assert_eq!(down.starts_in_ms.is_some_and(|ms| ms > 1_000), deaths == 2, "{down:?}");
    }
    eventually("it is back", || async { (told().await.ready).then_some(()) }).await;
    world.system.stop().await.expect("stops");
}
