//! Starting and stopping a system from outside: in the background, or tied to the caller.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use crate::arguments::ServerOptions;
use crate::bus::topology;
use crate::command::Launcher;
use crate::config::{InstancePlan, Layout, SystemConfig, now_ms};
use crate::error::SystemError;
use crate::ids::SlotHash;
use crate::orders::plan::Timers;
use crate::roles::PROXY;
use crate::rpc::caller::{HttpClient, exchange, http_client};
use crate::servers::{Server, Tier};
use crate::shape::{InstanceCounts, Shape};
use crate::state::{InstanceStatus, ModuleStatus, SystemState, SystemStatus};
use crate::ward::Restarts;
use crate::{elsewhere, process, remains};

/// The seed of a system that nobody gave one.
pub const DEFAULT_SEED: u64 = 20_160_601;
/// How long a system may take to go down.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// The supervisor's flag for a system tied to its caller.
const LIFELINE: &str = "--lifeline";
const POLL: Duration = Duration::from_millis(20);

/// How a system shall run.
#[derive(Debug, Clone)]
pub struct SystemOptions {
    /// Where its data, logs and pid files live. Made if missing; removed by nobody.
    pub dir: PathBuf,
    /// How its processes are started.
    pub launcher: Launcher,
    /// The seed of its population.
    pub seed: u64,
    /// How long a dead process stays dead.
    pub respawn_after: Duration,
    /// A server with the Toxiproxy API to put between the services; split at spaces.
    pub toxiproxy_command: Option<String>,
    /// A server with the Toxiproxy API that runs already, to put between the services instead.
    pub toxiproxy: Option<String>,
    /// What rows are kept on.
    pub tier: Tier,
    /// The servers of the real tier.
    pub servers: ServerOptions,
    /// How users and restaurants are spread over the shards.
    pub slot_hash: SlotHash,
    /// Which instances share a process; as the directory was last started if `None`.
    pub shape: Option<Shape>,
    /// How many instances there are, where not as usual.
    pub instances: InstanceCounts,
    /// The gateway's port; any free one if `None`.
    pub gateway_port: Option<u16>,
    /// How many of each dish there are at first; by the seed if `None`, which is more than any load orders.
    pub stock_per_dish: Option<u32>,
    /// Whether to start with one old order table, from which orders are moved to the sharded stores.
    pub migration: bool,
    /// How long an order may stay unpaid.
    pub unpaid_timeout: Duration,
    /// How long a merchant may leave an order or a refund unanswered: then the order is cancelled, the refund granted.
    pub unanswered_timeout: Duration,
    /// How long a delivered order waits for its user's confirmation before it counts as completed.
    pub unconfirmed_timeout: Duration,
    /// How long a message that a consumer cannot read rests, in milliseconds, after its first failure, its second, and
    /// so on.
    pub retry_ms: Vec<u32>,
    /// How long the start may take.
    pub ready_within: Duration,
    /// Makes every rung of the timeout ladder this many times longer, for machines that are busy
    /// with other things. 1 is the ladder as documented.
    pub timeout_scale: u32,
}

impl SystemOptions {
    /// The defaults for a directory.
    pub fn new(dir: PathBuf, launcher: Launcher) -> Self {
        Self {
            dir,
            launcher,
            seed: DEFAULT_SEED,
            respawn_after: Duration::from_secs(3),
            toxiproxy_command: None,
            toxiproxy: None,
            tier: Tier::default(),
            servers: ServerOptions::default(),
            slot_hash: SlotHash::default(),
            shape: None,
            instances: InstanceCounts::default(),
            gateway_port: None,
            stock_per_dish: None,
            migration: false,
            unpaid_timeout: Duration::from_secs(15 * 60),
            unanswered_timeout: Duration::from_secs(5 * 60),
            unconfirmed_timeout: Duration::from_secs(30 * 60),
            retry_ms: topology::RETRY_MS.to_vec(),
            ready_within: Duration::from_secs(30),
            timeout_scale: 1,
        }
    }
}

/// The options as the supervisor reads them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SupervisorOptions {
    pub(crate) launcher: Launcher,
    pub(crate) seed: u64,
    pub(crate) respawn_after_ms: u64,
    pub(crate) proxy_command: Option<Vec<String>>,
    pub(crate) toxiproxy: Option<String>,
    pub(crate) tier: Tier,
    pub(crate) servers: ServerOptions,
    #[serde(default)]
    pub(crate) shape: Shape,
    #[serde(default)]
    pub(crate) instances: InstanceCounts,
    pub(crate) gateway_port: Option<u16>,
    #[serde(default)]
    pub(crate) slot_hash: SlotHash,
    #[serde(default)]
    pub(crate) stock_per_dish: Option<u32>,
    #[serde(default)]
    pub(crate) migration: bool,
    pub(crate) timers: Timers,
    pub(crate) retry_ms: Vec<u32>,
    pub(crate) ready_within_ms: u64,
    pub(crate) timeout_scale: u32,
}

