//! What waits for its turn: one run or suite at a time per target, moved-up ones first, then higher priority, then
//! first come.

mod view;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::QueueKind;
use kennel_model::fault::FaultKind;
use tokio::sync::watch;

use crate::happenings::{Happening, Happenings};

/// Something that wants targets for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The run, of an experiment or of a suite.
    pub(crate) id: RunId,
    /// Which of the two.
    pub(crate) kind: QueueKind,
    /// Its name, for people.
    pub(crate) name: String,
    /// Targets that it needs, all at once.
    pub(crate) targets: BTreeSet<String>,
    /// Faults that its agent must be able to inject.
    pub(crate) faults: BTreeSet<FaultKind>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// When it was handed in.
    pub(crate) created_at: Timestamp,
    /// Who or what handed it in.
    pub(crate) requested_by: String,
    /// How long it is expected to hold its targets; unknown where nothing tells.
    pub(crate) expected: Option<Duration>,
}

impl Job {
    /// A job of ordinary priority that asks for nothing of its agent; handed in now.
    pub(crate) fn new(id: RunId, kind: QueueKind, name: String, targets: BTreeSet<String>) -> Self {
        Self {
            id,
            kind,
            name,
            targets,
            faults: BTreeSet::new(),
            priority: 0,
            created_at: Timestamp::now(),
            requested_by: String::new(),
            expected: None,
        }
    }
}

/// The jobs that wait and those that have their targets.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    happenings: Happenings,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they go.
    waiting: Vec<Job>,
    /// Jobs that have their targets.
    seated: BTreeMap<RunId, Seat>,
    /// Runs that were moved to the front; the last one moved has the highest number. Kept until the run is over, so
    /// that a run that comes back after a restart finds its place.
    fronts: BTreeMap<RunId, i64>,
}

/// A job that has its targets.
#[derive(Debug)]
struct Seat {
    job: Job,
    since: Timestamp,
    /// It has its targets, but no agent yet.
    awaits_agent: bool,
}

impl State {
    fn rank(&self, job: &Job) -> (Reverse<i64>, Reverse<i32>, RunId) {
        (Reverse(self.fronts.get(&job.id).copied().unwrap_or_default()), Reverse(job.priority), job.id)
    }

    fn sort(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|job| self.rank(job));
        self.waiting = waiting;
    }

    /// The seated job that holds this target.
    fn holder(&self, target: &str) -> Option<&Seat> {
        self.seated.values().find(|seat| seat.job.targets.contains(target))
    }
}

/// Targets that belong to one run until this is dropped, however its holder ends.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Queue>,
    run: RunId,
}

impl Turn {
    /// Says that the run has its targets and waits for an agent, or no longer does.
    pub(crate) fn awaits_agent(&self, awaits: bool) {
        if let Some(seat) = self.queue.state().seated.get_mut(&self.run) {
            seat.awaits_agent = awaits;
        }
        self.queue.tell();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.queue.state();
            state.seated.remove(&self.run);
            state.fronts.remove(&self.run);
        }
        self.queue.tell();
    }
}

/// Takes a job off the list, whether it got its turn or gave up.
struct Waiting<'a> {
    queue: &'a Queue,
    run: RunId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting.retain(|job| job.id != self.run);
        self.queue.tell();
    }
}

impl Queue {
    /// A queue with the runs that were moved to the front before Kennel last stopped.
    pub(crate) fn new(happenings: Happenings, fronts: BTreeMap<RunId, i64>) -> Self {
        let state = State { fronts, ..State::default() };
        Self { state: Mutex::new(state), changed: watch::Sender::new(()), happenings }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_replace(());
        self.happenings.tell(Happening::QueueChanged);
    }

    /// Whether a run holds this target or waits for it.
    pub(crate) fn wants(&self, target: &str) -> bool {
        let state = self.state();
        state.holder(target).is_some() || state.waiting.iter().any(|job| job.targets.contains(target))
    }

    /// Waits until every target of the job is free and nobody who goes first wants one of them, and takes them.
    pub(crate) async fn turn(self: &Arc<Self>, job: Job) -> Turn {
        let mut changed = self.changed.subscribe();
        {
            let mut state = self.state();
            state.waiting.push(job.clone());
            state.sort();
        }
        let _waiting = Waiting { queue: self, run: job.id };
        self.happenings.tell(Happening::QueueChanged);
        loop {
            changed.borrow_and_update();
            if self.take(&job) {
                return Turn { queue: Arc::clone(self), run: job.id };
            }
            // The sender lives as long as `self`, so waiting cannot fail.
            let _ = changed.changed().await;
        }
    }

    fn take(&self, job: &Job) -> bool {
        let mut state = self.state();
        let mut ahead = state.waiting.iter().take_while(|other| other.id != job.id);
        let is_blocked = ahead.any(|other| !other.targets.is_disjoint(&job.targets))
            || job.targets.iter().any(|target| state.holder(target).is_some());
        if !is_blocked {
            let seat = Seat { job: job.clone(), since: Timestamp::now(), awaits_agent: false };
            state.seated.insert(job.id, seat);
        }
        !is_blocked
    }

    /// Moves a waiting run before all others; answers its new rank, or nothing when it does not wait.
    pub(crate) fn move_to_front(&self, run: RunId) -> Option<i64> {
        let rank = {
            let mut state = self.state();
            if !state.waiting.iter().any(|job| job.id == run) {
                return None;
            }
            let rank = state.fronts.values().max().copied().unwrap_or_default() + 1;
            state.fronts.insert(run, rank);
            state.sort();
            rank
        };
        self.tell();
        Some(rank)
    }

    /// Whether a run waits for its targets or for an agent.
    pub(crate) fn waiting(&self, run: RunId) -> Option<Job> {
        let state = self.state();
        let waiting = state.waiting.iter().find(|job| job.id == run).cloned();
        waiting.or_else(|| state.seated.get(&run).filter(|seat| seat.awaits_agent).map(|seat| seat.job.clone()))
    }
}
