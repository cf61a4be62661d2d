//! Calls to key-value servers: one connection per server, a hard timeout, and an error at once while a server is away.
//! A cache and a lock are optimisations; whoever asks goes on without.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::script::Script;
use super::{KeyValues, Purpose};
use crate::rpc::Directory;

/// How long a server that did not answer is left alone, so that not every request pays its timeout.
const LEFT_ALONE: Duration = Duration::from_millis(100);

/// Why a server gave no answer that the caller can use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvError {
    #[error("{purpose} is away: {why}")]
    Away { purpose: Purpose, why: String },
    #[error("{purpose} did not answer within {within_ms} ms")]
    Timeout { purpose: Purpose, within_ms: u128 },
    #[error("{purpose} refused: {why}")]
    Refused { purpose: Purpose, why: String },
}

/// One server.
pub(crate) struct Kv {
    purpose: Purpose,
    /// `None` if its URL is wrong, which the start has found out.
    client: Option<Client>,
    prefix: String,
    timeout: Duration,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    not_before: Option<Instant>,
}

impl Kv {
    /// The server for a purpose. Connects when it is first asked.
    pub(crate) fn new(servers: &KeyValues, purpose: Purpose, timeout: Duration) -> Self {
        Self {
            purpose,
            client: Client::open(servers.url(purpose)).ok(),
            prefix: servers.prefix().to_owned(),
            timeout,
            link: Mutex::default(),
        }
    }

