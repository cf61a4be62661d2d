//! One proxy: its listener, its connections and its list of toxics.

use std::io::ErrorKind;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::ListenAddress;
use crate::chain::Placed;
use crate::clock::Clock;
use crate::error::ProxyError;
use crate::pipe::{Pipe, Severed, Toxics};
use crate::spec::{ProxyUpdate, ProxyView, Stream, ToxicSpec, ToxicUpdate, ToxicView};
use crate::toxics::Kind;

/// What every link of one fault proxy shares.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) clock: Clock,
    /// Every task of the fault proxy.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// One proxy. Its toxics outlive stops and starts.
pub(crate) struct Link {
    name: String,
    site: Site,
    /// The one place where toxics are kept; every pipe follows it.
    toxics: watch::Sender<Arc<[Placed]>>,
    state: Mutex<State>,
}

struct State {
    listen: ListenAddress,
    upstream: String,
    running: Option<Running>,
    next_toxic_id: u64,
}

struct Running {
    cancel: CancellationToken,
    /// The listener and its connections.
    tasks: TaskTracker,
}

impl Link {
    pub(crate) fn new(name: String, listen: String, upstream: String, site: Site) -> Self {
        let state = State { listen: ListenAddress::new(listen), upstream, running: None, next_toxic_id: 0 };
        Self { name, site, toxics: watch::Sender::new(Arc::default()), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.state().running.as_ref().is_some_and(|running| !running.cancel.is_cancelled())
    }

    pub(crate) fn upstream(&self) -> String {
        self.state().upstream.clone()
    }

    pub(crate) fn view(&self) -> ProxyView {
        let enabled = self.is_enabled();
        let state = self.state();
        ProxyView {
            name: self.name.clone(),
            listen: state.listen.shown(),
            upstream: state.upstream.clone(),
            enabled,
            toxics: self.toxic_views(),
        }
    }

    /// Whether these addresses mean what this link has.
    pub(crate) async fn leads(&self, listen: &str, upstream: &str) -> Result<bool, ProxyError> {
        let address = self.state().listen.clone();
        Ok(address.is(listen).await? && self.upstream() == upstream)
    }

    /// Listens, unless it does already.
    pub(crate) async fn start(&self) -> Result<(), ProxyError> {
        if self.site.shutdown.is_cancelled() {
            return Err(ProxyError::ShuttingDown);
        }
        if self.is_enabled() {
            return Ok(());
        }
        let mut listen = self.state().listen.clone();
        let listener = listen.bind().await?;
        let running = Running { cancel: self.site.shutdown.child_token(), tasks: TaskTracker::new() };
        let mut state = self.state();
        let connections = Connections {
            name: self.name.clone(),
            upstream: state.upstream.clone(),
            toxics: self.toxics.subscribe(),
            clock: self.site.clock.clone(),
            cancel: running.cancel.clone(),
            tasks: running.tasks.clone(),
            all_tasks: self.site.tasks.clone(),
        };
        running.tasks.spawn(self.site.tasks.track_future(connections.accept(listener)));
        state.listen = listen;
        state.running = Some(running);
        Ok(())
    }

    /// Closes the listener and every connection, and waits until they are closed.
    pub(crate) async fn stop(&self) {
        let Some(running) = self.state().running.take() else {
            return;
        };
        running.cancel.cancel();
        running.tasks.close();
        running.tasks.wait().await;
    }

    /// Applies an update; restarts only if an address changed.
    pub(crate) async fn update(&self, update: ProxyUpdate) -> Result<(), ProxyError> {
        let was_enabled = self.is_enabled();
        let listen = update.listen.unwrap_or_else(|| self.state().listen.shown());
        let upstream = update.upstream.unwrap_or_else(|| self.upstream());
        if !self.leads(&listen, &upstream).await? {
            let address = self.state().listen.clone();
            let listens_elsewhere = !address.is(&listen).await?;
            self.stop().await;
            let mut state = self.state();
            if listens_elsewhere {
                state.listen = ListenAddress::new(listen);
            }
            state.upstream = upstream;
        }
        if update.enabled.unwrap_or(was_enabled) {
            self.start().await
        } else {
            self.stop().await;
            Ok(())
        }
    }

    pub(crate) fn toxic_views(&self) -> Vec<ToxicView> {
        let toxics = Arc::clone(&self.toxics.borrow());
        let mut views: Vec<ToxicView> = toxics.iter().map(view).collect();
        views.sort_by_key(|view| view.stream);
        views
    }

    pub(crate) fn toxic_view(&self, name: &str) -> Result<ToxicView, ProxyError> {
        let toxics = self.toxics.borrow();
        toxics.iter().find(|placed| placed.name == name).map(view).ok_or_else(|| not_found(name))
    }

    pub(crate) fn add_toxic(&self, spec: ToxicSpec) -> Result<ToxicView, ProxyError> {
        let kind = Kind::find(&spec.kind).ok_or_else(|| ProxyError::InvalidToxicType { kind: spec.kind.clone() })?;
        let name = match spec.name {
            Some(name) if !name.is_empty() => name,
            _ => format!("{}_{}", spec.kind, spec.stream.as_str()),
        };
        self.change_toxics(|toxics, id| {
            if toxics.iter().any(|placed| placed.name == name) {
                return Err(ProxyError::ToxicAlreadyExists { toxic: name });
            }
            let toxic = kind.build(Map::new(), spec.attributes).map_err(ProxyError::bad_body)?;
            let placed = Placed { id, revision: 0, name, stream: spec.stream, toxicity: spec.toxicity, toxic };
            let view = view(&placed);
            toxics.push(placed);
            Ok(view)
        })
    }

    pub(crate) fn update_toxic(&self, name: &str, update: ToxicUpdate) -> Result<ToxicView, ProxyError> {
        self.change_toxics(|toxics, _| {
            let placed = toxics.iter_mut().find(|placed| placed.name == name).ok_or_else(|| not_found(name))?;
            placed.toxic = changed(placed, update.attributes)?;
            placed.toxicity = update.toxicity.unwrap_or(placed.toxicity);
            placed.revision += 1;
            Ok(view(placed))
        })
    }

    pub(crate) fn remove_toxic(&self, name: &str) -> Result<(), ProxyError> {
        self.change_toxics(|toxics, _| {
            let at = toxics.iter().position(|placed| placed.name == name).ok_or_else(|| not_found(name))?;
            toxics.remove(at);
            Ok(())
        })
    }

    pub(crate) fn remove_all_toxics(&self) {
        self.toxics.send_replace(Arc::default());
    }

    /// Changes the list as one step, and tells the pipes if `change` succeeds. Gives it an id that is new.
    fn change_toxics<T>(
        &self,
        change: impl FnOnce(&mut Vec<Placed>, u64) -> Result<T, ProxyError>,
    ) -> Result<T, ProxyError> {
        // Held to the end, so that two changes do not start from the same list.
        let mut state = self.state();
        state.next_toxic_id += 1;
        let mut toxics = self.toxics.borrow().to_vec();
        let answer = change(&mut toxics, state.next_toxic_id)?;
        self.toxics.send_replace(toxics.into());
        Ok(answer)
    }
}

fn not_found(toxic: &str) -> ProxyError {
    ProxyError::ToxicNotFound { toxic: toxic.to_owned() }
}

fn view(placed: &Placed) -> ToxicView {
    ToxicView {
        attributes: placed.toxic.attributes(),
        name: placed.name.clone(),
        kind: placed.toxic.kind().to_owned(),
        stream: placed.stream,
        toxicity: placed.toxicity,
    }
}

/// The toxic with some attributes changed.
fn changed(placed: &Placed, changes: Map<String, Value>) -> Result<Arc<dyn crate::toxics::AnyToxic>, ProxyError> {
    let kind = placed.toxic.kind();
    Kind::find(kind)
        .ok_or_else(|| ProxyError::InvalidToxicType { kind: kind.to_owned() })?
        .build(placed.toxic.attributes(), changes)
        .map_err(ProxyError::bad_body)
}

/// What the tasks of one running link need.
#[derive(Clone)]
struct Connections {
    name: String,
    upstream: String,
    toxics: Toxics,
    clock: Clock,
    cancel: CancellationToken,
    tasks: TaskTracker,
    all_tasks: TaskTracker,
}

/// The pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

impl Connections {
    async fn accept(self, listener: TcpListener) {
        tracing::info!(proxy = self.name, upstream = self.upstream, "proxy started");
        while let Some(accepted) = self.cancel.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((client, _)) => {
                    let connection = self.clone().carry(client);
                    self.tasks.spawn(self.all_tasks.track_future(connection));
                }
                Err(error) => {
                    tracing::warn!(proxy = self.name, %error, "cannot accept a client");
                    let pause = tokio::time::sleep(ACCEPT_PAUSE);
                    if self.cancel.run_until_cancelled(pause).await.is_none() {
                        break;
                    }
                }
            }
        }
        tracing::info!(proxy = self.name, "proxy stopped");
    }

    /// Carries one connection until both directions are done, or the link stops.
    async fn carry(self, mut client: TcpStream) {
        let connect = TcpStream::connect(&self.upstream);
        let mut server = match self.cancel.run_until_cancelled(connect).await {
            Some(Ok(server)) => server,
            Some(Err(error)) => {
                tracing::warn!(proxy = self.name, upstream = self.upstream, %error, "cannot connect");
                // Accepted and broken off before we saw it, unlike refused.
                if error.kind() == ErrorKind::ConnectionReset {
                    self.reset(&client);
                }
                return;
            }
            None => return,
        };
        for socket in [&client, &server] {
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(proxy = self.name, %error, "cannot set TCP_NODELAY");
            }
        }
        let carried = self.cancel.run_until_cancelled(self.pump(&mut client, &mut server)).await;
        if let Some(Err(Severed::Reset)) = carried {
            self.reset(&client);
            self.reset(&server);
        }
    }

    /// Makes the other end see a reset when the socket is dropped.
    fn reset(&self, socket: &TcpStream) {
        if let Err(error) = socket.set_zero_linger() {
            tracing::debug!(proxy = self.name, %error, "cannot reset a connection");
        }
    }

    async fn pump(&self, client: &mut TcpStream, server: &mut TcpStream) -> Result<(), Severed> {
        let (client_lost, server_lost) = (AtomicBool::new(false), AtomicBool::new(false));
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Pipe::new(
            Stream::Upstream,
            (from_client, &client_lost),
            (to_server, &server_lost),
            self.toxics.clone(),
            &self.clock,
        );
        let down = Pipe::new(
            Stream::Downstream,
            (from_server, &server_lost),
            (to_client, &client_lost),
            self.toxics.clone(),
            &self.clock,
        );
        tokio::try_join!(up.run(), down.run()).map(|_| ())
    }
}
