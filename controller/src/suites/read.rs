//! Reading suites and their runs: what is known, how each fared, the live stream, and logs in parts.

use std::collections::{BTreeMap, BTreeSet};

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{
    AgentView, FileKind, LibraryEntry, Origin, OutcomeCounts, SuiteDetail, SuiteEvent, SuiteOrigin, SuiteRunDetail,
    SuiteRunFilter, SuiteRunSummary, SuiteSummary,
};
use kennel_model::suite;
use kennel_results::TestName;
use tokio_stream::wrappers::BroadcastStream;

use super::kept::name_within;
use super::log;
use super::plan::planned;
use super::step::{Done, Muted};
use super::summaries::{Listed, only_runs};
use crate::run_names::{self, Named};
use crate::store::StoreError;
use crate::{ArtifactError, ArtifactSource, Controller, FindError};

/// Runs shown beside a suite.
const LAST_RUNS: u32 = 20;
/// Runs that tell how a suite stands: the last one with a verdict, though others may be under way.
const RUNS_IN_BRIEF: u32 = 3;

/// A part of a step's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// Where it begins, in bytes.
    pub from: u64,
    /// How long the log is by now, in bytes.
    pub length: u64,
    /// The part itself, as the step wrote it.
    pub bytes: Vec<u8>,
}

