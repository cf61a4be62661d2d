//! What a suite's run comes to, from how its steps ended. Pure.

use std::collections::BTreeMap;

use kennel_model::Verdict;
use kennel_model::api::{Outcome, OutcomeCounts, StepKind, StepView, SuiteRunSummary};

use super::active::Cancel;

/// Names listed before the rest is only counted.
const LISTED: usize = 5;

/// Everything that a verdict follows from.
pub(crate) struct Facts<'a> {
    pub(crate) run: &'a SuiteRunSummary,
    /// Every attempt of every step.
    pub(crate) steps: &'a [StepView],
    pub(crate) cancel: Option<&'a Cancel>,
    /// Why the record is not whole, if it is not.
    pub(crate) broken: Option<&'a str>,
    /// Tests by outcome, the last attempt of each.
    pub(crate) tests: OutcomeCounts,
    /// Tests that failed and are muted.
    pub(crate) muted: u32,
}

/// The verdict, and why, one sentence each.
pub(crate) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<String>) {
    let mut reasons = Vec::new();
    if let Some(broken) = facts.broken {
        reasons.push(broken.to_owned());
    }
    match facts.cancel {
        Some(Cancel::Person(who)) => reasons.push(format!("cancelled by {who}")),
        Some(Cancel::Closing) => reasons.push("cancelled because Kennel was stopped".to_owned()),
        None => {}
    }
    let last = last_attempts(facts.steps);
    let ended = |outcome: Outcome| last.iter().filter(move |step| step.outcome == Some(outcome)).collect::<Vec<_>>();
    let (failed, errors, skipped) = (ended(Outcome::Failed), ended(Outcome::Error), ended(Outcome::Skipped));
    for step in failed.iter().chain(&errors).filter(|step| step.kind != StepKind::Parallel) {
        let how = if step.outcome == Some(Outcome::Failed) { "failed" } else { "could not be carried out" };
        let tries = if step.attempt > 1 { format!(" on all {} attempts", step.attempt) } else { String::new() };
        reasons.push(format!("step “{}” {how}{tries}: {}", step.name, first_line(&step.message)));
    }
    let left: Vec<&str> = skipped.iter().map(|step| step.name.as_str()).collect();
    if !left.is_empty() && facts.cancel.is_none() {
        reasons.push(format!("not run after that: {}", listed(&left)));
    }
    for step in last.iter().filter(|step| step.attempt > 1 && step.outcome == Some(Outcome::Passed)) {
        reasons.push(format!("step “{}” passed on attempt {}", step.name, step.attempt));
    }
    match facts.muted {
        0 => {}
        1 => reasons.push("1 test that is muted failed, and does not count".to_owned()),
        many => reasons.push(format!("{many} tests that are muted failed, and do not count")),
    }
    let verdict = if facts.broken.is_some() {
        Verdict::Error
    } else if facts.cancel.is_some() {
        Verdict::Halted
    } else if !failed.is_empty() {
        Verdict::Failed
    } else if !errors.is_empty() {
        Verdict::Error
    } else {
        Verdict::Passed
    };
    if verdict == Verdict::Passed {
        let steps = last.iter().filter(|step| step.kind != StepKind::Parallel).count();
        reasons.insert(0, passed(steps, facts));
    }
    (verdict, reasons)
}

fn passed(steps: usize, facts: &Facts<'_>) -> String {
    let steps = if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
    let tests = match facts.tests.passed {
        0 => String::new(),
        1 => " with 1 test".to_owned(),
        many => format!(" with {many} tests"),
    };
    match facts.run.attempt {
        1 => format!("{steps}{tests} passed"),
        again => format!("passed on attempt {again}: {steps}{tests}"),
    }
}

/// The last attempt of each step, in the order in which they stand.
pub(crate) fn last_attempts(steps: &[StepView]) -> Vec<&StepView> {
    let mut order = Vec::new();
    let mut last: BTreeMap<&str, &StepView> = BTreeMap::new();
    for step in steps {
        match last.get(step.path.as_str()) {
            Some(known) if known.attempt > step.attempt => {}
            known => {
                if known.is_none() {
                    order.push(step.path.as_str());
                }
                last.insert(&step.path, step);
            }
        }
    }
    order.into_iter().filter_map(|path| last.get(path).copied()).collect()
}

