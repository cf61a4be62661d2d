//! A run's logbook: everything that happens is kept in the store, told to those who watch, and held for the judge.

use std::collections::HashMap;
use std::sync::Arc;

use kennel_model::api::{LiveEvent, ObjectiveView, RunSummary};
use kennel_model::frame::Frame;
use kennel_model::protocol::{AuditReport, FaultReport};
use kennel_model::{RunState, ValidExperiment, Verdict};
use tokio::sync::broadcast;

use super::phases::{FaultStep, Timeline};
use super::state::{is_loaded, may_follow};
use crate::judge::guards::{self, Gaps};
use crate::judge::totals::second_views;
use crate::judge::verdict::{Ending, judge};
use crate::judge::{Assessment, assess, effects};
use crate::recording::{Recording, StoredFrame};
use crate::store::{Store, StoreError};

/// A run's logbook.
pub(crate) struct Logbook {
    store: Store,
    live: broadcast::Sender<LiveEvent>,
    experiment: Arc<ValidExperiment>,
    summary: RunSummary,
    recording: Recording,
    timeline: Timeline,
    steps: Vec<FaultStep>,
    /// Latest moment of the load that is known, in milliseconds since its start.
    position_ms: u64,
    /// Frames so far by second and agent.
    parts: HashMap<(u32, String), u32>,
    gaps: Gaps,
    guards: Vec<ObjectiveView>,
    audits: Vec<AuditReport>,
    warnings: usize,
}

impl Logbook {
    /// The logbook of a queued run.
    pub(crate) fn new(
        store: Store,
        live: broadcast::Sender<LiveEvent>,
        experiment: Arc<ValidExperiment>,
        summary: RunSummary,
    ) -> Self {
        Self {
            timeline: Timeline::new(experiment.experiment(), []),
            store,
            live,
            experiment,
            summary,
            recording: Recording::default(),
            steps: Vec::new(),
            position_ms: 0,
            parts: HashMap::new(),
            gaps: Gaps::default(),
            guards: Vec::new(),
            audits: Vec::new(),
            warnings: 0,
        }
    }

    /// The run as it is now.
    pub(crate) fn summary(&self) -> &RunSummary {
        &self.summary
    }

    /// Whether the last planned second of load was measured.
    pub(crate) fn is_load_measured(&self) -> bool {
        self.recording.last().is_some_and(|last| last + 1 >= self.timeline.planned_seconds())
    }

    /// The first second that was not measured yet.
    pub(crate) fn awaited_second(&self) -> u32 {
        self.gaps.awaited()
    }

