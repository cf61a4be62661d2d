//! Reading a run back from the store: its measurements put in order, as pages and the API show them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kennel_model::api::{AuditView, ObjectiveView, RunDetail, SeriesView};
use kennel_model::frame::LatenciesError;
use kennel_model::protocol::AuditReport;
use kennel_model::{RunId, ValidExperiment};

use crate::judge::{Assessment, assess};
use crate::store::{Store, StoreError, StoredRun};

/// Runs whose reading is kept in memory after they are over.
const REMEMBERED: usize = 16;

/// A run read back from the store and put in order.
pub(crate) struct Reading {
    pub(crate) detail: RunDetail,
    pub(crate) series: SeriesView,
    pub(crate) experiment: ValidExperiment,
}

/// Reads runs, and remembers some of those that are over: these never change.
#[derive(Default)]
pub(crate) struct Readings {
    remembered: Mutex<VecDeque<Arc<Reading>>>,
}

impl Readings {
    fn remembered(&self) -> MutexGuard<'_, VecDeque<Arc<Reading>>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a run, if there is one.
    pub(crate) async fn read(&self, store: &Store, id: RunId) -> Result<Option<Arc<Reading>>, StoreError> {
        if let Some(known) = self.remembered().iter().find(|reading| reading.detail.summary.id == id) {
            return Ok(Some(Arc::clone(known)));
        }
        // The run first: if it is over by then, what is read afterwards is complete.
        let Some(stored) = store.run(id).await? else { return Ok(None) };
        let (recording, steps) = (store.recording(id).await?, store.fault_steps(id).await?);
        let (audits, warnings, guards) = (store.audits(id).await?, store.warnings(id).await?, store.guards(id).await?);
        // Decoding an hour of histograms takes seconds of CPU.
        let reading = tokio::task::spawn_blocking(move || {
            let assessment = assess(stored.experiment.experiment(), &recording, &steps)?;
            Ok(put_together(stored, assessment, audits, warnings, guards))
        });
        let reading = reading.await.map_err(StoreError::broken("recording"))?;
        let reading = Arc::new(reading.map_err(StoreError::broken::<LatenciesError>("histogram"))?);
        if reading.detail.summary.state.is_over() {
            let mut remembered = self.remembered();
            remembered.push_front(Arc::clone(&reading));
            remembered.truncate(REMEMBERED);
        }
        Ok(Some(reading))
    }
}

fn put_together(
    stored: StoredRun,
    assessment: Assessment,
    audits: Vec<AuditReport>,
    warnings: Vec<String>,
    guards: Vec<ObjectiveView>,
) -> Reading {
    let StoredRun { summary, experiment } = stored;
    let audit = |AuditReport { name, verdict, invariants, problem }| AuditView { name, verdict, invariants, problem };
    let detail = RunDetail {
        summary,
        experiment: experiment.source().to_owned(),
        description: experiment.experiment().description.clone(),
        phases: assessment.phases,
        requests: assessment.requests,
        arrivals: assessment.arrivals,
        faults: assessment.faults,
        objectives: assessment.objectives,
        guards: if guards.is_empty() { assessment.guards } else { guards },
        audits: audits.into_iter().map(audit).collect(),
        workers: assessment.workers,
        warnings,
    };
    Reading { detail, series: assessment.series, experiment }
}
