//! Switches of a running system: set from outside, obeyed by every instance, told in metrics, kept by the registry.

mod world;

use std::time::{Duration, Instant};

use reference_system::switches::SWITCHES;
use reference_system::switching::{self, Wanted};
use serde_json::{Value, json};
use world::{World, eventually, kill, obeyed, runs, set};

#[tokio::test]
async fn every_value_of_every_switch_reaches_the_instances_and_wrong_ones_are_refused() {
    let world = World::start_with(|options| options.migration = true).await;
    let dir = world.system.state().dir.clone();
    for switch in SWITCHES {
        // By hand, the phase of a migration is moved at one instance at a time only.
        let at = if switch.name == "mig.phase" { &[Some("gw-1"), Some("eos-c-2")][..] } else { &[None] };
        for value in switch.values {
            for instance in at {
                set(&world, switch.name, Some(value), *instance).await;
            }
            obeyed(&world, switch.name, value, &["gw-1", "eos-c-2"]).await;
        }
        for instance in at {
            set(&world, switch.name, None, *instance).await;
        }
    }
    set(&world, "lb", Some("rr"), Some("eos-c-1")).await;
    obeyed(&world, "lb", "rr", &["eos-c-1"]).await;
    obeyed(&world, "lb", "p2c_ewma", &["eos-c-2"]).await;

    let reg = world.pid("reg-1").unwrap();
    kill(reg);
    eventually("the registry is back", || async { world.pid("reg-1").filter(|pid| *pid != reg && runs(*pid)) }).await;
    let kept = eventually("it answers", || async { switching::read(&dir, "lb").await.ok() }).await;
    assert_eq!(kept.0[0].instances["eos-c-1"], "rr");

    for (name, value, instance, told) in [
        ("lb", "random", None, "expected one of rr, p2c_ewma"),
        ("lbx", "rr", None, "there is no switch `lbx`"),
        ("../svc", "rr", None, "there is no switch"),
        ("mig.phase", "P3", None, "mig.phase is moved by `system migrate`"),
        ("lb", "rr", Some("eos-z-1"), "there is no instance `eos-z-1`"),
    ] {
        let wanted =
            Wanted { name: name.to_owned(), value: Some(value.to_owned()), instance: instance.map(str::to_owned) };
        let error = switching::set(&dir, &wanted).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_soft_timeout_lets_a_request_go_on_and_a_hard_one_cuts_it_off() {
    let world = World::start().await;
    // A long poll of the store that finds nothing for its whole second.
    let task_store = world.system.state().instances.iter().find(|one| one.instance == "st-u0-1").unwrap().clone();
    let poll = async || {
        let url = format!("http://{}/tasks?limit=1&wait_ms=1000", task_store.address);
        let began = Instant::now();
        let answer = world.http.get(url).header("x-deadline-ms", "200").send().await.unwrap();
        (answer.status().as_u16(), began.elapsed())
    };
    // The self-test's order leaves timers of the future only, so the poll waits.
    let (status, _) = eventually("nothing is due", || async {
        let polled = poll().await;
        (polled.0 == 504).then_some(polled)
    })
    .await;
    assert_eq!(status, 504);
    set(&world, "rpc.timeout", Some("soft"), None).await;
    obeyed(&world, "rpc.timeout", "soft", &["st-u0-1"]).await;
    // What the self-test's orders leave comes due now and then, and ends a poll before its time.
    eventually("a poll goes on after its deadline", || async {
        let (status, took) = poll().await;
        assert_eq!(status, 200);
        (took > Duration::from_millis(900)).then_some(())
    })
    .await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_stops_abruptly_stays_listed_until_its_lease_ends() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    let listed = async |instance: &str| {
        let (_, list) = world.registry("GET", "/svc/eos-c").await;
        list.as_array().is_some_and(|list| list.iter().any(|one| one["instance"] == instance))
    };
    let stop = |instance: &str| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(world.pid(instance).unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    };
    let gone = async |instance: &str| {
        eventually("the process is gone", || async { world.pid(instance).is_none().then_some(()) }).await;
    };
    stop("eos-c-1");
    gone("eos-c-1").await;
    assert!(!listed("eos-c-1").await, "it took its registration back");
    set(&world, "reg.stop", Some("abrupt"), None).await;
    obeyed(&world, "reg.stop", "abrupt", &["eos-c-2"]).await;
    stop("eos-c-2");
    gone("eos-c-2").await;
    assert!(listed("eos-c-2").await, "nobody took it back");
    eventually("the lease ends", || async { (!listed("eos-c-2").await).then_some(()) }).await;
    assert_eq!(world.post("/orders", json!({})).await.1["code"], Value::from("no_instance"));
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn refused_calls_are_tried_elsewhere_as_the_switch_says() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    // Refusals must not end with the first few: nobody is left alone, and a dead entry stays while it is put back.
    set(&world, "lb.eject", Some("off"), None).await;
    set(&world, "lb", Some("rr"), None).await;
    obeyed(&world, "lb", "rr", &["gw-1"]).await;
    obeyed(&world, "lb.eject", "off", &["gw-1"]).await;
    let dead = world.system.state().instances.iter().find(|one| one.instance == "eos-c-1").unwrap().clone();
    kill(world.pid("eos-c-1").unwrap());
    let body = json!({ "address": dead.address, "state": "up" });
    let entry = format!("{}/svc/eos-c/eos-c-1?ttl_ms=60000", world.system.state().registry);
    world.send("PUT", entry, Some(body), "keep").await;
    for (value, reads, writes) in [("off", false, false), ("reads", true, false), ("all", true, true)] {
        set(&world, "lb.connect_retry", Some(value), None).await;
        obeyed(&world, "lb.connect_retry", value, &["gw-1"]).await;
        let (mut reads_ok, mut writes_ok) = (true, true);
        // Turns alternate between the two instances, so each kind comes in pairs.
        for _ in 0..4 {
            for _ in 0..2 {
                let (status, answer) = world.get("/users/1/orders").await;
                assert!(status == 200 || answer["code"] == "connection_refused", "{status} {answer}");
                reads_ok &= status == 200;
            }
            for _ in 0..2 {
                // An empty order is invalid wherever it arrives.
                let (status, answer) = world.post("/orders", json!({})).await;
                assert!(status == 422 || answer["code"] == "connection_refused", "{status} {answer}");
                writes_ok &= status == 422;
            }
        }
        assert_eq!((reads_ok, writes_ok), (reads, writes), "lb.connect_retry={value}");
    }
    world.system.stop().await.unwrap();
}
