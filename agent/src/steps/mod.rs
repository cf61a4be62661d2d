//! Steps of suites on this agent: any number beside the one run that it conducts. A [`check`] sends one request within the
//! target's boundary; a [`command`] runs what the agent's configuration names, under a [`guard`] process that ends
//! everything the command started when it is over, told to end, or the agent is gone. [`files`] finds what it left.

mod check;
mod command;
mod files;
pub mod guard;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kennel_model::api::Outcome;
use kennel_model::command::AgentFile;
use kennel_model::protocol::{FromAgent, StepAssignment, StepId, StepReport, StepTask};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the controller may take to accept a piece of a log.
const TELLING: Duration = Duration::from_secs(10);

/// What steps need of their agent.
#[derive(Clone)]
pub(crate) struct Bench {
    /// The agent's name.
    pub(crate) agent: String,
    /// Its configuration: the only commands that there are.
    pub(crate) file: Arc<AgentFile>,
    /// Where commands get their fresh folders.
    pub(crate) folder: PathBuf,
    /// Command that runs [`guard::main`].
    pub(crate) guard_command: Vec<OsString>,
    /// When the controller was last heard of.
    pub(crate) heard: watch::Receiver<Instant>,
    pub(crate) to_controller: mpsc::Sender<FromAgent>,
}

/// Why a step is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Early {
    /// Its time is over.
    Late,
    /// It was told to end.
    Told,
    /// The controller is not heard of any more.
    Silence,
}