impl SupervisorOptions {
    fn from_options(options: &SystemOptions, shape: Shape) -> Self {
        Self {
            launcher: options.launcher.clone(),
            seed: options.seed,
            respawn_after_ms: options.respawn_after.as_millis() as u64,
            proxy_command: options
                .toxiproxy_command
                .as_ref()
                .map(|command| command.split_whitespace().map(str::to_owned).collect()),
            toxiproxy: options.toxiproxy.clone(),
            tier: options.tier,
            servers: options.servers.clone(),
            shape,
            instances: options.instances.clone(),
            gateway_port: options.gateway_port,
            slot_hash: options.slot_hash,
            stock_per_dish: options.stock_per_dish,
            migration: options.migration,
            timers: Timers {
                unpaid_ms: options.unpaid_timeout.as_millis() as i64,
                unanswered_ms: options.unanswered_timeout.as_millis() as i64,
                unconfirmed_ms: options.unconfirmed_timeout.as_millis() as i64,
                ..Timers::default()
            },
            retry_ms: options.retry_ms.clone(),
            ready_within_ms: options.ready_within.as_millis() as u64,
            timeout_scale: options.timeout_scale,
        }
    }

    pub(crate) fn read(layout: &Layout) -> Result<Self, SystemError> {
        let path = layout.options();
        std::fs::read(&path)
            .and_then(|text| serde_json::from_slice(&text).map_err(std::io::Error::other))
            .map_err(|source| SystemError::File { path, source })
    }
}

/// A system tied to this process: it goes down with it, however it ends.
#[derive(Debug)]
pub struct RunningSystem {
    state: SystemState,
    supervisor: Child,
    /// The supervisor stops everything when this closes.
    _lifeline: Option<ChildStdin>,
}

impl RunningSystem {
    /// What the outside needs to know of the system.
    pub fn state(&self) -> &SystemState {
        &self.state
    }

    /// Stops the system: no process and no listening port is left. The directory stays.
    ///
    /// # Errors
    ///
    /// [`SystemError::NotStopped`] if the supervisor had to be killed (its roles die with it).
    pub async fn stop(mut self) -> Result<(), SystemError> {
        if let Some(pid) = self.supervisor.id() {
            process::send(pid, Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP_WITHIN, self.supervisor.wait()).await.is_ok() {
            return Ok(());
        }
        // What cannot be killed is gone already.
        let _ = self.supervisor.kill().await;
        Err(SystemError::NotStopped { dir: self.state.dir.clone(), within: STOP_WITHIN })
    }
}

/// Starts a system that lives as long as the answer, or this process.
///
/// # Errors
///
/// [`SystemError::DirectoryInUse`], [`SystemError::OtherSeed`], [`SystemError::NotReady`] with the
/// end of the failing role's log, and the like. Nothing is left running after an error.
pub async fn start(options: SystemOptions) -> Result<RunningSystem, SystemError> {
    let layout = prepare(&options)?;
    let mut supervisor = spawn_supervisor(&options, &layout, LIFELINE, Stdio::piped())?;
    let lifeline = supervisor.stdin.take();
    let state = await_ready(&options, &layout, &mut supervisor).await?;
    Ok(RunningSystem { state, supervisor, _lifeline: lifeline })
}

/// Starts a system that outlives this process, until [`down`].
///
/// # Errors
///
/// As [`start`].
pub async fn up(options: SystemOptions) -> Result<SystemState, SystemError> {
    let layout = prepare(&options)?;
    let mut supervisor = spawn_supervisor(&options, &layout, "--detached", Stdio::null())?;
    await_ready(&options, &layout, &mut supervisor).await
}

fn prepare(options: &SystemOptions) -> Result<Layout, SystemError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SystemError::File { path, source }
    };
    let dir = std::path::absolute(&options.dir).map_err(failed(&options.dir))?;
    let layout = Layout::new(&dir);
    layout.create().map_err(failed(&dir))?;
    if process::is_locked(&layout.lock()) {
        return Err(SystemError::DirectoryInUse { dir });
    }
    let mut shape = options.shape;
    let mut migration = options.migration;
    if let Ok(before) = SystemConfig::read(&layout) {
        // Rows are the same in either shape.
        shape = shape.or(Some(before.shape));
        if before.seed != options.seed {
            return Err(SystemError::OtherSeed { dir, stored: before.seed, asked: options.seed });
        }
        if before.stores.tier() != options.tier {
            return Err(SystemError::OtherTier { dir, stored: before.stores.tier(), asked: options.tier });
        }
        if before.slot_hash != options.slot_hash {
            return Err(SystemError::OtherSlotHash { dir, stored: before.slot_hash, asked: options.slot_hash });
        }
        // The directory keeps it, until there is nothing left to move.
        migration = before.migration && !layout.migrated().exists();
        if options.migration && !migration {
            return Err(SystemError::NoOldTable { dir });
        }
    }
    process::remove(&layout.failure());
    process::remove(&layout.state());
    let kept = SupervisorOptions { migration, ..SupervisorOptions::from_options(options, shape.unwrap_or_default()) };
    let text = serde_json::to_vec_pretty(&kept).map_err(|error| failed(&layout.options())(error.into()))?;
    // It may hold the password of a database.
    process::write_private(&layout.options(), &text)?;
    Ok(layout)
}

