//! The client of the role `mq`: JSON over HTTP, through the frame like every other call, so that all faults apply.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{BusError, Delivery, Depth, Handle, Message, Outcome, Taking, Topology};
use crate::rpc::caller::{exchange, http_client};
use crate::rpc::{Budget, Caller};

/// The time for a call beyond what it may wait for messages.
const CALL: Duration = Duration::from_secs(2);

/// Messages for an exchange.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Publication {
    pub(crate) exchange: String,
    /// The one queue that gets the messages, whatever their keys are.
    #[serde(default)]
    pub(crate) queue: Option<String>,
    /// Whether the answer waits until the messages are durable.
    pub(crate) confirm: bool,
    pub(crate) messages: Vec<Message>,
}

/// A question for messages.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Demand {
    pub(crate) queue: String,
    /// The same in every question of one consumer.
    pub(crate) consumer: String,
    /// The most messages that it holds.
    pub(crate) most: usize,
    /// What it holds: anything else that was handed to it never arrived.
    pub(crate) holds: Vec<i64>,
    pub(crate) wait_ms: u64,
}

/// A message as it is handed out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) handle: i64,
    pub(crate) failures: i64,
    pub(crate) message: Message,
}

/// What became of messages of a queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) queue: String,
    pub(crate) consumer: String,
    pub(crate) done: Vec<i64>,
    pub(crate) requeue: Vec<i64>,
    pub(crate) retry: Vec<i64>,
}

/// How the broker is reached.
#[derive(Clone)]
pub(crate) enum Wire {
    /// As every role reaches another.
    Caller(Caller),
    /// At its own address, from outside.
    Straight { client: HttpClient<HttpConnector, Full<Bytes>>, address: Option<SocketAddr> },
}

impl Wire {
    pub(crate) fn straight_to(address: Option<SocketAddr>) -> Self {
        Self::Straight { client: http_client(Duration::from_millis(500)), address }
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        body: &B,
        wait: Duration,
    ) -> Result<T, BusError> {
        let away = |why: String| BusError::Away { what, why };
        let time = CALL + wait;
        match self {
            Self::Caller(caller) => {
                caller.post("mq", path, body, &Budget::of(time)).await.map_err(|error| away(error.to_string()))
            }
            Self::Straight { client, address } => {
                let address = address.ok_or_else(|| away("the system has none".to_owned()))?;
                let body = serde_json::to_vec(body).map_err(|error| away(error.to_string()))?;
                let uri = format!("http://{address}{path}");
                let call = exchange(client, Method::POST, &uri, body.into(), |_| {});
                match tokio::time::timeout(time, call).await {
                    Ok(Ok((StatusCode::OK, answer))) => {
                        serde_json::from_slice(&answer).map_err(|error| away(error.to_string()))
                    }
                    Ok(Ok((status, answer))) => {
                        Err(away(format!("mq answered {status}: {}", String::from_utf8_lossy(&answer))))
                    }
                    Ok(Err(broken)) => Err(away(format!("the connection to {address} is {broken:?}"))),
                    Err(_) => Err(away(format!("{address} did not answer within {time:?}"))),
                }
            }
        }
    }
}

/// A client of one exchange.
#[derive(Clone)]
pub(crate) struct Client {
    wire: Wire,
    topology: Arc<Topology>,
    /// Whose client it is, and of which process.
    name: String,
}

/// Tells the consumers of one process apart.
static CONSUMERS: AtomicU64 = AtomicU64::new(1);

impl Client {
    pub(crate) fn new(wire: Wire, topology: Topology, owner: &str) -> Self {
        Self { wire, topology: Arc::new(topology), name: format!("{owner}/{}", std::process::id()) }
    }

    pub(super) async fn declare(&self) -> Result<(), BusError> {
        let _: Value = self.wire.post("declare its queues", "/topology", &*self.topology, Duration::ZERO).await?;
        Ok(())
    }

    pub(super) async fn publish(&self, messages: &[Message], confirm: bool) -> Result<(), BusError> {
        self.publish_by(None, messages, confirm).await
    }

