//! Two runs side by side: the same numbers of both, and what makes them hard to compare.

use std::collections::BTreeSet;

use kennel_model::api::{ComparisonRow, ComparisonView, RequestRow, RunDetail};
use kennel_model::experiment::Experiment;
use kennel_model::{Phase, Verdict};

use crate::recording::ALL;

/// A compared number: its name, how to read it, whether more of it is better.
type Number = (&'static str, fn(&RequestRow) -> f64, bool);

const NUMBERS: [Number; 6] = [
    ("rate", |row| row.rate, true),
    ("error_rate", |row| row.error_rate, false),
    ("p50", |row| row.response.p50, false),
    ("p90", |row| row.response.p90, false),
    ("p99", |row| row.response.p99, false),
    ("max", |row| row.response.max, false),
];

/// Compares run `b` with run `a`.
pub(crate) fn compare(a: &RunDetail, a_was: &Experiment, b: &RunDetail, b_was: &Experiment) -> ComparisonView {
    let mut warnings = differences(a, a_was, b, b_was);
    for (side, run) in [("A", a), ("B", b)] {
        match run.summary.verdict {
            Some(Verdict::Passed | Verdict::Failed) => {}
            Some(verdict) => warnings.push(format!("run {side} ended {verdict}")),
            None => warnings.push(format!("run {side} is not over")),
        }
    }
    ComparisonView { a: a.summary.clone(), b: b.summary.clone(), warnings, rows: rows(&a.requests, &b.requests) }
}

fn differences(a: &RunDetail, a_was: &Experiment, b: &RunDetail, b_was: &Experiment) -> Vec<String> {
    let mut warnings = Vec::new();
    if a.summary.target != b.summary.target {
        warnings.push(format!("the targets differ: `{}` and `{}`", a.summary.target, b.summary.target));
    }
    if a_was.load != b_was.load {
        warnings.push("the load profiles differ".to_owned());
    }
    if a_was.scenarios != b_was.scenarios {
        warnings.push("the scenarios differ".to_owned());
    }
    if a_was.faults != b_was.faults {
        warnings.push("the fault timelines differ".to_owned());
    }
    warnings
}

fn rows(a: &[RequestRow], b: &[RequestRow]) -> Vec<ComparisonRow> {
    let mut requests: Vec<&str> = a.iter().chain(b).map(|row| row.request.as_str()).collect();
    requests.sort_by_key(|name| (*name != ALL, *name));
    requests.dedup();
    let phases = |rows: &[RequestRow]| rows.iter().filter_map(|row| row.phase).collect::<BTreeSet<Phase>>();
    let both: BTreeSet<Phase> = phases(a).intersection(&phases(b)).copied().collect();
    let mut compared = Vec::new();
    for request in requests {
        for phase in std::iter::once(None).chain(both.iter().map(|phase| Some(*phase))) {
            let find = |rows: &[RequestRow]| rows.iter().find(|r| r.request == request && r.phase == phase).cloned();
            let (a, b) = (find(a), find(b));
            if a.is_none() && b.is_none() {
                continue;
            }
            compared.extend(NUMBERS.iter().map(|(metric, read, higher_is_better)| {
                let (a, b) = (a.as_ref().map(read), b.as_ref().map(read));
                ComparisonRow {
                    request: request.to_owned(),
                    phase,
                    metric: (*metric).to_owned(),
                    a,
                    b,
                    change: a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| (b - a) / a),
                    higher_is_better: *higher_is_better,
                }
            }));
        }
    }
    compared
}
