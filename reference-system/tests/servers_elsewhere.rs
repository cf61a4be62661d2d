//! A system on servers that somebody else runs: given by address, shared with another system, kept apart from it, left
//! running in the end, and with `--purge` left as they were.

#![allow(clippy::unwrap_used, reason = "a test may fail at any line")]

mod world;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use redis::AsyncCommands as _;
use reference_system::Tier;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use world::{World, eventually, id_of, launcher};

/// A server of the test's own, ended with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn run(program: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

async fn listed(world: &World) -> Vec<String> {
    let (_, list) = world.registry("GET", "/svc/eos-c").await;
    let addresses = list.as_array().into_iter().flatten().filter_map(|one| one["address"].as_str().map(str::to_owned));
    addresses.collect()
}

/// What a system has on servers that it shares.
struct Guest {
    /// How its databases and keys begin.
    name: String,
    dir: PathBuf,
    redis: String,
    etcd: String,
}

impl Guest {
    fn of(world: &World, redis: &str, etcd: &str) -> Self {
        let (name, dir) = (world.databases().1, world.system.state().dir.clone());
        Self { name, dir, redis: redis.to_owned(), etcd: etcd.to_owned() }
    }

    async fn key_values(&self, database: usize) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("{}/{database}", self.redis)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// How many things there are of it, by kind.
    async fn left(&self, host: &World) -> Vec<(&'static str, usize)> {
        let mut server = PgConnection::connect(&format!("{}/postgres", host.databases().0)).await.unwrap();
        let databases: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE starts_with(datname, $1)")
            .bind(&self.name)
            .fetch_one(&mut server)
            .await
            .unwrap();
        let mut keys = 0;
        for database in 0..3 {
            let found: Vec<String> = self.key_values(database).await.keys(format!("{}*", self.name)).await.unwrap();
            keys += found.len();
        }
        // From its first key to the first behind all of its keys: a digit is before a colon.
        let key = |end: &str| BASE64.encode(format!("/{}{end}", self.name));
        let range = json!({ "key": key(""), "range_end": key(":"), "count_only": true });
        let answer = host.http.post(format!("{}/v3/kv/range", self.etcd)).body(range.to_string()).send().await.unwrap();
        let found: Value = answer.json().await.unwrap();
        let registered = found["count"].as_str().map_or(0, |count| count.parse().unwrap());
        let named = |list: &str| {
            let told = host.rabbitmqctl(&[list, "-p", "guest", "name"]);
            // Those of the broker itself are called so, or have no name; the first line names the column.
            told.lines().filter(|name| !["", "name"].contains(name) && !name.starts_with("amq.")).count()
        };
        let (queues, exchanges) = (named("list_queues"), named("list_exchanges"));
        vec![
            ("databases", usize::try_from(databases).unwrap()),
            ("keys", keys),
            ("registrations", registered),
            ("queues", queues),
            ("exchanges", exchanges),
        ]
    }

    /// Exit code and errors of `down --purge`.
    fn purge(&self) -> (Option<i32>, String) {
        let mut down = Command::new(launcher().program);
        let out = down.args(["down", "--purge", "--dir"]).arg(&self.dir).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    }
}

async fn links(world: &World, api: &str) -> usize {
    let answer = world.http.get(format!("{api}/proxies")).send().await.unwrap();
    let known: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    known.as_object().unwrap().len()
}

