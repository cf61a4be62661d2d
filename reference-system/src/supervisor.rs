//! The supervisor: starts every role and server, proves that an order goes through, and takes everything down at the end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arguments::{RoleArgs, SuperviseArgs};
use crate::config::{InstancePlan, Layout, SystemConfig};
use crate::error::SystemError;
use crate::etcd::Etcd;
use crate::kv::{KeyValues, Purpose};
use crate::launch::SupervisorOptions;
use crate::rpc::caller::{exchange, http_client};
use crate::servers::Server;
use crate::state::{InstanceState, LinkState, SystemState};
use crate::ward::Ward;
use crate::{fault_proxy, planning, process, remains, roles, self_test, servers};

/// How often a start looks whether all are ready.
const READY_POLL: Duration = Duration::from_millis(15);

/// Runs a system until it is told to stop.
pub(crate) async fn run(args: &SuperviseArgs) -> Result<(), SystemError> {
    let layout = Layout::new(&args.dir);
    let lock = take_lock(&layout).await?;
    let me = layout.pid_file("supervisor");
    process::write_whole(&me, format!("{}\n", std::process::id()).as_bytes())?;
    let asked = stop_asked(args.lifeline)?;
    let life = Life::default();
    let lived = async {
        let system = System::plan(layout.clone(), life.clone()).await?;
        system.start().await?;
        tracing::info!("the system is ready");
        life.stop.cancelled().await;
        Ok(())
    };
    let ended: Result<(), SystemError> = tokio::select! {
        ended = lived => ended,
        () = asked => Ok(()),
    };
    if let Err(error) = &ended {
        tracing::error!(%error, "the start failed");
    }
    process::remove(&layout.state());
    life.end().await;
    if let Err(error) = &ended {
        process::write_whole(&layout.failure(), error.to_string().as_bytes())?;
    }
    // The lock is still held, and nobody else writes here.
    remains::sweep(&layout);
    drop(lock);
    ended
}

