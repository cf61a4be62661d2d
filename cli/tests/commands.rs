//! The command line: exit codes, wording of errors, and that nothing starts on bad input.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use support::{HttpProcess, Kennel, text};

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let help = Kennel::new().expect(0, &["--help"]);
    for word in [
        "demo",
        "serve",
        "run",
        "validate",
        "schema",
        "compare",
        "halt",
        "system",
        "proxy",
        "--data",
        "130  interrupted",
    ] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
    assert!(!help.contains("watchdog"), "processes that are no commands are hidden:\n{help}");
}

#[test]
fn a_wrong_file_is_refused_with_every_error_and_nothing_starts() {
    let kennel = Kennel::new();
    let file = kennel.file("wrong.yaml", "version: 1\nname: wrong\ntarget: nowhere\nload: { model: open, stages: [{ rate: 5/s, duration: 5 }] }\nscenario: []\n");
    let file = file.to_str().unwrap();
    let out = kennel.expect(2, &["validate", file]);
    for expected in
        [":5:1: scenario: unknown field", "missing field `scenarios`", ":4:44: load.stages[0].duration", "problems in"]
    {
        assert!(out.contains(expected), "missing: {expected}\n{out}");
    }
    let output = kennel.run(&["run", file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("unknown field `scenario`"), "{}", text(&output.stderr));
    assert_eq!(kennel.expect(0, &["runs", "--json"]).trim(), "[]");
    let json: serde_json::Value = serde_json::from_str(&kennel.expect(2, &["validate", file, "--json"])).unwrap();
    assert!(json["problems"].as_array().unwrap().len() >= 3);
}

#[test]
fn an_unknown_target_says_where_targets_are_declared() {
    let kennel = Kennel::new();
    let file = kennel.file("e.yaml", "version: 1\nname: e\ntarget: reference-system\nload: { model: closed, users: 1, duration: 1s }\nscenarios: [{ name: s, builtin: order-system/customer }]\n");
    let out = kennel.expect(2, &["validate", file.to_str().unwrap()]);
    assert!(out.contains("unknown target `reference-system`") && out.contains("kennel system up"), "{out}");
}

#[test]
fn words_of_a_migration_that_do_not_go_together_are_a_wrong_use() {
    let kennel = Kennel::new();
    let output = kennel.run(&["system", "migrate", "status", "--to", "P3"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--to, --calm and --rate go with run"), "{}", text(&output.stderr));
    let output = kennel.run(&["system", "migrate", "run"]);
    assert_eq!(output.status.code(), Some(5), "no system runs: {}", text(&output.stderr));
}

#[test]
fn missing_files_and_runs_are_named() {
    let kennel = Kennel::new();
    let output = kennel.run(&["run", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no-such-file.yaml"));
    let output = kennel.run(&["show", "0123"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("0123"));
    let output = kennel.run(&["compare", "last", "last-1"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = kennel.run(&["halt"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("no Kennel is running"));
}

#[test]
fn the_network_is_not_served_without_accounts() {
    let output = Kennel::new().run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("loopback only"), "{}", text(&output.stderr));
}

#[test]
fn the_schema_and_the_library_agree() {
    let kennel = Kennel::new();
    let schema: serde_json::Value = serde_json::from_str(&kennel.expect(0, &["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let target: serde_json::Value = serde_json::from_str(&kennel.expect(0, &["schema", "--target"])).unwrap();
    assert!(target["properties"]["allowed_hosts"].is_object());
}

#[test]
fn two_runs_are_kept_shown_and_compared() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    let experiment = |load: &str| {
        let target = server.target("");
        format!(
            "{{ version: 1, name: two, target: {target}, load: {load}, scenarios: [{{ name: s, steps: [{{ name: version, path: /version }}] }}], objectives: ['error_rate <= 0%'] }}"
        )
    };
    kennel.experiment(
        0,
        &experiment("{ model: open, arrivals: poisson, stages: [{ from: 0/s, rate: 100/s, duration: 2s }] }"),
    );
    let closed = kennel
        .experiment(0, &experiment("{ model: closed, users: 3, duration: 2s, think_time: 20ms, ramp_up: 500ms }"));
    assert_eq!(closed["arrivals"].as_array().unwrap().len(), 0);
    assert!(closed["requests"][0]["count"].as_u64().unwrap() > 50, "{closed:#}");
    let runs: serde_json::Value = serde_json::from_str(&kennel.expect(0, &["runs", "--json"])).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 2);
    assert!(kennel.expect(0, &["show", "last"]).contains("Verdict: PASSED"));
    let comparison: serde_json::Value =
        serde_json::from_str(&kennel.expect(0, &["compare", "last-1", "last", "--json"])).unwrap();
    let rows = comparison["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["request"] == "version" && row["metric"] == "p99"), "{comparison:#}");
    assert!(!comparison["warnings"].as_array().unwrap().is_empty(), "other loads are hard to compare");
    let short = kennel.expect(0, &["compare", "last-1", "last"]);
    assert!(short.contains("version") && short.contains("--all"), "{short}");
    let long = kennel.expect(0, &["compare", "last-1", "last", "--all"]);
    assert!(long.contains("whole run") && !short.contains("whole run"), "{short}\n{long}");
    assert_eq!(kennel.run(&["compare", "last-1", "last", "--all", "--json"]).status.code(), Some(2));
}
