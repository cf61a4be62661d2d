//! A controller with its API on a free port, and documents of results to hand in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kennel_controller::{Controller, ControllerConfig};
use kennel_model::experiment::{Builtin, Surroundings};
use kennel_model::target::Target;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
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

pub(crate) struct Stage {
    pub(crate) controller: Controller,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
    pub(crate) dir: TempDir,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = ControllerConfig {
            data_dir: dir.path().to_owned(),
            surroundings: Arc::new(World),
            library: Vec::new(),
            suites: Vec::new(),
            public_url: None,
            lease: Duration::from_secs(20),
        };
        let controller = Controller::open(config, CancellationToken::new()).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let router = kennel_controller::api::router(controller.clone());
        let tasks = TaskTracker::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await.unwrap();
        });
        Self { controller, base, client: reqwest::Client::new(), dir, stop, tasks }
    }

    pub(crate) fn data(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Posts a document as it is.
    pub(crate) async fn post_document(&self, query: &str, document: &str) -> (u16, Value) {
        let request = self.client.post(format!("{}/imports?{query}", self.base));
        let answer = request.header("content-type", "application/xml").body(document.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Imports a document into suite `nightly`; answers the run's id.
    pub(crate) async fn import(&self, document: &str) -> String {
        let (status, body) = self.post_document("suite=nightly", document).await;
        assert_eq!(status, 201, "{body}");
        body["run"]["id"].as_str().unwrap().to_owned()
    }

    /// The number of a test of suite `nightly`.
    pub(crate) async fn test(&self, name: &str) -> i64 {
        let tests = self.get("/tests?suite=nightly&limit=500").await;
        let found = tests["tests"].as_array().unwrap().iter().find(|test| test["name"] == name);
        found.unwrap_or_else(|| panic!("no test {name} in {tests}"))["id"].as_i64().unwrap()
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.controller.close().await;
    }
}

/// A JUnit document: `name: p` passes, `name: f why` fails, `name: s` is skipped, `name: r why` passes on a retry; a
/// number behind the name's `@` is how many milliseconds it took.
pub(crate) fn junit(cases: &[&str]) -> String {
    let case = |case: &&str| {
        let (name, how) = case.split_once(": ").unwrap();
        let (name, ms) = name.split_once('@').unwrap_or((name, "1"));
        let (how, why) = how.split_once(' ').unwrap_or((how, ""));
        let inner = match how {
            "p" => String::new(),
            "f" => format!("<failure message=\"{why}\">trace of {why}</failure>"),
            "s" => "<skipped/>".to_owned(),
            "r" => format!("<flakyFailure message=\"{why}\"/>"),
            other => panic!("{other} is no way to end"),
        };
        let seconds: f64 = ms.parse::<f64>().unwrap() / 1000.0;
        format!("<testcase classname=\"shop.Cart\" name=\"{name}\" time=\"{seconds}\">{inner}</testcase>")
    };
    format!("<testsuites><testsuite name=\"s\">{}</testsuite></testsuites>", cases.iter().map(case).collect::<String>())
}
