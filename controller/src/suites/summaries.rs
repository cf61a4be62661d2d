//! Suites as lists show them. Reading a file whole takes its time, so what it said is kept until the file, or something
//! that it refers to, changes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use kennel_model::api::{SuiteOrigin, SuiteRunSummary, SuiteSummary};
use kennel_model::document::PlacedProblem;
use kennel_model::suite;

use super::kept::Known;

/// What was last read of each suite, by name.
#[derive(Default)]
pub(crate) struct Summaries(Mutex<HashMap<String, (u64, SuiteSummary)>>);

/// A suite's file and where it is from.
pub(super) struct Listed<'a> {
    pub(super) name: &'a str,
    pub(super) source: &'a str,
    pub(super) origin: SuiteOrigin,
    pub(super) version: Option<u32>,
}

impl Summaries {
    /// Reads those of `suites` that are not known as they are now, and forgets all others.
    pub(super) fn of(&self, known: &Known, suites: &[Listed<'_>]) -> Vec<SuiteSummary> {
        let surroundings = known.fingerprint();
        let mut earlier = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut now = HashMap::with_capacity(suites.len());
        for suite in suites {
            let key = suite.key(surroundings);
            let summary = match earlier.remove(suite.name) {
                Some((at, summary)) if at == key => summary,
                _ => suite.summary(known),
            };
            now.insert(suite.name.to_owned(), (key, summary));
        }
        let summaries =
            suites.iter().filter_map(|suite| now.get(suite.name).map(|(_, summary)| summary.clone())).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
        summaries
    }
}

impl Listed<'_> {
    fn key(&self, surroundings: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (surroundings, self.source, self.version, self.origin.word()).hash(&mut hasher);
        hasher.finish()
    }

    /// Reads the file.
    pub(super) fn summary(&self, known: &Known) -> SuiteSummary {
        // What it is is told also while something that it refers to is not there.
        let (suite, problem, needs) = match known.read(self.name, self.source, &BTreeMap::new()) {
            Ok(valid) => (Some(valid.suite().clone()), None, None),
            Err(problems) => {
                let needs = known.needs(&problems);
                let first = problems.problems.first().filter(|_| needs.is_none());
                (suite::outline(self.source), first.map(|first| told(first, problems.problems.len() - 1)), needs)
            }
        };
        let suite = suite.as_ref();
        SuiteSummary {
            name: self.name.to_owned(),
            description: suite.map(|suite| suite.description.trim().to_owned()).unwrap_or_default(),
            labels: suite.map(|suite| suite.labels.clone()).unwrap_or_default(),
            origin: self.origin,
            version: self.version,
            steps: suite.map_or(0, |suite| u32::try_from(suite.all_steps().len()).unwrap_or(u32::MAX)),
            problem,
            needs,
            last_runs: Vec::new(),
        }
    }
}

fn told(problem: &PlacedProblem, more: usize) -> String {
    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    format!("line {}: {}{more}", problem.line, problem.message)
}

/// A suite of which there are only runs.
pub(super) fn only_runs(name: &str, runs: &[SuiteRunSummary]) -> SuiteSummary {
    SuiteSummary {
        name: name.to_owned(),
        description: String::new(),
        labels: runs.first().map(|run| run.labels.clone()).unwrap_or_default(),
        origin: SuiteOrigin::Runs,
        version: None,
        steps: 0,
        problem: None,
        needs: None,
        last_runs: Vec::new(),
    }
}
