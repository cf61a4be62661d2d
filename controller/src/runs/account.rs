//! The account of a run: everything that is known of it, as pages and the API show it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kennel_model::ValidExperiment;
use kennel_model::api::{AuditView, ObjectiveView, RunDetail, RunSummary};
use kennel_model::frame::LatenciesError;
use kennel_model::protocol::AuditReport;
use tokio::sync::Mutex;

use super::blocking;
use super::phases::{FaultStep, Timeline};
use crate::judge::{Assessment, assess};
use crate::recording::Recording;
use crate::store::StoreError;

/// Everything that is known of a run. Cheap to clone: histograms are shared until one side adds to them.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) summary: RunSummary,
    pub(crate) experiment: Arc<ValidExperiment>,
    pub(crate) recording: Recording,
    /// What `steps` come to.
    pub(crate) timeline: Timeline,
    pub(crate) steps: Vec<FaultStep>,
    /// Guards as they were evaluated last while the run went; empty if they never were.
    pub(crate) guards: Vec<ObjectiveView>,
    pub(crate) audits: Vec<AuditReport>,
    pub(crate) warnings: Vec<String>,
}

impl Account {
    /// The account of a run in which nothing has happened yet.
    pub(crate) fn new(experiment: Arc<ValidExperiment>, summary: RunSummary) -> Self {
        Self {
            recording: Recording::new(experiment.experiment()),
            timeline: Timeline::new(experiment.experiment(), []),
            summary,
            experiment,
            steps: Vec::new(),
            guards: Vec::new(),
            audits: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Puts in order what was measured so far. Takes some milliseconds of CPU.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn assess(&self) -> Result<Assessment, LatenciesError> {
        assess(self.experiment.experiment(), &self.recording, &self.steps)
    }

    /// The run as it is shown, with what its measurements come to.
    pub(crate) fn detail(&self, assessment: Assessment) -> RunDetail {
        let audit = |audit: &AuditReport| {
            let AuditReport { name, verdict, invariants, problem } = audit.clone();
            AuditView { name, verdict, invariants, problem }
        };
        RunDetail {
            summary: self.summary.clone(),
            experiment: self.experiment.source().to_owned(),
            description: self.experiment.experiment().description.clone(),
            phases: assessment.phases,
            requests: assessment.requests,
            arrivals: assessment.arrivals,
            faults: assessment.faults,
            objectives: assessment.objectives,
            guards: if self.guards.is_empty() { assessment.guards } else { self.guards.clone() },
            audits: self.audits.iter().map(audit).collect(),
            workers: assessment.workers,
            warnings: self.warnings.clone(),
        }
    }
}

/// The account of an active run: its logbook writes it, others read along. Locked for moments only.
#[derive(Debug, Clone)]
pub(crate) struct OpenAccount(Arc<Open>);

#[derive(Debug)]
struct Open {
    account: RwLock<Written>,
    /// The run as it was shown last, and after how many writes; so many readers cost no more than one.
    shown: Mutex<Option<(u64, RunDetail)>>,
}

#[derive(Debug)]
struct Written {
    account: Account,
    times: u64,
}

impl OpenAccount {
    pub(crate) fn new(account: Account) -> Self {
        Self(Arc::new(Open { account: RwLock::new(Written { account, times: 0 }), shown: Mutex::new(None) }))
    }

    /// Looks something up.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Account) -> T) -> T {
        look(&self.written().account)
    }

    fn written(&self) -> RwLockReadGuard<'_, Written> {
        self.0.account.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes something in.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut Account) -> T) -> T {
        let mut written = self.0.account.write().unwrap_or_else(PoisonError::into_inner);
        written.times += 1;
        write(&mut written.account)
    }

    /// The account as it is now.
    pub(crate) fn copy(&self) -> Account {
        self.look(Account::clone)
    }

    /// The run as it is now; put in order at most once for each write.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) async fn detail(&self) -> Result<RunDetail, StoreError> {
        // Held while it is put in order: who comes meanwhile waits for the same.
        let mut shown = self.0.shown.lock().await;
        let times = self.written().times;
        if let Some((known, detail)) = shown.as_ref()
            && *known == times
        {
            return Ok(detail.clone());
        }
        let (times, account) = {
            let written = self.written();
            (written.times, written.account.clone())
        };
        let detail = blocking(move || account.assess().map(|assessment| account.detail(assessment))).await?;
        *shown = Some((times, detail.clone()));
        Ok(detail)
    }
}
