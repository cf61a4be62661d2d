//! What holds for every key-value server, ours and Redis: each test runs against both.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, Value, cmd};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Kv, KvClients, KvError};
use super::script::{ACQUIRE, NEWER, RELEASE, REPLACE};
use super::server::Server;
use super::{KeyValues, Purpose};
use crate::config::Ejection;
use crate::rpc::Directory;
use crate::rpc::directory::Listing;
use crate::switches::Setting;

/// A server of its own for one test.
struct Subject {
    address: SocketAddr,
    kv: Kv,
    stop: CancellationToken,
    _redis: Option<(Child, tempfile::TempDir)>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Subject {
    async fn ours() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        Server::open(None).unwrap().serve(listener, &TaskTracker::new(), stop.clone());
        Self::at(address, stop, None).await
    }

    async fn redis() -> Self {
        let address = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let server = tokio::process::Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &address.port().to_string()])
            .current_dir(dir.path())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed (Debian: package redis-server)");
        Self::at(address, CancellationToken::new(), Some((server, dir))).await
    }

    async fn at(address: SocketAddr, stop: CancellationToken, redis: Option<(Child, tempfile::TempDir)>) -> Self {
        let kv = Kv::new(&KeyValues::Servers([address; 3]), Purpose::Cache, Duration::from_secs(5));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !kv.answers().await {
            assert!(std::time::Instant::now() < deadline, "the server at {address} never answered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { address, kv, stop, _redis: redis }
    }

    /// Writes until it refuses, and gives why it does.
    async fn fill(&self) -> KvError {
        self.kv.configure("maxmemory", "6000000").await.unwrap();
        self.kv.configure("maxmemory-policy", "noeviction").await.unwrap();
        for n in 0..200 {
            if let Err(error) = self.kv.put(&format!("k{n}"), &[b'x'; 100_000], Duration::from_secs(600)).await {
                // What was full to the brim may have a little room again: Redis counts its buffers, too.
                self.kv.configure("maxmemory", "3000000").await.unwrap();
                return error;
            }
        }
        panic!("it takes everything");
    }

    async fn raw(&self, command: &Cmd) -> Result<Value, RedisError> {
        let client = redis::Client::open(format!("redis://{}", self.address)).unwrap();
        command.query_async(&mut client.get_multiplexed_async_connection().await.unwrap()).await
    }

    /// What a command answers, as text.
    async fn says(&self, words: &[&str]) -> String {
        match self.raw(cmd(words[0]).arg(&words[1..])).await {
            Ok(value) => text(&value),
            Err(error) => format!("error {}", error.code().unwrap_or("?")),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Okay => "OK".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::SimpleString(text) => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(parts) => format!("[{}]", parts.iter().map(text).collect::<Vec<_>>().join(" ")),
        other => format!("{other:?}"),
    }
}

macro_rules! on_both_servers {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn ours() {
                super::$name(super::Subject::ours().await).await;
            }

            #[tokio::test]
            async fn redis() {
                super::$name(super::Subject::redis().await).await;
            }
        }
    )*};
}

on_both_servers! {
    commands_answer_alike
    lives_end
    values_are_bytes
    keys_are_found_by_pattern
    a_lock_is_released_by_its_holder_only_and_each_taking_has_a_higher_number
    a_value_is_replaced_only_where_the_expected_one_is
    an_older_revision_does_not_overwrite_a_newer_one
    many_keys_are_written_at_once_and_found_by_pattern
    a_full_server_refuses_or_gives_way_as_it_is_told
}

