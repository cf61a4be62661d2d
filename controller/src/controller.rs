//! The controller: takes experiments, starts and halts runs, and answers questions about them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kennel_model::api::{
    ComparisonView, FileKind, LibraryEntry, LiveEvent, QueueKind, RunDetail, RunSummary, SeriesView, StartRun,
};
use kennel_model::document::Problems;
use kennel_model::experiment::{self, Surroundings};
use kennel_model::protocol::{FromAgent, ToAgent};
use kennel_model::{RunId, ValidExperiment};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::Caller;
use crate::happenings::{Happening, Happenings};
use crate::judge::compare::compare;
use crate::notifications::Notifier;
use crate::people::{KnownUrl, People, PublicUrl};
use crate::reading;
use crate::results::inbox;
use crate::run_names::{self, Named};
use crate::runs::account::{Account, OpenAccount};
use crate::runs::active::{ActiveRuns, Stop};
use crate::runs::agents::Agents;
use crate::runs::driver::{Deadlines, Driver};
use crate::runs::logbook::Logbook;
use crate::runs::queue::{Job, Queue};
use crate::schedules::{Clock, Schedules, scheduler};
use crate::store::{RunFilter, Store, StoreError};
use crate::suites::active::ActiveSuites;
use crate::suites::summaries::Summaries;
use crate::surroundings::KeptTargets;

/// What a controller needs to know from outside.
#[derive(Clone)]
pub struct ControllerConfig {
    /// Directory of the store; made if it is missing.
    pub data_dir: PathBuf,
    /// Declared targets and compiled scenarios.
    pub surroundings: Arc<dyn Surroundings + Send + Sync>,
    /// Experiments that ship with Kennel or lie in its data directory.
    pub library: Vec<LibraryEntry>,
    /// Suites that ship with Kennel.
    pub suites: Vec<LibraryEntry>,
    /// What browsers call this Kennel, where that is given at start; it then cannot be changed in the browser.
    pub public_url: Option<PublicUrl>,
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

/// How long a run waits while no attached agent could ever take it.
const AGENT_PATIENCE: Duration = Duration::from_secs(60);

/// Starts, watches, keeps and judges runs. Cheap to clone; all clones are the same controller.
#[derive(Clone)]
pub struct Controller {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ControllerConfig,
    pub(crate) store: Store,
    pub(crate) agents: Arc<Agents>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) happenings: Happenings,
    pub(crate) schedules: Schedules,
    /// The surroundings in `config`, to be told of changed targets.
    pub(crate) kept_targets: Arc<KeptTargets>,
    /// Wakes the task that tells people when something that it works with was changed.
    pub(crate) wake_notifier: Arc<Notify>,
    pub(crate) active: ActiveRuns,
    pub(crate) people: People,
    pub(crate) public_url: Arc<KnownUrl>,
    pub(crate) suites: ActiveSuites,
    pub(crate) summaries: Summaries,
    /// Cancelled when no new run may start.
    pub(crate) shutdown: CancellationToken,
    /// Cancelled when no run is left, so that agents are no longer needed.
    unattended: CancellationToken,
    pub(crate) drivers: TaskTracker,
    links: TaskTracker,
    /// Held as long as this controller owns the data directory.
    _lock: File,
}

impl Controller {
    /// Opens the store in the data directory and brings it up to date. Runs that were not over when Kennel last
    /// stopped are marked as interrupted; their frames are kept. Cancelling `shutdown` halts every run.
    ///
    /// # Errors
    /// When the data directory or the store cannot be used, or another Kennel uses it.
    pub async fn open(config: ControllerConfig, shutdown: CancellationToken) -> Result<Self, ControllerError> {
        Self::open_by(config, shutdown, Clock::system()).await
    }

