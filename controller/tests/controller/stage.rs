//! The stage on which tests play: a controller, its API on a free port, and scripted agents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kennel_controller::{Clock, Controller, ControllerConfig, ControllerError};
use kennel_model::RunId;
use kennel_model::api::{LibraryEntry, RunDetail, StartRun};
use kennel_model::experiment::{Builtin, Surroundings};
use kennel_model::fault::{FaultKind, FaultState};
use kennel_model::frame::{ArrivalFrame, Frame, Latencies, RequestFrame, WorkerFrame};
use kennel_model::protocol::{AgentDescription, Assignment, FaultReport, FromAgent, ToAgent};
use kennel_model::target::Target;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest that anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

struct World;

impl Surroundings for World {
    fn target(&self, _: &str) -> Result<Target, String> {
        Err("no target is declared".into())
    }

    fn builtins(&self) -> Vec<Builtin> {
        Vec::new()
    }
}

/// Silence that no busy test machine reaches by accident.
pub(crate) const LEASE: Duration = Duration::from_secs(20);

/// Opens a controller on `dir`.
pub(crate) async fn open(dir: &Path, lease: Duration) -> Result<Controller, ControllerError> {
    open_by(dir, lease, Clock::system()).await
}

/// As [`open`], with a clock by which schedules go.
pub(crate) async fn open_by(dir: &Path, lease: Duration, clock: Clock) -> Result<Controller, ControllerError> {
    let entry = |name: &str| LibraryEntry { name: name.into(), description: "d".into(), source: "s".into() };
    let config = ControllerConfig {
        data_dir: dir.to_owned(),
        surroundings: Arc::new(World),
        library: vec![entry("quick")],
        suites: Vec::new(),
        public_url: None,
        lease,
    };
    Controller::open_by(config, CancellationToken::new(), clock).await
}

/// An experiment on target `shop`: 16 s with 2 s of warm-up, and what `extra` adds.
pub(crate) fn experiment(extra: &str) -> String {
    experiment_on("shop", extra)
}

/// As [`experiment`], on another target.
pub(crate) fn experiment_on(target: &str, extra: &str) -> String {
    format!(
        "
version: 1
name: checkout
target:
  name: {target}
  base_url: http://127.0.0.1:1
  allowed_hosts: [127.0.0.1]
  links: [{{from: gw, to: db, listen: '127.0.0.1:2', upstream: '127.0.0.1:3'}}]
  audits: [{{name: books, url: 'http://127.0.0.1:4/'}}]
  limits: {{faults: [latency]}}
load: {{model: open, stages: [{{rate: 10/s, duration: 16s}}], warm_up: 2s}}
scenarios: [{{name: shopper, steps: [{{name: create order, path: /orders}}, {{name: browse, path: /}}]}}]
{extra}"
    )
}

/// A fault from second 5 to 8.
pub(crate) const FAULT: &str = "
faults:
  - {name: slow db, kind: latency, selector: {link: gw -> db}, parameters: {latency: 100ms}, start: 5s, duration: 3s}
";

