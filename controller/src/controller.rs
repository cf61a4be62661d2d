//! The controller: takes experiments, starts and halts runs, and answers questions about them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use kennel_model::api::{
    ComparisonView, LibraryEntry, LiveEvent, RunDetail, RunSummary, SeriesView, StartRun,
};
use kennel_model::document::Problems;
use kennel_model::experiment::Surroundings;
use kennel_model::protocol::{FromAgent, ToAgent};
use kennel_model::{RunId, ValidExperiment};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

/// What a controller needs to know from outside.
#[derive(Clone)]
pub struct ControllerConfig {
    /// Directory of the store; made if it is missing.
    pub data_dir: PathBuf,
    /// Declared targets and compiled scenarios.
    pub surroundings: Arc<dyn Surroundings + Send + Sync>,
    /// Experiments that ship with Kennel or lie in its data directory.
    pub library: Vec<LibraryEntry>,
    /// How long an agent keeps load and faults alive without hearing from here; also how long an agent may be silent
    /// while its load is on. 5 s unless there is a reason.
    pub lease: Duration,
}

/// The controller could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another Kennel works in the same data directory.
    #[error("another Kennel is running on the data directory {}; stop it or use another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The experiment is not valid.
    #[error("{0}")]
    Invalid(Problems),
    /// Kennel is shutting down.
    #[error("Kennel is shutting down and starts no more runs")]
    Closing,
    /// The run could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run could not be halted.
#[derive(Debug, thiserror::Error)]
pub enum HaltError {
    /// There is no such run.
    #[error("there is no run {run}")]
    NotFound {
        /// Its identity.
        run: RunId,
    },
    /// The run is over.
    #[error("run {run} is already over")]
    AlreadyOver {
        /// Its identity.
        run: RunId,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A text names no run, or not one alone.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Nothing matches.
    #[error("there is no run `{text}`; a run is named by its id, the id's beginning or end, `last` or `last-1`")]
    NotFound {
        /// What was asked for.
        text: String,
    },
    /// Several runs match.
    #[error("`{text}` could be any of {} runs; give more of the id", matches.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Some of those that match, newest first.
        matches: Vec<RunId>,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts, watches, keeps and judges runs. Cheap to clone; all clones are the same controller.
#[derive(Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

struct Inner {
    library: Vec<LibraryEntry>,
}

impl Controller {
    /// Opens the store in the data directory and brings it up to date. Runs that were not over when Kennel last
    /// stopped are marked as interrupted; their frames are kept. Cancelling `shutdown` halts every run.
    ///
    /// # Errors
    /// When the data directory or the store cannot be used, or another Kennel uses it.
    pub async fn open(_config: ControllerConfig, _shutdown: CancellationToken) -> Result<Self, ControllerError> {
        todo!()
    }

    /// Takes an agent in: it is given runs from now on, until its link closes.
    pub async fn attach(&self, _to_agent: mpsc::Sender<ToAgent>, _from_agent: mpsc::Receiver<FromAgent>) {
        todo!()
    }

    /// Reads and checks an experiment whole.
    ///
    /// # Errors
    /// Every problem in it.
    pub async fn validate(&self, _request: &StartRun) -> Result<ValidExperiment, Problems> {
        todo!()
    }

    /// Stores a run and carries it out as soon as its target and an agent are free.
    ///
    /// # Errors
    /// When the experiment is not valid, cannot be stored, or Kennel is shutting down.
    pub async fn start_run(&self, _request: StartRun) -> Result<RunId, StartError> {
        todo!()
    }

    /// Tells a run to halt: load off, faults reverted. Returns at once; the run is over when it is judged.
    ///
    /// # Errors
    /// When there is no such run or it is over.
    pub async fn halt(&self, _run: RunId) -> Result<(), HaltError> {
        todo!()
    }

    /// Tells every run to halt, and says which those are.
    pub async fn halt_all(&self) -> Vec<RunId> {
        todo!()
    }

    /// Runs, newest first; with `before`, those that are older than that one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self, _limit: u32, _before: Option<RunId>) -> Result<Vec<RunSummary>, StoreError> {
        todo!()
    }

    /// Everything known of a run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn run(&self, _id: RunId) -> Result<Option<RunDetail>, StoreError> {
        todo!()
    }

    /// Finds a run by its id, the id's unique beginning or end, `last`, or `last-N`.
    ///
    /// # Errors
    /// When nothing matches, several do, or the store cannot be read.
    pub async fn find_run(&self, _text: &str) -> Result<RunId, FindError> {
        todo!()
    }

    /// A run second by second, per request name and for `all`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn series(&self, _id: RunId) -> Result<Option<SeriesView>, StoreError> {
        todo!()
    }

    /// What happens in a run from now on; ends when the run is over (at once if it is). Whoever reads too slowly
    /// misses events.
    pub fn live(&self, _id: RunId) -> impl Stream<Item = LiveEvent> + Send + 'static + use<> {
        futures::stream::empty()
    }

    /// Two runs side by side.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn compare(&self, _a: RunId, _b: RunId) -> Result<Option<ComparisonView>, StoreError> {
        todo!()
    }

    /// Experiments known by name.
    #[must_use]
    pub fn library(&self) -> &[LibraryEntry] {
        &self.inner.library
    }

    /// Resolves when no run is active or queued.
    pub async fn idle(&self) {
        todo!()
    }

    /// Halts what runs, waits until everything has ended, and closes the store.
    pub async fn close(&self) {
        todo!()
    }
}
