//! The frame around every role: its listener, the endpoints that all roles share, its registration,
//! and its end.
//!
//! A role is *alive* when it listens, *ready* when its preparation is done, and *registered* only
//! while it is ready. It stops by deregistering first and draining then.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::bus::counts::Counts;
use crate::bus::subscription::{Effect, Subscription};
use crate::bus::teller::Teller;
use crate::bus::{Broker, Bus};
use crate::config::{InstancePlan, Layout, SystemConfig};
use crate::extract::Ask;
use crate::kv::client::KvClients;
use crate::metrics::Metrics;
use crate::panics::Panicked;
use crate::rpc::caller::{exchange, http_client};
use crate::rpc::directory::Listing;
use crate::rpc::{Budget, Caller, Directory, Failure};
use crate::store::{Store, StoreError};
use crate::trace::Trace;
use crate::workers::Workers;
use crate::{panics, switches, watchdog};

/// How long requests under way may take after the role was told to stop.
const DRAIN: Duration = Duration::from_millis(500);
/// The most bytes of a request.
const LARGEST_BODY: usize = 2 << 20;
/// The same for the auditor: the history of a long run is large.
const LARGEST_HISTORY: usize = 2 << 30;
/// How long a start waits for the registry to tell the switches.
const SWITCHES_WITHIN: Duration = Duration::from_millis(500);
/// How long the registry may hold a watch.
const WATCH: Duration = Duration::from_secs(20);

/// Why a role ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot open the store {name}: {source}")]
    Store { name: String, source: StoreError },
    #[error("the server failed: {0}")]
    Serve(std::io::Error),
}

/// What a role gets from its surroundings.
pub(crate) struct Frame {
    pub(crate) config: Arc<SystemConfig>,
    pub(crate) layout: Layout,
    pub(crate) plan: InstancePlan,
    pub(crate) caller: Caller,
    /// The key-value servers; connected when first asked.
    pub(crate) kv: KvClients,
    /// Cancelled when the role is told to stop.
    pub(crate) stop: CancellationToken,
    /// Owns the role's background tasks.
    pub(crate) tracker: TaskTracker,
    directory: Arc<Directory>,
    /// What the role adds to its metrics.
    more: Arc<Mutex<Vec<TellMore>>>,
}

/// Appends lines to `/metrics`.
pub(crate) type TellMore = Box<dyn Fn(&mut String) + Send + Sync>;

/// What a role says about itself at `/debug/state`.
pub(crate) type Describe = Box<dyn Fn() -> Value + Send + Sync>;

impl Frame {
    pub(crate) fn new(config: SystemConfig, layout: Layout, plan: InstancePlan, stop: CancellationToken) -> Self {
        let directory = Arc::new(Directory::new(
            &plan.instance,
            config.links_of(&plan.service),
            config.ejection,
            Duration::from_millis(config.lease_ms),
        ));
        let caller = Caller::new(&plan.service, Arc::clone(&directory), config.timeouts);
        let kv =
            KvClients::new(&config.key_values, Duration::from_millis(config.timeouts.kv_ms), Arc::clone(&directory));
        let (tracker, more) = (TaskTracker::new(), Arc::default());
        Self { config: Arc::new(config), layout, plan, caller, kv, stop, tracker, directory, more }
    }

    /// Opens the role's store.
    pub(crate) async fn open_store(&self, name: &str, schema: &str) -> Result<Store, RoleError> {
        Store::open(&self.config.stores.of(name), schema, &self.tracker)
            .await
            .map_err(|source| RoleError::Store { name: name.to_owned(), source })
    }

    /// Adds lines to the role's metrics.
    pub(crate) fn tell_more(&self, more: TellMore) {
        self.more.lock().unwrap_or_else(PoisonError::into_inner).push(more);
    }

    /// What this instance knows of others, and which switches are in force.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// The bus of order events.
    pub(crate) fn bus(&self) -> Bus {
        Bus::of_role(&self.config.broker, self.config.order_events(), &self.caller, &self.plan.instance)
    }

