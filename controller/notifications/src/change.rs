//! What a run that ended means for whoever wants to be told: a state per suite (or experiment) and branch, and what
//! changes it. Pure.

use std::collections::BTreeSet;

use kennel_model::api::NotificationEvent;
use kennel_model::{RunId, Verdict};
use serde::{Deserialize, Serialize};

/// What is remembered of a suite or an experiment from one run to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The last verdict that says whether it works.
    pub verdict: Verdict,
    /// The first of the runs that failed in a row; absent while it passes.
    pub failing_since: Option<Since>,
    /// What is wrong with it: failing tests or missed objectives, by a name that stays.
    pub faults: BTreeSet<String>,
}

/// How many of what is wrong, in words: `2 tests and 1 step`. A fault's name begins with what it is.
#[must_use]
pub fn counted<'a>(faults: impl IntoIterator<Item = &'a String>) -> String {
    let mut counts =
        [("test", "tests", 0), ("step", "steps", 0), ("audit", "audits", 0), ("objective", "objectives", 0)];
    for fault in faults {
        let kind = fault.split(' ').next().unwrap_or_default();
        // Steady state and guards are objectives too.
        let at = counts.iter().position(|(one, ..)| *one == kind).unwrap_or(counts.len() - 1);
        counts[at].2 += 1;
    }
    let said = counts.iter().filter(|(.., count)| *count > 0);
    let said: Vec<String> = said
        .map(|(one, many, count)| if *count == 1 { format!("1 {one}") } else { format!("{count} {many}") })
        .collect();
    said.join(" and ")
}

/// A run that began something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The run.
    pub run: RunId,
    /// When it ended.
    pub at: String,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The run.
    pub run: RunId,
    /// When it ended.
    pub at: String,
    /// How.
    pub verdict: Verdict,
    /// Failing tests or missed objectives.
    pub faults: BTreeSet<String>,
    /// Tests that passed or objectives that were met.
    pub sound: BTreeSet<String>,
}

/// What a run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is to be told.
    pub events: Vec<NotificationEvent>,
    /// Faults that were none before.
    pub new_faults: BTreeSet<String>,
    /// What it was before, for a recovery: since when it had failed.
    pub failed_since: Option<Since>,
    /// What is remembered from now on.
    pub standing: Option<Standing>,
}

fn is_failing(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Failed | Verdict::Error)
}

/// What a run changes. A verdict that says nothing about the target (halted, inconclusive, invalid) changes nothing.
#[must_use]
pub fn change(before: Option<&Standing>, ended: &Ended) -> Change {
    let was_failing = before.is_some_and(|standing| standing.failing_since.is_some());
    let failed_since = before.and_then(|standing| standing.failing_since.clone());
    match ended.verdict {
        Verdict::Halted | Verdict::Inconclusive | Verdict::Invalid => {
            Change { events: Vec::new(), new_faults: BTreeSet::new(), failed_since, standing: before.cloned() }
        }
        Verdict::Passed => Change {
            events: if was_failing { vec![NotificationEvent::Recovery] } else { Vec::new() },
            new_faults: BTreeSet::new(),
            failed_since,
            standing: Some(Standing { verdict: Verdict::Passed, failing_since: None, faults: ended.faults.clone() }),
        },
        Verdict::Failed | Verdict::Error => failure(before, ended, was_failing, failed_since),
    }
}