fn spawn_supervisor(options: &SystemOptions, layout: &Layout, mode: &str, input: Stdio) -> Result<Child, SystemError> {
    let path = layout.log("supervisor");
    let failed = |source| SystemError::File { path: path.clone(), source };
    let log = std::fs::File::options().create(true).append(true).open(&path).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut command = Command::new(&options.launcher.program);
    if mode == LIFELINE {
        // A Ctrl-C in the terminal is for the caller, who stops the system in its own time. (A detached supervisor
        // leaves the whole session, which a group leader could not.)
        command.process_group(0);
    }
    command
        .args(&options.launcher.prefix)
        .args(["supervise", mode, "--dir"])
        .arg(layout.root())
        .stdin(input)
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|source| SystemError::Process { what: "start the supervisor".to_owned(), source })
}

async fn await_ready(
    options: &SystemOptions,
    layout: &Layout,
    supervisor: &mut Child,
) -> Result<SystemState, SystemError> {
    // The supervisor keeps the deadline itself and says what was missing; this is for a
    // supervisor that says nothing.
    let deadline = Instant::now() + options.ready_within + STOP_WITHIN;
    loop {
        if let Some(state) = read_state(layout) {
            return Ok(state);
        }
        let ended = supervisor.try_wait().ok().flatten();
        if let Some(status) = ended {
            let why = std::fs::read_to_string(layout.failure()).unwrap_or_else(|_| {
                let tail = process::tail(&layout.log("supervisor"));
                format!("the supervisor ended ({status}); its log ends:\n{tail}")
            });
            return Err(SystemError::NotReady { why });
        }
        if Instant::now() >= deadline {
            // Its roles die with it.
            let _ = supervisor.kill().await;
            return Err(SystemError::NotReady { why: "the supervisor says nothing".to_owned() });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn read_state(layout: &Layout) -> Option<SystemState> {
    serde_json::from_slice(&std::fs::read(layout.state()).ok()?).ok()
}

/// Stops the system of a directory, and with `purge` removes what it has kept there and on servers that others run. One whose
/// supervisor was killed is dead already; what tells of its processes is removed.
///
/// # Errors
///
/// [`SystemError::NoSystem`] if none runs there (or, with `purge`, if there never was one), [`SystemError::NotStopped`]
/// if it had to be killed and did not even go then, [`SystemError::NotPurged`] if a server keeps what it has of it.
pub async fn down(dir: &Path, purge: bool) -> Result<(), SystemError> {
    let layout = Layout::new(dir);
    match running(dir) {
        Ok((_, supervisor)) => {
            process::send(supervisor, Signal::SIGTERM);
            if !gone(&layout).await {
                process::send(supervisor, Signal::SIGKILL);
                if !gone(&layout).await {
                    return Err(SystemError::NotStopped { dir: dir.to_owned(), within: STOP_WITHIN * 2 });
                }
            }
        }
        Err(_) if remains::is_wreck(&layout) || (purge && remains::was_a_system(&layout)) => {}
        Err(error) => return Err(error),
    }
    remains::sweep(&layout);
    if purge {
        purge_servers(&layout).await?;
        remains::purge(&layout)?;
    }
    Ok(())
}

/// Removes what the system has made on servers that others run. Before its directory, which tells what that is.
async fn purge_servers(layout: &Layout) -> Result<(), SystemError> {
    let config = match SystemConfig::read(layout) {
        Ok(config) => config,
        // It never came so far as to make anything.
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SystemError::File { path: layout.config(), source }),
    };
    let toxiproxy = SupervisorOptions::read(layout).ok().and_then(|options| options.toxiproxy);
    let remaining = elsewhere::remove(&config, toxiproxy.as_deref()).await;
    if remaining.is_empty() { Ok(()) } else { Err(SystemError::NotPurged { dir: layout.root().to_owned(), remaining }) }
}

fn running(dir: &Path) -> Result<(Layout, u32), SystemError> {
    let layout = Layout::new(dir);
    // Only a held lock proves that the pid is still the supervisor's.
    let supervisor =
        process::is_locked(&layout.lock()).then(|| process::read_pid(&layout.pid_file("supervisor"))).flatten();
    supervisor.map(|pid| (layout, pid)).ok_or_else(|| SystemError::NoSystem { dir: dir.to_owned() })
}

async fn gone(layout: &Layout) -> bool {
    let deadline = Instant::now() + STOP_WITHIN;
    while process::is_locked(&layout.lock()) {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

/// Asks each process of a directory's system how it is doing.
///
/// # Errors
///
/// [`SystemError::NoSystem`] if none runs there.
pub async fn status(dir: &Path) -> Result<SystemStatus, SystemError> {
    let (layout, supervisor) = running(dir)?;
    let config = SystemConfig::read(&layout).map_err(|source| SystemError::File { path: layout.config(), source })?;
    let client = http_client(Duration::from_millis(200));
    let servers = config.servers.iter().map(|plan| (plan.instance.clone(), vec![plan.clone()]));
    let roles = config.processes().into_iter().map(|(service, process)| {
        let living = config.living_in((service.as_str(), process.as_str()));
        (process, living)
    });
    let (client, known, files) = (&client, &config, &layout);
    let probes = servers.chain(roles).map(|(process, living)| async move {
        let ready = futures::future::join_all(living.iter().map(|plan| is_ready(client, known, plan))).await;
        let own = living.iter().find(|plan| plan.instance == process);
        let module = |(plan, ready): (&InstancePlan, &bool)| ModuleStatus {
            instance: plan.instance.clone(),
            address: plan.address,
            ready: *ready,
        };
        let modules = if own.is_some() { Vec::new() } else { living.iter().zip(&ready).map(module).collect() };
        let address = own.map(|plan| plan.address);
        InstanceStatus { modules, address, ..of_process(files, process, !ready.contains(&false)) }
    });
    let mut instances =
        vec![InstanceStatus { pid: Some(supervisor), ..of_process(&layout, "supervisor".into(), true) }];
    if let Some(api) = config.proxy.filter(|_| has_own_proxy(&layout)) {
        let answers = answers(client, format!("http://{api}/version")).await;
        instances.push(InstanceStatus { address: Some(api), ..of_process(&layout, PROXY.to_owned(), answers) });
    }
    instances.extend(futures::future::join_all(probes).await);
    let gateway = config.first("gw").map(|plan| format!("http://{}", plan.address)).unwrap_or_default();
    Ok(SystemStatus { dir: dir.to_owned(), gateway, instances })
}

async fn is_ready(client: &HttpClient, config: &SystemConfig, plan: &InstancePlan) -> bool {
    if let Some(server) = Server::of(&plan.service) {
        return server.is_ready(config, plan).await;
    }
    answers(client, format!("http://{}/readyz", plan.address)).await
}

async fn answers(client: &HttpClient, uri: String) -> bool {
    let probe = exchange(client, Method::GET, &uri, Bytes::new(), |_| {});
    let answer = tokio::time::timeout(Duration::from_secs(1), probe).await;
    matches!(answer, Ok(Ok((StatusCode::OK, _))))
}

/// What the files of a process and the kernel tell of it. `answers`: whether it says that it is ready, if it runs.
fn of_process(files: &Layout, process: String, answers: bool) -> InstanceStatus {
    let pid = process::read_pid(&files.pid_file(&process)).filter(|pid| process::exists(*pid));
    let vitals = pid.map(process::vitals).unwrap_or_default();
    let restarts = Restarts::read(&files.restarts(&process));
    InstanceStatus {
        address: None,
        pid,
        up: pid.is_some(),
        ready: pid.is_some() && answers,
        restarts: restarts.count,
        starts_in_ms: restarts.left(now_ms()).filter(|_| pid.is_none()),
        uptime_s: vitals.uptime_s,
        memory_bytes: vitals.memory_bytes,
        share_bytes: vitals.share_bytes,
        modules: Vec::new(),
        instance: process,
    }
}

/// Whether the fault proxy is the system's own process: one that was named is somebody else's.
fn has_own_proxy(files: &Layout) -> bool {
    files.pid_file(PROXY).exists() || files.restarts(PROXY).exists()
}
