//! The verdict and its reasons, in sentences that name what was measured and what was allowed.

use kennel_model::api::{ArrivalRow, FaultView, RequestRow, WorkerView};
use kennel_model::experiment::Experiment;
use kennel_model::fault::FaultState;
use kennel_model::objective::Metric;
use kennel_model::protocol::{AuditReport, AuditVerdict};
use kennel_model::{Phase, Verdict};

use super::Assessment;
use crate::recording::ALL;

/// Share of due arrivals that must be started for the asked load to have happened.
const STARTED_SHARE: f64 = 0.99;
/// Lag in handing out arrivals above which the generator itself was too slow, in ms.
const LAG_MS: f64 = 50.0;

/// How a run came to its end, before anything is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Load and audits went to their planned end.
    Completed,
    /// A person, a guard or the end of Kennel stopped it.
    Halted {
        /// Sentences that say who and how fast.
        why: Vec<String>,
    },
    /// It could not be carried out.
    Error {
        /// Sentences that say why.
        why: Vec<String>,
    },
}

/// Judges a run.
pub(crate) fn judge(
    experiment: &Experiment,
    assessment: &Assessment,
    audits: &[AuditReport],
    ending: &Ending,
) -> (Verdict, Vec<String>) {
    let stuck = stuck(&assessment.faults);
    if !stuck.is_empty() {
        let why = match ending {
            Ending::Completed => &[][..],
            Ending::Halted { why } | Ending::Error { why } => why,
        };
        return (Verdict::Error, [&stuck, why].concat());
    }
    match ending {
        Ending::Error { why } => return (Verdict::Error, why.clone()),
        Ending::Halted { why } => return (Verdict::Halted, why.clone()),
        Ending::Completed => {}
    }
    let not_injected = not_injected(&assessment.faults);
    if !not_injected.is_empty() {
        return (Verdict::Error, not_injected);
    }
    let Some(all) = whole_run(&assessment.requests) else {
        return (Verdict::Inconclusive, vec!["no request was measured after warm-up".to_owned()]);
    };
    if let Some(why) = unfit(&assessment.arrivals, &assessment.workers) {
        return (Verdict::Invalid, vec![why]);
    }
    let failed = failures(all, assessment, audits);
    if !failed.is_empty() {
        return (Verdict::Failed, failed);
    }
    let unknown = unknowns(experiment, assessment, audits);
    if !unknown.is_empty() {
        return (Verdict::Inconclusive, unknown);
    }
    (Verdict::Passed, praise(all, assessment, audits))
}

fn whole_run(requests: &[RequestRow]) -> Option<&RequestRow> {
    requests.iter().find(|row| row.request == ALL && row.phase.is_none())
}

fn stuck(faults: &[FaultView]) -> Vec<String> {
    let stuck = faults.iter().filter(|fault| fault.state == FaultState::Stuck);
    stuck
        .map(|fault| {
            format!(
                "FAULT STILL ACTIVE: `{}` ({}) could not be reverted and a person must undo it: {}",
                fault.name, fault.description, fault.detail
            )
        })
        .collect()
}

fn not_injected(faults: &[FaultView]) -> Vec<String> {
    let failed = faults.iter().filter(|fault| fault.state == FaultState::Failed);
    failed.map(|fault| format!("fault `{}` could not be injected: {}", fault.name, fault.detail)).collect()
}

/// Why the load generator was unfit to measure, if it was. Users that are all busy are the target's doing (or
/// `max_users`'); lag is only counted while a user is free.
fn unfit(arrivals: &[ArrivalRow], workers: &WorkerView) -> Option<String> {
    let scheduled: u64 = arrivals.iter().map(|row| row.scheduled).sum();
    let started: u64 = arrivals.iter().map(|row| row.started).sum();
    let too_few = (started as f64) < STARTED_SHARE * scheduled as f64;
    (too_few && workers.lag_p99_ms > LAG_MS).then(|| {
        format!(
            "the load generator could not keep up: {started} of {scheduled} arrivals were started ({:.1} %, must be at \
             least {:.0} %) and its own lag p99 was {:.1} ms (at most {LAG_MS} ms)",
            started as f64 / scheduled as f64 * 100.0,
            STARTED_SHARE * 100.0,
            workers.lag_p99_ms,
        )
    })
}