/// The steps that are under way.
pub(crate) struct Steps {
    bench: Bench,
    under_way: Arc<Mutex<BTreeMap<StepId, CancellationToken>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Steps {
    pub(crate) fn new(bench: Bench) -> Self {
        Self { bench, under_way: Arc::default(), tasks: TaskTracker::new(), shutdown: CancellationToken::new() }
    }

    fn under_way(
        map: &Mutex<BTreeMap<StepId, CancellationToken>>,
    ) -> MutexGuard<'_, BTreeMap<StepId, CancellationToken>> {
        map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a step.
    pub(crate) fn start(&self, assignment: StepAssignment) {
        let told = self.shutdown.child_token();
        let id = assignment.step.clone();
        Self::under_way(&self.under_way).insert(id.clone(), told.clone());
        let (bench, under_way) = (self.bench.clone(), Arc::clone(&self.under_way));
        self.tasks.spawn(async move {
            let work = Work { bench: &bench, assignment: &assignment, told: &told };
            let report = work.carry_out().await;
            // Anybody who asks for this step's end from now on has it.
            Self::under_way(&under_way).remove(&id);
            work.tell(FromAgent::StepDone { step: id, report }).await;
        });
    }

    /// Ends a step, if it is under way.
    pub(crate) fn stop(&self, step: &StepId) {
        if let Some(told) = Self::under_way(&self.under_way).get(step) {
            told.cancel();
        }
    }

    /// Ends every step and waits until nothing of them is left.
    pub(crate) async fn end(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// One step while it is under way.
struct Work<'a> {
    bench: &'a Bench,
    assignment: &'a StepAssignment,
    told: &'a CancellationToken,
}

impl Work<'_> {
    async fn carry_out(&self) -> StepReport {
        match &self.assignment.task {
            StepTask::Check { check, target } => {
                tokio::select! {
                    report = check::send(self, check, target) => report,
                    early = self.early() => cut_short(early, self.assignment.timeout),
                }
            }
            StepTask::Command { command, arguments } => command::run(self, command, arguments).await,
        }
    }

    /// Resolves when the step is to end before its time. Commands have a limit of their own beside this one.
    async fn early(&self) -> Early {
        tokio::select! {
            () = self.told.cancelled() => Early::Told,
            () = tokio::time::sleep(self.assignment.timeout) => Early::Late,
            () = self.silence() => Early::Silence,
        }
    }

    /// Resolves when nothing was heard of the controller for longer than the lease.
    async fn silence(&self) {
        let mut heard = self.bench.heard.clone();
        loop {
            let deadline = *heard.borrow_and_update() + self.assignment.lease;
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = heard.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn log(&self, text: impl Into<String>) {
        self.tell(FromAgent::StepLog { step: self.assignment.step.clone(), text: text.into() }).await;
    }

    async fn tell(&self, message: FromAgent) {
        // A controller that takes nothing any more must not keep a command from being ended.
        let _ = self.bench.to_controller.send_timeout(message, TELLING).await;
    }
}

/// What is reported of a step that could not be carried out.
fn refused(message: impl Into<String>) -> StepReport {
    StepReport { outcome: Outcome::Error, message: message.into(), assertions: Vec::new(), ran_to_its_end: false }
}

fn cut_short(early: Early, limit: Duration) -> StepReport {
    let limit = kennel_model::units::format_duration(limit);
    let (outcome, message) = match early {
        Early::Late => (Outcome::Failed, format!("not over after {limit}, and ended for that")),
        Early::Told => (Outcome::Error, "cancelled".to_owned()),
        Early::Silence => (Outcome::Error, "ended because nothing was heard of the controller any more".to_owned()),
    };
    StepReport { outcome, message, assertions: Vec::new(), ran_to_its_end: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::RunId;
    use kennel_model::target::Target;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// Carries out one step on an agent that names no command.
    async fn carried_out(task: serde_json::Value) -> (StepReport, String) {
        let dir = tempfile::tempdir().unwrap();
        let (_beat, heard) = watch::channel(Instant::now());
        let (to_controller, mut told) = mpsc::channel(64);
        let bench = Bench {
            agent: "test".into(),
            file: Arc::default(),
            folder: dir.path().join("steps"),
            guard_command: vec!["false".into()],
            heard,
            to_controller,
        };
        let steps = Steps::new(bench);
        let step = StepId { run: RunId::new(), path: "steps/0".into(), attempt: 1 };
        let seconds = Duration::from_secs(20);
        let task = serde_json::from_value(task).unwrap();
        steps.start(StepAssignment { step, task, timeout: seconds, lease: seconds });
        let mut log = String::new();
        loop {
            match told.recv().await.unwrap() {
                FromAgent::StepLog { text, .. } => log.push_str(&text),
                FromAgent::StepDone { report, .. } => return (report, log),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn check(target: &Target, url: &str) -> serde_json::Value {
        serde_json::json!({ "task": "check", "target": target, "check": {
            "method": "POST", "url": url, "headers": { "x-trace": "7" }, "json": { "dish": "soup" },
            "expect": { "status": 201, "headers": { "x-kitchen": "*" }, "json": { "/dish": "salad" } },
        }})
    }

    fn target(port: u16) -> Target {
        serde_json::from_value(serde_json::json!({
            "name": "shop", "base_url": format!("http://127.0.0.1:{port}"), "allowed_hosts": [format!("127.0.0.1:{port}")],
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_command_that_the_configuration_does_not_name_is_not_started() {
        let task = serde_json::json!({ "task": "command", "command": "sh", "arguments": ["-c", "exit 0"] });
        let (report, log) = carried_out(task).await;
        assert_eq!(report.outcome, Outcome::Error);
        let why = "agent `test` has no command `sh`: its configuration names none; nothing was started";
        assert_eq!((report.message.as_str(), log.trim()), (why, why));
    }

    #[tokio::test]
    async fn a_host_that_the_target_does_not_declare_gets_no_packet() {
        let (allowed, forbidden) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let url = format!("http://localhost:{}/", forbidden.local_addr().unwrap().port());
        let (report, _) = carried_out(check(&target(allowed.local_addr().unwrap().port()), &url)).await;
        assert_eq!(report.outcome, Outcome::Error);
        assert!(
            report.message.contains("is outside target `shop`") && report.message.ends_with("nothing was sent"),
            "{}",
            report.message
        );
        for listener in [allowed, forbidden] {
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn a_check_tells_every_assertion_with_what_came() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut heard = String::new();
            let mut part = [0; 4096];
            while !heard.contains("soup") {
                let read = socket.read(&mut part).unwrap();
                heard.push_str(&String::from_utf8_lossy(&part[..read]));
            }
            let body = r#"{"dish": "soup"}"#;
            let head = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nx-kitchen: open";
            write!(socket, "{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
            heard
        });
        let (report, log) = carried_out(check(&target(port), "/orders")).await;
        let heard = server.join().unwrap();
        assert!(heard.starts_with("POST /orders HTTP/1.1") && heard.contains("x-trace: 7"), "{heard}");
        let told: Vec<_> = report.assertions.iter().map(|a| (a.what.as_str(), a.actual.as_str(), a.holds)).collect();
        // A redirect is an answer like any other: it is not followed.
        assert_eq!(told, [("status", "302", false), ("header x-kitchen", "open", true), ("/dish", "\"soup\"", false)]);
        assert_eq!(
            (report.outcome, report.message.as_str()),
            (Outcome::Failed, "status: expected 201, got 302 (and 1 more)")
        );
        assert!(
            log.contains("HTTP 302") && log.contains("x-kitchen: open") && log.contains(r#"{"dish": "soup"}"#),
            "{log}"
        );
    }
}
