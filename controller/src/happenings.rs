//! What happens in a controller, told to whoever listens within it: pages, notifications, the queue.

use kennel_model::RunId;
use kennel_model::api::FileKind;
use tokio::sync::broadcast;

/// Happenings that a slow listener may lag behind before it misses some.
const BUFFER: usize = 256;

/// Something that happened. What it means is read from the store: a listener that missed some can catch up there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// An experiment's run went to another state.
    RunChanged(RunId),
    /// An experiment's run is judged.
    RunEnded(RunId),
    /// A suite's run went to another state.
    SuiteRunChanged(RunId),
    /// A suite's run is over, and its results are stored.
    SuiteRunEnded(RunId),
    /// What waits changed.
    QueueChanged,
    /// A schedule or one of its occurrences changed.
    SchedulesChanged,
    /// A file was saved or removed.
    FileChanged(FileKind, String),
}

/// Where happenings are told.
#[derive(Debug, Clone)]
pub(crate) struct Happenings {
    sender: broadcast::Sender<Happening>,
}

impl Default for Happenings {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BUFFER) }
    }
}

impl Happenings {
    /// Tells everybody who listens.
    pub(crate) fn tell(&self, happening: Happening) {
        // Nobody listening is no failure.
        let _ = self.sender.send(happening);
    }

    /// Happenings from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Happening> {
        self.sender.subscribe()
    }
}