    /// As [`Self::open`], with a clock by which schedules go.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_by(
        mut config: ControllerConfig,
        shutdown: CancellationToken,
        clock: Clock,
    ) -> Result<Self, ControllerError> {
        let lock = own(&config.data_dir)?;
        let store = Store::open(&Store::file_in(&config.data_dir)).await?;
        for run in store.mark_interrupted().await? {
            tracing::warn!(%run, "a run was interrupted when Kennel last stopped");
        }
        let targets = store.files(FileKind::Target).await?;
        let kept_targets = Arc::new(KeptTargets::new(Arc::clone(&config.surroundings), &targets));
        config.surroundings = Arc::clone(&kept_targets) as Arc<dyn Surroundings + Send + Sync>;
        let happenings = Happenings::default();
        let queue = Queue::new(happenings.clone(), store.queue_fronts().await?);
        let people = People::new(store.has_admin().await?);
        let public_url = KnownUrl::new(config.public_url.clone(), store.public_url().await?.as_deref());
        let inner = Arc::new(Inner {
            config,
            kept_targets,
            store,
            agents: Arc::new(Agents::new(AGENT_PATIENCE)),
            queue: Arc::new(queue),
            happenings,
            schedules: Schedules::new(clock),
            wake_notifier: Arc::default(),
            people,
            public_url: Arc::new(public_url),
            active: ActiveRuns::default(),
            suites: ActiveSuites::default(),
            summaries: Summaries::default(),
            shutdown,
            unattended: CancellationToken::new(),
            drivers: TaskTracker::new(),
            links: TaskTracker::new(),
            _lock: lock,
        });
        // Weak, as below.
        inner.links.spawn(inbox::watch(Arc::downgrade(&inner), inner.shutdown.clone()));
        // Weak: this task must not keep the data directory owned once every controller is dropped.
        let (shutdown, unattended) = (inner.shutdown.clone(), inner.unattended.clone());
        let weak = Arc::downgrade(&inner);
        inner.links.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {
                    if let Some(inner) = weak.upgrade() {
                        inner.suites.close();
                        inner.active.stop_all(Stop::Closing);
                    }
                }
                () = unattended.cancelled() => {}
            }
        });
        let notifier =
            Notifier::new(inner.store.clone(), Arc::clone(&inner.wake_notifier), Arc::clone(&inner.public_url));
        inner.links.spawn(notifier.work(inner.happenings.listen(), inner.unattended.clone()));
        let controller = Self { inner };
        controller.resume_suites().await?;
        let inner = &controller.inner;
        let (weak, happenings) = (Arc::downgrade(inner), inner.happenings.listen());
        inner.links.spawn(scheduler::work(weak, happenings, inner.shutdown.clone()));
        Ok(controller)
    }

    /// Takes an agent in: it is given runs from now on, until its link closes.
    pub async fn attach(&self, to_agent: mpsc::Sender<ToAgent>, from_agent: mpsc::Receiver<FromAgent>) {
        let heartbeat = (self.inner.config.lease / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let (agents, unattended) = (Arc::clone(&self.inner.agents), self.inner.unattended.clone());
        self.inner.links.spawn(async move {
            tokio::select! {
                () = agents.serve(to_agent, from_agent, heartbeat) => tracing::info!("an agent's link closed"),
                () = unattended.cancelled() => {}
            }
        });
    }

    /// What happens from now on.
    pub fn happenings(&self) -> broadcast::Receiver<Happening> {
        self.inner.happenings.listen()
    }

    /// Notes in the audit log that somebody did something.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn record(&self, caller: &Caller, action: &str, subject: &str, detail: &str) -> Result<(), StoreError> {
        self.inner.store.record_act(&caller.name, action, subject, detail).await
    }

    /// Names of the attached agents.
    #[must_use]
    pub fn agents(&self) -> Vec<String> {
        self.inner.agents.names()
    }

    /// Runs that are not over, oldest first.
    #[must_use]
    pub fn active_runs(&self) -> Vec<RunId> {
        self.inner.active.ids()
    }

    /// Reads and checks an experiment whole.
    ///
    /// # Errors
    /// Every problem in it.
    pub async fn validate(&self, request: &StartRun) -> Result<ValidExperiment, Problems> {
        let file = request.file.as_deref().unwrap_or("experiment.yaml");
        experiment::parse(file, &request.experiment, &*self.inner.config.surroundings)
    }

    /// Stores a run and carries it out as soon as its target and an agent are free.
    ///
    /// # Errors
    /// When the experiment is not valid, cannot be stored, or Kennel is shutting down.
    pub async fn start_run(&self, request: StartRun) -> Result<RunId, StartError> {
        self.start_run_as(RunId::new(), request, "", 0).await
    }

    /// As [`Self::start_run`], under an identity chosen beforehand, for somebody, with a priority in the queue.
    ///
    /// # Errors
    /// As [`Self::start_run`].
    pub async fn start_run_as(
        &self,
        id: RunId,
        request: StartRun,
        requested_by: &str,
        priority: i32,
    ) -> Result<RunId, StartError> {
        let experiment = self.validate(&request).await.map_err(StartError::Invalid)?;
        let targets = [experiment.target().name.clone()].into();
        let job = Job {
            faults: experiment.experiment().faults.iter().map(|fault| fault.kind).collect(),
            priority,
            requested_by: requested_by.to_owned(),
            expected: Some(experiment.experiment().load.duration()),
            ..Job::new(id, QueueKind::Experiment, experiment.experiment().name.clone(), targets)
        };
        self.launch(id, experiment, request.raw_log, Some(job), Vec::new()).await
    }

    /// Stores a run for a step of a suite that has the target already, and carries it out as soon as an agent with these
    /// labels is free.
    pub(crate) async fn start_within_suite(
        &self,
        experiment: ValidExperiment,
        labels: Vec<String>,
    ) -> Result<RunId, StartError> {
        self.launch(RunId::new(), experiment, None, None, labels).await
    }

    async fn launch(
        &self,
        id: RunId,
        experiment: ValidExperiment,
        raw_log: Option<String>,
        job: Option<Job>,
        labels: Vec<String>,
    ) -> Result<RunId, StartError> {
        let experiment = Arc::new(experiment);
        if self.inner.shutdown.is_cancelled() {
            return Err(StartError::Closing);
        }
        let summary = self.inner.store.insert_run(id, &experiment).await?;
        let account = OpenAccount::new(Account::new(Arc::clone(&experiment), summary));
        let reins = self.inner.active.add(id, account.clone());
        // A shutdown that came while the run was stored has not seen it among the active ones.
        if self.inner.shutdown.is_cancelled() {
            self.inner.active.stop(id, Stop::Closing);
        }
        let driver = Driver {
            agents: Arc::clone(&self.inner.agents),
            queue: job.map(|job| (Arc::clone(&self.inner.queue), job)),
            labels,
            logbook: Logbook::new(self.inner.store.clone(), reins.live, account),
            experiment,
            raw_log,
            lease: self.inner.config.lease,
            deadlines: Deadlines::new(self.inner.config.lease),
            stop: reins.stop,
        };
        let ended = Ended { inner: Arc::clone(&self.inner), run: id };
        self.inner.drivers.spawn(async move {
            Box::pin(driver.drive()).await;
            drop(ended);
        });
        Ok(id)
    }

    /// Tells a run to halt: load off, faults reverted. Returns at once; the run is over when it is judged.
    ///
    /// # Errors
    /// When there is no such run or it is over.
    pub async fn halt(&self, run: RunId) -> Result<(), HaltError> {
        let summary = self.summary(run).await?.ok_or(HaltError::NotFound { run })?;
        if summary.state.is_over() || !self.inner.active.stop(run, Stop::Person) {
            return Err(HaltError::AlreadyOver { run });
        }
        Ok(())
    }

    /// Tells every run to halt, and says which those are.
    pub async fn halt_all(&self) -> Vec<RunId> {
        self.inner.active.stop_all(Stop::Person)
    }

    /// Runs, newest first; with `before`, those that are older than that one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self, limit: u32, before: Option<RunId>) -> Result<Vec<RunSummary>, StoreError> {
        self.runs_where(limit, &RunFilter { before, ..RunFilter::default() }).await
    }

    /// Runs, newest first, as the filter wants them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs_where(&self, limit: u32, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let mut runs = self.inner.store.list_runs(limit, filter).await?;
        for run in &mut runs {
            // Never ahead of what reading the run itself tells.
            if let Some(account) = self.inner.active.account(run.id) {
                *run = account.look(|account| account.summary.clone());
            }
        }
        Ok(runs)
    }

    /// A run in a few words; cheaper than [`Self::run`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn summary(&self, id: RunId) -> Result<Option<RunSummary>, StoreError> {
        if let Some(account) = self.inner.active.account(id) {
            return Ok(Some(account.look(|account| account.summary.clone())));
        }
        Ok(self.inner.store.run(id).await?.map(|stored| stored.summary))
    }

    /// Everything known of a run: while it is active from memory, then as it was judged.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn run(&self, id: RunId) -> Result<Option<RunDetail>, StoreError> {
        match self.inner.active.account(id) {
            Some(account) => account.detail().await.map(Some),
            None => reading::detail(&self.inner.store, id).await,
        }
    }

    /// Finds a run by its id, the id's unique beginning or end, `last`, or `last-N`.
    ///
    /// # Errors
    /// When nothing matches, several do, or the store cannot be read.
    pub async fn find_run(&self, text: &str) -> Result<RunId, FindError> {
        let matches = match run_names::read(text)? {
            Named::Back(back) => self.inner.store.nth_last_run(back).await?.into_iter().collect(),
            Named::Digits(digits) => self.inner.store.runs_like(&digits).await?,
        };
        run_names::only(text, matches)
    }

    /// A run second by second, per request name and for `all`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn series(&self, id: RunId) -> Result<Option<SeriesView>, StoreError> {
        match self.inner.active.account(id) {
            Some(account) => Ok(Some(account.look(|account| account.recording.series().clone()))),
            None => reading::series(&self.inner.store, id).await,
        }
    }

    /// What happens in a run from now on; ends when the run is over (at once if it is). Whoever reads too slowly
    /// misses events.
    pub fn live(&self, id: RunId) -> impl Stream<Item = LiveEvent> + Send + 'static + use<> {
        let events = self.inner.active.watch(id).map(BroadcastStream::new);
        // An error says that events were missed.
        futures::stream::iter(events).flatten().filter_map(|event| std::future::ready(event.ok()))
    }

    /// Two runs side by side.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn compare(&self, a: RunId, b: RunId) -> Result<Option<ComparisonView>, StoreError> {
        let (Some(a_run), Some(b_run)) = (self.run(a).await?, self.run(b).await?) else {
            return Ok(None);
        };
        let (Some(a), Some(b)) = (self.inner.store.run(a).await?, self.inner.store.run(b).await?) else {
            return Ok(None);
        };
        Ok(Some(compare(&a_run, a.experiment.experiment(), &b_run, b.experiment.experiment())))
    }

    /// Experiments known by name.
    #[must_use]
    pub fn library(&self) -> &[LibraryEntry] {
        &self.inner.config.library
    }

    /// Resolves when no run is active or queued.
    pub async fn idle(&self) {
        self.inner.active.idle().await;
    }

    /// Halts what runs, waits until everything has ended, and closes the store.
    pub async fn close(&self) {
        self.inner.shutdown.cancel();
        self.inner.suites.close();
        self.inner.active.stop_all(Stop::Closing);
        self.inner.drivers.close();
        self.inner.drivers.wait().await;
        self.inner.unattended.cancel();
        self.inner.links.close();
        self.inner.links.wait().await;
        self.inner.store.close().await;
    }
}

/// Lets go of a run once its driver has ended, even by a panic.
struct Ended {
    inner: Arc<Inner>,
    run: RunId,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.inner.active.remove(self.run);
        self.inner.happenings.tell(Happening::RunEnded(self.run));
    }
}

/// Makes the data directory and takes it for this process.
fn own(data_dir: &Path) -> Result<File, ControllerError> {
    let unusable = |source| ControllerError::DataDir { path: data_dir.to_owned(), source };
    std::fs::create_dir_all(data_dir).map_err(unusable)?;
    let lock = File::create(data_dir.join("kennel.lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ControllerError::InUse { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}
