//! The registry's contract, the same in memory and on etcd: registrations with leases, masks, switches, a watch that tells
//! of changes, and what survives a death.

#[macro_use]
mod world;

use std::time::Duration;

use reference_system::Tier;
use serde_json::{Value, json};
use world::{World, eventually, kill, obeyed, runs, set};

on_both_tiers! {
    registrations_masks_and_leases_come_and_go
    a_killed_registry_comes_back_and_knows_its_switches
}

async fn put(world: &World, path: &str, body: Value) -> u16 {
    let url = format!("{}{path}", world.system.state().registry);
    world.send("PUT", url, Some(body), "r").await.0
}

fn entry(port: u16) -> Value {
    json!({ "address": format!("127.0.0.1:{port}"), "state": "up", "weight": 1 })
}

async fn listed(world: &World, service: &str) -> Vec<String> {
    let (_, list) = world.registry("GET", &format!("/svc/{service}")).await;
    let instances = list.as_array().into_iter().flatten();
    instances.filter_map(|one| one["instance"].as_str().map(str::to_owned)).collect()
}

async fn registrations_masks_and_leases_come_and_go(tier: Tier) {
    let world = World::on(tier).await;
    assert_eq!(put(&world, "/svc/x/x-1?ttl_ms=0", entry(1)).await, 204);
    assert_eq!(put(&world, "/svc/x/x-2?ttl_ms=2000", entry(2)).await, 204);
    assert_eq!(put(&world, "/svc/x/x-3?ttl_ms=-1", entry(3)).await, 422);
    assert_eq!(put(&world, "/svc/x/x-3", json!({ "address": "nowhere" })).await, 422);
    assert_eq!(listed(&world, "x").await, ["x-1", "x-2"]);

    let (_, before) = world.registry("GET", "/svc").await;
    let watch = format!("/watch?epoch={}&rev={}&timeout_ms=10000", before["epoch"], before["rev"]);
    let (told, masked) =
        futures::future::join(world.registry("GET", &watch), put(&world, "/mask/x/x-1?ttl_ms=60000", Value::Null))
            .await;
    assert_eq!(masked, 204);
    assert!(told.1["rev"].as_u64() > before["rev"].as_u64(), "the watch told of the mask");
    assert_eq!(listed(&world, "x").await, ["x-2"]);
    eventually("the lease of x-2 ends", || async { listed(&world, "x").await.is_empty().then_some(()) }).await;
    assert_eq!(world.registry("DELETE", "/mask/x/x-1").await.0, 204);
    assert_eq!(listed(&world, "x").await, ["x-1"], "without a lease it stays");
    assert_eq!(put(&world, "/mask/x/x-1?ttl_ms=1", Value::Null).await, 204);
    eventually("the mask ends by itself", || async { (listed(&world, "x").await == ["x-1"]).then_some(()) }).await;
    assert_eq!(world.registry("DELETE", "/svc/x/x-1").await.0, 204);
    assert_eq!(listed(&world, "x").await, Vec::<String>::new());
    world.system.stop().await.expect("stops");
}

async fn a_killed_registry_comes_back_and_knows_its_switches(tier: Tier) {
    let world = World::on(tier).await;
    set(&world, "lb", Some("rr"), Some("eos-c-1")).await;
    let url = format!("{}/switch/lb?instance=x-1", world.system.state().registry);
    let (status, refused) = world.send("PUT", url.clone(), Some(json!("rr")), "r").await;
    assert_eq!((status, &refused["error"]), (404, &json!("there is no instance `x-1`")));
    put(&world, "/svc/x/x-1?ttl_ms=0", entry(1)).await;
    assert_eq!(world.send("PUT", url.clone(), Some(json!("rr")), "r").await.0, 200, "somebody has registered it");
    assert_eq!(world.send("PUT", url, Some(Value::Null), "r").await.0, 200);
    let reg = world.pid("reg-1").expect("it runs");
    kill(reg);
    eventually("the registry is back", || async { world.pid("reg-1").filter(|pid| *pid != reg && runs(*pid)) }).await;
    let ready = async || {
        let url = format!("{}/readyz", world.system.state().registry);
        world.http.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
    };
    eventually("it is ready", || async { ready().await.then_some(()) }).await;
    let (_, view) = world.registry("GET", "/switch/lb").await;
    assert_eq!(view["instances"]["eos-c-1"], "rr");
    let kept = if tier == Tier::Real { vec!["x-1".to_owned()] } else { Vec::new() };
    assert_eq!(listed(&world, "x").await, kept, "etcd keeps registrations, memory does not");
    obeyed(&world, "lb", "rr", &["eos-c-1"]).await;
    eventually("everybody is listed again", || async {
        (listed(&world, "eos-c").await == ["eos-c-1", "eos-c-2"]).then_some(())
    })
    .await;
    world.create(7, 11, None).await;
    world.system.stop().await.expect("stops");
}

#[tokio::test]
async fn while_etcd_is_dead_orders_go_on_and_what_another_hand_removes_there_is_gone_here() {
    let world = World::on(Tier::Real).await;
    put(&world, "/svc/x/x-1?ttl_ms=0", entry(1)).await;
    let etcd = format!("http://{}/v3/kv/deleterange", world.address("etcd-1"));
    // "/registry/svc/x/x-1", as etcd's JSON gateway wants it.
    let removal = json!({ "key": "L3JlZ2lzdHJ5L3N2Yy94L3gtMQ==" });
    let (status, answer) = world.send("POST", etcd, Some(removal), "r").await;
    assert_eq!((status, &answer["deleted"]), (200, &json!("1")));
    eventually("it is gone", || async { listed(&world, "x").await.is_empty().then_some(()) }).await;

    let server = world.pid("etcd-1").expect("it runs");
    world::signal(server, nix::sys::signal::Signal::SIGSTOP);
    world.create(8, 11, None).await;
    // Longer than any lease.
    let url = format!("{}/watch?epoch=1&timeout_ms=1", world.system.state().registry);
    assert!(world.http.get(url).timeout(Duration::from_secs(3)).send().await.is_ok(), "readers are served");
    assert_eq!(put(&world, "/svc/x/x-1?ttl_ms=0", entry(1)).await, 503, "writers are told");
    world::signal(server, nix::sys::signal::Signal::SIGCONT);
    kill(server);
    world.create(9, 11, None).await;
    eventually("etcd is back and takes writes", || async {
        let fresh = world.pid("etcd-1").is_some_and(|pid| pid != server);
        (fresh && put(&world, "/svc/x/x-2?ttl_ms=0", entry(2)).await == 204).then_some(())
    })
    .await;
    eventually("everybody is listed", || async {
        (listed(&world, "eos-c").await == ["eos-c-1", "eos-c-2"]).then_some(())
    })
    .await;
    world.create(10, 11, None).await;
    world.system.stop().await.expect("stops");
}
