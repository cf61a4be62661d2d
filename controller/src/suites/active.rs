//! The runs of suites that are not over: how to cancel each of them, and how to watch it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kennel_model::RunId;
use kennel_model::api::SuiteEvent;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Events a slow reader may lag behind before it misses some.
const LIVE_BUFFER: usize = 1024;

/// Why a run of a suite is to end early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// Somebody asked for it.
    Person(String),
    /// Kennel itself ends.
    Closing,
}

/// What a driver holds of its run.
#[derive(Debug, Clone)]
pub(crate) struct Reins {
    /// Why it is to end early, once it is.
    pub(crate) cancel: watch::Receiver<Option<Cancel>>,
    /// Cancelled when steps are to end; the tear-down still runs.
    pub(crate) steps: CancellationToken,
    /// Cancelled when the tear-down is to end too.
    pub(crate) everything: CancellationToken,
    pub(crate) live: broadcast::Sender<SuiteEvent>,
}

#[derive(Debug)]
struct Handle {
    cancel: watch::Sender<Option<Cancel>>,
    steps: CancellationToken,
    everything: CancellationToken,
    live: broadcast::Sender<SuiteEvent>,
}

/// The runs of suites that are not over.
#[derive(Debug, Default)]
pub(crate) struct ActiveSuites {
    runs: Mutex<BTreeMap<RunId, Handle>>,
}

impl ActiveSuites {
    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, Handle>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a run.
    pub(crate) fn add(&self, run: RunId) -> Reins {
        let (cancel, cancelled) = watch::channel(None);
        let (live, _) = broadcast::channel(LIVE_BUFFER);
        let (steps, everything) = (CancellationToken::new(), CancellationToken::new());
        let reins =
            Reins { cancel: cancelled, steps: steps.clone(), everything: everything.clone(), live: live.clone() };
        self.runs().insert(run, Handle { cancel, steps, everything, live });
        reins
    }

    /// Lets go of a run that is over; its live streams end.
    pub(crate) fn remove(&self, run: RunId) {
        self.runs().remove(&run);
    }

    /// Tells a run to end; a second time its tear-down too. False when it is not active. A first reason stands.
    pub(crate) fn cancel(&self, run: RunId, why: Cancel) -> bool {
        let runs = self.runs();
        let Some(handle) = runs.get(&run) else { return false };
        handle.end(why);
        true
    }

    /// Tells every run to end.
    pub(crate) fn close(&self) {
        for handle in self.runs().values() {
            if !handle.steps.is_cancelled() {
                handle.end(Cancel::Closing);
            }
        }
    }

    /// What happens in a run from now on, while it is active.
    pub(crate) fn watch(&self, run: RunId) -> Option<broadcast::Receiver<SuiteEvent>> {
        self.runs().get(&run).map(|handle| handle.live.subscribe())
    }
}

impl Handle {
    fn end(&self, why: Cancel) {
        if self.steps.is_cancelled() {
            self.everything.cancel();
            return;
        }
        self.cancel.send_if_modified(|cancel| {
            let is_first = cancel.is_none();
            cancel.get_or_insert(why);
            is_first
        });
        self.steps.cancel();
    }
}
