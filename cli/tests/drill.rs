//! `bench/run drill`, in short: clean rounds and rounds with a kill leave every invariant valid, and a historic flaw does not
//! get through.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::{processes_mentioning, program, text};

/// Runs rounds in a temporary folder of their own, and looks that nothing is left of them.
fn drill(arguments: &[&str]) -> Output {
    let temporary = tempfile::tempdir().unwrap();
    // The rounds that fail are kept where their account may look, and the test has no need for them.
    let kept = temporary.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/run"))
        .arg("drill")
        .args(arguments)
        .args(["--rate", "10", "--keep", kept.to_str().unwrap()])
        .env("KENNEL", program())
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let left = processes_mentioning(temporary.path().to_str().unwrap());
    assert!(left.is_empty(), "processes were left: {left:#?}");
    std::fs::remove_dir_all(&kept).unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "temporary files were left");
    output
}

#[test]
fn nothing_is_lost_in_a_clean_round_or_when_any_process_is_killed() {
    let output = drill(&["--seeds", "1", "--kills", "2", "--seconds", "4", "--seed", "3"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}\n{}", text(&output.stderr));
    assert!(out.contains("3 of 3 rounds valid"), "{out}");
    let killed = out.lines().filter(|line| line.contains(" valid ") && line.contains("-1 ")).count();
    assert!(killed >= 1, "processes were named:\n{out}");
}

/// With `bus.emit` inline, what a dead broker is told is lost: a drill that stays silent then proves nothing.
#[test]
fn a_flaw_makes_the_drill_fail_and_name_the_seed() {
    let flaw = ["--kills", "1", "--only", "mq-1", "--switch", "bus.emit=inline", "--seconds", "5", "--seed", "7"];
    let output = drill(&flaw);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}\n{}", text(&output.stderr));
    assert!(out.contains("INVALID") && out.contains("I16"), "{out}");
    assert!(out.contains("bench/run drill --tier embedded --kills 1 --seed 7"), "how to do it again:\n{out}");
}