/// A controller with its API on a free port.
pub(crate) struct Stage {
    pub(crate) controller: Controller,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
    dir: TempDir,
    stop_server: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with_lease(LEASE).await
    }

    pub(crate) async fn with_lease(lease: Duration) -> Self {
        Self::on(TempDir::new().unwrap(), lease).await
    }

    async fn on(dir: TempDir, lease: Duration) -> Self {
        let controller = open(dir.path(), lease).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let stop_server = CancellationToken::new();
        let router = kennel_controller::api::router(controller.clone());
        let tasks = TaskTracker::new();
        let stopped = stop_server.clone();
        tasks.spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await.unwrap();
        });
        Self { controller, base, client: reqwest::Client::new(), dir, stop_server, tasks }
    }

    /// Attaches an agent that says hello.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        Agent::attach(&self.controller, name).await
    }

    pub(crate) async fn start(&self, experiment: &str) -> RunId {
        let request = StartRun { experiment: experiment.into(), file: None, raw_log: None };
        self.controller.start_run(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.base)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.client.put(format!("{}{path}", self.base)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        self.client.delete(format!("{}{path}", self.base)).send().await.unwrap().status().as_u16()
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The same data directory with another controller on it.
    pub(crate) async fn reopened(self) -> Self {
        Self::on(self.close().await, LEASE).await
    }

    /// The run once it is over.
    pub(crate) async fn judged(&self, run: RunId) -> RunDetail {
        self.until(run, |detail| detail.summary.state.is_over()).await
    }

    /// The run once it is as wanted.
    pub(crate) async fn until(&self, run: RunId, wanted: impl Fn(&RunDetail) -> bool) -> RunDetail {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let detail = self.controller.run(run).await.unwrap().unwrap();
            if wanted(&detail) {
                return detail;
            }
            assert!(Instant::now() < deadline, "the run never was as wanted: {detail:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until exactly these runs are active.
    pub(crate) async fn until_active(&self, runs: &[RunId]) {
        let deadline = Instant::now() + DEADLINE;
        while self.controller.active_runs() != runs {
            assert!(Instant::now() < deadline, "active are {:?}", self.controller.active_runs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Closes everything and gives the directory back.
    pub(crate) async fn close(self) -> TempDir {
        self.controller.close().await;
        self.stop_server.cancel();
        drop(self.client);
        self.tasks.close();
        timeout(DEADLINE, self.tasks.wait()).await.unwrap();
        self.dir
    }
}

/// The agent's side of the protocol, played by a script.
pub(crate) struct Agent {
    name: String,
    tell: mpsc::Sender<FromAgent>,
    hear: mpsc::Receiver<ToAgent>,
    /// Heartbeats heard so far.
    pub(crate) heartbeats: u32,
}

impl Agent {
    pub(crate) async fn attach(controller: &Controller, name: &str) -> Self {
        let (to_agent, hear) = mpsc::channel(64);
        let (tell, from_agent) = mpsc::channel(64);
        controller.attach(to_agent, from_agent).await;
        let agent = Self { name: name.to_owned(), tell, hear, heartbeats: 0 };
        let hello = AgentDescription {
            name: name.to_owned(),
            version: "0".into(),
            host: "here".into(),
            faults: FaultKind::ALL.to_vec(),
            ..AgentDescription::default()
        };
        agent.tell(FromAgent::Hello(hello)).await;
        agent
    }

    pub(crate) async fn tell(&self, message: FromAgent) {
        self.tell.send(message).await.unwrap();
    }

    /// The next message that is no heartbeat; `None` when the link closed.
    pub(crate) async fn hear(&mut self) -> Option<ToAgent> {
        loop {
            match timeout(DEADLINE, self.hear.recv()).await.expect("the controller says nothing") {
                Some(ToAgent::Heartbeat) => self.heartbeats += 1,
                other => return other,
            }
        }
    }

    pub(crate) async fn hear_prepare(&mut self) -> Assignment {
        match self.hear().await {
            Some(ToAgent::Prepare(assignment)) => *assignment,
            other => panic!("expected an assignment, heard {other:?}"),
        }
    }

    /// Accepts the next run up to its start.
    pub(crate) async fn begin(&mut self) -> RunId {
        let run = self.hear_prepare().await.run;
        self.tell(FromAgent::Prepared { run, warnings: Vec::new() }).await;
        match self.hear().await {
            Some(ToAgent::Start { run: started }) if started == run => run,
            other => panic!("expected the start, heard {other:?}"),
        }
    }

    pub(crate) async fn expect_halt(&mut self, run: RunId) {
        match self.hear().await {
            Some(ToAgent::Halt { run: halted }) if halted == run => {}
            other => panic!("expected a halt, heard {other:?}"),
        }
    }

    pub(crate) async fn expect_release(&mut self, run: RunId) {
        match self.hear().await {
            Some(ToAgent::Release { run: released }) if released == run => {}
            other => panic!("expected the release, heard {other:?}"),
        }
    }

    /// A second in which ten orders took `ms` each and `failed` of them failed, and five pages took 5 ms each.
    pub(crate) async fn second(&self, run: RunId, second: u32, ms: u64, failed: u64) {
        let mut requests = BTreeMap::from([("browse".to_owned(), request(5, 5, 0))]);
        requests.insert("create order".to_owned(), request(10, ms, failed));
        self.frame(run, second, requests).await;
    }

    pub(crate) async fn frame(&self, run: RunId, second: u32, requests: BTreeMap<String, RequestFrame>) {
        let arrivals = ArrivalFrame { scheduled: 160, started: 159, dropped: 1 };
        let mut lag = Latencies::new();
        lag.record_us(200);
        let frame = Frame {
            run,
            agent: self.name.clone(),
            second,
            requests,
            arrivals: BTreeMap::from([("shopper".to_owned(), arrivals)]),
            worker: WorkerFrame { busy_users: 3, lag, cpu_us: 1_500, resident_bytes: 1 << 20 },
        };
        self.tell(FromAgent::Frame(Box::new(frame))).await;
    }

    pub(crate) async fn seconds(&self, run: RunId, seconds: std::ops::Range<u32>, ms: u64, failed: u64) {
        for second in seconds {
            self.second(run, second, ms, failed).await;
        }
    }

    pub(crate) async fn fault(&self, run: RunId, state: FaultState, at_ms: u64) {
        let report = FaultReport { run, fault: "slow db".into(), state, at_ms, detail: format!("gw -> db is {state}") };
        self.tell(FromAgent::Fault(report)).await;
    }

    /// The whole load of [`experiment`] with [`FAULT`]: orders take `usual_ms`, and `slow_ms` while the fault lasts.
    pub(crate) async fn load_with_fault(&self, run: RunId, usual_ms: u64, slow_ms: u64) {
        self.seconds(run, 0..5, usual_ms, 0).await;
        self.fault(run, FaultState::Injecting, 5_000).await;
        self.fault(run, FaultState::Active, 5_020).await;
        self.seconds(run, 5..8, slow_ms, 1).await;
        self.fault(run, FaultState::Reverting, 7_950).await;
        self.fault(run, FaultState::Reverted, 8_000).await;
        self.seconds(run, 8..16, usual_ms, 0).await;
    }

    /// Carries out a whole run without faults.
    pub(crate) async fn carry_out(&mut self, ms: u64) -> RunId {
        let run = self.begin().await;
        self.seconds(run, 0..16, ms, 0).await;
        self.tell(FromAgent::LoadEnded { run, failure: None }).await;
        self.expect_release(run).await;
        run
    }
}

/// Measurements of one request name in one second.
pub(crate) fn request(count: u64, ms: u64, failed: u64) -> RequestFrame {
    let mut times = Latencies::new();
    (0..count).for_each(|_| times.record(Duration::from_millis(ms)));
    let failures = if failed > 0 { BTreeMap::from([("status 503".to_owned(), failed)]) } else { BTreeMap::new() };
    RequestFrame { count, failures, bytes: count * 100, response_time: times.clone(), service_time: times }
}
