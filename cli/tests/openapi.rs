//! The OpenAPI document against the real server: schemathesis sends what the document allows and what it forbids, as an
//! admin, and the server never answers with a 5xx.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Kennel, test_tools, text};

/// How long schemathesis goes on trying.
const BUDGET_S: u32 = 60;

/// Answers that never end by themselves, and the one route that at once sends what was made up to where was made up.
const NOT_TRIED: &str = "/(live|follow|events|test)$";

/// The first number after a word.
fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split_once(word).unwrap_or_else(|| panic!("no {word} in:\n{text}")).1;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {word} in:\n{text}"))
}

#[test]
fn no_request_of_schemathesis_is_answered_with_a_server_error() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    let program = test_tools().join("python/bin/schemathesis");
    assert!(program.exists(), "run ./test once: it installs the test tools");
    let report = kennel.dir().join("schemathesis.json");
    let mut command = Command::new(program);
    command
        .current_dir(kennel.dir())
        .args(["run", &format!("{}/api/v1/openapi.json", serving.url)])
        .args(["--checks", "not_a_server_error", "--workers", "1", "--no-color", "--no-shrink", "--warnings", "off"])
        .args(["--max-time", &BUDGET_S.to_string(), "--request-timeout", "20", "--exclude-path-regex", NOT_TRIED])
        .args(["--generation-database", "none", "--continue-on-failure", "--suppress-health-check", "all"])
        .args(["--report-json-path", report.to_str().unwrap()])
        .env("NO_PROXY", "127.0.0.1");
    let output = command.output().unwrap();
    let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");

    // It must have got somewhere: every operation tried, many times, and not all of it turned away at the door.
    let operations = number_after(&said, "Operations:");
    assert!(operations > 10, "{said}");
    assert_eq!(number_after(&said, "Tested:"), operations, "{said}");
    assert!(number_after(&said, "Test cases:") > 500, "{said}");
    let found: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let accepted = found["valid_rates"].as_object().unwrap().iter().filter(|(_, phases)| {
        phases.as_object().unwrap().values().any(|phase| phase["accepted"].as_u64().is_some_and(|count| count > 0))
    });
    let accepted = accepted.count();
    assert!(accepted >= 5, "only {accepted} operations accepted anything:\n{said}");
    assert_eq!(serving.get("/health")["agents"].as_array().unwrap().len(), 1, "and it lives on, with its agent");
}