fn failure(before: Option<&Standing>, ended: &Ended, was_failing: bool, failed_since: Option<Since>) -> Change {
    let known = before.map(|standing| standing.faults.clone()).unwrap_or_default();
    let new_faults: BTreeSet<String> = ended.faults.difference(&known).cloned().collect();
    let mut events = Vec::new();
    if !was_failing {
        events.push(NotificationEvent::FirstFailure);
    }
    let passed_before = before.is_some_and(|standing| !is_failing(standing.verdict));
    if before.is_some() && (passed_before || !new_faults.is_empty()) {
        events.push(NotificationEvent::Regression);
    }
    if ended.verdict == Verdict::Error && before.is_none_or(|standing| standing.verdict != Verdict::Error) {
        events.push(NotificationEvent::RunError);
    }
    events.push(NotificationEvent::EveryFailure);
    // A fault is over when its test passes, not when it does not run.
    let faults = known.difference(&ended.sound).chain(&ended.faults).cloned().collect();
    let since = failed_since.clone().unwrap_or_else(|| Since { run: ended.run, at: ended.at.clone() });
    let standing = Standing { verdict: ended.verdict, failing_since: Some(since), faults };
    Change { events, new_faults, failed_since, standing: Some(standing) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NotificationEvent::{EveryFailure, FirstFailure, Recovery, Regression, RunError};
    use proptest::prelude::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ended(verdict: Verdict, faults: &[&str], sound: &[&str]) -> Ended {
        Ended {
            run: RunId::new(),
            at: "2026-01-02T03:04:05Z".to_owned(),
            verdict,
            faults: set(faults),
            sound: set(sound),
        }
    }

    /// The events of each run in turn.
    fn history(runs: &[Ended]) -> Vec<Vec<NotificationEvent>> {
        let mut standing = None;
        let mut told = Vec::new();
        for run in runs {
            let change = change(standing.as_ref(), run);
            standing = change.standing;
            told.push(change.events);
        }
        told
    }

    #[test]
    fn only_changes_are_told_apart_from_every_failure() {
        use Verdict::{Failed, Passed};
        let told = history(&[
            ended(Passed, &[], &["a", "b"]),
            ended(Failed, &["a"], &["b"]),
            ended(Failed, &["a"], &["b"]),
            ended(Failed, &["a", "b"], &[]),
            ended(Failed, &["b"], &["a"]),
            ended(Passed, &[], &["a", "b"]),
            ended(Passed, &[], &["a", "b"]),
        ]);
        let expected: [&[NotificationEvent]; 7] = [
            &[],
            &[FirstFailure, Regression, EveryFailure],
            &[EveryFailure],
            &[Regression, EveryFailure],
            &[EveryFailure],
            &[Recovery],
            &[],
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn faults_are_counted_by_what_they_are() {
        let names = ["test 7", "test 9", "step load", "guard p99 < 1s", "objective p99 < 1s", "audit books"];
        assert_eq!(counted(&set(&names)), "2 tests and 1 step and 1 audit and 2 objectives");
        assert_eq!(counted(&set(&[])), "");
    }

    #[test]
    fn what_never_passed_has_not_regressed() {
        assert_eq!(history(&[ended(Verdict::Failed, &["a"], &[])]), [vec![FirstFailure, EveryFailure]]);
    }

    #[test]
    fn a_run_that_says_nothing_changes_nothing() {
        use Verdict::{Failed, Halted, Inconclusive, Invalid, Passed};
        let told = history(&[
            ended(Failed, &["a"], &[]),
            ended(Halted, &[], &[]),
            ended(Inconclusive, &[], &[]),
            ended(Invalid, &[], &[]),
            ended(Failed, &["a"], &[]),
            ended(Passed, &[], &["a"]),
        ]);
        assert_eq!(
            told,
            [vec![FirstFailure, EveryFailure], vec![], vec![], vec![], vec![EveryFailure], vec![Recovery]]
        );
    }

    #[test]
    fn a_test_that_did_not_run_is_not_newly_failing_when_it_fails_again() {
        use Verdict::{Error, Failed};
        let told = history(&[ended(Failed, &["a"], &[]), ended(Error, &[], &[]), ended(Failed, &["a"], &[])]);
        assert_eq!(told, [vec![FirstFailure, EveryFailure], vec![RunError, EveryFailure], vec![EveryFailure]]);
    }

    proptest! {
        #[test]
        fn first_failures_and_recoveries_take_turns(verdicts in prop::collection::vec(prop::sample::select(Verdict::ALL), 0..40)) {
            let runs: Vec<Ended> = verdicts.iter().map(|verdict| ended(*verdict, &[], &[])).collect();
            let turns: Vec<NotificationEvent> = history(&runs)
                .into_iter()
                .flatten()
                .filter(|event| matches!(event, FirstFailure | Recovery))
                .collect();
            for (index, event) in turns.iter().enumerate() {
                prop_assert_eq!(*event, if index % 2 == 0 { FirstFailure } else { Recovery });
            }
        }
    }
}