    pub(super) async fn publish_to(&self, queue: &str, messages: &[Message]) -> Result<(), BusError> {
        self.publish_by(Some(queue), messages, true).await
    }

    async fn publish_by(&self, queue: Option<&str>, messages: &[Message], confirm: bool) -> Result<(), BusError> {
        let (exchange, queue) = (self.topology.exchange.clone(), queue.map(str::to_owned));
        let publication = Publication { exchange, queue, confirm, messages: messages.to_vec() };
        let _: Value = self.wire.post("take messages", "/publish", &publication, Duration::ZERO).await?;
        Ok(())
    }

    pub(super) fn consumer(&self, queue: &str, taking: Taking) -> Result<Consumer, BusError> {
        if self.topology.queue(queue).is_none() {
            return Err(BusError::NoQueue { queue: queue.to_owned() });
        }
        let number = CONSUMERS.fetch_add(1, Ordering::Relaxed);
        Ok(Consumer {
            client: self.clone(),
            queue: queue.to_owned(),
            name: format!("{}/{number}", self.name),
            taking,
            holds: BTreeSet::new(),
        })
    }

    pub(super) async fn depth(&self, queue: &str) -> Result<Depth, BusError> {
        self.wire.post("count its messages", "/depth", &json!({ "queue": queue }), Duration::ZERO).await
    }

    pub(super) async fn dead_letters(&self, queue: &str) -> Result<Vec<Message>, BusError> {
        self.wire.post("show its dead letters", "/dead", &json!({ "queue": queue }), Duration::ZERO).await
    }

    pub(super) async fn replay(&self, queue: &str, most: u64) -> Result<u64, BusError> {
        let body = json!({ "queue": queue, "most": most });
        self.wire.post("put its dead letters back", "/replay", &body, Duration::ZERO).await
    }
}

/// A consumer of one queue.
pub(super) struct Consumer {
    client: Client,
    queue: String,
    name: String,
    taking: Taking,
    holds: BTreeSet<i64>,
}

impl Consumer {
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let wait = if self.taking == Taking::Get { Duration::ZERO } else { wait };
        let demand = Demand {
            queue: self.queue.clone(),
            consumer: self.name.clone(),
            most: match self.taking {
                // Whoever asks for one gets one, whatever it holds.
                Taking::Get => self.holds.len() + 1,
                Taking::Consume { prefetch } => usize::from(prefetch.max(1)),
            },
            holds: self.holds.iter().copied().collect(),
            wait_ms: wait.as_millis() as u64,
        };
        let handed: Vec<Handed> = self.client.wire.post("hand out messages", "/consume", &demand, wait).await?;
        self.holds.extend(handed.iter().map(|one| one.handle));
        let delivery = |one: Handed| Delivery {
            message: one.message,
            failures: usize::try_from(one.failures).unwrap_or(0),
            handle: Handle::Embedded(one.handle),
        };
        Ok(handed.into_iter().map(delivery).collect())
    }

    pub(super) async fn settle(&mut self, settled: Vec<(Delivery, Outcome)>) -> Result<(), BusError> {
        let of = |wanted: Outcome| {
            let chosen = settled.iter().filter(move |(_, outcome)| *outcome == wanted);
            chosen.filter_map(|(delivery, _)| match delivery.handle {
                Handle::Embedded(handle) => Some(handle),
                Handle::RabbitMq(_) => None,
            })
        };
        let settlement = Settlement {
            queue: self.queue.clone(),
            consumer: self.name.clone(),
            done: of(Outcome::Done).collect(),
            requeue: of(Outcome::Requeue).collect(),
            retry: of(Outcome::Retry).collect(),
        };
        for handle in settlement.done.iter().chain(&settlement.requeue).chain(&settlement.retry) {
            // Also when the call fails: then the broker hands it out again.
            self.holds.remove(handle);
        }
        let _: Value = self.client.wire.post("settle messages", "/settle", &settlement, Duration::ZERO).await?;
        Ok(())
    }
}
