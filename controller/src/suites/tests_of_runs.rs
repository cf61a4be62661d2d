//! An experiment's run as tests of the suite: each objective, guard and audit is one.

use std::time::Duration;

use kennel_model::Verdict;
use kennel_model::api::{AuditView, ObjectiveView, Outcome, RunDetail};
use kennel_model::protocol::AuditVerdict;
use kennel_results::{TestCase, TestName};

/// The tests of one run. `class` is the step's name.
pub(super) fn tests_of(run: &RunDetail, class: &str) -> Vec<TestCase> {
    let duration = Duration::from_secs(u64::from(run.summary.measured_s));
    let objectives = run.objectives.iter().chain(&run.guards).map(|view| objective(view, class, duration));
    let audits = run.audits.iter().map(|view| audit(view, class));
    objectives.chain(audits).collect()
}

/// How a run of an experiment ends its step.
pub(super) fn outcome_of(verdict: Option<Verdict>) -> Outcome {
    match verdict {
        Some(Verdict::Passed) => Outcome::Passed,
        Some(Verdict::Failed | Verdict::Halted) => Outcome::Failed,
        Some(Verdict::Inconclusive | Verdict::Invalid | Verdict::Error) | None => Outcome::Error,
    }
}

fn objective(view: &ObjectiveView, class: &str, duration: Duration) -> TestCase {
    let name =
        if view.role == "objective" { view.objective.clone() } else { format!("{}: {}", view.role, view.objective) };
    let measured = view.measured.as_deref().unwrap_or("nothing");
    let (outcome, message) = match view.met {
        Some(true) => (Outcome::Passed, String::new()),
        Some(false) => (Outcome::Failed, format!("measured {measured}")),
        None => (Outcome::Error, "nothing was measured".to_owned()),
    };
    let detail = format!("measured {measured}");
    TestCase { test: named(class, name), outcome, duration, message, detail, attempt: 1, tags: Vec::new() }
}

fn audit(view: &AuditView, class: &str) -> TestCase {
    let broken: Vec<String> = view
        .invariants
        .iter()
        .filter(|invariant| invariant.verdict != AuditVerdict::Valid)
        .map(|invariant| format!("{}: {} violations", invariant.title, invariant.violations))
        .collect();
    let (outcome, message) = match view.verdict {
        AuditVerdict::Valid => (Outcome::Passed, String::new()),
        AuditVerdict::Invalid => (Outcome::Failed, broken.join("; ")),
        AuditVerdict::Unknown => (Outcome::Error, view.problem.clone().unwrap_or_else(|| broken.join("; "))),
    };
    let examples = view.invariants.iter().flat_map(|invariant| {
        let told = format!("{} ({}, {} checked)", invariant.title, invariant.verdict.word(), invariant.checked);
        std::iter::once(told).chain(invariant.examples.iter().map(|example| format!("  {example}")))
    });
    let detail = examples.collect::<Vec<_>>().join("\n");
    TestCase {
        test: named(class, format!("audit: {}", view.name)),
        outcome,
        duration: Duration::ZERO,
        message,
        detail,
        attempt: 1,
        tags: Vec::new(),
    }
}

fn named(class: &str, name: String) -> TestName {
    TestName { class: class.to_owned(), name, parameters: String::new() }
}