/// Why the load that was asked for did not happen, if it did not and no objective says how much of it must.
fn starved(experiment: &Experiment, assessment: &Assessment) -> Option<String> {
    let mut stated = experiment.objectives.iter().chain(&experiment.steady_state);
    if stated.any(|objective| matches!(objective.metric, Metric::Dropped | Metric::Rate)) {
        return None;
    }
    let scheduled: u64 = assessment.arrivals.iter().map(|row| row.scheduled).sum();
    let started: u64 = assessment.arrivals.iter().map(|row| row.started).sum();
    if started as f64 >= STARTED_SHARE * scheduled as f64 {
        return None;
    }
    let planned_s = experiment.load.duration().as_secs_f64();
    let measured = assessment.phases.iter().filter(|view| view.phase != Phase::WarmUp);
    let seconds: f64 = measured.map(|view| f64::from(view.to_s).min(planned_s) - f64::from(view.from_s)).sum();
    let per_second = |count: u64| count as f64 / seconds.max(1.0);
    // Few a second need a decimal to differ.
    let decimals = usize::from(per_second(scheduled) < 100.0);
    Some(format!(
        "only {:.decimals$} of {:.decimals$} arrivals per second ({} %) found a free user; raise max_users or patience, \
         or state an objective on `dropped` or `rate`",
        per_second(started),
        per_second(scheduled),
        (started as f64 / scheduled as f64 * 100.0).floor(),
    ))
}

fn failures(all: &RequestRow, assessment: &Assessment, audits: &[AuditReport]) -> Vec<String> {
    let mut reasons = Vec::new();
    if all.failures.values().sum::<u64>() >= all.count {
        let most = all.failures.iter().max_by_key(|(_, count)| **count);
        let (kind, count) = most.map_or(("unknown", 0), |(kind, count)| (kind.as_str(), *count));
        reasons.push(format!("every request failed: {kind} ({count}×)"));
    }
    let missed = assessment.objectives.iter().zip(&assessment.sentences).filter(|(view, _)| view.met == Some(false));
    reasons.extend(missed.map(|(_, sentence)| sentence.clone()));
    for audit in audits.iter().filter(|audit| audit.verdict == AuditVerdict::Invalid) {
        let broken = audit.invariants.iter().filter(|invariant| invariant.verdict == AuditVerdict::Invalid);
        let broken: Vec<String> =
            broken.map(|i| format!("{} {} ({} of {} checked)", i.id, i.title, i.violations, i.checked)).collect();
        let broken = if broken.is_empty() { "no invariant named".to_owned() } else { broken.join("; ") };
        reasons.push(format!("audit `{}` found violations: {broken}", audit.name));
    }
    reasons
}

fn unknowns(experiment: &Experiment, assessment: &Assessment, audits: &[AuditReport]) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for fault in &assessment.faults {
        if fault.injected_at_s.is_none() {
            reasons.push(format!("fault `{}` was never active", fault.name));
        }
    }
    let unknown = assessment.objectives.iter().zip(&assessment.sentences).filter(|(view, _)| view.met.is_none());
    reasons.extend(unknown.map(|(_, sentence)| sentence.clone()));
    for name in &experiment.audits {
        match audits.iter().find(|audit| audit.name == *name) {
            None => reasons.push(format!("audit `{name}` was not answered")),
            Some(audit) if audit.verdict == AuditVerdict::Unknown => {
                let problem = audit.problem.as_deref().unwrap_or("it gave no reason");
                reasons.push(format!("audit `{name}` could not tell: {problem}"));
            }
            Some(_) => {}
        }
    }
    reasons.extend(starved(experiment, assessment));
    reasons
}

fn praise(all: &RequestRow, assessment: &Assessment, audits: &[AuditReport]) -> Vec<String> {
    let failed: u64 = all.failures.values().sum();
    let objectives = match assessment.objectives.len() {
        0 => "no objective was declared".to_owned(),
        1 => "the objective was met".to_owned(),
        count => format!("all {count} objectives were met"),
    };
    let mut reasons = vec![format!("{objectives}; {failed} of {} requests failed", all.count)];
    reasons.extend(audits.iter().map(|audit| format!("audit `{}` is valid", audit.name)));
    reasons
}
