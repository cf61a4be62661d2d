//! A started system and a client of it, for the tests of this crate.
#![allow(
    dead_code,
    unused_macros,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a module of tests, of which each file uses a part"
)]

pub mod sources;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reference_system::audit::{AuditReport, Verdict};
use reference_system::switching::{self, Wanted};
use reference_system::{Launcher, RunningSystem, ServerOptions, Shape, SystemOptions, Tier, start};
use serde_json::{Value, json};

/// Makes two tests of each function that takes a [`Tier`]: the same must hold on files and on real servers.
macro_rules! on_both_tiers {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn embedded() {
                super::$name(reference_system::Tier::Embedded).await;
            }

            #[tokio::test]
            async fn real() {
                super::$name(reference_system::Tier::Real).await;
            }
        }
    )*};
}

/// Makes tests of each function that takes a [`Setting`]: the same must hold on files, on real servers, and in one process.
macro_rules! in_every_setting {
    ($($name:ident)*) => {$(
        mod $name {
            use crate::world::Setting;

            #[tokio::test]
            async fn embedded() {
                super::$name(Setting::EMBEDDED).await;
            }

            #[tokio::test]
            async fn real() {
                super::$name(Setting::REAL).await;
            }

            #[tokio::test]
            async fn monolith() {
                super::$name(Setting::MONOLITH).await;
            }
        }
    )*};
}

/// What a system stands on, and what it looks like.
#[derive(Clone, Copy)]
pub struct Setting {
    pub tier: Tier,
    pub shape: Shape,
}

impl Setting {
    pub const EMBEDDED: Self = Self { tier: Tier::Embedded, shape: Shape::Services };
    pub const REAL: Self = Self { tier: Tier::Real, shape: Shape::Services };
    pub const MONOLITH: Self = Self { tier: Tier::Embedded, shape: Shape::Monolith };

    pub fn apply(self, options: &mut SystemOptions) {
        options.tier = self.tier;
        options.shape = Some(self.shape);
    }
}

static KEYS: AtomicU64 = AtomicU64::new(1);

pub fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_reference-system").into(), prefix: Vec::new() }
}

pub struct World {
    pub system: RunningSystem,
    pub dir: tempfile::TempDir,
    pub http: reqwest::Client,
}