/// Paths of the suite's own steps that did not pass, single ones of those in parallel: what a re-run of failures runs.
pub(crate) fn failed_paths(steps: &[StepView]) -> Vec<String> {
    let last = last_attempts(steps);
    let own = last.into_iter().filter(|step| step.path.starts_with("steps/") && step.kind != StepKind::Parallel);
    own.filter(|step| step.outcome != Some(Outcome::Passed)).map(|step| step.path.clone()).collect()
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().take(LISTED).map(|name| format!("“{name}”")).collect();
    match names.len().saturating_sub(LISTED) {
        0 => quoted.join(", "),
        more => format!("{} and {more} more", quoted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::RunId;
    use kennel_model::api::{Origin, StepState};
    use proptest::prelude::*;

    fn run(attempt: u32) -> SuiteRunSummary {
        SuiteRunSummary {
            id: RunId::new(),
            suite: "s".into(),
            version: None,
            state: StepState::Running,
            verdict: None,
            reasons: Vec::new(),
            origin: Origin::Manual,
            started_by: "ada".into(),
            rerun_of: None,
            attempt,
            parameters: BTreeMap::new(),
            labels: Vec::new(),
            priority: 0,
            created_at: String::new(),
            started_at: None,
            ended_at: None,
            tests: OutcomeCounts::default(),
        }
    }

    fn step(path: &str, attempt: u32, outcome: Outcome) -> StepView {
        StepView {
            path: path.into(),
            attempt,
            name: path.replace("steps/", "step "),
            kind: StepKind::Check,
            state: StepState::Ended,
            outcome: Some(outcome),
            message: "status was 500".into(),
            run: None,
            started_at: None,
            ended_at: None,
            has_log: false,
            agent: None,
            assertions: Vec::new(),
        }
    }

    fn judged(steps: &[StepView], attempt: u32, cancel: Option<Cancel>) -> (Verdict, String) {
        let run = run(attempt);
        let facts = Facts {
            run: &run,
            steps,
            cancel: cancel.as_ref(),
            broken: None,
            tests: OutcomeCounts::default(),
            muted: 0,
        };
        let (verdict, reasons) = judge(&facts);
        (verdict, reasons.join("; "))
    }

    use Outcome::{Error, Failed, Passed, Skipped};

    #[test]
    fn a_step_that_passes_at_the_second_try_is_told() {
        let steps = [step("steps/0", 1, Failed), step("steps/0", 2, Passed)];
        assert_eq!(
            judged(&steps, 1, None),
            (Verdict::Passed, "1 step passed; step “step 0” passed on attempt 2".into())
        );
        assert_eq!(judged(&steps[1..], 2, None).1.split(';').next(), Some("passed on attempt 2: 1 step"));
    }

    #[test]
    fn a_failure_names_its_step_and_what_it_left_undone() {
        let steps = [step("steps/0", 1, Failed), step("steps/1", 1, Skipped), step("tear_down/0", 1, Passed)];
        let told = "step “step 0” failed: status was 500; not run after that: “step 1”";
        assert_eq!(judged(&steps, 1, None), (Verdict::Failed, told.into()));
        assert_eq!(failed_paths(&steps), ["steps/0", "steps/1"]);
    }

    #[test]
    fn a_cancelled_run_is_halted_whatever_passed() {
        let cancel = Some(Cancel::Person("ada".into()));
        let (verdict, reasons) = judged(&[step("steps/0", 1, Passed), step("steps/1", 1, Skipped)], 1, cancel);
        assert_eq!((verdict, reasons.as_str()), (Verdict::Halted, "cancelled by ada"));
    }

    proptest! {
        #[test]
        fn a_run_passes_only_when_every_last_attempt_did(
            outcomes in proptest::collection::vec(proptest::sample::select(vec![Passed, Failed, Error]), 1..8),
        ) {
            let steps: Vec<StepView> =
                outcomes.iter().enumerate().map(|(at, outcome)| step(&format!("steps/{at}"), 1, *outcome)).collect();
            let all = outcomes.iter().all(|outcome| *outcome == Passed);
            prop_assert_eq!(judged(&steps, 1, None).0 == Verdict::Passed, all);
            prop_assert_eq!(failed_paths(&steps).is_empty(), all);
        }
    }
}
