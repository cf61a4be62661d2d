//! A real controller with a scripted agent behind the real router on a free port.

pub(crate) mod browsing;
pub(crate) mod scripted_agent;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kennel_controller::{Controller, ControllerConfig};
use kennel_model::RunId;
use kennel_model::api::{LibraryEntry, Origin, StartRun, StartSuite, StepState};
use kennel_model::experiment::{Builtin, Surroundings, parse_target};
use kennel_model::target::Target;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use scripted_agent::Script;

/// The target that every experiment here runs on.
const TARGET: &str = "
name: shop
base_url: http://127.0.0.1:8080
allowed_hosts: ['127.0.0.1']
services:
  - name: orders
    instances: [{name: orders-1, process: {pid_file: run/orders-1.pid, supervised: true}}]
links: [{from: gateway, to: orders, listen: '127.0.0.1:1', upstream: '127.0.0.1:2'}]
audits: [{name: books, url: 'http://127.0.0.1:9/audit'}]
limits: {max_rate: 500/s, faults: [latency, kill]}
";

struct World;

impl Surroundings for World {
    fn target(&self, name: &str) -> Result<Target, String> {
        if name == "shop" {
            parse_target("shop.yaml", TARGET).map_err(|e| e.to_string())
        } else {
            Err("one of `shop`".to_owned())
        }
    }

    fn targets(&self) -> Vec<Target> {
        self.target("shop").into_iter().collect()
    }

    fn builtins(&self) -> Vec<Builtin> {
        Vec::new()
    }
}

/// An experiment of `seconds` seconds with a latency fault and a kill.
pub(crate) fn experiment(name: &str, seconds: u32) -> String {
    let quarter = seconds / 4;
    let name = serde_json::to_string(name).expect("a string");
    format!(
        "version: 1
name: {name}
description: Whether customers notice when orders answer late and one instance dies
target: shop
load:
  model: open
  stages: [{{rate: 120/s, duration: {seconds}s}}]
  warm_up: 1s
scenarios:
  - name: shopping
    steps:
      - {{name: list products, path: /products}}
      - {{name: create order, path: /orders}}
      - {{name: pay order, path: /pay}}
faults:
  - name: orders answer late
    kind: latency
    selector: {{link: gateway -> orders}}
    parameters: {{latency: 200ms, jitter: 50ms}}
    start: {quarter}s
    duration: {quarter}s
  - name: orders-1 dies
    kind: kill
    selector: {{service: orders, instance: orders-1}}
    start: {}s
objectives:
  - p99 < 400ms
  - p95(create order) < 250ms during steady
  - error_rate < 1%
steady_state: ['error_rate < 0.5%']
guards: ['error_rate < 60% over 5s']
audits: [books]
",
        quarter * 5 / 2,
    )
}

/// A controller with its pages, and everything that they need to live.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) controller: Controller,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _data_dir: tempfile::TempDir,
}

impl House {
    /// Opens a controller on an empty directory and serves it on `port` (0: any free one).
    pub(crate) async fn open(script: Script, port: u16, library: Vec<LibraryEntry>) -> Self {
        Self::called(script, port, library, None).await
    }

    /// As [`Self::open`], given a public URL at start.
    pub(crate) async fn called(
        script: Script,
        port: u16,
        library: Vec<LibraryEntry>,
        public_url: Option<&str>,
    ) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory");
        let shutdown = CancellationToken::new();
        let config = ControllerConfig {
            data_dir: data_dir.path().to_owned(),
            surroundings: Arc::new(World),
            library,
            suites: Vec::new(),
            public_url: public_url.map(|url| url.parse().expect("a URL")),
            lease: Duration::from_secs(5),
        };
        let controller = Controller::open(config, shutdown.clone()).await.expect("a controller");
        let mut tasks = JoinSet::new();
        let (to_agent, orders) = mpsc::channel(256);
        let (reports, from_agent) = mpsc::channel(256);
        tasks.spawn(scripted_agent::play(script, orders, reports));
        controller.attach(to_agent, from_agent).await;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = kennel_web::router(controller.clone());
        let closing = shutdown.clone();
        tasks.spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(closing.cancelled_owned());
            serving.await.expect("serving");
        });
        Self { address, controller, shutdown, tasks, _data_dir: data_dir }
    }

    /// Address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Starts a run.
    pub(crate) async fn start(&self, experiment: &str) -> RunId {
        let request = StartRun { experiment: experiment.to_owned(), file: None, raw_log: None };
        self.controller.start_run(request).await.expect("a valid experiment")
    }

    /// Starts a run and waits until it is judged.
    pub(crate) async fn run(&self, experiment: &str) -> RunId {
        let id = self.start(experiment).await;
        self.until(id, |state| state.is_over()).await;
        id
    }

    /// Starts a run of a suite from its text and waits until it is over.
    pub(crate) async fn suite(&self, source: &str) -> RunId {
        let id = self.start_suite(source).await;
        self.until_suite_is_over(id).await;
        id
    }

    /// Waits until a run of a suite is over.
    pub(crate) async fn until_suite_is_over(&self, id: RunId) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let run = self.controller.suite_run(id).await.expect("a readable store").expect("a run");
            if run.summary.state == StepState::Ended {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the suite stays in {}: {run:#?}", run.summary.state);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts a run of a suite from its text.
    pub(crate) async fn start_suite(&self, source: &str) -> RunId {
        let request = StartSuite { source: Some(source.to_owned()), ..StartSuite::default() };
        self.controller.start_suite(request, Origin::Manual, "ada").await.expect("a valid suite")
    }

    /// Waits until a run's state is as wanted.
    pub(crate) async fn until(&self, id: RunId, wanted: impl Fn(kennel_model::RunState) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let run = self.controller.run(id).await.expect("a readable store").expect("a run");
            if wanted(run.summary.state) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the run stays in {}", run.summary.state);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends everything.
    pub(crate) async fn close(mut self) {
        self.shutdown.cancel();
        self.controller.close().await;
        drop(self.controller);
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}
