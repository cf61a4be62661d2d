//! A Kennel in this process: controller, embedded agent, web pages and API on one port.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kennel_agent::{Agent, AgentConfig};
use kennel_controller::people::{Entrance, PublicUrl, Secret, TOKEN_PREFIX, random_secret};
use kennel_controller::{Controller, ControllerConfig, ControllerError};
use kennel_model::api::LibraryEntry;
use kennel_model::command::AgentFile;
use kennel_model::target::Target;
use kennel_scenarios::library::{self, LibraryFile};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::places::Places;
use crate::surroundings::Known;

/// Port of the web pages unless said otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7676;

/// How long load and faults go on without a controller.
const LEASE: Duration = Duration::from_secs(5);

/// Where the Kennel that owns a data directory listens; lies there as `server.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    pub(crate) url: String,
    pub(crate) pid: u32,
    /// What browsers call it, where that is not where it listens.
    #[serde(default)]
    pub(crate) public_url: Option<String>,
    /// What commands send to act as `local`; made anew at each start. Only the owner can read the file.
    #[serde(default)]
    pub(crate) secret: Option<String>,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) secret: Secret,
    controller: Controller,
    agent: JoinHandle<Result<(), String>>,
    agent_shutdown: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    http_shutdown: CancellationToken,
    server_file: PathBuf,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error("cannot write {}: {cause}", path.display())]
    ServerFile { path: PathBuf, cause: std::io::Error },
    #[error(
        "{address} would let the whole network start load and faults: without an admin Kennel serves loopback only. Make one with `kennel user add NAME --role admin`, or at /setup of a Kennel on loopback"
    )]
    Open { address: SocketAddr },
    #[error("cannot find this program's own path: {0}")]
    OwnPath(std::io::Error),
}

impl Server {
    /// Starts a server; `own_targets` are known beside those in the data directory.
    pub(crate) async fn start(
        places: &Places,
        address: SocketAddr,
        own_targets: Vec<Target>,
        agent_file: AgentFile,
    ) -> Result<Self, ServerError> {
        Self::start_at(places, address, own_targets, agent_file, (Entrance::default(), None)).await
    }

    /// As [`start`](Self::start), guarded as the entrance says, and called by its public URL where there is one.
    pub(crate) async fn start_at(
        places: &Places,
        address: SocketAddr,
        own_targets: Vec<Target>,
        agent_file: AgentFile,
        (entrance, public_url): (Entrance, Option<PublicUrl>),
    ) -> Result<Self, ServerError> {
        let config = ControllerConfig {
            data_dir: places.data().to_owned(),
            surroundings: Arc::new(Known::new(places, own_targets)),
            library: shipped(library::EXPERIMENTS),
            suites: shipped(library::SUITES),
            public_url,
            lease: LEASE,
        };
        let controller = Controller::open(config, CancellationToken::new()).await?;
        if controller.is_open() && !address.ip().is_loopback() {
            controller.close().await;
            return Err(ServerError::Open { address });
        }
        let listener = TcpListener::bind(address).await.map_err(|cause| ServerError::Listen { address, cause })?;
        let bound = listener.local_addr().map_err(|cause| ServerError::Listen { address, cause })?;
        let agent_shutdown = CancellationToken::new();
        let agent = start_agent(places, &controller, agent_file, agent_shutdown.clone()).await?;
        let http_shutdown = CancellationToken::new();
        let secret = Secret::new(format!("{TOKEN_PREFIX}local_{}", random_secret()));
        let public_url = controller.public_url().map(|url| url.origin());
        let entrance = Entrance { bound: Some(bound), local_secret: Some(secret.clone()), ..entrance };
        let app = kennel_web::router_at(controller.clone(), entrance);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let stop = http_shutdown.clone();
        let http = tokio::spawn(async move {
            tokio::select! {
                result = async { axum::serve(listener, app).await } => result,
                // Live streams never end by themselves: connections are dropped, not drained.
                () = stop.cancelled() => Ok(()),
            }
        });
        let url = format!("http://{bound}");
        let server_file = places.server();
        let secret_for_owner = Some(secret.reveal().to_owned());
        let file = ServerFile { url: url.clone(), pid: std::process::id(), public_url, secret: secret_for_owner };
        write_for_owner(&server_file, &serde_json::to_string(&file).unwrap_or_default())
            .map_err(|cause| ServerError::ServerFile { path: server_file.clone(), cause })?;
        Ok(Self { url, secret, controller, agent, agent_shutdown, http, http_shutdown, server_file })
    }

    /// Halts what runs, reverts every fault, and waits until nothing is left.
    pub(crate) async fn stop(self) {
        self.controller.close().await;
        self.agent_shutdown.cancel();
        match self.agent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("the agent crashed: {error}"),
        }
        self.http_shutdown.cancel();
        if let Ok(Err(error)) = self.http.await {
            tracing::error!("the web server failed: {error}");
        }
        let _ = std::fs::remove_file(self.server_file);
    }
}

/// Files of the library as the controller takes them.
pub(crate) fn shipped(files: &[LibraryFile]) -> Vec<LibraryEntry> {
    let entry = |file: &LibraryFile| LibraryEntry {
        name: file.name.to_owned(),
        description: file.description.to_owned(),
        source: file.source.to_owned(),
    };
    files.iter().map(entry).collect()
}

/// Writes a file that nobody but its owner can read, also while it is written.
fn write_for_owner(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(new, path)
}

async fn start_agent(
    places: &Places,
    controller: &Controller,
    file: AgentFile,
    shutdown: CancellationToken,
) -> Result<JoinHandle<Result<(), String>>, ServerError> {
    let program = std::env::current_exe().map_err(ServerError::OwnPath)?;
    let role = |name: &str| -> Vec<OsString> { vec![program.clone().into(), name.into()] };
    let config = AgentConfig {
        name: "local".to_owned(),
        data_dir: places.agent(),
        worker_command: role("worker"),
        watchdog_command: role("watchdog"),
        guard_command: role("guard"),
        file,
    };
    let (to_agent, from_controller) = mpsc::channel(64);
    let (to_controller, from_agent) = mpsc::channel(1024);
    let agent = Agent::new(config, from_controller, to_controller, shutdown);
    let task = tokio::spawn(async move { agent.work().await.map_err(|error| error.to_string()) });
    controller.attach(to_agent, from_agent).await;
    Ok(task)
}