pub fn options(dir: PathBuf) -> SystemOptions {
    SystemOptions {
        respawn_after: Duration::from_millis(500),
        ready_within: Duration::from_secs(60),
        // The machine runs other tests beside this one.
        timeout_scale: 5,
        // A cluster of three has tests of its own.
        servers: ServerOptions { rabbitmq_nodes: 1, ..ServerOptions::default() },
        ..SystemOptions::new(dir, launcher())
    }
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn on(tier: Tier) -> Self {
        Self::start_with(|options| options.tier = tier).await
    }

    pub async fn set(setting: Setting) -> Self {
        Self::start_with(|options| setting.apply(options)).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut SystemOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path().join("system"));
        adjust(&mut options);
        let system = start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Self { system, dir, http: reqwest::Client::new() }
    }

    pub fn data(&self) -> PathBuf {
        self.system.state().dir.join("data")
    }

    /// Where everything of it is, also the servers that it started for itself; only its own account can read it.
    pub fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.system.state().dir.join("config.json")).unwrap()).unwrap()
    }

    /// The URL of its PostgreSQL server, and how the names of its databases begin there.
    pub fn databases(&self) -> (String, String) {
        let postgres = self.config()["stores"]["postgres"].clone();
        let text = |field: &str| postgres[field].as_str().unwrap().to_owned();
        (text("server"), text("prefix"))
    }

    /// `host:port` of an instance.
    pub fn address(&self, instance: &str) -> String {
        let state = self.system.state();
        state.instances.iter().find(|one| one.instance == instance).unwrap().address.to_string()
    }

    pub fn pid(&self, instance: &str) -> Option<u32> {
        let state = self.system.state();
        let found = state.instances.iter().find(|one| one.instance == instance).unwrap();
        std::fs::read_to_string(&found.pid_file).ok()?.trim().parse().ok()
    }

    pub async fn send(&self, method: &str, url: String, body: Option<Value>, key: &str) -> (u16, Value) {
        let mut request = self.http.request(method.parse().unwrap(), url).header("x-req-id", key);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", format!("{}{path}", self.system.state().gateway), None, "read").await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.post_as(&key(), path, body).await
    }

    pub async fn post_as(&self, key: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.system.state().gateway);
        self.send("POST", url, Some(body), key).await
    }

    pub async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn registry(&self, method: &str, path: &str) -> (u16, Value) {
        self.send(method, format!("{}{path}", self.system.state().registry), None, "r").await
    }

    /// Quotes one dish and gives the body of the create request.
    pub async fn basket(&self, user: i64, restaurant: i64, coupon: Option<i64>) -> Value {
        let wish = json!({
            "user_id": user, "restaurant_id": restaurant, "coupon_id": coupon,
            "items": [{ "dish_id": restaurant * 100 + 3, "quantity": 2 }],
        });
        let quote = self.ok("/quote", wish).await;
        json!({
            "user_id": user, "restaurant_id": restaurant, "address": "5 Test Road",
            "quote_token": quote["quote_token"],
        })
    }

    pub async fn create(&self, user: i64, restaurant: i64, coupon: Option<i64>) -> Value {
        let basket = self.basket(user, restaurant, coupon).await;
        self.ok("/orders", basket).await
    }

    pub async fn status_is(&self, id: &str, status: i64) -> Value {
        eventually(&format!("order {id} has status {status}"), || async {
            let (_, order) = self.get(&format!("/orders/{id}")).await;
            (order["status"] == status).then_some(order)
        })
        .await
    }

    /// Pays an order and lets its merchant accept it.
    pub async fn accepted(&self, user: i64, restaurant: i64, coupon: Option<i64>) -> String {
        let id = id_of(&self.create(user, restaurant, coupon).await);
        self.ok(&format!("/orders/{id}/pay"), Value::Null).await;
        self.status_is(&id, 0).await;
        self.ok(&format!("/restaurants/{restaurant}/orders/{id}/accept"), Value::Null).await;
        id
    }

    /// Brings an order from its creation to its settlement.
    pub async fn settled(&self, user: i64, restaurant: i64, coupon: Option<i64>) -> String {
        let id = self.accepted(user, restaurant, coupon).await;
        self.ok(&format!("/orders/{id}/delivered"), Value::Null).await;
        self.ok(&format!("/orders/{id}/confirm"), Value::Null).await;
        self.is_settled(&id).await;
        id
    }

    pub async fn is_settled(&self, id: &str) -> Value {
        eventually(&format!("order {id} is settled"), || async {
            let (_, order) = self.get(&format!("/orders/{id}")).await;
            order["settled_at_ms"].is_i64().then_some(order)
        })
        .await
    }

    /// Asks an instance of a service itself: what is between it and the gateway is not for clients.
    pub async fn ask(&self, method: &str, service: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let instance = self.system.state().instances.iter().find(|one| one.service == service).unwrap();
        self.send(method, format!("http://{}{path}", instance.address), body, "asked").await
    }

    /// Sets a switch and waits until every instance of these services says so.
    pub async fn switch(&self, name: &str, value: &str, services: &[&str]) {
        let wanted = reference_system::switching::Wanted {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            instance: None,
        };
        let dir = &self.system.state().dir;
        reference_system::switching::set(dir, &wanted).await.unwrap_or_else(|error| panic!("{error}"));
        let of = |service: &str| services.contains(&service);
        for one in self.system.state().instances.iter().filter(|one| of(&one.service)) {
            let line = format!("switch_active{{name=\"{name}\",value=\"{value}\",instance=\"{}\"}} 1", one.instance);
            eventually(&line, || async {
                let url = format!("http://{}/metrics", one.address);
                let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
                text.contains(&line).then_some(())
            })
            .await;
        }
    }

    /// Makes and pays orders until told to stop, and puts down those that were acknowledged.
    pub async fn make_orders(&self, stop: &AtomicBool, acknowledged: &Mutex<Vec<String>>) {
        let mut user = 100;
        while !stop.load(Ordering::Relaxed) {
            user += 1;
            let basket = self.basket(user, 17, None).await;
            let (status, order) = self.post("/orders", basket).await;
            if status == 200 {
                let id = id_of(&order);
                self.post(&format!("/orders/{id}/pay"), Value::Null).await;
                acknowledged.lock().unwrap().push(id);
            }
        }
    }

    /// What an instance tells in `/metrics`.
    pub async fn metrics(&self, instance: &str) -> String {
        let url = format!("http://{}/metrics", self.address(instance));
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// A connection to the key-value server that a role looks after.
    pub async fn key_values(&self, role: &str) -> redis::aio::MultiplexedConnection {
        let url = self.system.state().key_values[role].clone();
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// What RabbitMQ's own command says on the first node that this system runs.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let environment = std::fs::read(format!("/proc/{}/environ", self.pid("rabbitmq-1").unwrap())).unwrap();
        let wanted = ["PATH", "HOME", "LANG", "ERL_EPMD_", "RABBITMQ_NODENAME", "RABBITMQ_CONF_ENV_FILE"];
        let environment: BTreeMap<String, String> = String::from_utf8(environment)
            .unwrap()
            .split('\0')
            .filter_map(|entry| entry.split_once('='))
            .filter(|(name, _)| wanted.iter().any(|start| name.starts_with(start)))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let asked = std::process::Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
            .arg("-q")
            .args(arguments)
            .env_clear()
            .envs(environment)
            .output()
            .unwrap();
        assert!(asked.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    }

    pub async fn audit(&self) -> AuditReport {
        let url = format!("{}/audit?quiesce_ms=20000", self.system.state().auditor);
        let (status, report) = self.send("GET", url, None, "audit").await;
        assert_eq!(status, 200, "{report}");
        serde_json::from_value(report).unwrap()
    }

    pub async fn assert_valid(&self) -> AuditReport {
        let report = self.audit().await;
        assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
        assert!(report.quiet);
        report
    }
}

/// Polls until there is an answer; fails after a generous while.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the process runs (a dead one that nobody has waited for does not).
pub fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

pub fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// The value of `text` in an order.
pub fn id_of(order: &Value) -> String {
    order["order_id"].as_str().unwrap_or_else(|| panic!("no order: {order}")).to_owned()
}

/// Copies the files of a system that is down, without its servers' folders.
pub fn copy_of(data: &std::path::Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(data).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    to
}

/// Runs statements on a store file.
pub async fn spoil(file: &std::path::Path, sql: &str) {
    use sqlx::{ConnectOptions, Connection};
    assert!(file.exists(), "{}", file.display());
    let spoilt = async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
        connection.close().await
    };
    spoilt.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// What an audit says of an invariant.
pub fn verdict_of(report: &AuditReport, id: &str) -> Verdict {
    report.invariants.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no {id}")).verdict
}

/// A key that no other request has.
pub fn key() -> String {
    format!("key-{}", KEYS.fetch_add(1, Ordering::Relaxed))
}

pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// What an instance tells of itself.
pub async fn state_of(world: &World, instance: &str) -> Value {
    let url = format!("http://{}/debug/state", world.address(instance));
    world.send("GET", url, None, "read").await.1
}

/// Sets a switch, everywhere or at one instance; `None` sets it back to its default.
pub async fn set(world: &World, name: &str, value: Option<&str>, instance: Option<&str>) {
    let wanted =
        Wanted { name: name.to_owned(), value: value.map(str::to_owned), instance: instance.map(str::to_owned) };
    switching::set(&world.system.state().dir, &wanted).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Waits until each of these instances says that the value is in force.
pub async fn obeyed(world: &World, name: &str, value: &str, instances: &[&str]) {
    for instance in instances {
        let state =
            world.system.state().instances.iter().find(|one| one.instance == *instance).expect("the instance").clone();
        let line = format!("switch_active{{name=\"{name}\",value=\"{value}\",instance=\"{instance}\"}} 1");
        eventually(&line, || async {
            let url = format!("http://{}/metrics", state.address);
            let text = world.http.get(url).send().await.ok()?.text().await.ok()?;
            text.contains(&line).then_some(())
        })
        .await;
    }
}