    /// Whether anything was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.recording.last().is_none()
    }

    fn tell(&self, event: LiveEvent) {
        // Nobody watching is no error.
        let _ = self.live.send(event);
    }

    /// Goes to another state, if that may follow.
    pub(crate) async fn enter(&mut self, state: RunState) -> Result<(), StoreError> {
        if may_follow(self.summary.state, state) {
            self.store.set_state(self.summary.id, state).await?;
            self.summary.state = state;
            self.tell(LiveEvent::State { run: self.summary.clone() });
        }
        Ok(())
    }

    /// The load starts now.
    pub(crate) async fn start(&mut self) -> Result<(), StoreError> {
        self.summary.started_at = Some(self.store.set_started(self.summary.id).await?);
        self.enter(self.timeline.phase_at(0).into()).await
    }

    async fn advance_to(&mut self, position_ms: u64) -> Result<(), StoreError> {
        self.position_ms = self.position_ms.max(position_ms);
        if is_loaded(self.summary.state) {
            self.enter(self.timeline.phase_at(self.position_ms).into()).await?;
        }
        Ok(())
    }

    /// Takes in a frame; the reason to halt, when a guard has one.
    pub(crate) async fn frame(&mut self, frame: &Frame) -> Result<Option<String>, StoreError> {
        let second = frame.second;
        let frame = StoredFrame::encode(frame);
        let part = self.parts.entry((second, frame.agent.clone())).or_default();
        let number = *part;
        *part += 1;
        let is_new = self.recording.second(second).is_none();
        let measured_s = self.recording.len() + u32::from(is_new);
        self.store.append_frame(self.summary.id, number, &frame, measured_s).await?;
        self.recording.add(frame);
        self.summary.measured_s = measured_s;
        if let Some(merged) = self.recording.second(second) {
            let seconds = second_views(second, merged).map_err(StoreError::broken("histogram"))?;
            self.tell(LiveEvent::Second { seconds });
        }
        let gap = self.gaps.measured(second);
        self.advance_to((u64::from(second) + 1) * 1_000 - 1).await?;
        if !is_loaded(self.summary.state) || second >= self.timeline.planned_seconds() {
            return Ok(None);
        }
        self.watch_guards(gap)
    }

    fn watch_guards(&mut self, gap: Option<u32>) -> Result<Option<String>, StoreError> {
        let Some(at) = self.recording.last() else {
            return Ok(None);
        };
        let guards = &self.experiment.experiment().guards;
        let views: Result<Vec<_>, _> =
            guards.iter().map(|guard| guards::evaluate(guard, &self.recording, at)).collect();
        self.guards = views.map_err(StoreError::broken("histogram"))?;
        for view in &self.guards {
            self.tell(LiveEvent::Guard { guard: view.clone() });
        }
        let breached = guards.iter().zip(&self.guards).find(|(_, view)| view.met == Some(false));
        let blind = gap.filter(|_| !guards.is_empty()).map(guards::blind);
        Ok(breached.map(|(guard, view)| guards::breach(guard, view)).or(blind))
    }

    /// Takes in a step of a fault.
    pub(crate) async fn fault(&mut self, report: FaultReport) -> Result<(), StoreError> {
        let FaultReport { fault, state, at_ms, detail, .. } = report;
        let step = FaultStep { fault, state, at_ms, detail };
        self.store.append_fault_step(self.summary.id, self.steps.len(), &step).await?;
        self.timeline.step(&step);
        self.steps.push(step);
        self.advance_to(at_ms).await?;
        let declared = &self.experiment.experiment().faults;
        let name = self.steps.last().map(|step| step.fault.as_str());
        if let Some(fault) = declared.iter().find(|fault| Some(fault.name.as_str()) == name) {
            self.tell(LiveEvent::Fault { fault: effects::fault_view(fault, &self.steps, &self.timeline) });
        }
        Ok(())
    }

    /// Takes in something worth telling.
    pub(crate) async fn warn(&mut self, message: String) -> Result<(), StoreError> {
        self.store.append_warning(self.summary.id, self.warnings, &message).await?;
        self.warnings += 1;
        self.tell(LiveEvent::Warning { message });
        Ok(())
    }

    /// Takes in what the audits found.
    pub(crate) async fn audited(&mut self, audits: Vec<AuditReport>) -> Result<(), StoreError> {
        self.store.keep_audits(self.summary.id, &audits).await?;
        self.audits = audits;
        Ok(())
    }

    /// Judges the run and closes the book.
    pub(crate) async fn finish(mut self, ending: Ending) -> Result<RunSummary, StoreError> {
        let (assessment, ending) = match self.assess().await {
            Ok(assessment) => (assessment, ending),
            Err(error) => {
                let why = vec![format!("the run could not be judged: {error}")];
                (Assessment::default(), Ending::Error { why })
            }
        };
        let (verdict, reasons) = judge(self.experiment.experiment(), &assessment, &self.audits, &ending);
        if self.guards.is_empty() {
            self.guards = assessment.guards;
        }
        self.store.keep_guards(self.summary.id, &self.guards).await?;
        self.close(verdict, reasons).await?;
        Ok(self.summary)
    }

    async fn assess(&mut self) -> Result<Assessment, StoreError> {
        let experiment = Arc::clone(&self.experiment);
        let (recording, steps) = (std::mem::take(&mut self.recording), self.steps.clone());
        // Decoding an hour of histograms takes seconds of CPU.
        let assessed = tokio::task::spawn_blocking(move || assess(experiment.experiment(), &recording, &steps)).await;
        assessed.map_err(StoreError::broken("recording"))?.map_err(StoreError::broken("histogram"))
    }

    async fn close(&mut self, verdict: Verdict, reasons: Vec<String>) -> Result<(), StoreError> {
        self.summary.ended_at = Some(self.store.finish_run(self.summary.id, verdict, &reasons).await?);
        self.summary.state = RunState::Judged;
        self.summary.verdict = Some(verdict);
        self.summary.reasons = reasons;
        self.tell(LiveEvent::State { run: self.summary.clone() });
        Ok(())
    }
}
