//! The two shapes of the platform: a process for each instance, or its modules in one process.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::collections::BTreeSet;

use reference_system::{Shape, Tier, launch};
use serde_json::Value;
use world::{Setting, World, eventually, kill, obeyed, runs, set};

on_both_tiers! {
    the_monolith_is_one_process_with_one_fate_whose_modules_keep_their_names
}

async fn the_monolith_is_one_process_with_one_fate_whose_modules_keep_their_names(tier: Tier) {
    let world = World::set(Setting { tier, shape: Shape::Monolith }).await;
    let state = world.system.state();
    let held: BTreeSet<&str> =
        state.instances.iter().filter(|one| one.process == "monolith-1").map(|one| one.service.as_str()).collect();
    let expected = ["blink", "eos-c", "eos-m", "eos-x", "eps", "ers", "eus", "ledger", "rev", "sms", "vgo"];
    assert_eq!(held, expected.into());
    let before = world.pid("eos-c-1").unwrap();
    assert_eq!((world.pid("eos-c-2"), world.pid("eus-1")), (Some(before), Some(before)));
    assert_ne!(world.pid("gw-1"), Some(before));

    let status = launch::status(&state.dir).await.unwrap();
    let lines = status.to_string();
    let one = status.instances.iter().find(|one| one.instance == "monolith-1").unwrap();
    assert_eq!((one.pid, one.ready, one.address, one.modules.len()), (Some(before), true, None, 15), "{lines}");
    assert!(!status.instances.iter().any(|one| one.instance == "eos-c-1"), "{lines}");
    assert!(lines.contains("\n  eos-c-2"), "{lines}");
    let supervisor = status.instances.iter().find(|one| one.instance == "supervisor").unwrap();
    assert_eq!((supervisor.pid, supervisor.ready), (Some(state.supervisor_pid), true), "{lines}");

    // A module obeys a switch of its own, and tells so under its own name.
    set(&world, "lb", Some("rr"), Some("eos-c-2")).await;
    obeyed(&world, "lb", "rr", &["eos-c-2"]).await;
    obeyed(&world, "lb", "p2c_ewma", &["eos-c-1", "eos-m-1"]).await;
    world.settled(7, 11, Some(7)).await;

    let wish = world.basket(8, 11, None).await;
    kill(before);
    eventually("all modules are gone with their process", || async {
        let unknown = world.get("/users/7").await.0 == 503;
        (unknown && !runs(before) && world.pid("eus-1") != Some(before)).then_some(())
    })
    .await;
    eventually("they are back, in one process", || async {
        let fresh = world.pid("eos-m-1").filter(|pid| *pid != before && runs(*pid))?;
        (world.pid("rev-1") == Some(fresh) && world.get("/users/7").await.0 == 200).then_some(())
    })
    .await;
    eventually("orders are made again", || async {
        (world.post("/orders", wish.clone()).await.0 == 200).then_some(())
    })
    .await;
    world.assert_valid().await;

    // A module that blocks holds up all the others: there is one event loop.
    set(&world, "rpc.timeout", Some("soft"), None).await;
    obeyed(&world, "rpc.timeout", "soft", &["eps-1", "eus-1", "gw-1"]).await;
    let (at, other) = (world.address("eps-1"), world.address("eus-1"));
    let block = world.http.post(format!("http://{at}/debug/block?ms=1500")).send();
    let look = async {
        eventually("another module does not answer", || async {
            let asked = world.http.get(format!("http://{other}/healthz"));
            asked.timeout(std::time::Duration::from_millis(400)).send().await.is_err().then_some(())
        })
        .await;
    };
    let (blocked, ()) = futures::future::join(block, look).await;
    assert_eq!(blocked.unwrap().status(), 200);
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_keeps_its_shape_and_may_be_given_another_over_the_same_rows() {
    let world = World::start_with(|options| {
        options.shape = Some(Shape::Monolith);
        options.instances = "eos-c=1,eos-m=1,ers=1,blink=1".parse().unwrap();
    })
    .await;
    assert_eq!(world.system.state().instances.iter().filter(|one| one.service == "eos-c").count(), 1);
    let id = world.settled(7, 11, None).await;
    let World { system, dir, http } = world;
    system.stop().await.unwrap();
    for (shape, expected) in [(None, Shape::Monolith), (Some(Shape::Services), Shape::Services)] {
        let mut options = world::options(dir.path().join("system"));
        options.shape = shape;
        options.instances = "eos-c=3".parse().unwrap();
        let system = reference_system::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(system.state().shape, expected);
        let again = World { system, dir: tempfile::tempdir().unwrap(), http: http.clone() };
        assert_eq!(again.get(&format!("/orders/{id}")).await.1["status"], 9);
        let (_, listed) = again.registry("GET", "/svc/eos-c").await;
        assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
        again
            .ok(
                &format!("/orders/{}/cancel", again.create(8, 11, None).await["order_id"].as_str().unwrap()),
                Value::Null,
            )
            .await;
        again.assert_valid().await;
        again.system.stop().await.unwrap();
    }
}