    /// What the role writes by if it has something to tell the bus.
    pub(crate) fn teller(&self) -> Teller {
        Teller::new(self.bus(), self.directory(), self.tracker.clone())
    }

    /// Subscribes the role to a queue, and tells in its metrics what comes of it.
    pub(crate) fn subscription(
        &self,
        queue: &'static str,
        consumer: &'static str,
        store: &Store,
        effect: Effect,
    ) -> Subscription {
        let counts = Arc::<Counts>::default();
        let (instance, told) = (self.plan.instance.clone(), Arc::clone(&counts));
        self.tell_more(Box::new(move |out| told.write(&instance, queue, out)));
        let (bus, directory, store) = (self.bus(), self.directory(), store.clone());
        Subscription { bus, directory, store, queue, consumer, effect, hold: None, counts }
    }

    /// Waits until the bus has the queues of order events.
    pub(crate) async fn wait_for_bus(&self, bus: &Bus) {
        if self.config.broker == Broker::Embedded {
            // Calls before it is there would only teach the breaker to refuse more.
            self.wait_for(&["mq"]).await;
        }
        while let Err(error) = bus.declare().await {
            tracing::debug!(%error, "no bus yet");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the registry knows each of `services`.
    pub(crate) async fn wait_for(&self, services: &[&str]) {
        self.directory.wait_for(services).await;
    }

    /// Runs until told to stop. `prepare` ends when the role is ready.
    pub(crate) async fn serve(
        &self,
        routes: Router,
        describe: Describe,
        prepare: impl Future<Output = ()>,
    ) -> Result<(), RoleError> {
        let ready = watch::Sender::new(false);
        let shared = Arc::new(Shared {
            ready: ready.subscribe(),
            warm: AtomicBool::new(false),
            largest_body: if self.plan.service == "auditor" { LARGEST_HISTORY } else { LARGEST_BODY },
            workers: SystemConfig::has_workers(&self.plan.service)
                .then(|| Workers::new(self.directory.in_force().workers)),
            caller: self.caller.clone(),
            most: self.config.budget_of(&self.plan.service),
            first_hop: self.plan.service == "gw",
            metrics: Metrics::default(),
            instance: self.plan.instance.clone(),
            describe,
            directory: Arc::clone(&self.directory),
            more: Arc::clone(&self.more),
        });
        let router = routes
            .route("/debug/panic", post(debug_panic))
            .fallback(nothing_there)
            .method_not_allowed_fallback(other_method)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), bound_and_count))
            .merge(own_routes(Arc::clone(&shared)));
        let listener = listen(self.plan.address)
            .await
            .map_err(|source| RoleError::Listen { address: self.plan.address, source })?
            // Small answers on kept-alive connections must not wait for an acknowledgement.
            .tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
        let drained = CancellationToken::new();
        let server = axum::serve(listener, router).with_graceful_shutdown(drained.clone().cancelled_owned());
        let has_registry = self.plan.service != "reg";
        watchdog::watch(Arc::clone(&self.directory), &self.tracker, self.stop.clone());
        if has_registry {
            self.tracker.spawn(watch_registry(self.registry(), Arc::clone(&self.directory), self.stop.clone()));
        }
        let life = async {
            let get_ready = async {
                prepare.await;
                self.warm_up(has_registry).await;
                ready.send_replace(true);
                shared.warm.store(true, Ordering::Relaxed);
                tracing::info!(instance = self.plan.instance, "ready");
                std::future::pending::<()>().await;
            };
            let stay = async {
                if has_registry {
                    self.stay_registered(ready.subscribe()).await;
                } else {
                    self.stop.cancelled().await;
                }
            };
            tokio::select! {
                () = get_ready => {}
                () = stay => {}
            }
            ready.send_replace(false);
            drained.cancel();
            self.tracker.close();
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = server => {
                served.map_err(RoleError::Serve)?;
                // Ends before `life` does when all connections were idle.
                if !self.stop.is_cancelled() {
                    return Err(RoleError::Serve(std::io::Error::other("stopped accepting")));
                }
            }
            () = life => {}
        }
        Ok(())
    }

    fn registry(&self) -> SocketAddr {
        self.config.first("reg").map_or(self.plan.address, |plan| plan.address)
    }

    /// Waits as long as `warm_up` says.
    async fn warm_up(&self, has_registry: bool) {
        if has_registry && tokio::time::timeout(SWITCHES_WITHIN, self.directory.learned()).await.is_err() {
            tracing::warn!("the registry does not tell the switches; going on with what they are by default");
        }
        tokio::time::sleep(self.directory.in_force().warm_up).await;
    }

    /// Registers when it is time, renews the lease until told to stop, then takes the registration back.
    async fn stay_registered(&self, mut ready: watch::Receiver<bool>) {
        let mut learned = self.directory.subscribe();
        while !*ready.borrow_and_update() && !self.directory.in_force().register_when_listening {
            tokio::select! {
                _ = ready.changed() => {}
                _ = learned.changed() => {}
                () = self.stop.cancelled() => return,
            }
        }
        let client = http_client(Duration::from_millis(self.config.timeouts.connect_ms));
        let own = format!("http://{}/svc/{}/{}", self.registry(), self.plan.service, self.plan.instance);
        let body = Bytes::from(json!({ "address": self.plan.address, "state": "up", "weight": 1 }).to_string());
        // A change of the lease is told with the next heartbeat, so that none is longer than the shortest lease allows.
        let beat = Duration::from_millis(self.config.lease_ms / 3);
        loop {
            let uri = format!("{own}?ttl_ms={}", self.directory.in_force().lease_ms);
            let put = exchange(&client, Method::PUT, &uri, body.clone(), |_| {});
            let pause = match tokio::time::timeout(beat, put).await {
                Ok(Ok((status, _))) if status.is_success() => beat,
                // Try again soon: the registry may be starting.
                _ => Duration::from_millis(50),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
        }
        if !self.directory.in_force().drain {
            return;
        }
        let delete = exchange(&client, Method::DELETE, &own, Bytes::new(), |_| {});
        if tokio::time::timeout(Duration::from_millis(200), delete).await.is_err() {
            tracing::warn!("the registry did not take the deregistration; the lease will end");
        }
    }
}