async fn commands_answer_alike(subject: Subject) {
    for (words, answer) in [
        ("PING", "PONG"),
        ("SET a 1", "OK"),
        ("SET a 2 NX", "nil"),
        ("SET b x NX PX 60000", "OK"),
        ("SET c x EX 60", "OK"),
        ("SET c x PX 0", "error ERR"),
        ("SET c x PX", "error ERR"),
        ("SET c x WHAT", "error ERR"),
        ("SET c", "error ERR"),
        ("GET a", "1"),
        ("GET none", "nil"),
        ("MGET a none b", "[1 nil x]"),
        ("EXISTS a b none a", "3"),
        ("PTTL a", "-1"),
        ("PTTL none", "-2"),
        ("INCR a", "2"),
        ("INCRBY a 40", "42"),
        ("INCRBY new -3", "-3"),
        ("INCR b", "error ERR"),
        ("INCRBY a x", "error ERR"),
        ("SET most 9223372036854775807", "OK"),
        ("INCR most", "error ERR"),
        ("EXPIRE a 100", "1"),
        ("EXPIRE none 100", "0"),
        ("EXPIRE new 0", "1"),
        ("EXISTS new", "0"),
        ("DBSIZE", "4"),
        ("SCAN 0 MATCH mo?t COUNT 100", "[0 [most]]"),
        ("DEL a b none", "2"),
        ("CONFIG SET maxmemory 123456789", "OK"),
        ("CONFIG GET maxmemory", "[maxmemory 123456789]"),
        ("CONFIG SET maxmemory-policy allkeys-lru", "OK"),
        ("CONFIG GET maxmemory-policy", "[maxmemory-policy allkeys-lru]"),
        ("CONFIG SET maxmemory-policy whatever", "error ERR"),
        ("NOTHING a", "error ERR"),
        ("FLUSHALL", "OK"),
        ("DBSIZE", "0"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        assert_eq!(subject.says(&words).await, answer, "{words:?}");
    }
    let info = subject.kv.info().await.unwrap();
    for name in ["run_id", "used_memory", "maxmemory", "keyspace_hits", "keyspace_misses", "evicted_keys"] {
        assert!(info.contains_key(name), "{name}: {info:?}");
    }
    assert_eq!((&*info["keyspace_hits"] != "0", &*info["maxmemory_policy"]), (true, "allkeys-lru"));
}

async fn lives_end(subject: Subject) {
    subject.kv.put("short", b"x", Duration::from_millis(30)).await.unwrap();
    subject.kv.put("long", b"x", Duration::from_secs(60)).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while subject.kv.get("short").await.unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "it lives for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left: i64 = subject.says(&["PTTL", "long"]).await.parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    subject.says(&["SET", "long", "y"]).await;
    assert_eq!(subject.says(&["PTTL", "long"]).await, "-1", "a plain SET makes it live for ever");
    assert!(subject.kv.put_absent("short", "y", None).await.unwrap());
    assert_eq!(subject.says(&["PTTL", "short"]).await, "-1");
}

async fn values_are_bytes(subject: Subject) {
    let value: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    subject.kv.put("\r\n$3", &value, Duration::from_secs(60)).await.unwrap();
    let keys = ["\r\n$3".to_owned(), "none".to_owned()];
    assert_eq!(subject.kv.get_all(&keys).await.unwrap(), [Some(value), None]);
    subject.kv.remove(&keys).await.unwrap();
    assert_eq!(subject.kv.count().await.unwrap(), 0);
}

async fn keys_are_found_by_pattern(subject: Subject) {
    // More than a server tells in one go.
    let mut expected: Vec<String> = (0..2_500).map(|n| format!("lock:{n}")).collect();
    for key in &expected {
        subject.kv.put(key, b"x", Duration::from_secs(60)).await.unwrap();
    }
    assert!(subject.kv.put_absent("fence", "1", None).await.unwrap());
    expected.sort_unstable();
    let mut found = subject.kv.keys("lock:*").await.unwrap();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, expected);
    assert_eq!(subject.kv.keys("none:*").await.unwrap(), Vec::<String>::new());
    assert!((1..=60_000).contains(&subject.kv.life_left_ms("lock:7").await.unwrap()));
    assert_eq!(subject.kv.life_left_ms("fence").await.unwrap(), -1);
    assert_eq!(subject.kv.life_left_ms("none").await.unwrap(), -2);
}

async fn a_lock_is_released_by_its_holder_only_and_each_taking_has_a_higher_number(subject: Subject) {
    let take = async |token: &str| subject.kv.run(&ACQUIRE, &["lock:a", "fence"], &[token.as_bytes(), b"60000"]).await;
    let release = async |token: &str| subject.kv.run(&RELEASE, &["lock:a"], &[token.as_bytes()]).await;
    let first = take("one").await.unwrap();
    assert!(first > 0);
    assert_eq!(take("two").await.unwrap(), 0, "it is taken");
    assert_eq!(release("two").await.unwrap(), 0, "it is another's");
    assert_eq!(release("one").await.unwrap(), 1);
    let second = take("two").await.unwrap();
    assert!(second > first, "{second} after {first}");
    subject.says(&["FLUSHALL"]).await;
    let third = take("three").await.unwrap();
    assert!(third > second, "{third} after {second}, though the server forgot");
}

async fn a_value_is_replaced_only_where_the_expected_one_is(subject: Subject) {
    let replace =
        async |expected: &[u8]| subject.kv.run(&REPLACE, &["k"], &[expected, b"new", b"60000"]).await.unwrap();
    assert_eq!(replace(b"lease").await, 0);
    assert!(subject.kv.put_absent("k", "lease", Some(Duration::from_secs(60))).await.unwrap());
    assert_eq!(replace(b"other").await, 0);
    assert_eq!(replace(b"lease").await, 1);
    assert_eq!(subject.kv.get("k").await.unwrap().unwrap(), b"new");
}

async fn an_older_revision_does_not_overwrite_a_newer_one(subject: Subject) {
    let write = async |revision: &[u8]| subject.kv.run(&NEWER, &["o:1"], &[revision, b"{}", b"60000"]).await.unwrap();
    assert!(subject.kv.put_absent("o:1", "lease:1", None).await.unwrap());
    assert_eq!([write(b"2").await, write(b"1").await, write(b"2").await, write(b"10").await], [1, 0, 0, 1]);
    assert_eq!(subject.kv.get("o:1").await.unwrap().unwrap(), b"10 {}");
}