/// Takes the directory's lock. Whoever only looks whether it is taken holds it for a moment.
async fn take_lock(layout: &Layout) -> Result<std::fs::File, SystemError> {
    let deadline = Instant::now() + Duration::from_millis(500);
    loop {
        if let Some(lock) = process::lock(&layout.lock())? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(SystemError::DirectoryInUse { dir: layout.root().to_owned() });
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Ends when the system shall stop: by signal, or when the starter holds the lifeline no more.
fn stop_asked(lifeline: bool) -> Result<impl Future<Output = ()>, SystemError> {
    let signals = process::on_signals()?;
    let end = if lifeline { Some(process::standard_input()?) } else { None };
    Ok(async move {
        match end {
            Some(input) => tokio::select! {
                () = signals => {}
                () = process::until_closed(input) => {}
            },
            None => signals.await,
        }
    })
}

/// Turns this process into the fault proxy of its system.
pub(crate) fn become_proxy(args: &RoleArgs) -> SystemError {
    let layout = Layout::new(&args.dir);
    match SupervisorOptions::read(&layout) {
        Ok(options) => {
            let mut command = options.proxy_command.unwrap_or_default();
            if let Ok(config) = SystemConfig::read(&layout)
                && let Some(api) = config.proxy
            {
                command.extend(["--host".to_owned(), api.ip().to_string()]);
                command.extend(["--port".to_owned(), api.port().to_string()]);
            }
            process::become_command(args.parent, &command)
        }
        Err(error) => error,
    }
}

/// Turns this process into a server of its system.
pub(crate) fn become_server(args: &RoleArgs, server: Server) -> SystemError {
    let layout = Layout::new(&args.dir);
    let config = match SystemConfig::read(&layout) {
        Ok(config) => config,
        Err(source) => return SystemError::File { path: layout.config(), source },
    };
    match config.instance(&args.instance) {
        Some(plan) => servers::become_server(server, args.parent, &layout, &config, plan),
        None => SystemError::UnknownInstance { service: args.service.clone(), instance: args.instance.clone() },
    }
}

struct System {
    layout: Layout,
    options: SupervisorOptions,
    config: SystemConfig,
    /// Held, bound and not listening, so that no other process gets a dead instance's port.
    reserved: Vec<TcpSocket>,
    life: Life,
}

/// What runs, and what ends it. Servers end after everything that uses them.
#[derive(Clone, Default)]
struct Life {
    stop: CancellationToken,
    tracker: TaskTracker,
    servers_stop: CancellationToken,
    servers: TaskTracker,
}

impl Life {
    async fn end(&self) {
        for (stop, tracker) in [(&self.stop, &self.tracker), (&self.servers_stop, &self.servers)] {
            stop.cancel();
            tracker.close();
            tracker.wait().await;
        }
    }
}

impl System {
    async fn plan(layout: Layout, life: Life) -> Result<Self, SystemError> {
        let options = SupervisorOptions::read(&layout)?;
        let (config, reserved) = planning::plan(&layout, &options).await?;
        let text = serde_json::to_vec_pretty(&config)
            .map_err(|error| SystemError::File { path: layout.config(), source: error.into() })?;
        // It may hold the password of a database.
        process::write_private(&layout.config(), &text)?;
        Ok(Self { layout, options, config, reserved, life })
    }

    async fn start(&self) -> Result<(), SystemError> {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(self.options.ready_within_ms);
        let mut deaths = BTreeMap::new();
        let comes_first = |plan: &&InstancePlan| Server::of(&plan.service).is_some_and(Server::comes_first);
        let (first, then): (Vec<_>, Vec<_>) = self.config.servers.iter().partition(comes_first);
        for stage in [first, then] {
            let served = stage.into_iter().map(|plan| self.serve(plan, deadline));
            futures::future::try_join_all(served).await?;
        }
        if !self.config.stores.answers().await {
            let why = "the PostgreSQL server that was named does not answer, or refuses the role".to_owned();
            return Err(SystemError::NotReady { why });
        }
        if let Some(store) = &self.config.registry_store
            && !Etcd::new(&store.url, &store.prefix).answers().await
        {
            return Err(SystemError::NotReady { why: format!("etcd at {} does not answer", store.url) });
        }
        if let KeyValues::Shared { .. } = self.config.key_values
            && !servers::redis_answers(&self.config).await
        {
            let why = "the Redis server that was named does not answer, or refuses the password".to_owned();
            return Err(SystemError::NotReady { why });
        }
        if let Some(api) = self.config.proxy {
            self.link_up(api, deadline).await?;
        }
        for (service, process) in self.config.processes() {
            let died = self.look_after(&service, &process);
            deaths.insert(process, died);
        }
        self.all_ready(&deaths, deadline).await?;
        let ready_ms = began.elapsed().as_millis() as u64;
        self_test::run(&self.config, deadline).await.map_err(|why| SystemError::NotReady { why })?;
        tracing::info!(
            took_ms = began.elapsed().as_millis() as u64,
            ready_ms,
            reserved = self.reserved.len(),
            "self-test passed"
        );
        let text = serde_json::to_vec_pretty(&self.state())
            .map_err(|error| SystemError::File { path: self.layout.state(), source: error.into() })?;
        process::write_whole(&self.layout.state(), &text)
    }

    /// Waits for the fault proxy, its own or the one that was named, and gives it the links.
    async fn link_up(&self, api: SocketAddr, deadline: Instant) -> Result<(), SystemError> {
        let links = self.config.links.clone();
        let stop = self.life.stop.clone();
        let name = match &self.options.toxiproxy {
            Some(url) => {
                fault_proxy::await_version(api, url, deadline, &Arc::default()).await?;
                url.clone()
            }
            None => {
                let command = self.options.proxy_command.clone().unwrap_or_default().join(" ");
                let deaths = self.look_after(roles::PROXY, roles::PROXY);
                fault_proxy::await_version(api, &command, deadline, &deaths)
                    .await
                    .map_err(|error| self.with_log(error, roles::PROXY))?;
                command
            }
        };
        fault_proxy::populate(api, &name, &links).await?;
        if self.options.toxiproxy.is_some() {
            // It goes on when this system ends.
            self.life.tracker.spawn(fault_proxy::withdraw(api, links.clone(), stop.clone()));
        }
        // A proxy that comes back knows no links.
        self.life.tracker.spawn(fault_proxy::repopulate(api, name, links, stop));
        Ok(())
    }

    /// Starts a server, as soon as the one that it waits for answers, and waits until it answers itself.
    async fn serve(&self, plan: &InstancePlan, deadline: Instant) -> Result<(), SystemError> {
        let Some(server) = Server::of(&plan.service) else { return Ok(()) };
        if let Some(first) = server.waits_for(&self.layout, &self.config, plan) {
            while !server.is_ready(&self.config, first).await {
                if Instant::now() >= deadline {
                    let why = format!("{} is not started, because {} does not answer", plan.instance, first.instance);
                    return Err(SystemError::NotReady { why });
                }
                tokio::time::sleep(READY_POLL).await;
            }
        }
        let deaths = self.look_after(&plan.service, &plan.instance);
        while !server.is_ready(&self.config, plan).await {
            if Instant::now() >= deadline || deaths.load(Ordering::Relaxed) > 0 {
                let why = format!("{} does not answer", plan.instance);
                return Err(self.with_log(SystemError::NotReady { why }, &plan.instance));
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }

    /// Starts a child that comes back whenever it dies. Gives its count of deaths.
    fn look_after(&self, service: &str, instance: &str) -> Arc<AtomicU32> {
        let (stop, tracker, signal) = match Server::of(service) {
            Some(server) => (&self.life.servers_stop, &self.life.servers, server.stop_signal()),
            None => (&self.life.stop, &self.life.tracker, Signal::SIGTERM),
        };
        let deaths = Arc::new(AtomicU32::new(0));
        let ward = Ward {
            layout: self.layout.clone(),
            options: self.options.clone(),
            service: service.to_owned(),
            instance: instance.to_owned(),
            deaths: Arc::clone(&deaths),
            signal,
            stop: stop.clone(),
        };
        tracker.spawn(ward.keep_alive());
        deaths
    }

    async fn all_ready(&self, deaths: &BTreeMap<String, Arc<AtomicU32>>, deadline: Instant) -> Result<(), SystemError> {
        let client = http_client(Duration::from_millis(200));
        for plan in &self.config.instances {
            let uri = format!("http://{}/readyz", plan.address);
            loop {
                let poll = exchange(&client, Method::GET, &uri, Bytes::new(), |_| {});
                let answer = tokio::time::timeout(Duration::from_secs(1), poll).await;
                if matches!(answer, Ok(Ok((StatusCode::OK, _)))) {
                    break;
                }
                if let Some((process, _)) = deaths.iter().find(|(_, deaths)| deaths.load(Ordering::Relaxed) > 0) {
                    let why = format!("{process} ended during the start");
                    return Err(self.with_log(SystemError::NotReady { why }, process));
                }
                if Instant::now() >= deadline {
                    let why = format!("{} is not ready", plan.instance);
                    return Err(self.with_log(SystemError::NotReady { why }, self.config.process_of(plan).1));
                }
                tokio::time::sleep(READY_POLL).await;
            }
        }
        Ok(())
    }

    fn with_log(&self, error: SystemError, instance: &str) -> SystemError {
        let tail = process::tail(&self.layout.log(instance));
        SystemError::NotReady { why: format!("{error}; its log ends:\n{tail}") }
    }

    fn address_of(&self, service: &str) -> SocketAddr {
        // Every service of the plan has an instance.
        self.config.first(service).map_or((Ipv4Addr::LOCALHOST, 0).into(), |plan| plan.address)
    }

    fn state(&self) -> SystemState {
        let url = |address: SocketAddr| format!("http://{address}");
        SystemState {
            dir: self.layout.root().to_owned(),
            seed: self.config.seed,
            tier: self.config.stores.tier(),
            shape: self.config.shape,
            supervisor_pid: std::process::id(),
            gateway: url(self.address_of("gw")),
            registry: url(self.address_of("reg")),
            auditor: url(self.address_of("auditor")),
            toxiproxy: self.config.proxy.map(url),
            key_values: Purpose::ALL.map(|one| (one.to_string(), self.config.key_values.url(one))).into(),
            instances: self
                .config
                .instances
                .iter()
                .chain(&self.config.servers)
                .map(|plan| {
                    let process = self.config.process_of(plan).1.to_owned();
                    InstanceState {
                        service: plan.service.clone(),
                        instance: plan.instance.clone(),
                        address: plan.address,
                        pid_file: self.layout.pid_file(&process),
                        process,
                        is_server: Server::of(&plan.service).is_some(),
                    }
                })
                .collect(),
            links: self
                .config
                .links
                .iter()
                .map(|link| LinkState {
                    name: link.name(),
                    from: link.from.clone(),
                    to: link.to.clone(),
                    to_instance: link.to_instance.clone(),
                    listen: link.listen,
                    upstream: link.upstream,
                    proxy: link.name(),
                })
                .collect(),
        }
    }
}
