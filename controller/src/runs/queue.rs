//! What waits for its turn: one run or suite at a time per target, higher priority first, then first come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kennel_model::RunId;
use tokio::sync::watch;

/// Something that wants targets for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The run, of an experiment or of a suite.
    pub(crate) id: RunId,
    /// Its name, for people.
    pub(crate) name: String,
    /// Targets that it needs, all at once.
    pub(crate) targets: BTreeSet<String>,
    /// Higher goes first.
    pub(crate) priority: i32,
}

/// The jobs that wait and the targets in use.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they go.
    waiting: Vec<Job>,
    /// Targets in use, with the run that has them.
    held: BTreeMap<String, RunId>,
}

/// Targets that belong to one run until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Queue>,
    job: Job,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.state().held.retain(|_, holder| *holder != self.job.id);
        self.queue.changed.send_replace(());
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
        self.queue.changed.send_replace(());
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every target of the job is free and nobody who goes first wants one of them, and takes them.
    pub(crate) async fn turn(self: &Arc<Self>, job: Job) -> Turn {
        let mut changed = self.changed.subscribe();
        {
            let mut state = self.state();
            let at = state.waiting.partition_point(|other| other.priority >= job.priority);
            state.waiting.insert(at, job.clone());
        }
        let _waiting = Waiting { queue: self, run: job.id };
        loop {
            changed.borrow_and_update();
            if self.take(&job) {
                return Turn { queue: Arc::clone(self), job };
            }
            // The sender lives as long as `self`, so waiting cannot fail.
            let _ = changed.changed().await;
        }
    }

    fn take(&self, job: &Job) -> bool {
        let mut state = self.state();
        let mut ahead = state.waiting.iter().take_while(|other| other.id != job.id);
        let is_blocked = ahead.any(|other| !other.targets.is_disjoint(&job.targets))
            || job.targets.iter().any(|target| state.held.contains_key(target));
        if !is_blocked {
            state.held.extend(job.targets.iter().map(|target| (target.clone(), job.id)));
        }
        !is_blocked
    }
}