async fn many_keys_are_written_at_once_and_found_by_pattern(subject: Subject) {
    let call = |n: u32, revision: &str| {
        (format!("o:{n}"), vec![revision.as_bytes().to_vec(), b"{}".to_vec(), b"60000".to_vec()])
    };
    let calls: Vec<_> = (0..2_500).map(|n| call(n, "3")).collect();
    assert_eq!(subject.kv.run_each(&NEWER, &calls).await.unwrap(), vec![1; 2_500]);
    let again = [call(1, "2"), call(2, "4")];
    assert_eq!(subject.kv.run_each(&NEWER, &again).await.unwrap(), [0, 1]);
    let refused = subject.kv.run_each(&NEWER, &[call(1, "5"), ("o:2".to_owned(), vec![b"x".to_vec()])]).await;
    assert!(matches!(refused, Err(KvError::Refused { .. })), "{refused:?}");
    subject.kv.put("other", b"x", Duration::from_secs(60)).await.unwrap();
    let mut found = subject.kv.keys("o:*").await.unwrap();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 2_500);
    assert_eq!(subject.kv.keys("oth?r").await.unwrap(), ["other"]);
}

/// Two servers in place of three: the one of the caches, and one for everything else.
async fn on_one_server_every_purpose_shares_its_memory(caches: Subject, others: Subject) {
    let directory = Arc::new(Directory::new("a-1", BTreeMap::new(), Ejection::default(), Duration::from_secs(3)));
    let servers = KeyValues::Servers([caches.address, others.address, others.address]);
    let clients = KvClients::new(&servers, Duration::from_secs(5), Arc::clone(&directory));
    let layout = |value: &str| {
        let setting = Setting { version: 1, value: Some(value.to_owned()), instances: BTreeMap::new() };
        let switches = [("kv.layout".to_owned(), setting)].into();
        directory.learn(Listing { epoch: 1, switches, ..Listing::default() }, tokio::time::Instant::now());
    };
    let lock = async |key: &str| clients.of(Purpose::Lock).put_absent(key, "token", None).await;
    assert!(lock("lock:split").await.unwrap());
    assert_eq!((caches.kv.count().await.unwrap(), others.kv.count().await.unwrap()), (0, 1));
    layout("shared");
    assert!(lock("lock:shared").await.unwrap());
    assert_eq!(clients.of(Purpose::Id).add("id:order", 1).await.unwrap(), 1);
    assert_eq!((caches.kv.count().await.unwrap(), others.kv.count().await.unwrap()), (2, 1));
    caches.fill().await;
    let (locked, counted) = (lock("lock:full").await, clients.of(Purpose::Id).add("id:order", 1).await);
    for refused in [locked.map(drop), counted.map(drop)] {
        assert!(matches!(refused, Err(KvError::Refused { .. })), "{refused:?}");
    }
    layout("split");
    assert!(lock("lock:full").await.unwrap(), "a full cache takes nobody with it");
}

mod on_one_server {
    use super::{Subject, on_one_server_every_purpose_shares_its_memory};

    #[tokio::test]
    async fn ours() {
        on_one_server_every_purpose_shares_its_memory(Subject::ours().await, Subject::ours().await).await;
    }

    #[tokio::test]
    async fn redis() {
        on_one_server_every_purpose_shares_its_memory(Subject::redis().await, Subject::redis().await).await;
    }
}

async fn a_full_server_refuses_or_gives_way_as_it_is_told(subject: Subject) {
    let refusal = subject.fill().await;
    assert!(matches!(&refusal, KvError::Refused { why, .. } if why.contains("OOM")), "{refusal}");
    assert!(subject.kv.add("counter", 1).await.is_err(), "counters need room, too");
    assert!(subject.kv.get("k0").await.unwrap().is_some(), "reads go on");
    subject.kv.configure("maxmemory-policy", "allkeys-lru").await.unwrap();
    for n in 0..200 {
        subject.kv.put(&format!("l{n}"), &[b'x'; 100_000], Duration::from_secs(600)).await.unwrap();
    }
    let evicted: u64 = subject.kv.info().await.unwrap()["evicted_keys"].parse().unwrap();
    assert!(evicted > 100, "{evicted}");
    assert!(subject.kv.get("l199").await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_costs_little_and_is_found_again() {
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = silent.local_addr().unwrap();
    let kv = Kv::new(&KeyValues::Servers([address; 3]), Purpose::Lock, Duration::from_millis(50));
    let error = kv.get("a").await.unwrap_err();
    assert_eq!(error.to_string(), "kv-lock did not answer within 50 ms");
    // Left alone for a moment: no request pays the timeout again.
    assert!(matches!(kv.get("a").await, Err(KvError::Away { .. })));
    drop(silent);
    let listener = loop {
        if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
            break listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let stop = CancellationToken::new();
    Server::open(None).unwrap().serve(listener, &TaskTracker::new(), stop.clone());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while kv.get("a").await.is_err() {
        assert!(std::time::Instant::now() < deadline, "never found again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
}
