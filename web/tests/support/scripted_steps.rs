//! Steps of suites as the scripted agent plays them: believable logs and results, and nothing is sent or started.

use std::time::Duration;

use kennel_model::api::Outcome;
use kennel_model::command::OfferedCommand;
use kennel_model::protocol::{Assertion, FromAgent, StepAssignment, StepFile, StepFileKind, StepReport, StepTask};
use tokio::sync::mpsc;

/// The commands that it says it has.
pub(crate) fn commands() -> Vec<OfferedCommand> {
    let offered = |name: &str, description: &str| OfferedCommand { name: name.into(), description: description.into() };
    vec![
        offered("acceptance", "Acceptance tests of the shop, in Robot Framework"),
        offered("pytest", "Integration tests; arguments select tests"),
    ]
}

/// Plays one step. A check of a path with `broken` in it fails; a command with the argument `--broken` has a failing test,
/// and one with `--slow` takes a while.
pub(crate) async fn play(assignment: Box<StepAssignment>, reports: mpsc::Sender<FromAgent>) {
    let step = assignment.step.clone();
    let log = async |text: &str| {
        let _ = reports.send(FromAgent::StepLog { step: step.clone(), text: text.to_owned() }).await;
    };
    let report = match &assignment.task {
        StepTask::Check { check, .. } => {
            let broken = check.url.contains("broken") && assignment.step.attempt < 3;
            let status = if broken { "503" } else { "200" };
            log(&format!(
                "{} {}\nHTTP {status} after 14 ms\ncontent-type: application/json\n\n{{\"ok\": {}}}\n",
                check.method, check.url, !broken
            ))
            .await;
            let assertion = |what: &str, expected: &str, actual: &str, holds| Assertion {
                what: what.to_owned(),
                expected: expected.to_owned(),
                actual: actual.to_owned(),
                holds,
            };
            StepReport {
                outcome: if broken { Outcome::Failed } else { Outcome::Passed },
                message: if broken { "status: expected 200, got 503".into() } else { "GET 200 in 14 ms".into() },
                assertions: vec![
                    assertion("status", "200", status, !broken),
                    assertion("time", "at most 1s", "14 ms", true),
                ],
                ran_to_its_end: true,
            }
        }
        StepTask::Command { command, arguments } => {
            let has = |word: &str| arguments.iter().any(|argument| argument == word);
            log(&format!("$ {command} {}\n", arguments.join(" "))).await;
            let seconds = if has("--slow") { 600 } else { 1 };
            for second in 0..seconds {
                log(&format!("test_{second}.py::test_orders \u{1b}[32mPASSED\u{1b}[0m\n")).await;
                if has("--slow") {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            let broken = has("--broken");
            if broken {
                log("FAILED test_checkout.py::test_pays_once\nE   AssertionError: order 7f3a91c2 was paid twice: 12.50 and 12.50\n").await;
            }
            let content = junit(broken).into_bytes();
            let file = StepFile { name: "results/junit.xml".into(), kind: StepFileKind::Results, content };
            let _ = reports.send(FromAgent::StepFile { step: step.clone(), file }).await;
            StepReport {
                outcome: if broken { Outcome::Failed } else { Outcome::Passed },
                message: if broken {
                    "ended with exit code 1 after 4.2 s".into()
                } else {
                    "ended well after 4.2 s".into()
                },
                assertions: Vec::new(),
                ran_to_its_end: true,
            }
        }
    };
    let _ = reports.send(FromAgent::StepDone { step, report }).await;
}

fn junit(broken: bool) -> String {
    let failure = if broken {
        "<failure message=\"order 7f3a91c2 was paid twice: 12.50 and 12.50\">test_checkout.py:41: AssertionError</failure>"
    } else {
        ""
    };
    format!(
        "<testsuite name=\"shop\"><testcase classname=\"test_checkout\" name=\"test_pays_once\" time=\"1.2\">{failure}</testcase>\
         <testcase classname=\"test_checkout\" name=\"test_total\" time=\"0.2\"/>\
         <testcase classname=\"test_menu\" name=\"test_soup &lt;b&gt;of the day&lt;/b&gt;\" time=\"0.1\"/></testsuite>"
    )
}
