//! A run's logbook: everything that happens is kept in the store, written into the run's account, and told to those who
//! watch.

use std::collections::HashMap;
use std::sync::Arc;

use kennel_model::api::{LiveEvent, RunSummary};
use kennel_model::frame::Frame;
use kennel_model::protocol::{AuditReport, FaultReport};
use kennel_model::{RunId, RunState, ValidExperiment, Verdict};
use tokio::sync::broadcast;

use super::account::OpenAccount;
use super::phases::{FaultStep, Timeline};
use super::state::{is_loaded, may_follow};
use crate::judge::guards::{self, Gaps};
use crate::judge::verdict::{Ending, judge};
use crate::judge::{Assessment, effects};
use crate::reading;
use crate::recording::{Added, StoredFrame, Stretch};
use crate::store::{Judgement, Store, StoreError};

/// A run's logbook.
pub(crate) struct Logbook {
    store: Store,
    live: broadcast::Sender<LiveEvent>,
    run: RunId,
    experiment: Arc<ValidExperiment>,
    /// Written after the store, so nobody reads here what a crash could take back.
    account: OpenAccount,
    planned_s: u32,
    /// Latest moment of the load that is known, in milliseconds since its start.
    position_ms: u64,
    /// Frames so far by second and agent.
    parts: HashMap<(u32, String), u32>,
    gaps: Gaps,
}

impl Logbook {
    /// The logbook of a queued run.
    pub(crate) fn new(store: Store, live: broadcast::Sender<LiveEvent>, account: OpenAccount) -> Self {
        let (run, experiment) = account.look(|account| (account.summary.id, Arc::clone(&account.experiment)));
        Self {
            store,
            live,
            run,
            planned_s: Timeline::new(experiment.experiment(), []).planned_seconds(),
            experiment,
            account,
            position_ms: 0,
            parts: HashMap::new(),
            gaps: Gaps::default(),
        }
    }

    /// The run's identity.
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// Seconds of load measured so far.
    pub(crate) fn measured_s(&self) -> u32 {
        self.account.look(|account| account.summary.measured_s)
    }

    fn last(&self) -> Option<u32> {
        self.account.look(|account| account.recording.last())
    }

    /// Whether the last planned second of load was measured.
    pub(crate) fn is_load_measured(&self) -> bool {
        self.last().is_some_and(|last| last.saturating_add(1) >= self.planned_s)
    }

    /// The first second that was not measured yet.
    pub(crate) fn awaited_second(&self) -> u32 {
        self.gaps.awaited()
    }

