//! The agent's main loop: listens to its controller, keeps its watchdog, and conducts one run at a time.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kennel_model::command::{AgentFile, OfferedCommand};
use kennel_model::fault::FaultKind;
use kennel_model::protocol::{AgentDescription, FromAgent, ToAgent};
use kennel_model::run::RunId;
use kennel_proxy::FaultProxy;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::journal::{self, Journal, JournalError, JournalLock};
use crate::run::{self, Host, Order};
use crate::steps::{Bench, Steps};
use crate::watchdog;

/// How long an earlier agent's watchdog may take to undo what that agent left.
const LOCK_WITHIN: Duration = Duration::from_secs(15);

/// Folder of raw logs in an agent's data directory.
pub const RAW_LOGS: &str = "raw";

/// Folder of the fresh folders of test commands in an agent's data directory.
const STEPS: &str = "steps";

/// What an agent must be told from outside.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its unique name.
    pub name: String,
    /// Where it keeps its undo journal and raw logs.
    pub data_dir: PathBuf,
    /// Command that runs [`crate::worker::main`].
    pub worker_command: Vec<OsString>,
    /// Command that runs [`crate::watchdog::main`]; `--journal PATH` is appended.
    pub watchdog_command: Vec<OsString>,
    /// Command that runs [`crate::steps::guard::main`]; limits, program and arguments are appended.
    pub guard_command: Vec<OsString>,
    /// Labels, and the only test commands that suites can have run here.
    pub file: AgentFile,
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    from_controller: mpsc::Receiver<ToAgent>,
    to_controller: mpsc::Sender<FromAgent>,
    shutdown: CancellationToken,
}

/// The run that an agent conducts now.
struct Conducted {
    run: RunId,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
    /// It was released or halted, and ends by itself.
    is_ending: bool,
}

impl Agent {
    /// An agent that talks to its controller over these channels, until `shutdown`.
    #[must_use]
    pub fn new(
        config: AgentConfig,
        from_controller: mpsc::Receiver<ToAgent>,
        to_controller: mpsc::Sender<FromAgent>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { config, from_controller, to_controller, shutdown }
    }

    /// Works until shut down; then load is off and every fault reverted.
    ///
    /// # Errors
    /// When the undo journal cannot be used.
    pub async fn work(mut self) -> Result<(), JournalError> {
        let journal_path = self.config.data_dir.join("undo.jsonl");
        // A watchdog of an earlier agent may still be at work.
        let _lock = JournalLock::take(&journal_path, LOCK_WITHIN).await?;
        let reverted = journal::replay(&journal_path).await?;
        let journal = Journal::open(&journal_path)?;
        let tasks = TaskTracker::new();
        let watchdog_shutdown = CancellationToken::new();
        tasks.spawn(watchdog::keep(self.config.watchdog_command.clone(), journal_path, watchdog_shutdown.clone()));
        let proxy = FaultProxy::new(CancellationToken::new());
        let (heard_now, heard) = watch::channel(Instant::now());
        let steps = Steps::new(Bench {
            agent: self.config.name.clone(),
            file: Arc::new(self.config.file.clone()),
            folder: self.config.data_dir.join(STEPS),
            guard_command: self.config.guard_command.clone(),
            heard: heard.clone(),
            to_controller: self.to_controller.clone(),
        });
        let host = Host {
            agent: self.config.name.clone(),
            worker_command: self.config.worker_command.clone(),
            raw_logs: self.config.data_dir.join(RAW_LOGS),
            journal,
            proxy: proxy.clone(),
            heard,
            to_controller: self.to_controller.clone(),
            shutdown: self.shutdown.clone(),
        };
        self.tell(FromAgent::Hello(self.describe())).await;
        if !reverted.is_empty() {
            self.tell(FromAgent::Replayed { reverted }).await;
        }
        let mut conducted: Option<Conducted> = None;
        loop {
            let message = tokio::select! {
                message = self.from_controller.recv() => message,
                () = self.shutdown.cancelled() => break,
            };
            let Some(message) = message else {
                // The controller is gone for good; the run's lease ends it.
                if let Some(Conducted { task, orders, .. }) = conducted.take() {
                    drop(orders);
                    end_of(task, &host).await;
                }
                break;
            };
            heard_now.send_replace(Instant::now());
            match message {
                ToAgent::Step(assignment) => steps.start(*assignment),
                ToAgent::StopStep { step } => steps.stop(&step),
                message => self.obey(message, &host, &mut conducted).await,
            }
        }
        self.shutdown.cancel();
        steps.end().await;
        if let Some(Conducted { task, .. }) = conducted {
            end_of(task, &host).await;
        }
        proxy.shutdown().await;
        watchdog_shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    async fn obey(&self, message: ToAgent, host: &Host, conducted: &mut Option<Conducted>) {
        if let Some(over) = conducted.take_if(|run| run.task.is_finished()) {
            end_of(over.task, host).await;
        }
        let (run, order) = match message {
            // Steps of suites are not the run's affair.
            ToAgent::Heartbeat | ToAgent::Step(_) | ToAgent::StopStep { .. } => return,
            ToAgent::Prepare(assignment) => {
                let run = assignment.run;
                if let Some(over) = conducted.take_if(|current| current.is_ending) {
                    // It was told to end and has nothing left but to do so.
                    end_of(over.task, host).await;
                }
                if let Some(busy) = conducted {
                    let reason = format!("agent `{}` is busy with run {}", self.config.name, busy.run);
                    return self.tell(FromAgent::Refused { run, reason }).await;
                }
                let (orders, received) = mpsc::channel(16);
                let task = tokio::spawn(run::conduct(*assignment, host.clone(), received));
                *conducted = Some(Conducted { run, orders, task, is_ending: false });
                return;
            }
            ToAgent::Start { run } => (run, Order::Start),
            ToAgent::Halt { run } => (run, Order::Halt),
            ToAgent::Audit { run } => (run, Order::Audit),
            ToAgent::Release { run } => (run, Order::Release),
        };
        match conducted {
            Some(current) if current.run == run => {
                current.is_ending |= matches!(order, Order::Release | Order::Halt);
                let _ = current.orders.send(order).await;
            }
            // Nothing of that run is here: it is as halted as can be.
            _ if order == Order::Halt => self.tell(FromAgent::Halted { run, took_ms: 0 }).await,
            _ => {}
        }
    }

    async fn tell(&self, message: FromAgent) {
        let _ = self.to_controller.send(message).await;
    }

    fn describe(&self) -> AgentDescription {
        AgentDescription {
            name: self.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: nix::unistd::gethostname()
                .map_or_else(|_| "unknown".to_owned(), |h| h.to_string_lossy().into_owned()),
            faults: FaultKind::ALL.to_vec(),
            labels: self.config.file.labels.clone(),
            commands: self.config.file.commands.iter().map(OfferedCommand::from).collect(),
        }
    }
}

/// Waits for a run's task. If it crashed, what it should have undone is undone here.
async fn end_of(task: JoinHandle<()>, host: &Host) {
    if let Err(error) = task.await {
        tracing::error!("a run crashed ({error}); its faults are reverted from the undo journal");
        for line in host.revert_everything().await {
            tracing::error!("{line}");
        }
    }
}