#[tokio::test]
async fn two_systems_on_the_same_servers_keep_apart_and_leave_the_servers_as_they_were() {
    let host = World::on(Tier::Real).await;
    let servers = host.config();
    let url = |pointer: &str| {
        let found = servers.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("no {pointer} in {servers:#}")).to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    let (redis_port, proxy_port) = (free_port().to_string(), free_port().to_string());
    let folder = dir.path().display().to_string();
    let redis = ["--port", &redis_port, "--bind", "127.0.0.1", "--dir", &folder, "--save", ""];
    let redis_server = run(Path::new("redis-server"), &redis);
    let proxy = launcher().program.with_file_name("examples").join("plain-proxy");
    let _proxy = run(&proxy, &["--host", "127.0.0.1", "--port", &proxy_port]);
    let toxiproxy = format!("http://127.0.0.1:{proxy_port}");
    // A virtual host of its own on the host's broker; of the two nodes that are named, one is down.
    let broker = url("/broker/rabbit_mq/0");
    let (user, _) = broker.trim_start_matches("amqp://").split_once(':').unwrap();
    host.rabbitmqctl(&["add_vhost", "guest"]);
    host.rabbitmqctl(&["set_permissions", "-p", "guest", user, ".*", ".*", ".*"]);
    let (login, _) = broker.rsplit_once('@').unwrap();
    let nodes = vec![format!("{login}@127.0.0.1:{}/guest", free_port()), format!("{broker}/guest")];
    let named = |world: &mut reference_system::SystemOptions| {
        world.tier = Tier::Real;
        world.servers.postgres = Some(url("/stores/postgres/server"));
        world.servers.etcd = Some(url("/registry_store/url"));
        world.servers.rabbitmq = nodes.clone();
        world.servers.redis = Some(format!("redis://127.0.0.1:{redis_port}"));
        world.toxiproxy = Some(toxiproxy.clone());
    };
    let guest = World::start_with(named).await;

    // Each has its own orders, its own registrations and its own books.
    let (mine, theirs) = (host.settled(7, 17, None).await, guest.settled(7, 17, None).await);
    assert_eq!(id_of(&guest.get(&format!("/orders/{theirs}")).await.1), theirs);
    let (own, foreign) = (listed(&host).await, listed(&guest).await);
    assert!(
        !own.is_empty() && !foreign.is_empty() && own.iter().all(|one| !foreign.contains(one)),
        "{own:?} {foreign:?}"
    );
    for (world, id) in [(&host, &mine), (&guest, &theirs)] {
        let (_, list) = world.get("/users/7/orders").await;
        let ids: Vec<String> = list.as_array().unwrap().iter().map(id_of).collect();
        assert_eq!(ids, [id.as_str()], "the orders of another system");
        world.assert_valid().await;
    }
    let queues = |vhost: &str| host.rabbitmqctl(&["list_queues", "-p", vhost, "name"]).lines().count();
    assert!(queues("guest") > 5 && queues("/") > 5, "each has its own queues");
    let running = guest.system.state().instances.iter().map(|one| one.service.as_str());
    let started: Vec<&str> =
        running.filter(|service| ["postgres", "etcd", "redis-cache", "rabbitmq", "epmd"].contains(service)).collect();
    assert!(started.is_empty(), "started although another was named: {started:?}");

    // Its calls go through the proxy that was named, and it takes its links back.
    let count = guest.system.state().links.len();
    assert_eq!((links(&guest, &toxiproxy).await, count > 0), (count, true));
    // Registrations go with their instances; what a switch is set to stays.
    world::set(&guest, "lb", Some("rr"), None).await;
    let guests = Guest::of(&guest, &format!("redis://127.0.0.1:{redis_port}"), &url("/registry_store/url"));
    let World { system, dir: _kept, .. } = guest;
    system.stop().await.unwrap();
    eventually("the proxy is as it was", || async { (links(&host, &toxiproxy).await == 0).then_some(()) }).await;

    // It leaves what it has made there until it is told otherwise, and nobody else's then.
    let left = guests.left(&host).await;
    assert!(left.iter().all(|(_, count)| *count > 0), "{left:?}");
    guests.key_values(0).await.set::<_, _, ()>("theirs", "kept").await.unwrap();
    let stopped = nix::sys::signal::Signal::SIGSTOP;
    world::signal(redis_server.0.id(), stopped);
    let (code, told) = guests.purge();
    let silent = format!("the keys {}:… in databases 0 to 2 of redis://127.0.0.1:{redis_port} (", guests.name);
    assert!(code == Some(1) && told.contains(&silent) && told.contains("run it again"), "{code:?} {told}");
    assert!(!told.contains(login), "a password is told: {told}");
    assert!(guests.dir.exists(), "nobody would know any more what is left");
    world::signal(redis_server.0.id(), nix::sys::signal::Signal::SIGCONT);
    assert_eq!(guests.purge(), (Some(0), String::new()));
    let nothing = left.into_iter().map(|(what, _)| (what, 0)).collect::<Vec<_>>();
    assert_eq!(guests.left(&host).await, nothing);
    assert_eq!(guests.key_values(0).await.get::<_, String>("theirs").await.unwrap(), "kept");
    assert!(!guests.dir.exists());
    host.settled(8, 17, None).await;
    host.assert_valid().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut options = world::options(dir.path().join("system"));
    options.toxiproxy = Some(nobody.clone());
    options.ready_within = std::time::Duration::from_secs(2);
    let error = reference_system::start(options).await.unwrap_err().to_string();
    assert!(error.contains(&nobody) && error.contains("/version"), "{error}");
    let mut options = world::options(dir.path().join("other"));
    options.toxiproxy = Some("http://no-such-host.invalid:8474".to_owned());
    let error = reference_system::start(options).await.unwrap_err().to_string();
    assert!(error.contains("no-such-host.invalid") && error.contains("http://HOST:PORT"), "{error}");
}
