//! The queue for those outside: what waits and why, cancelling, moving to the front.

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{QueueKind, QueueView};

use crate::caller::Caller;
use crate::controller::{Controller, HaltError};
use crate::store::StoreError;
use crate::suites::CancelSuiteError;

/// A run in the queue could not be cancelled or moved.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// It does not wait.
    #[error("run {run} does not wait: it has begun, is over, or never was; `kennel queue` lists what waits")]
    NotWaiting {
        /// Its identity.
        run: RunId,
    },
    /// It waits for an agent, with its targets already its own.
    #[error("run {run} has its targets already and only waits for an agent: nothing is ahead of it")]
    AlreadyFirst {
        /// Its identity.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// What waits, in the order in which it goes, and what it waits for.
    #[must_use]
    pub fn queue(&self) -> QueueView {
        self.inner.queue.view(Timestamp::now(), |job| self.inner.agents.obstacle(&job.faults))
    }

    /// Ends a run before it begins.
    ///
    /// # Errors
    /// When it does not wait, or the store fails.
    pub async fn cancel_queued(&self, run: RunId, caller: &Caller) -> Result<(), QueueError> {
        let job = self.inner.queue.waiting(run).ok_or(QueueError::NotWaiting { run })?;
        self.stop_job(run, job.kind, caller).await?;
        self.record(caller, "cancelled in the queue", &format!("{} {}", job.kind, job.name), &run.to_string()).await?;
        Ok(())
    }

    async fn stop_job(&self, run: RunId, kind: QueueKind, caller: &Caller) -> Result<(), QueueError> {
        // What is over in the meantime no longer waits.
        match kind {
            QueueKind::Experiment => match self.halt(run).await {
                Ok(()) => Ok(()),
                Err(HaltError::Store(error)) => Err(error.into()),
                Err(HaltError::NotFound { .. } | HaltError::AlreadyOver { .. }) => Err(QueueError::NotWaiting { run }),
            },
            QueueKind::Suite => match self.cancel_suite(run, &caller.name).await {
                Ok(()) => Ok(()),
                Err(CancelSuiteError::Store(error)) => Err(error.into()),
                Err(CancelSuiteError::NotFound { .. } | CancelSuiteError::AlreadyOver { .. }) => {
                    Err(QueueError::NotWaiting { run })
                }
            },
        }
    }

    /// Moves a waiting run before all others. The place is kept over a restart.
    ///
    /// # Errors
    /// When it does not wait for a target, or the store fails.
    pub async fn move_to_front(&self, run: RunId, caller: &Caller) -> Result<(), QueueError> {
        let job = self.inner.queue.waiting(run).ok_or(QueueError::NotWaiting { run })?;
        let place = self.inner.queue.move_to_front(run).ok_or(QueueError::AlreadyFirst { run })?;
        self.inner.store.set_queue_front(run, place).await?;
        self.record(caller, "moved to the front", &format!("{} {}", job.kind, job.name), &run.to_string()).await?;
        Ok(())
    }
}
