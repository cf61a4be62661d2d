//! `kennel file …`: kept files from the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use support::{Kennel, text};

const TARGET: &str = "# ours\nname: 'shop / eu'\nbase_url: http://127.0.0.1:9\nallowed_hosts: ['127.0.0.1']\n";

#[test]
fn files_are_put_listed_read_and_compared_from_the_command_line() {
    let kennel = Kennel::new();
    let first = kennel.file("first.yaml", TARGET);
    let second = kennel.file("second.yaml", &format!("{TARGET}limits: {{ max_rate: 5/s }}\n"));
    assert_eq!(kennel.expect(0, &["file", "list", "target"]).trim(), "none");
    let said = kennel.expect(0, &["file", "put", "target", "shop / eu", first.to_str().unwrap(), "-m", "begin"]);
    assert_eq!(said.trim(), "saved target `shop / eu` as version 1");
    let second = second.to_str().unwrap();
    kennel.expect(0, &["file", "put", "target", "shop / eu", second, "--expected", "1"]);
    let again = kennel.run(&["file", "put", "target", "shop / eu", first.to_str().unwrap(), "--expected", "1"]);
    assert_ne!(again.status.code(), Some(0));
    assert!(text(&again.stderr).contains("saved version 2"), "{}", text(&again.stderr));

    let list = kennel.expect(0, &["file", "list", "target"]);
    assert!(list.contains("shop / eu") && list.contains('2'), "{list}");
    assert!(kennel.expect(0, &["file", "get", "target", "shop / eu"]).contains("max_rate"));
    assert_eq!(kennel.expect(0, &["file", "get", "target", "shop / eu", "--version", "1"]).trim(), TARGET.trim());
    let history = kennel.expect(0, &["file", "history", "target", "shop / eu"]);
    assert!(history.contains("begin"), "{history}");
    let diff = kennel.expect(0, &["file", "diff", "target", "shop / eu"]);
    assert!(diff.contains("+limits: { max_rate: 5/s }"), "{diff}");

    let wrong = kennel.file("wrong.yaml", "name: wrong\nbase_url: nowhere\nallowed_hosts: ['127.0.0.1']\n");
    let refused = kennel.run(&["file", "put", "target", "wrong", wrong.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("2:1: base_url"), "{}", text(&refused.stderr));
    let missing = kennel.run(&["file", "get", "target", "nothing"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("no target named `nothing`"), "{}", text(&missing.stderr));
}

#[test]
fn validating_knows_what_the_data_directory_keeps_with_and_without_a_running_kennel() {
    let kennel = Kennel::new();
    let target = kennel.file("target.yaml", "name: shop\nbase_url: http://127.0.0.1:9\nallowed_hosts: ['127.0.0.1']\n");
    let experiment = kennel.file(
        "experiment.yaml",
        "version: 1\nname: ours\ntarget: shop\nload: {model: closed, users: 1, duration: 1s}\nscenarios: [{name: s, steps: [{name: a, path: /}]}]\n",
    );
    let suite = kennel.file(
        "suite.yaml",
        "version: 1\nname: both\ntarget: shop\nsteps:\n  - {name: load, experiment: ours}\n  - {name: unit, command: pytest}\n",
    );
    let (target, experiment, suite) = (target.to_str().unwrap(), experiment.to_str().unwrap(), suite.to_str().unwrap());
    let out = kennel.expect(2, &["validate", experiment]);
    assert!(out.contains("experiment.yaml:3:1: target: unknown target `shop`"), "{out}");
    kennel.expect(0, &["file", "put", "target", "shop", target]);
    let out = kennel.expect(0, &["validate", experiment]);
    assert!(out.contains("`ours` is a valid experiment on target `shop`"), "{out}");
    let out = kennel.expect(2, &["validate", suite]);
    assert!(out.contains("suite.yaml:5:") && out.contains("unknown experiment `ours`"), "{out}");
    kennel.expect(0, &["file", "put", "experiment", "ours", experiment]);
    let out = kennel.expect(0, &["validate", suite]);
    assert!(
        out.contains("is a valid suite of 2 steps; whether an agent offers its commands shows when it runs"),
        "{out}"
    );

    // Beside the Kennel that owns the directory, and by asking it.
    let serving = kennel.serve();
    kennel.expect(0, &["validate", experiment]);
    let elsewhere = Kennel::new();
    assert_eq!(elsewhere.run(&["validate", experiment]).status.code(), Some(2));
    let asked = elsewhere.command(&["validate", experiment]).env("KENNEL_SERVER", &serving.url).output().unwrap();
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    assert!(text(&asked.stdout).contains("`ours` is a valid experiment for Kennel at http://"), "{asked:?}");
    let asked = elsewhere.command(&["validate", suite]).env("KENNEL_SERVER", &serving.url).output().unwrap();
    assert_eq!(asked.status.code(), Some(2), "its agents offer no such command: {asked:?}");
    assert!(text(&asked.stdout).contains("suite.yaml:6:") && text(&asked.stdout).contains("pytest"), "{asked:?}");
    assert!(!elsewhere.dir().join("kennel.db").exists(), "validating leaves nothing behind");
}