/// Binds a port that the supervisor holds in reserve (bound, not listening).
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(1_024)) {
            // The previous life's socket may still be closing.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

async fn watch_registry(registry: SocketAddr, directory: Arc<Directory>, stop: CancellationToken) {
    let client = http_client(Duration::from_millis(500));
    loop {
        let (epoch, rev) = directory.position();
        let uri = format!("http://{registry}/watch?epoch={epoch}&rev={rev}&timeout_ms={}", WATCH.as_millis());
        let poll = exchange(&client, Method::GET, &uri, Bytes::new(), |_| {});
        let answer = tokio::select! {
            answer = tokio::time::timeout(WATCH + Duration::from_secs(2), poll) => answer,
            () = stop.cancelled() => return,
        };
        let listing = match answer {
            Ok(Ok((StatusCode::OK, body))) => serde_json::from_slice::<Listing>(&body).ok(),
            _ => None,
        };
        match listing {
            Some(listing) => directory.learn(listing, Instant::now()),
            None => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => directory.registry_is_away(),
                () = stop.cancelled() => return,
            },
        }
    }
}

struct Shared {
    ready: watch::Receiver<bool>,
    /// Whether it has been ready: until then it cannot serve, however it was found.
    warm: AtomicBool,
    /// The most bytes of a request.
    largest_body: usize,
    /// How many requests it serves at the same time.
    workers: Option<Workers>,
    caller: Caller,
    most: Duration,
    /// Whether clients call it: requests without a trace get one here.
    first_hop: bool,
    metrics: Metrics,
    instance: String,
    describe: Describe,
    directory: Arc<Directory>,
    more: Arc<Mutex<Vec<TellMore>>>,
}

fn own_routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(debug_state))
        .route("/debug/block", post(debug_block))
        .method_not_allowed_fallback(other_method)
        .with_state(shared)
}

async fn nothing_there(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}", uri.path()))
}

