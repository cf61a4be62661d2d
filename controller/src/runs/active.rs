//! The runs that are not over: how to stop each of them, how to watch it and what is known of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kennel_model::RunId;
use kennel_model::api::LiveEvent;
use tokio::sync::{broadcast, watch};

use super::account::OpenAccount;

/// Events a slow reader may lag behind before it misses some.
const LIVE_BUFFER: usize = 256;

/// Why a run is to stop early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody asked for it.
    Person,
    /// Kennel itself ends.
    Closing,
}

/// What a driver holds of its run's handle.
#[derive(Debug)]
pub(crate) struct Reins {
    pub(crate) stop: watch::Receiver<Option<Stop>>,
    pub(crate) live: broadcast::Sender<LiveEvent>,
}

#[derive(Debug)]
struct Handle {
    stop: watch::Sender<Option<Stop>>,
    live: broadcast::Sender<LiveEvent>,
    account: OpenAccount,
}

/// The runs that are not over.
#[derive(Debug)]
pub(crate) struct ActiveRuns {
    runs: Mutex<BTreeMap<RunId, Handle>>,
    count: watch::Sender<usize>,
}

impl Default for ActiveRuns {
    fn default() -> Self {
        Self { runs: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl ActiveRuns {
    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, Handle>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a run.
    pub(crate) fn add(&self, run: RunId, account: OpenAccount) -> Reins {
        let (stop, stopped) = watch::channel(None);
        let (live, _) = broadcast::channel(LIVE_BUFFER);
        let mut runs = self.runs();
        runs.insert(run, Handle { stop, live: live.clone(), account });
        self.count.send_replace(runs.len());
        Reins { stop: stopped, live }
    }

    /// Lets go of a run that is over; its live streams end.
    pub(crate) fn remove(&self, run: RunId) {
        let mut runs = self.runs();
        runs.remove(&run);
        self.count.send_replace(runs.len());
    }

    /// Tells a run to stop; false when it is not active. A first reason stands.
    pub(crate) fn stop(&self, run: RunId, why: Stop) -> bool {
        let runs = self.runs();
        let Some(handle) = runs.get(&run) else {
            return false;
        };
        handle.stop.send_if_modified(|stop| stop.is_none() && stop.replace(why).is_none());
        true
    }

    /// Tells every run to stop.
    pub(crate) fn stop_all(&self, why: Stop) -> Vec<RunId> {
        let all: Vec<RunId> = self.runs().keys().copied().collect();
        all.into_iter().filter(|run| self.stop(*run, why)).collect()
    }

    /// Events of a run from now on, while it is active.
    pub(crate) fn watch(&self, run: RunId) -> Option<broadcast::Receiver<LiveEvent>> {
        self.runs().get(&run).map(|handle| handle.live.subscribe())
    }

    /// The account of a run, while it is active.
    pub(crate) fn account(&self, run: RunId) -> Option<OpenAccount> {
        self.runs().get(&run).map(|handle| handle.account.clone())
    }

    /// The active runs, oldest first.
    pub(crate) fn ids(&self) -> Vec<RunId> {
        self.runs().keys().copied().collect()
    }

    /// Resolves when no run is active.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}
