//! What the tests of the whole product share: the built command, a data directory, polling with a deadline.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "every test binary uses its own part")]

pub mod provider;
pub mod visitor;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The built `kennel`.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_kennel")
}

/// Where `./test` installs the real tools that tests run.
pub fn test_tools() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
    std::env::var_os("KENNEL_TEST_TOOLS").map_or(built, PathBuf::from)
}

/// Polls until `reached` gives something, or fails with `what` and where things stood.
pub fn eventually<T>(what: &str, within: Duration, mut reached: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = reached() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A TCP port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A data directory of one's own, and `kennel` on it.
pub struct Kennel {
    dir: tempfile::TempDir,
}

impl Kennel {
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("kennel-test-").tempdir().unwrap() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env("KENNEL_DATA", self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must end with `code`, and gives its standard output.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "kennel {arguments:?}\n--- stdout\n{out}\n--- stderr\n{err}");
        out
    }

    /// Writes a file into the data directory.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs an experiment and gives the finished run.
    pub fn experiment(&self, code: i32, yaml: &str) -> Value {
        let path = self.file("experiment.yaml", yaml);
        serde_json::from_str(&self.expect(code, &["run", path.to_str().unwrap(), "--json"])).unwrap()
    }

    /// Runs a command that is given wrong input: it must end with 2 and say each of these parts.
    pub fn refuses(&self, arguments: &[&str], parts: &[&str]) {
        let output = self.run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "kennel {arguments:?}\n{err}");
        for part in parts {
            assert!(err.contains(part), "kennel {arguments:?} does not say `{part}`:\n{err}");
        }
        assert!(!err.contains("1:1:"), "what is no file has no lines:\n{err}");
    }

    /// Starts `kennel serve`, and does not wait for it.
    pub fn start_serving(&self) -> Running {
        Running(self.command(&["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Starts `kennel serve` and waits until it answers.
    pub fn serve(&self) -> Serving {
        self.serve_with(self.command(&["serve", "--listen", "127.0.0.1:0"]))
    }

    /// As [`Self::serve`], by a command with settings of its own.
    pub fn serve_with(&self, mut command: Command) -> Serving {
        let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
        let (url, secret) = eventually("kennel serve is up", Duration::from_secs(20), || {
            assert!(running.0.try_wait().unwrap().is_none(), "kennel serve ended");
            let file: Value =
                serde_json::from_str(&std::fs::read_to_string(self.dir().join("server.json")).ok()?).ok()?;
            let word = |field: &str| file[field].as_str().unwrap().to_owned();
            // A killed server leaves its file behind.
            (file["pid"] == running.0.id()).then(|| (word("url"), word("secret")))
        });
        Serving { process: running, url, secret }
    }

    /// Starts the reference system and declares it here; it goes down when the result is dropped.
    pub fn system(&self) -> System<'_> {
        let state =
            serde_json::from_str(&self.expect(0, &["system", "up", "--json", "--respawn-after", "1s"])).unwrap();
        System { kennel: self, state }
    }
}

/// A running reference system.
pub struct System<'a> {
    kennel: &'a Kennel,
    pub state: Value,
}

impl System<'_> {
    pub fn pid_of(&self, instance: &str) -> i32 {
        let found = self.state["instances"].as_array().unwrap().iter().find(|i| i["instance"] == instance).unwrap();
        std::fs::read_to_string(found["pid_file"].as_str().unwrap()).unwrap().trim().parse().unwrap()
    }
}

impl Drop for System<'_> {
    fn drop(&mut self) {
        let _ = self.kennel.run(&["system", "down"]);
    }
}

/// A child that is killed when the test is over, however it ends.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end and gives the exit code.
    pub fn code(&mut self, within: Duration) -> Option<i32> {
        eventually("the process ends", within, || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first, so that it can stop its own children.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(15);
            while Instant::now() < deadline && self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `kennel serve`, asked as commands on its machine ask it.
pub struct Serving {
    pub process: Running,
    pub url: String,
    /// What such commands send.
    pub secret: String,
}

impl Serving {
    /// Asks for something that must be there.
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).1
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, Some(body))
    }

    pub fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("PUT", path, Some(body))
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(method, &format!("{}/api/v1{path}", self.url), Some(&self.secret), body)
    }

    /// Starts a run and gives its id.
    pub fn start(&self, experiment: &str) -> String {
        let (status, answer) = self.post("/runs", &serde_json::json!({ "experiment": experiment }));
        assert_eq!(status, 201, "{answer:#}");
        answer["id"].as_str().unwrap().to_owned()
    }
}

/// Asks a URL for JSON.
pub fn get(url: &str) -> Value {
    ask("GET", url, None, None).1
}

/// The status of an answer and its JSON, if it is any; `token` says who asks.
pub fn ask(method: &str, url: &str, token: Option<&str>, body: Option<&Value>) -> (u16, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    blocking(async move |client: reqwest::Client| {
        let mut request = client.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    })
}

/// Asks a URL for text; ends with the stream.
pub fn get_text(url: &str) -> String {
    let url = url.to_owned();
    blocking(async move |client: reqwest::Client| client.get(url).send().await.unwrap().text().await.unwrap())
}

/// On a thread of its own, so that tests which are asynchronous themselves may ask too.
fn blocking<T: Send>(work: impl AsyncFnOnce(reqwest::Client) -> T + Send) -> T {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(reqwest::Client::builder().no_proxy().build().unwrap()).await })
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Command lines of all processes that mention `needle`.
pub fn processes_mentioning(needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = text(&bytes).replace('\0', " ");
        if line.contains(needle) {
            found.push(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Pids of the children of a process.
pub fn children_of(pid: u32) -> Vec<i32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(pid) {
            children.push(child);
        }
    }
    children
}

/// State letter of a process, if it exists.
pub fn process_state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// An HTTP server in a process of its own, for load that needs only an answer: the fault proxy's own API.
pub struct HttpProcess {
    pub process: Running,
    pub port: u16,
}

impl HttpProcess {
    pub fn start() -> Self {
        let port = free_port();
        let child =
            Command::new(program()).args(["proxy", "--port", &port.to_string()]).stdout(Stdio::null()).spawn().unwrap();
        let process = Running(child);
        eventually("the HTTP server listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { process, port }
    }

    /// An inline target for it, with further lines.
    pub fn target(&self, more: &str) -> String {
        let port = self.port;
        format!(
            "{{ name: http, base_url: 'http://127.0.0.1:{port}', allowed_hosts: ['127.0.0.1'], limits: {{ faults: [latency, pause, kill] }}{more} }}"
        )
    }
}

/// Runs `bench/pages.py`.
pub fn bench(arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/pages.py");
    let output = Command::new("python3").arg("-B").arg(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

/// Fills a data directory as years of use would: three of ten runs are of experiments, the others of suites.
pub fn fill(kennel: &Kennel, runs: u32, suites: u32, tests: u32) {
    let server = HttpProcess::start();
    // One real run is the model of the others.
    kennel.experiment(
        0,
        &format!(
            "version: 1
name: model
target: {}
load: {{ model: open, stages: [{{ rate: 20/s, duration: 2s }}] }}
scenarios: [{{ name: visitors, steps: [{{ name: version, path: /version }}] }}]
objectives: ['p50 < 5s']
",
            server.target("")
        ),
    );
    let counts = [runs, suites, tests].map(|count| count.to_string());
    let data = kennel.dir().to_str().unwrap();
    bench(&["fill", data, "--runs", &counts[0], "--suites", &counts[1], "--tests", &counts[2]]);
}