impl Controller {
    /// Every suite that Kennel keeps or ships, and those of which it only has runs, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suites(&self) -> Result<Vec<SuiteSummary>, StoreError> {
        self.suites_with(LAST_RUNS).await
    }

    /// As [`Self::suites`], with no more of each suite's last runs than tell how it stands. With
    /// [`Self::add_last_runs`] for those that are shown this is much less work.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suites_in_brief(&self) -> Result<Vec<SuiteSummary>, StoreError> {
        self.suites_with(RUNS_IN_BRIEF).await
    }

    /// Gives these suites all of their last runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn add_last_runs(&self, suites: &mut [SuiteSummary]) -> Result<(), StoreError> {
        let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
        let mut last = by_suite(self.inner.store.last_suite_runs(Some(&names), LAST_RUNS).await?);
        for suite in suites {
            suite.last_runs = last.remove(&suite.name).unwrap_or_default();
        }
        Ok(())
    }

    async fn suites_with(&self, runs: u32) -> Result<Vec<SuiteSummary>, StoreError> {
        let known = self.known(true).await?;
        let last = by_suite(self.inner.store.last_suite_runs(None, runs).await?);
        let kept = self.inner.store.files(FileKind::Suite).await?;
        let mut shipped: BTreeMap<String, &LibraryEntry> = BTreeMap::new();
        for entry in &self.inner.config.suites {
            let name = name_within(&entry.source).unwrap_or_else(|| entry.name.clone());
            if !kept.iter().any(|file| file.name == name) {
                shipped.entry(name).or_insert(entry);
            }
        }
        let files = kept.iter().map(|file| Listed {
            name: &file.name,
            source: &file.source,
            origin: SuiteOrigin::Kept,
            version: Some(file.version),
        });
        let library = shipped.iter().map(|(name, entry)| Listed {
            name,
            source: &entry.source,
            origin: SuiteOrigin::Library,
            version: None,
        });
        let listed: Vec<Listed<'_>> = files.chain(library).collect();
        let read = self.inner.summaries.of(&known, &listed);
        let mut suites: BTreeMap<String, SuiteSummary> =
            read.into_iter().map(|summary| (summary.name.clone(), summary)).collect();
        for (name, entry) in shipped {
            if let Some(suite) = suites.get_mut(&name).filter(|suite| suite.description.is_empty()) {
                suite.description.clone_from(&entry.description);
            }
        }
        for (name, runs) in last {
            let suite = suites.entry(name).or_insert_with_key(|name| only_runs(name, &runs));
            suite.last_runs = runs;
        }
        Ok(suites.into_values().collect())
    }

    /// Names of every suite that Kennel keeps or ships, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suite_names(&self) -> Result<Vec<String>, StoreError> {
        let kept = self.inner.store.files(FileKind::Suite).await?.into_iter().map(|file| file.name);
        let shipped = self.inner.config.suites.iter();
        let shipped = shipped.map(|entry| name_within(&entry.source).unwrap_or_else(|| entry.name.clone()));
        Ok(kept.chain(shipped).collect::<BTreeSet<String>>().into_iter().collect())
    }

    /// A suite whole: its file, what whoever starts it may change, its steps and its last runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suite(&self, name: &str) -> Result<Option<SuiteDetail>, StoreError> {
        let filter = SuiteRunFilter { suite: Some(name.to_owned()), limit: LAST_RUNS, ..SuiteRunFilter::default() };
        let runs = self.inner.store.suite_runs(&filter).await?;
        let Some(kept) = self.kept_suite(name).await? else {
            let summary = only_runs(name, &runs);
            return Ok((!runs.is_empty()).then(|| SuiteDetail {
                summary: SuiteSummary { last_runs: runs, ..summary },
                source: String::new(),
                parameters: Vec::new(),
                last_values: BTreeMap::new(),
                plan: Vec::new(),
            }));
        };
        let known = self.known(true).await?;
        let origin = if kept.version.is_some() { SuiteOrigin::Kept } else { SuiteOrigin::Library };
        // Its parameters and steps are told also while something that it refers to is not there.
        let read = known.read(name, &kept.source, &BTreeMap::new()).map(|valid| valid.suite().clone());
        let read = read.ok().or_else(|| suite::outline(&kept.source));
        let last_values = runs.iter().find(|run| run.origin == Origin::Manual).map(|run| run.parameters.clone());
        let listed = Listed { name, source: &kept.source, origin, version: kept.version };
        let mut summary = listed.summary(&known);
        summary.last_runs = runs;
        Ok(Some(SuiteDetail {
            summary,
            parameters: read.as_ref().map(|suite| suite.parameters.clone()).unwrap_or_default(),
            last_values: last_values.unwrap_or_default(),
            plan: read.as_ref().map(planned).unwrap_or_default(),
            source: kept.source,
        }))
    }

    /// Runs of suites, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suite_runs(&self, filter: &SuiteRunFilter) -> Result<Vec<SuiteRunSummary>, StoreError> {
        self.inner.store.suite_runs(filter).await
    }

    /// A run of a suite with its steps.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suite_run(&self, id: RunId) -> Result<Option<SuiteRunDetail>, StoreError> {
        // The run first: if it is over by then, its steps are complete.
        let Some(stored) = self.inner.store.suite_run(id).await? else { return Ok(None) };
        let steps = self.inner.store.steps_of(id).await?;
        Ok(Some(SuiteRunDetail { summary: stored.summary, source: stored.source, steps }))
    }

    /// Every attempt that belongs with a run, the first one first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts_of(&self, run: &SuiteRunSummary) -> Result<Vec<SuiteRunSummary>, StoreError> {
        let first = run.rerun_of.unwrap_or(run.id);
        let filter = SuiteRunFilter { rerun_of: Some(first), limit: 100, ..SuiteRunFilter::default() };
        let mut attempts = self.inner.store.suite_runs(&filter).await?;
        attempts.reverse();
        Ok(attempts)
    }

    /// Finds a run of a suite by its id, the id's unique beginning or end, `last`, or `last-N`.
    ///
    /// # Errors
    /// When nothing matches, several do, or the store cannot be read.
    pub async fn find_suite_run(&self, text: &str) -> Result<RunId, FindError> {
        let matches = match run_names::read(text)? {
            Named::Back(back) => self.inner.store.nth_last_suite_run(back).await?.into_iter().collect(),
            Named::Digits(digits) => self.inner.store.suite_runs_like(&digits).await?,
        };
        run_names::only(text, matches)
    }

    /// What happens in a suite's run from now on; ends when the run is over (at once if it is). Whoever reads too slowly
    /// misses events.
    pub fn suite_live(&self, id: RunId) -> impl Stream<Item = SuiteEvent> + Send + 'static + use<> {
        let events = self.inner.suites.watch(id).map(BroadcastStream::new);
        // An error says that events were missed.
        futures::stream::iter(events).flatten().filter_map(|event| std::future::ready(event.ok()))
    }

    /// A part of an attempt's log: at most `most` bytes from `from` on, or the last ones. `None` when there is no log.
    pub async fn step_log(
        &self,
        run: RunId,
        path: &str,
        attempt: u32,
        from: Option<u64>,
        most: u64,
    ) -> Result<Option<LogPart>, std::io::Error> {
        let Some(file) = log::file(&self.inner.config.data_dir, run, path, attempt) else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || log::read(&file, from, most)).await?;
        match read {
            Ok((from, length, bytes)) => Ok(Some(LogPart { from, length, bytes })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The attached agents with their labels and the commands that they offer.
    #[must_use]
    pub fn agent_views(&self) -> Vec<AgentView> {
        let described = self.inner.agents.descriptions().into_iter();
        described
            .map(|agent| AgentView {
                name: agent.name,
                version: agent.version,
                host: agent.host,
                labels: agent.labels,
                commands: agent.commands,
            })
            .collect()
    }

    /// The tests of a run that are muted.
    pub(super) async fn muted_in(&self, run: RunId, suite: &str) -> Result<Muted, StoreError> {
        let muted = self.muted_tests(suite, Timestamp::now()).await?;
        if muted.is_empty() {
            return Ok(Muted::new());
        }
        let results = self.inner.store.step_results(run).await?.into_iter();
        let named = results.filter(|result| muted.contains(&result.test)).map(|result| TestName {
            class: result.class,
            name: result.name,
            parameters: result.parameters,
        });
        Ok(named.collect())
    }

    /// Keeps what an attempt of a step tested and left behind.
    pub(super) async fn keep_step_results(
        &self,
        run: RunId,
        path: &str,
        attempt: u32,
        done: &Done,
    ) -> Result<(), ArtifactError> {
        if !done.tests.is_empty() {
            self.record_results(run, path, attempt, &done.tests).await?;
        }
        for file in &done.artifacts {
            let source = ArtifactSource::Bytes(&file.content);
            self.keep_artifact(run, path, attempt, &file.name, media_type(&file.name), source).await?;
        }
        Ok(())
    }

    /// Tests of a run by outcome, and how many failed ones are muted.
    pub(super) async fn test_counts(&self, run: RunId, suite: &str) -> Result<(OutcomeCounts, u32), StoreError> {
        let counted = self.inner.store.suite_run(run).await?;
        let failures = self.failures(run, suite, Timestamp::now()).await?;
        let muted: BTreeSet<i64> = failures.muted.iter().map(|(_, test)| *test).collect();
        let muted = u32::try_from(muted.len()).unwrap_or(u32::MAX);
        Ok((counted.map(|run| run.summary.tests).unwrap_or_default(), muted))
    }
}

fn by_suite(runs: Vec<SuiteRunSummary>) -> BTreeMap<String, Vec<SuiteRunSummary>> {
    let mut last: BTreeMap<String, Vec<SuiteRunSummary>> = BTreeMap::new();
    for run in runs {
        last.entry(run.suite.clone()).or_default().push(run);
    }
    last
}

/// What a file is, by its name.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("xml") => "application/xml",
        Some("html" | "htm") => "text/html",
        Some("json") => "application/json",
        Some("txt" | "log" | "csv" | "yaml" | "yml") => "text/plain",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        _ => "application/octet-stream",
    }
}