    /// Whether nothing was measured yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.last().is_none()
    }

    fn tell(&self, event: LiveEvent) {
        // Nobody watching is no error.
        let _ = self.live.send(event);
    }

    fn state(&self) -> RunState {
        self.account.look(|account| account.summary.state)
    }

    /// Goes to another state, if that may follow.
    pub(crate) async fn enter(&mut self, state: RunState) -> Result<(), StoreError> {
        if may_follow(self.state(), state) {
            self.store.set_state(self.run, state).await?;
            let run = self.account.write(|account| {
                account.summary.state = state;
                account.summary.clone()
            });
            self.tell(LiveEvent::State { run });
        }
        Ok(())
    }

    /// The load starts now.
    pub(crate) async fn start(&mut self) -> Result<(), StoreError> {
        let started_at = self.store.set_started(self.run).await?;
        let phase = self.account.write(|account| {
            account.summary.started_at = Some(started_at);
            account.timeline.phase_at(0)
        });
        self.enter(phase.into()).await
    }

    async fn advance_to(&mut self, position_ms: u64) -> Result<(), StoreError> {
        self.position_ms = self.position_ms.max(position_ms);
        if is_loaded(self.state()) {
            let phase = self.account.look(|account| account.timeline.phase_at(self.position_ms));
            self.enter(phase.into()).await?;
        }
        Ok(())
    }

    /// Takes in a frame; the reason to halt, when a guard has one.
    pub(crate) async fn frame(&mut self, frame: Frame) -> Result<Option<String>, StoreError> {
        let second = frame.second;
        let stored = StoredFrame::encode(&frame);
        let part = self.parts.entry((second, stored.agent.clone())).or_default();
        let number = *part;
        *part += 1;
        let measured_s = self.account.look(|account| account.recording.measured_with(second));
        self.store.append_frame(self.run, number, &stored, measured_s).await?;
        let frame = Stretch::from(frame);
        let added = self.account.write(|account| {
            account.summary.measured_s = measured_s;
            account.recording.add(second, frame, &account.timeline)
        });
        let seconds = match added.map_err(StoreError::broken("histogram"))? {
            Added::Shown(seconds) => seconds,
            Added::Late => {
                let whole = reading::second(&self.store, self.run, second).await?;
                self.account.write(|account| account.recording.show(second, &whole))
            }
        };
        self.tell(LiveEvent::Second { seconds });
        let gap = self.gaps.measured(second);
        self.advance_to((u64::from(second) + 1) * 1_000 - 1).await?;
        if !is_loaded(self.state()) || second >= self.planned_s {
            return Ok(None);
        }
        self.watch_guards(gap)
    }

    fn watch_guards(&mut self, gap: Option<u32>) -> Result<Option<String>, StoreError> {
        let Some(at) = self.last() else {
            return Ok(None);
        };
        let guards = &self.experiment.experiment().guards;
        let evaluated: Result<Vec<_>, _> = self
            .account
            .look(|account| guards.iter().map(|guard| guards::evaluate(guard, &account.recording, at)).collect());
        let views = evaluated.map_err(StoreError::broken("histogram"))?;
        self.account.write(|account| account.guards.clone_from(&views));
        for guard in &views {
            self.tell(LiveEvent::Guard { guard: guard.clone() });
        }
        let breached = guards.iter().zip(&views).find(|(_, view)| view.met == Some(false));
        let blind = gap.filter(|_| !guards.is_empty()).map(guards::blind);
        Ok(breached.map(|(guard, view)| guards::breach(guard, view)).or(blind))
    }

    /// Takes in a step of a fault.
    pub(crate) async fn fault(&mut self, report: FaultReport) -> Result<(), StoreError> {
        let FaultReport { fault, state, at_ms, detail, .. } = report;
        let step = FaultStep { fault, state, at_ms, detail };
        let (position, before) = self.account.look(|account| (account.steps.len(), account.timeline.clone()));
        self.store.append_fault_step(self.run, position, &step).await?;
        let mut timeline = before.clone();
        timeline.step(&step);
        let is_revised = self.account.look(|account| account.recording.is_revised(&before, &timeline));
        let anew = if is_revised {
            tracing::warn!(run = %self.run, fault = step.fault, at_ms, "a fault was reported late: summing up anew");
            Some(reading::recording(&self.store, self.run, &self.experiment, &timeline).await?)
        } else {
            None
        };
        let declared = &self.experiment.experiment().faults;
        let view = self.account.write(|account| {
            account.recording = anew.unwrap_or_else(|| std::mem::take(&mut account.recording));
            account.timeline = timeline;
            account.steps.push(step.clone());
            let fault = declared.iter().find(|fault| fault.name == step.fault)?;
            Some(effects::fault_view(fault, &account.steps, &account.timeline))
        });
        self.advance_to(at_ms).await?;
        if let Some(fault) = view {
            self.tell(LiveEvent::Fault { fault });
        }
        Ok(())
    }

    /// Takes in something worth telling.
    pub(crate) async fn warn(&mut self, message: String) -> Result<(), StoreError> {
        let position = self.account.look(|account| account.warnings.len());
        self.store.append_warning(self.run, position, &message).await?;
        self.account.write(|account| account.warnings.push(message.clone()));
        self.tell(LiveEvent::Warning { message });
        Ok(())
    }

    /// Takes in what the audits found.
    pub(crate) async fn audited(&mut self, audits: Vec<AuditReport>) -> Result<(), StoreError> {
        self.store.keep_audits(self.run, &audits).await?;
        self.account.write(|account| account.audits = audits);
        Ok(())
    }

    /// Judges the run and closes the book.
    pub(crate) async fn finish(self, ending: Ending) -> Result<RunSummary, StoreError> {
        let mut account = self.account.copy();
        let assessed = tokio::task::spawn_blocking(move || (account.assess(), account)).await;
        let (assessed, returned) = assessed.map_err(StoreError::broken("recording"))?;
        account = returned;
        let is_assessed = assessed.is_ok();
        let (assessment, ending) = match assessed {
            Ok(assessment) => (assessment, ending),
            Err(error) => {
                let why = vec![format!("the run could not be judged: {error}")];
                (Assessment::default(), Ending::Error { why })
            }
        };
        let (verdict, reasons) = judge(self.experiment.experiment(), &assessment, &account.audits, &ending);
        if account.guards.is_empty() {
            account.guards.clone_from(&assessment.guards);
        }
        self.store.keep_guards(self.run, &account.guards).await?;
        account.summary = ended(account.summary, verdict, reasons);
        let detail = account.detail(assessment);
        let judgement = Judgement { detail: &detail, series: account.recording.series() };
        // What could not be put in order is put in order when it is read.
        self.store.finish_run(&detail.summary, is_assessed.then_some(judgement)).await?;
        self.account.write(|open| {
            open.guards = account.guards;
            open.summary = account.summary;
        });
        self.tell(LiveEvent::State { run: detail.summary.clone() });
        Ok(detail.summary)
    }
}

/// The summary of a run that ends now.
fn ended(summary: RunSummary, verdict: Verdict, reasons: Vec<String>) -> RunSummary {
    let ended_at = Some(crate::store::now());
    RunSummary { state: RunState::Judged, verdict: Some(verdict), reasons, ended_at, ..summary }
}

#[cfg(test)]
mod tests;
