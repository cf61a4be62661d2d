//! Starting, cancelling and running again: what others call.

use std::collections::BTreeMap;
use std::sync::Arc;

use kennel_model::RunId;
use kennel_model::api::{
    FileKind, Origin, OutcomeCounts, RerunSuite, RerunWhich, StartSuite, StepState, SuiteRunSummary,
};
use kennel_model::document::Problems;
use kennel_model::naming;
use kennel_model::suite::ValidSuite;

use super::active::Cancel;
use super::driver::SuiteDriver;
use super::kept::KeptSuite;
use super::plan::unknown_paths;
use super::verdict::failed_paths;
use crate::happenings::Happening;
use crate::store::{StoreError, StoredSuiteRun, now};
use crate::{Caller, Controller};

/// A suite could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartSuiteError {
    /// Neither a name nor a text, or both.
    #[error(
        "a run of a suite needs either `suite`, the name of one that Kennel knows, or `source`, a suite file's text"
    )]
    Unclear,
    /// Kennel knows no such suite.
    #[error("there is no suite `{name}`; Kennel knows {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that it knows, for people.
        known: String,
    },
    /// The suite is not valid.
    #[error("{0}")]
    Invalid(Problems),
    /// Steps were asked for that the suite does not have.
    #[error("the suite has no step at {}; steps are named by their path, such as steps/0 or steps/2/parallel/1", paths.join(", "))]
    NoSuchStep {
        /// Their paths.
        paths: Vec<String>,
    },
    /// It was to be another attempt of a run that is not there.
    #[error("there is no run {run} that this could be another attempt of")]
    NoSuchRun {
        /// The run.
        run: RunId,
    },
    /// Kennel is shutting down.
    #[error("Kennel is shutting down and starts no more runs")]
    Closing,
    /// The run could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run of a suite could not be cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelSuiteError {
    /// There is no such run.
    #[error("there is no run {run} of a suite")]
    NotFound {
        /// Its identity.
        run: RunId,
    },
    /// The run is over.
    #[error("run {run} is already over")]
    AlreadyOver {
        /// Its identity.
        run: RunId,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run of a suite could not be run again.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// There is no such run.
    #[error("there is no run {run} of a suite")]
    NotFound {
        /// Its identity.
        run: RunId,
    },
    /// It is not over.
    #[error("run {run} is not over; cancel it or wait for its end")]
    NotOver {
        /// Its identity.
        run: RunId,
    },
    /// Its results came from elsewhere.
    #[error("run {run} was imported: run it again where it came from")]
    Imported {
        /// Its identity.
        run: RunId,
    },
    /// Nothing in it failed.
    #[error("no step of run {run} failed; ask for the whole run or for single steps")]
    NothingFailed {
        /// Its identity.
        run: RunId,
    },
    /// Single steps were asked for, but none was named.
    #[error("`which: steps` needs the paths of the steps in `steps`")]
    NoSteps,
    /// The new run could not be started.
    #[error(transparent)]
    Start(#[from] StartSuiteError),
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// Reads and checks a suite whole, against what is known and attached now.
    ///
    /// # Errors
    /// Every problem in it; or the store cannot be read.
    pub async fn validate_suite(
        &self,
        file: &str,
        source: &str,
        values: &BTreeMap<String, String>,
    ) -> Result<Result<ValidSuite, Problems>, StoreError> {
        Ok(self.known(true).await?.read(file, source, values))
    }

    /// Stores a run of a suite and carries it out as soon as its targets are free. `started_by` is who or what asked: a
    /// person, a token, a schedule's name.
    ///
    /// # Errors
    /// When the suite is unknown or not valid, cannot be stored, or Kennel is shutting down.
    pub async fn start_suite(
        &self,
        request: StartSuite,
        origin: Origin,
        started_by: &str,
    ) -> Result<RunId, StartSuiteError> {
        self.start_suite_as(RunId::new(), request, origin, started_by).await
    }

    /// As [`Self::start_suite`], under an identity chosen beforehand.
    ///
    /// # Errors
    /// As [`Self::start_suite`].
    pub async fn start_suite_as(
        &self,
        id: RunId,
        request: StartSuite,
        origin: Origin,
        started_by: &str,
    ) -> Result<RunId, StartSuiteError> {
        let (name, kept) = match (&request.suite, &request.source) {
            (Some(name), None) => match self.kept_suite(name).await? {
                Some(kept) => (name.clone(), kept),
                None => return Err(self.unknown_suite(name).await?),
            },
            (None, Some(source)) => ("suite.yaml".to_owned(), KeptSuite { source: source.clone(), version: None }),
            _ => return Err(StartSuiteError::Unclear),
        };
        self.start_source(id, request, &name, kept, origin, started_by).await
    }

    async fn start_source(
        &self,
        id: RunId,
        request: StartSuite,
        name: &str,
        kept: KeptSuite,
        origin: Origin,
        started_by: &str,
    ) -> Result<RunId, StartSuiteError> {
        let KeptSuite { source, version } = kept;
        // What a schedule starts is told by its run when no agent is there to carry it out, not refused.
        let known = self.known(origin == Origin::Manual).await?;
        let suite = known.read(name, &source, &request.parameters).map_err(StartSuiteError::Invalid)?;
        let unknown = unknown_paths(suite.suite(), &request.only);
        if !unknown.is_empty() {
            return Err(StartSuiteError::NoSuchStep { paths: unknown.into_iter().map(str::to_owned).collect() });
        }
        if self.inner.shutdown.is_cancelled() {
            return Err(StartSuiteError::Closing);
        }
        let (rerun_of, attempt) = match request.rerun_of {
            None => (None, 1),
            Some(run) => {
                let earlier = self.inner.store.suite_run(run).await?.ok_or(StartSuiteError::NoSuchRun { run })?;
                // Attempts all name the first of them, so that they are found together.
                let first = earlier.summary.rerun_of.unwrap_or(run);
                (Some(first), self.inner.store.next_attempt(first).await?)
            }
        };
        let mut labels = suite.suite().labels.clone();
        labels.extend(request.labels.into_iter().filter(|label| !suite.suite().labels.contains(label)));
        let run = StoredSuiteRun {
            summary: SuiteRunSummary {
                id,
                suite: suite.suite().name.clone(),
                version,
                state: StepState::Queued,
                verdict: None,
                reasons: Vec::new(),
                origin,
                started_by: started_by.to_owned(),
                rerun_of,
                attempt,
                parameters: suite.parameters().clone(),
                labels,
                priority: request.priority,
                created_at: now(),
                started_at: None,
                ended_at: None,
                tests: OutcomeCounts::default(),
            },
            source,
            only: request.only,
        };
        self.inner.store.insert_suite_run(&run).await?;
        self.drive_suite(run, suite).await;
        Ok(id)
    }

    async fn unknown_suite(&self, name: &str) -> Result<StartSuiteError, StoreError> {
        let kept = self.inner.store.files(FileKind::Suite).await?;
        let shipped = self.inner.config.suites.iter().map(|entry| entry.name.clone());
        let known: Vec<String> =
            kept.into_iter().map(|file| file.name).chain(shipped).map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Ok(StartSuiteError::Unknown { name: name.to_owned(), known })
    }

    async fn drive_suite(&self, run: StoredSuiteRun, suite: ValidSuite) {
        let id = run.summary.id;
        let reins = self.inner.suites.add(id);
        // A shutdown that came while the run was stored has not seen it among the active ones.
        if self.inner.shutdown.is_cancelled() {
            self.inner.suites.cancel(id, Cancel::Closing);
        }
        let driver = SuiteDriver::new(self.clone(), run, Arc::new(suite), reins);
        let ended = Ended { controller: self.clone(), run: id };
        self.inner.drivers.spawn(async move {
            driver.drive().await;
            drop(ended);
        });
        self.inner.happenings.tell(Happening::SuiteRunChanged(id));
    }

    /// Puts runs of suites that waited when Kennel last stopped back into the queue, and ends those that were under way.
    pub(crate) async fn resume_suites(&self) -> Result<(), StoreError> {
        let unfinished = self.inner.store.unfinished_suite_runs().await?;
        if unfinished.is_empty() {
            return Ok(());
        }
        let known = self.known(false).await?;
        for mut run in unfinished {
            let id = run.summary.id;
            let why = if run.summary.state == StepState::Queued {
                match known.read(&run.summary.suite, &run.source, &run.summary.parameters) {
                    Ok(suite) => {
                        self.drive_suite(run, suite).await;
                        continue;
                    }
                    Err(problems) => format!("it waited while Kennel was stopped, and can no longer run: {problems}"),
                }
            } else {
                "interrupted: Kennel stopped while it was under way; its tear-down did not run".to_owned()
            };
            tracing::warn!(%id, "a suite's run ends: {why}");
            self.inner.store.interrupt_steps(id).await?;
            run.summary.state = StepState::Ended;
            run.summary.verdict = Some(kennel_model::Verdict::Error);
            run.summary.reasons = vec![why];
            run.summary.ended_at = Some(now());
            self.inner.store.update_suite_run(&run.summary).await?;
            self.inner.happenings.tell(Happening::SuiteRunEnded(id));
        }
        Ok(())
    }

    /// Tells a run of a suite to end: what is under way stops, and the tear-down runs. Told once more, the tear-down stops
    /// too. Returns at once.
    ///
    /// # Errors
    /// When there is no such run or it is over.
    pub async fn cancel_suite(&self, run: RunId, by: &str) -> Result<(), CancelSuiteError> {
        if self.inner.suites.cancel(run, Cancel::Person(by.to_owned())) {
            return Ok(());
        }
        match self.inner.store.suite_run(run).await? {
            None => Err(CancelSuiteError::NotFound { run }),
            Some(_) => Err(CancelSuiteError::AlreadyOver { run }),
        }
    }

    /// Runs a suite's run again: the same file with the same or other parameters, whole or in part, as its next attempt.
    ///
    /// # Errors
    /// When there is no such run, it is not over or was imported, nothing failed, or it cannot start.
    pub async fn rerun_suite(&self, run: RunId, request: RerunSuite, by: &str) -> Result<RunId, RerunError> {
        let stored = self.inner.store.suite_run(run).await?.ok_or(RerunError::NotFound { run })?;
        if stored.summary.state != StepState::Ended {
            return Err(RerunError::NotOver { run });
        }
        if stored.summary.origin == Origin::Import {
            return Err(RerunError::Imported { run });
        }
        let only = match request.which {
            RerunWhich::All => stored.only.clone(),
            RerunWhich::Steps if request.steps.is_empty() => return Err(RerunError::NoSteps),
            RerunWhich::Steps => request.steps,
            RerunWhich::Failed => {
                let failed = failed_paths(&self.inner.store.steps_of(run).await?);
                if failed.is_empty() && stored.summary.verdict == Some(kennel_model::Verdict::Passed) {
                    return Err(RerunError::NothingFailed { run });
                }
                // A run that broke outside its steps (a failed set-up, an interruption) has all of them to do.
                if failed.is_empty() { stored.only.clone() } else { failed }
            }
        };
        let mut parameters = stored.summary.parameters.clone();
        parameters.extend(request.parameters);
        let start = StartSuite {
            suite: None,
            source: None,
            parameters,
            only,
            rerun_of: Some(run),
            labels: stored.summary.labels,
            priority: stored.summary.priority,
        };
        // It may come from the time before the suite was renamed.
        let source = match naming::field(&stored.source, "name") {
            Some(written) if written != stored.summary.suite => {
                naming::renamed(&stored.source, &stored.summary.suite).unwrap_or(stored.source)
            }
            _ => stored.source,
        };
        let kept = KeptSuite { source, version: stored.summary.version };
        Ok(self.start_source(RunId::new(), start, &stored.summary.suite, kept, Origin::Manual, by).await?)
    }
}

/// The same, asked for by a caller, with a line in the audit log.
impl Controller {
    /// As [`Self::start_suite`].
    ///
    /// # Errors
    /// As [`Self::start_suite`].
    pub async fn start_suite_by(&self, caller: &Caller, request: StartSuite) -> Result<RunId, StartSuiteError> {
        let subject = request.suite.clone().unwrap_or_else(|| "a file".to_owned());
        let id = self.start_suite(request, Origin::Manual, &caller.name).await?;
        self.record(caller, "start a suite", &subject, &format!("run {id}")).await?;
        Ok(id)
    }

    /// As [`Self::cancel_suite`].
    ///
    /// # Errors
    /// As [`Self::cancel_suite`].
    pub async fn cancel_suite_by(&self, caller: &Caller, run: RunId) -> Result<(), CancelSuiteError> {
        self.cancel_suite(run, &caller.name).await?;
        Ok(self.record(caller, "cancel a suite's run", &run.to_string(), "").await?)
    }

    /// As [`Self::rerun_suite`].
    ///
    /// # Errors
    /// As [`Self::rerun_suite`].
    pub async fn rerun_suite_by(&self, caller: &Caller, run: RunId, request: RerunSuite) -> Result<RunId, RerunError> {
        let which = request.which;
        let id = self.rerun_suite(run, request, &caller.name).await?;
        self.record(caller, "run a suite's run again", &run.to_string(), &format!("{which}, as run {id}")).await?;
        Ok(id)
    }
}

/// Lets go of a run once its driver has ended, even by a panic.
struct Ended {
    controller: Controller,
    run: RunId,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.controller.inner.suites.remove(self.run);
    }
}
