//! The processes of a system: they die and come back, vanish from discovery, and leave nothing.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use reference_system::{SystemState, Tier};
use serde_json::Value;
use world::{World, eventually, id_of, kill, launcher, runs};

on_both_tiers! {
    nothing_is_left_of_a_system_whose_supervisor_was_killed
}

fn pids(state: &SystemState) -> Vec<u32> {
    let instances = state
        .instances
        .iter()
        .filter_map(|instance| std::fs::read_to_string(&instance.pid_file).ok()?.trim().parse().ok());
    instances.chain([state.supervisor_pid]).collect()
}

async fn all_gone(pids: &[u32]) {
    eventually("all processes are gone", || async { (!pids.iter().any(|pid| runs(*pid))).then_some(()) }).await;
}

#[tokio::test]
async fn traffic_recovers_when_an_order_instance_is_killed_and_the_books_hold() {
    let world = World::start().await;
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    let failed = AtomicU32::new(0);
    let traffic = async {
        let mut user = 100;
        while !stop.load(Ordering::Relaxed) {
            user += 1;
            let basket = world.basket(user, 17, None).await;
            let (status, order) = world.post("/orders", basket).await;
            let count = if status == 200 { &answered } else { &failed };
            count.fetch_add(1, Ordering::Relaxed);
            if status == 200 {
                // A failure here leaves an order that is still unpaid, or paying: both are fine.
                world.post(&format!("/orders/{}/pay", id_of(&order)), Value::Null).await;
            }
        }
    };
    let drill = async {
        let more_than = |count: u32| {
            let answered = &answered;
            move || async move { (answered.load(Ordering::Relaxed) > count).then_some(()) }
        };
        eventually("traffic flows", more_than(5)).await;
        let before = world.pid("eos-c-1").unwrap();
        kill(before);
        let at_death = answered.load(Ordering::Relaxed);
        eventually("the other instance serves", more_than(at_death + 5)).await;
        eventually("the instance is back with another pid", || async {
            world.pid("eos-c-1").filter(|pid| *pid != before && runs(*pid))
        })
        .await;
        eventually("it is registered again", || async {
            let (_, list) = world.registry("GET", "/svc/eos-c").await;
            (list.as_array().is_some_and(|list| list.len() == 2)).then_some(())
        })
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic, drill);
    // Each order that was answered, and perhaps some whose answer was lost.
    let orders = world.assert_valid().await.orders;
    let (answered, failed) = (answered.into_inner(), failed.into_inner());
    let (least, most) = (u64::from(answered) + 1, u64::from(answered + failed) + 1);
    assert!((least..=most).contains(&orders), "{orders} orders, {answered} answered, {failed} failed");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_mask_hides_a_living_instance_from_discovery_and_expires_by_itself() {
    let world = World::start().await;
    let listed = || async {
        let (status, list) = world.registry("GET", "/svc/eos-c").await;
        assert_eq!(status, 200, "{list}");
        list.as_array().unwrap().len()
    };
    assert_eq!(listed().await, 2);
    for instance in ["eos-c-1", "eos-c-2"] {
        let (status, _) = world.registry("PUT", &format!("/mask/eos-c/{instance}?ttl_ms=60000")).await;
        assert_eq!(status, 204);
    }
    assert_eq!(listed().await, 0);
    let (_, masks) = world.registry("GET", "/mask").await;
    assert_eq!(masks.as_array().unwrap().len(), 2);
    eventually("the gateway knows no instance", || async {
        let (status, answer) = world.get("/users/1/orders").await;
        (status == 503 && answer["code"] == "no_instance").then_some(())
    })
    .await;
    assert!(runs(world.pid("eos-c-1").unwrap()));

    // Taken off twice, which is fine, and the other replaced by a short one.
    for _ in 0..2 {
        assert_eq!(world.registry("DELETE", "/mask/eos-c/eos-c-1").await.0, 204);
    }
    assert_eq!(world.registry("PUT", "/mask/eos-c/eos-c-2?ttl_ms=300").await.0, 204);
    assert_eq!(listed().await, 1);
    eventually("the mask is gone", || async { (listed().await == 2).then_some(()) }).await;
    eventually("the gateway serves", || async { (world.get("/users/1/orders").await.0 == 200).then_some(()) }).await;
    world.system.stop().await.unwrap();
}

/// A process and everything below it.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

fn names_in(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

async fn nothing_is_left_of_a_system_whose_supervisor_was_killed(tier: Tier) {
    let home = tempfile::tempdir().unwrap();
    let (dir, temp) = (home.path().join("system"), home.path().join("temp"));
    std::fs::create_dir(&temp).unwrap();
    let up = Command::new(launcher().program)
        .args(["up", "--json", "--rabbitmq-nodes", "1", "--tier", &tier.to_string(), "--dir"])
        .arg(&dir)
        .env("HOME", home.path())
        .env("TMPDIR", &temp)
        .output()
        .unwrap();
    assert!(up.status.success(), "{}", text(&up.stderr));
    let state: SystemState = serde_json::from_slice(&up.stdout).unwrap();
    let family = family(state.supervisor_pid);
    assert!(pids(&state).iter().all(|pid| family.contains(pid)), "each has a pid below the supervisor");
    // A paused process must go as well.
    let paused = std::fs::read_to_string(dir.join("run/eus-1.pid")).unwrap().trim().parse().unwrap();
    world::signal(paused, nix::sys::signal::Signal::SIGSTOP);
    kill(state.supervisor_pid);
    all_gone(&family).await;
    for instance in &state.instances {
        let refused = TcpStream::connect_timeout(&instance.address, Duration::from_secs(1));
        assert!(refused.is_err(), "{} still listens", instance.instance);
    }
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!sockets.contains(home.path().to_str().unwrap()), "{sockets}");

    assert!(text(&system(&["status"], &dir).stderr).starts_with("no system runs in"));
    let shared = std::fs::read_to_string(dir.join("data/postgres/postmaster.pid")).ok();
    let down = system(&["down"], &dir);
    assert!(down.status.success(), "{}", text(&down.stderr));
    let of_processes =
        |name: &String| name.ends_with(".pid") || name.ends_with(".restarts") || name.ends_with(".fresh");
    assert!(!names_in(&dir.join("run")).iter().any(of_processes), "{:?}", names_in(&dir.join("run")));
    assert!(!dir.join("system.json").exists());
    if let Some(shared) = shared {
        let segment = shared.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let has = |line: &str| line.split_whitespace().nth(1) == Some(segment.as_str());
        assert!(!segments.lines().any(has), "segment {segment} is left in {segments}");
    }
    assert_eq!(names_in(&temp), Vec::<String>::new());
    let twice = system(&["down"], &dir);
    assert!(text(&twice.stderr).starts_with("no system runs in"), "{}", text(&twice.stderr));
    let purged = system(&["down", "--purge"], &dir);
    assert!(text(&purged.stdout).ends_with("is down, and its data are gone"), "{}", text(&purged.stderr));
    assert_eq!(names_in(home.path()), ["temp"]);
    assert!(text(&system(&["down", "--purge"], &dir).stderr).starts_with("no system runs in"));
}

#[tokio::test]
async fn a_system_goes_when_its_owner_drops_it_and_survives_a_dead_registry() {
    let world = World::start().await;
    let registry = world.pid("reg-1").unwrap();
    let all = world.system.state().instances.iter().map(|one| one.service.as_str());
    let services: std::collections::BTreeSet<&str> = all.filter(|service| *service != "reg").collect();
    kill(registry);
    eventually("the registry is back and knows all others", || async {
        let fresh = world.pid("reg-1").filter(|pid| *pid != registry)?;
        let url = format!("{}/svc", world.system.state().registry);
        let listing = world.http.get(url).send().await.ok()?.text().await.ok()?;
        // Meanwhile callers go on with what they know.
        assert_eq!(world.get("/users/1/orders").await.0, 200);
        let listing: Value = serde_json::from_str(&listing).ok()?;
        (runs(fresh) && listing["services"].as_object()?.len() == services.len()).then_some(())
    })
    .await;
    let pids = pids(world.system.state());
    drop(world.system);
    all_gone(&pids).await;
}

fn system(arguments: &[&str], dir: &std::path::Path) -> Output {
    Command::new(launcher().program)
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .output()
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[tokio::test]
async fn a_system_in_the_background_is_seen_stopped_and_started_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let absent = system(&["down"], dir);
    assert!(!absent.status.success());
    assert!(text(&absent.stderr).starts_with("no system runs in"), "{}", text(&absent.stderr));

    let up = system(&["up", "--json"], dir);
    assert!(up.status.success(), "{}", text(&up.stderr));
    let state: SystemState = serde_json::from_slice(&up.stdout).unwrap();
    let second = system(&["up"], dir);
    assert!(text(&second.stderr).contains("is in use by a running system"));
    let status = system(&["status"], dir);
    let ready = text(&status.stdout).matches("  ready").count();
    assert_eq!(ready, state.instances.len() + 1, "each, and the supervisor: {}", text(&status.stdout));

    let victim: u32 = text(&std::fs::read(dir.join("run/ers-1.pid")).unwrap()).parse().unwrap();
    kill(victim);
    eventually("the restart is counted, and the new process seen", || async {
        let status = system(&["status", "--json"], dir);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let ers = status["instances"].as_array().unwrap().iter().find(|one| one["instance"] == "ers-1").unwrap();
        let memory = ers["memory_bytes"].as_u64().unwrap_or(0);
        (ers["restarts"] == 1 && ers["ready"] == true && ers["pid"] != victim && memory > 1 << 20).then_some(())
    })
    .await;
    let logs = system(&["logs", "supervisor", "-n", "1000"], dir);
    assert!(text(&logs.stdout).contains("ers-1"), "{}", text(&logs.stdout));
    let unknown = system(&["logs", "ers-7"], dir);
    assert!(text(&unknown.stderr).contains("expected one of"), "{}", text(&unknown.stderr));

    let pids = pids(&state);
    let down = system(&["down"], dir);
    assert!(down.status.success(), "{}", text(&down.stderr));
    all_gone(&pids).await;
    for instance in &state.instances {
        let refused = TcpStream::connect_timeout(&instance.address, Duration::from_secs(1));
        assert!(refused.is_err(), "{} still listens", instance.instance);
    }
    assert!(!dir.join("system.json").exists());
    assert_eq!(names_in(&dir.join("run")), ["supervisor.lock"]);

    let other = system(&["up", "--seed", "1"], dir);
    assert!(text(&other.stderr).contains("not 1; give that seed or another directory"));
    let again = system(&["up"], dir);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(system(&["down", "--purge"], dir).status.success());
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_proxy_that_does_not_start_is_named_and_nothing_is_left() {
    let home = tempfile::tempdir().unwrap();
    let up = system(&["up", "--toxiproxy-command", "/does/not/exist here"], home.path());
    assert!(!up.status.success());
    let message = text(&up.stderr);
    assert!(message.contains("/does/not/exist here"), "{message}");
    assert!(text(&system(&["status"], home.path()).stderr).starts_with("no system runs in"));
}

#[tokio::test]
async fn calls_go_through_their_links_and_a_cut_link_is_felt_by_its_caller_alone() {
    let proxy =
        std::path::Path::new(env!("CARGO_BIN_EXE_reference-system")).with_file_name("examples").join("plain-proxy");
    let command = proxy.display().to_string();
    let world = World::start_with(|options| options.toxiproxy_command = Some(command)).await;
    let state = world.system.state();
    assert_eq!(state.links.len(), 7 + 7 + 4 + 4);
    let link = state.links.iter().find(|link| link.name == "eos-c->eus-1").unwrap();
    let eus = state.instances.iter().find(|one| one.instance == "eus-1").unwrap();
    assert_eq!((link.upstream, link.from.as_str()), (eus.address, "eos-c"));

    let basket = world.basket(5, 6, None).await;
    let switch = async |enabled: bool| {
        let url = format!("{}/proxies/eos-c->eus-1", state.toxiproxy.as_ref().unwrap());
        let body = serde_json::json!({ "enabled": enabled }).to_string();
        let request = world.http.post(url).header("content-type", "application/json").body(body);
        assert!(request.send().await.unwrap().status().is_success());
    };
    switch(false).await;
    eventually("creating an order fails for want of the user service", || async {
        let (status, answer) = world.post("/orders", basket.clone()).await;
        (status == 503 && answer["error"].as_str()?.contains("eus-1")).then_some(())
    })
    .await;
    assert_eq!(world.get("/users/5").await.0, 200, "the gateway has its own way");
    switch(true).await;
    eventually("orders are made again", || async {
        (world.post("/orders", basket.clone()).await.0 == 200).then_some(())
    })
    .await;

    // The proxy is one of the system's processes: it comes back, and its links with it.
    let pid_file = state.dir.join("run").join("proxy.pid");
    let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok();
    let before = pid().unwrap();
    kill(before);
    eventually("orders are made through a new proxy", || async {
        let fresh = pid().is_some_and(|now| now != before && runs(now));
        (fresh && world.post("/orders", basket.clone()).await.0 == 200).then_some(())
    })
    .await;
    world.assert_valid().await;
    let all = [pids(state), vec![pid().unwrap()]].concat();
    world.system.stop().await.unwrap();
    all_gone(&all).await;
}