async fn other_method(method: Method, uri: Uri) -> Failure {
    let why = format!("{} does not take {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if *shared.ready.borrow() {
        "ready".into_response()
    } else {
        Failure::unavailable("not_ready", format!("{} is not ready", shared.instance)).into_response()
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> String {
    let mut text = shared.metrics.render(&shared.instance, *shared.ready.borrow());
    // Writing to a String cannot fail.
    let _ = switches::metrics(&shared.directory.switches(), &shared.instance, &mut text);
    for more in shared.more.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        more(&mut text);
    }
    text
}

async fn debug_state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({
        "instance": shared.instance,
        "ready": *shared.ready.borrow(),
        "directory": shared.directory.describe(),
        "dependencies": shared.caller.describe_guards(),
        "workers": shared.workers.as_ref().map(|workers| {
            let (count, at_work) = workers.describe();
            json!({ "count": count, "at_work": at_work })
        }),
        "role": (shared.describe)(),
    }))
}

#[derive(Deserialize)]
struct Block {
    ms: u64,
}

/// Blocks the event loop, as a handler does that computes without a pause: no timer fires, nobody is answered.
#[expect(clippy::disallowed_methods, reason = "blocking is what it is for")]
async fn debug_block(State(shared): State<Arc<Shared>>, Ask(block): Ask<Block>) -> Result<&'static str, Failure> {
    const LONGEST_MS: u64 = 60_000;
    if !(1..=LONGEST_MS).contains(&block.ms) {
        return Err(Failure::invalid(format!("ms is 1 to {LONGEST_MS}, not {}", block.ms)));
    }
    tracing::warn!(instance = shared.instance, ms = block.ms, "blocked on request");
    std::thread::sleep(Duration::from_millis(block.ms));
    Ok("blocked")
}

/// Panics, as a handler does that meets what nobody thought of.
async fn debug_panic() -> &'static str {
    panic!("asked for by POST /debug/panic")
}

impl Shared {
    /// What a request is answered whose handler panicked, unless such a panic ends the process.
    fn answer_for(&self, panicked: &Panicked) -> Response {
        if self.directory.in_force().panic_exits {
            panics::exit();
        }
        let Panicked(why) = panicked;
        let error = format!("{} panicked: {why}", self.instance);
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "panicked", error).into_response()
    }
}

/// Gives each request its budget, cuts it off when the budget is spent, and counts it.
async fn bound_and_count(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let mut budget = Budget::from_headers(request.headers(), shared.most);
    let trace = Trace::of(&mut budget, shared.first_hop);
    let deadline = budget.deadline;
    let left = budget.left();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = trace.span(&budget, &route);
    request.extensions_mut().insert(budget);
    let hard = shared.directory.in_force().hard_timeout;
    let served = async {
        // All of it, whether or not its handler looks: a connection with something unread is closed under the next
        // request on it.
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, shared.largest_body).await else {
            let why = format!("the body is larger than {} MiB", shared.largest_body >> 20);
            return Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why).into_response();
        };
        let request = Request::from_parts(parts, body.into());
        // Held until the answer is there, or until the request is cut off.
        let _worker = match &shared.workers {
            Some(workers) => Some(workers.next(shared.directory.in_force().workers).await),
            None => None,
        };
        panics::caught(next.run(request)).await.unwrap_or_else(|panicked| shared.answer_for(&panicked))
    }
    .instrument(span);
    let mut response = if left.is_zero() {
        Failure::new(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded", "the request came without time left")
            .into_response()
    } else if !shared.warm.load(Ordering::Relaxed) {
        Failure::unavailable("not_ready", format!("{} is not ready", shared.instance)).into_response()
    } else if !hard {
        let response = served.await;
        if Instant::now() > deadline {
            tracing::warn!(route, took_ms = started.elapsed().as_millis() as u64, "a request went on after its time");
        }
        response
    } else {
        tokio::time::timeout_at(deadline, served)
            .await
            .unwrap_or_else(|_| Failure::deadline(format!("{} ran out of time", shared.instance)).into_response())
    };
    let took = started.elapsed();
    trace.tell(&route, response.status(), took, left);
    trace.answer(&mut response);
    shared.metrics.count(route, response.status(), took);
    response
}