    /// A key as the server knows it.
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value of a key.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        self.ask(redis::cmd("GET").arg(self.key(key))).await
    }

    /// The values of keys, in their order.
    pub(crate) async fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for key in keys {
            command.arg(self.key(key));
        }
        self.ask(&command).await
    }

    /// Writes a value with a life.
    pub(crate) async fn put(&self, key: &str, value: &[u8], life: Duration) -> Result<(), KvError> {
        self.ask(redis::cmd("SET").arg(self.key(key)).arg(value).arg("PX").arg(millis(life))).await
    }

    /// Writes a value where there is none; for ever without a life. Whether there was none.
    pub(crate) async fn put_absent(&self, key: &str, value: &str, life: Option<Duration>) -> Result<bool, KvError> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(value).arg("NX");
        if let Some(life) = life {
            command.arg("PX").arg(millis(life));
        }
        let written: Option<String> = self.ask(&command).await?;
        Ok(written.is_some())
    }

    /// Removes keys.
    pub(crate) async fn remove(&self, keys: &[String]) -> Result<(), KvError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("DEL");
        for key in keys {
            command.arg(self.key(key));
        }
        let _: i64 = self.ask(&command).await?;
        Ok(())
    }

    /// Removes every key of the system.
    pub(crate) async fn remove_all(&self) -> Result<(), KvError> {
        const STEP: usize = 500;
        for keys in self.keys("*").await?.chunks(STEP) {
            self.remove(keys).await?;
        }
        Ok(())
    }

    /// Adds to a counter and gives its new value.
    pub(crate) async fn add(&self, key: &str, by: i64) -> Result<i64, KvError> {
        self.ask(redis::cmd("INCRBY").arg(self.key(key)).arg(by)).await
    }

    /// Adds to a counter, and tells also which life of the server has done it: both are asked of one connection.
    pub(crate) async fn add_in_life(&self, key: &str, by: i64) -> Result<(String, i64), KvError> {
        let mut both = redis::pipe();
        both.cmd("INFO").arg("server").cmd("INCRBY").arg(self.key(key)).arg(by);
        let (info, value): (String, i64) = self
            .bounded(Box::pin(async {
                let mut connection = self.connection().await?;
                both.query_async(&mut connection).await.map_err(|error| self.told(&error))
            }))
            .await?;
        let life = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
        Ok((life.trim().to_owned(), value))
    }

    /// Gives a key a life.
    pub(crate) async fn expire(&self, key: &str, life: Duration) -> Result<(), KvError> {
        self.ask::<i64>(redis::cmd("PEXPIRE").arg(self.key(key)).arg(millis(life))).await.map(drop)
    }

    /// Runs a script.
    pub(crate) async fn run(&self, script: &Script, keys: &[&str], arguments: &[&[u8]]) -> Result<i64, KvError> {
        let mut command = redis::cmd("EVAL");
        command.arg(script.lua).arg(keys.len());
        for key in keys {
            command.arg(self.key(key));
        }
        for argument in arguments {
            command.arg(*argument);
        }
        self.ask(&command).await
    }

    /// Runs a script once for each key with its arguments, all in one message, and gives what each answers.
    pub(crate) async fn run_each(
        &self,
        script: &Script,
        calls: &[(String, Vec<Vec<u8>>)],
    ) -> Result<Vec<i64>, KvError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for (key, arguments) in calls {
            let command = pipeline.cmd("EVAL").arg(script.lua).arg(1).arg(self.key(key));
            for argument in arguments {
                command.arg(argument.as_slice());
            }
        }
        pipeline.ignore_errors();
        self.bounded(Box::pin(async {
            let mut connection = self.connection().await?;
            let answers: Vec<Result<i64, RedisError>> =
                pipeline.query_async(&mut connection).await.map_err(|error| self.told(&error))?;
            answers.into_iter().map(|answer| answer.map_err(|error| self.told(&error))).collect()
        }))
        .await
    }

    /// The keys of a pattern of literals, `*` and `?`. Those that come or go meanwhile may be missed, or told twice.
    pub(crate) async fn keys(&self, pattern: &str) -> Result<Vec<String>, KvError> {
        const STEP: u32 = 1_000;
        let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(self.key(pattern)).arg("COUNT").arg(STEP);
            let (next, keys): (String, Vec<String>) = self.ask_anew(&command).await?;
            found.extend(keys.iter().filter_map(|key| key.strip_prefix(&self.prefix)).map(str::to_owned));
            if next == "0" {
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// The milliseconds that a key still lives; -1: for ever, -2: there is none.
    pub(crate) async fn life_left_ms(&self, key: &str) -> Result<i64, KvError> {
        self.ask(redis::cmd("PTTL").arg(self.key(key))).await
    }

    /// Whether it answers.
    pub(crate) async fn answers(&self) -> bool {
        self.ask::<String>(&redis::cmd("PING")).await.is_ok()
    }

    /// Sets one of its parameters.
    pub(crate) async fn configure(&self, name: &str, value: &str) -> Result<(), KvError> {
        self.ask(redis::cmd("CONFIG").arg("SET").arg(name).arg(value)).await
    }

    /// What it tells of itself, by name.
    pub(crate) async fn info(&self) -> Result<BTreeMap<String, String>, KvError> {
        let text: String = self.ask(&redis::cmd("INFO")).await?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// How many keys it has.
    pub(crate) async fn count(&self) -> Result<i64, KvError> {
        self.ask(&redis::cmd("DBSIZE")).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, KvError> {
        self.bounded(Box::pin(async {
            let mut connection = self.connection().await?;
            command.query_async(&mut connection).await.map_err(|error| self.told(&error))
        }))
        .await
    }

    /// Asks anew when the connection has ended since it was last used. Not for readers of copies: to them, that is how they
    /// learn that the server was away and missed what it should have been told.
    async fn ask_anew<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, KvError> {
        self.bounded(Box::pin(async {
            let was_used = self.link.lock().await.connection.is_some();
            let mut connection = self.connection().await?;
            let mut answer = command.query_async(&mut connection).await;
            if was_used && answer.as_ref().is_err_and(RedisError::is_connection_dropped) {
                self.link.lock().await.connection = None;
                let mut connection = self.connection().await?;
                answer = command.query_async(&mut connection).await;
            }
            answer.map_err(|error| self.told(&error))
        }))
        .await
    }

    /// Bounds a question, and leaves a server alone that did not answer.
    async fn bounded<T>(&self, asked: Pin<Box<impl Future<Output = Result<T, KvError>>>>) -> Result<T, KvError> {
        let answer = match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(KvError::Timeout { purpose: self.purpose, within_ms: self.timeout.as_millis() }),
        };
        if let Err(KvError::Timeout { .. } | KvError::Away { .. }) = &answer {
            let mut link = self.link.lock().await;
            let now = Instant::now();
            // Those that were refused without being sent must not lengthen the pause.
            if link.not_before.is_none_or(|until| until <= now) {
                *link = Link { connection: None, not_before: Some(now + LEFT_ALONE) };
            }
        }
        answer
    }

    async fn connection(&self) -> Result<MultiplexedConnection, KvError> {
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok(connection.clone());
        }
        let away = |why: String| KvError::Away { purpose: self.purpose, why };
        if link.not_before.is_some_and(|until| until > Instant::now()) {
            return Err(away("it did not answer a moment ago".to_owned()));
        }
        let client = self.client.as_ref().ok_or_else(|| away("its URL is wrong".to_owned()))?;
        // The time is bounded by the caller, and includes this.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| away(error.to_string()))?;
        *link = Link { connection: Some(connection.clone()), not_before: None };
        Ok(connection)
    }

    fn told(&self, error: &RedisError) -> KvError {
        let (purpose, why) = (self.purpose, error.to_string());
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType | ErrorKind::Parse => {
                KvError::Refused { purpose, why }
            }
            _ => KvError::Away { purpose, why },
        }
    }
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The servers that a role calls.
#[derive(Clone)]
pub(crate) struct KvClients {
    servers: Arc<[Kv; 3]>,
    /// Knows which of them is in use for what.
    directory: Arc<Directory>,
}

impl KvClients {
    /// The servers of a system, none of them connected.
    pub(crate) fn new(servers: &KeyValues, timeout: Duration, directory: Arc<Directory>) -> Self {
        Self { servers: Arc::new(Purpose::ALL.map(|purpose| Kv::new(servers, purpose, timeout))), directory }
    }

    /// The server for a purpose, as `kv.layout` has it now.
    pub(crate) fn of(&self, purpose: Purpose) -> &Kv {
        let at = if self.directory.in_force().kv_on_one { Purpose::Cache } else { purpose };
        &self.servers[at as usize]
    }
}
