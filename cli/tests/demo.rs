//! `kennel demo`, whole: a minute of load and faults on the reference system, judged, kept, and nothing left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Kennel, Running, eventually, processes_mentioning};

#[test]
fn the_demo_breaks_the_order_system_three_ways_and_tells_what_came_of_it() {
    let kennel = Kennel::new();
    let temporary = tempfile::tempdir().unwrap();
    let output =
        kennel.command(&["demo", "--exit", "--json", "--port", "0"]).env("TMPDIR", temporary.path()).output().unwrap();
    let run: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", support::text(&output.stderr)));
    let code = if run["verdict"] == "passed" { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{:#}", run["reasons"]);
    assert!(run["verdict"] == "passed" || run["verdict"] == "failed", "{:#}", run["reasons"]);

    let faults = run["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3);
    for fault in faults {
        assert_eq!(fault["state"], "reverted", "{fault:#}");
        assert!(fault["reverted_at_s"].as_f64() > fault["injected_at_s"].as_f64(), "{fault:#}");
    }
    let row = |request: &str, phase: &str| {
        let rows = run["requests"].as_array().unwrap();
        rows.iter()
            .find(|row| row["request"] == request && row["phase"] == phase)
            .unwrap_or_else(|| panic!("no row {request} {phase}"))
            .clone()
    };
    // 230 arrivals a second, each with one request at least, however slow the system is on this machine.
    assert!(row("all", "steady")["rate"].as_f64().unwrap() >= 220.0, "{:#}", row("all", "steady"));
    let slow = run["objectives"]
        .as_array()
        .unwrap()
        .iter()
        .find(|o| o["objective"].as_str().unwrap().contains("slow users link"))
        .unwrap();
    assert_eq!(slow["met"], true, "200 ms on the users link slow every order down: {slow:#}");
    assert_eq!(run["audits"][0]["verdict"], "valid", "{:#}", run["audits"]);
    let invariants = run["audits"][0]["invariants"].as_array().unwrap();
    assert!(invariants.len() >= 5);
    for id in ["I1", "I2", "I8"] {
        let proven = invariants.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id} was not looked at"));
        assert!(proven["checked"].as_u64().unwrap() > 50, "the load's own record was handed over: {proven}");
    }
    for request in [
        "quote",
        "create order",
        "pay order",
        "order detail",
        "list orders",
        "restaurant orders",
        "accept order",
        "confirm order",
    ] {
        assert!(row(request, "fault")["count"].as_u64().unwrap() > 0, "{request}");
    }

    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "temporary files were left");
    let left = processes_mentioning(temporary.path().to_str().unwrap());
    assert!(left.is_empty(), "processes were left: {left:#?}");
    let runs: Value = serde_json::from_str(&kennel.expect(0, &["runs", "--json"])).unwrap();
    assert_eq!(runs[0]["id"], run["id"], "the run is kept");
}

/// Run again, every night, compared: the second run must not be answered with the orders of the first.
#[test]
fn the_same_experiment_twice_on_one_system_fails_no_request() {
    let kennel = Kennel::new();
    let _system = kennel.system();
    let experiment = "{ version: 1, name: again, target: reference-system,
        load: { model: open, stages: [{ rate: 20/s, duration: 5s }] },
        scenarios: [{ name: customer, builtin: order-system/customer }, { name: merchant, builtin: order-system/merchant }],
        objectives: ['error_rate <= 0%'], audits: [books] }";
    for _ in 0..2 {
        let run = kennel.experiment(0, experiment);
        assert_eq!(run["audits"][0]["verdict"], "valid");
    }
    // Asked for what is already so: no error, and the declaration goes with the system.
    kennel.expect(0, &["system", "up"]);
    kennel.expect(0, &["system", "down"]);
    kennel.expect(0, &["system", "down", "--json"]);
    assert!(!kennel.dir().join("targets/reference-system.yaml").exists());
}

#[test]
fn ctrl_c_reverts_faults_and_leaves_nothing() {
    let kennel = Kennel::new();
    let temporary = tempfile::tempdir().unwrap();
    let child = kennel.command(&["demo", "--port", "0"]).env("TMPDIR", temporary.path()).stdout(Stdio::null()).spawn();
    let mut demo = Running(child.unwrap());
    let url = eventually("the demo serves", Duration::from_secs(60), || {
        let file: Value =
            serde_json::from_str(&std::fs::read_to_string(kennel.dir().join("server.json")).ok()?).ok()?;
        Some(file["url"].as_str()?.to_owned())
    });
    eventually("the first fault is active", Duration::from_secs(60), || {
        let run = support::get(&format!("{url}/api/v1/runs/last"));
        (run["faults"][0]["state"] == "active").then_some(())
    });
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.code(Duration::from_secs(30)), Some(130));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "temporary files were left");
    let left = processes_mentioning(temporary.path().to_str().unwrap());
    assert!(left.is_empty(), "processes were left: {left:#?}");
    let run: Value = serde_json::from_str(&kennel.expect(5, &["show", "last", "--json"])).unwrap();
    assert_eq!(run["verdict"], "halted");
    assert_eq!(run["faults"][0]["state"], "reverted", "{:#}", run["faults"]);
}
