//! The audit while the system runs: the registry is watched, what is new is checked, and the first violation has a moment.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use std::process::{Command, Stdio};
use std::time::Duration;

use reference_system::audit::{Verdict, audit_files};
use reference_system::{SystemError, auditing};
use world::{World, eventually, kill, obeyed, runs, set, spoil, state_of, verdict_of};

async fn killed(world: &World, instance: &str) {
    let pid = world.pid(instance).unwrap();
    kill(pid);
    eventually("it is dead", || async { (!runs(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn the_registry_is_believed_while_leases_end_and_accused_when_they_never_do() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    killed(&world, "eos-c-1").await;
    let report = world.assert_valid().await;
    assert!(report.invariants.iter().any(|finding| finding.id == "I20" && finding.checked > 1), "{report:#?}");

    set(&world, "reg.lease_ms", Some("0"), None).await;
    obeyed(&world, "reg.lease_ms", "0", &["blink-1"]).await;
    eventually("it has registered for ever", || async {
        let leases = state_of(&world, "reg-1").await["role"]["leases"].clone();
        (leases.as_object()?.contains_key("blink-1") && leases["blink-1"].is_null()).then_some(())
    })
    .await;
    killed(&world, "blink-1").await;
    let report = world.audit().await;
    assert_eq!(verdict_of(&report, "I20"), Verdict::Invalid, "{report:#?}");
    let told = eventually("the lookout has waited long enough", || async {
        let url = format!("{}/online", world.system.state().auditor);
        let (_, view) = world.send("GET", url, None, "read").await;
        let finding = view["invariants"].as_array()?.iter().find(|finding| finding["id"] == "I20")?.clone();
        (finding["verdict"] == "invalid").then_some(finding)
    })
    .await;
    assert!(told["examples"][0].as_str().unwrap().starts_with("blink-1 is dead and listed for "), "{told}");
    assert!(told["first_seen_ms"].is_i64());
    // It is kept: the registry is gone, and what it did is known.
    let data = world.data();
    let World { system, dir: _keep, .. } = world;
    system.stop().await.unwrap();
    let report = audit_files(&data, None).await;
    let broken: Vec<&str> =
        report.invariants.iter().filter(|one| one.verdict == Verdict::Invalid).map(|one| one.id.as_str()).collect();
    assert_eq!(broken, ["I20"], "{report:#?}");
}

#[tokio::test]
async fn an_audit_that_nobody_answers_is_unknown() {
    let world = World::start_with(|options| options.respawn_after = Duration::from_secs(60)).await;
    killed(&world, "auditor-1").await;
    let asked = auditing::audit(&world.system.state().dir, None, Duration::from_secs(1)).await;
    let why = asked.unwrap_err();
    assert!(matches!(why, SystemError::Unaudited { .. }), "{why}");
    assert!(why.to_string().starts_with("unknown: the auditor at "), "{why}");
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn what_breaks_while_the_system_runs_is_told_live_and_with_its_moment_in_the_report() {
    let world = World::start().await;
    let data = world.data();
    let watch = Command::new(env!("CARGO_BIN_EXE_reference-system"))
        .args(["audit", "--watch", "--for", "12s", "--dir"])
        .arg(&world.system.state().dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    world.settled(50, 51, None).await;
    spoil(
        &data.join("ledger.db"),
        "PRAGMA busy_timeout = 5000; \
         INSERT INTO ledger (txn, account, order_id, amount_fen) VALUES ('from nowhere', 'fee', 0, 1)",
    )
    .await;
    eventually("the next round", || async {
        let url = format!("{}/online", world.system.state().auditor);
        let (_, view) = world.send("GET", url, None, "read").await;
        let of = |id: &str| view["invariants"].as_array()?.iter().find(|finding| finding["id"] == id).cloned();
        assert!(of("I4")?["verdict"] == "valid" && of("I4")?["checked"].as_u64() >= Some(2), "{view}");
        (of("I9")?["verdict"] == "invalid").then_some(())
    })
    .await;
    let ended = tokio::task::spawn_blocking(|| watch.wait_with_output().unwrap()).await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    let (live, report) = text.split_once("valid    I3").unwrap();
    assert!(live.contains("I4 valid") && live.contains("I9: first at "), "{text}");
    assert!(report.contains("first seen at "), "{text}");
    assert!(report.contains("transaction from nowhere sums to 1 fen"), "{text}");
    let report = world.audit().await;
    let finding = report.invariants.iter().find(|finding| finding.id == "I9").unwrap();
    assert!(finding.first_seen_ms.is_some() && report.verdict == Verdict::Invalid, "{finding:#?}");
    world.system.stop().await.unwrap();
}
