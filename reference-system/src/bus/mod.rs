//! The event bus: who consumes what, and one client for two brokers, RabbitMQ and the role `mq`.
//!
//! Both keep what they confirmed over a kill, hand a message to one consumer of a queue at a time, hand it out again
//! when that consumer is gone, let a failed message rest along a ladder, and keep dead letters for a person to look at.

pub(crate) mod counts;
pub(crate) mod dead_letters;
pub(crate) mod embedded;
pub(crate) mod event;
pub(crate) mod gauges;
mod rabbitmq;
pub(crate) mod relay;
pub(crate) mod subscription;
pub(crate) mod teller;
pub(crate) mod topology;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use topology::{Queue, Topology, dead_letters};

use crate::config::{Layout, SystemConfig};
use crate::error::SystemError;
use crate::rpc::Caller;

/// Where the events of a system go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Broker {
    /// To the role `mq`.
    #[default]
    Embedded,
    /// To the nodes of a RabbitMQ cluster, as URLs such as `amqp://user:password@127.0.0.1:5672`.
    RabbitMq(Vec<String>),
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every copy of it.
    pub id: String,
    /// Decides which queues get it, for example `order.paid`.
    pub key: String,
    /// Text, usually JSON.
    pub body: String,
}

/// A message that a consumer holds until it is settled.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// How often consumers of this queue failed with it.
    pub failures: usize,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Embedded(i64),
    /// Without its body.
    RabbitMq(Box<lapin::message::Delivery>),
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect is durable: the message is removed.
    Done,
    /// The message is handed out again at once.
    Requeue,
    /// The message rests along the ladder and is handed out again; at its end it is a dead letter.
    Retry,
}

/// How a consumer takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Asks for one message at a time, again and again.
    Get,
    /// Has messages sent, and holds at most this many unsettled ones.
    Consume {
        /// How many.
        prefetch: u16,
    },
}

/// How many messages a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Depth {
    /// Not settled yet. RabbitMQ does not tell of those that a consumer holds.
    pub waiting: u64,
    /// Resting after a failure.
    pub resting: u64,
    /// Dead letters.
    pub dead: u64,
}

/// Why the bus did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No broker answered.
    #[error("the broker did not {what}: {why}")]
    Away {
        /// What was asked.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A message was not taken over.
    #[error("the broker did not confirm {unconfirmed} of {published} messages")]
    NotConfirmed {
        /// How many were sent.
        published: usize,
        /// How many of them are not sure.
        unconfirmed: usize,
    },
    /// The topology has no such queue.
    #[error("the exchange has no queue `{queue}`")]
    NoQueue {
        /// What was asked for.
        queue: String,
    },
}

/// A client of one exchange.
#[derive(Clone)]
pub struct Bus(Adapter);

#[derive(Clone)]
enum Adapter {
    Embedded(embedded::Client),
    RabbitMq(rabbitmq::Client),
}

/// Takes the messages of one queue.
pub struct Consumer(Taker);

enum Taker {
    Embedded(Box<embedded::Consumer>),
    RabbitMq(Box<rabbitmq::Consumer>),
}

impl Bus {
    /// The bus as a role sees it.
    pub(crate) fn of_role(broker: &Broker, topology: Topology, caller: &Caller, instance: &str) -> Self {
        Self(match broker {
            Broker::Embedded => {
                let wire = embedded::Wire::Caller(caller.clone());
                Adapter::Embedded(embedded::Client::new(wire, topology, instance))
            }
            Broker::RabbitMq(nodes) => Adapter::RabbitMq(rabbitmq::Client::new(nodes, topology)),
        })
    }

    /// The bus of an embedded broker at an address of its own.
    pub(crate) fn at(address: SocketAddr, topology: Topology, owner: &str) -> Self {
        Self(Adapter::Embedded(embedded::Client::new(embedded::Wire::straight_to(Some(address)), topology, owner)))
    }

    /// The bus of a running system, from outside of it.
    ///
    /// # Errors
    ///
    /// [`SystemError::File`] when there is no system in `dir`.
    pub fn of_system(dir: &Path, topology: Topology) -> Result<Self, SystemError> {
        Ok(Self::of_config(&Self::config(dir)?, topology))
    }

    /// The bus of order events of a running system, from outside of it.
    ///
    /// # Errors
    ///
    /// As [`Self::of_system`].
    pub fn of_orders(dir: &Path) -> Result<Self, SystemError> {
        let config = Self::config(dir)?;
        Ok(Self::of_config(&config, config.order_events()))
    }

    fn config(dir: &Path) -> Result<SystemConfig, SystemError> {
        let layout = Layout::new(dir);
        SystemConfig::read(&layout).map_err(|source| SystemError::File { path: layout.config(), source })
    }

    /// The bus of a system whose broker is not one of its stores: the auditor looks into it itself.
    pub(crate) fn beside_stores(config: &SystemConfig) -> Option<Self> {
        (config.broker != Broker::Embedded).then(|| Self::of_config(config, config.order_events()))
    }

    /// The bus of a system, past its registry and its links.
    pub(crate) fn of_config(config: &SystemConfig, topology: Topology) -> Self {
        Self(match &config.broker {
            Broker::Embedded => {
                let address = config.first("mq").map(|plan| plan.address);
                Adapter::Embedded(embedded::Client::new(embedded::Wire::straight_to(address), topology, &outside()))
            }
            Broker::RabbitMq(nodes) => Adapter::RabbitMq(rabbitmq::Client::new(nodes, topology)),
        })
    }

    /// Makes the exchange and its queues, which stay. Repeatable.
    ///
    /// # Errors
    ///
    /// [`BusError::Away`].
    pub async fn declare(&self) -> Result<(), BusError> {
        match &self.0 {
            Adapter::Embedded(client) => client.declare().await,
            Adapter::RabbitMq(client) => client.declare().await,
        }
    }

    /// Removes the exchange and its queues, with what is in them, from a broker that is none of the system's own.
    pub(crate) async fn remove(&self) -> Result<(), BusError> {
        match &self.0 {
            // Its queues are rows of a store of the system.
            Adapter::Embedded(_) => Ok(()),
            Adapter::RabbitMq(client) => client.remove().await,
        }
    }

    /// Publishes. With `confirm`, an answer means that every message is durable in every queue that takes it.
    ///
    /// # Errors
    ///
    /// [`BusError`]; some of the messages may have been taken all the same.
    pub async fn publish(&self, messages: &[Message], confirm: bool) -> Result<(), BusError> {
        match &self.0 {
            Adapter::Embedded(client) => client.publish(messages, confirm).await,
            Adapter::RabbitMq(client) => client.publish(messages, confirm).await,
        }
    }

    /// Puts messages into one queue, past the exchange. An answer means that they are durable there.
    ///
    /// # Errors
    ///
    /// [`BusError`]; some of the messages may have been taken all the same.
    pub async fn publish_to(&self, queue: &str, messages: &[Message]) -> Result<(), BusError> {
        match &self.0 {
            Adapter::Embedded(client) => client.publish_to(queue, messages).await,
            Adapter::RabbitMq(client) => client.publish_to(queue, messages).await,
        }
    }

    /// A consumer of a queue.
    ///
    /// # Errors
    ///
    /// [`BusError::NoQueue`].
    pub fn consumer(&self, queue: &str, taking: Taking) -> Result<Consumer, BusError> {
        Ok(Consumer(match &self.0 {
            Adapter::Embedded(client) => Taker::Embedded(Box::new(client.consumer(queue, taking)?)),
            Adapter::RabbitMq(client) => Taker::RabbitMq(Box::new(client.consumer(queue, taking)?)),
        }))
    }

    /// How many messages a queue holds.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    pub async fn depth(&self, queue: &str) -> Result<Depth, BusError> {
        match &self.0 {
            Adapter::Embedded(client) => client.depth(queue).await,
            Adapter::RabbitMq(client) => client.depth(queue).await,
        }
    }

    /// The dead letters of a queue, which stay where they are.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    pub async fn dead_letters(&self, queue: &str) -> Result<Vec<Message>, BusError> {
        match &self.0 {
            Adapter::Embedded(client) => client.dead_letters(queue).await,
            Adapter::RabbitMq(client) => client.dead_letters(queue).await,
        }
    }

    /// Puts at most `most` dead letters back into their queue, as if they had never failed. Gives how many.
    ///
    /// # Errors
    ///
    /// [`BusError`]; some may have been put back all the same, and one may have been put back twice.
    pub async fn replay(&self, queue: &str, most: u64) -> Result<u64, BusError> {
        match &self.0 {
            Adapter::Embedded(client) => client.replay(queue, most).await,
            Adapter::RabbitMq(client) => client.replay(queue, most).await,
        }
    }
}

/// The name of whoever looks in from outside of a system: several processes may do so at the same time.
fn outside() -> String {
    format!("outside-{}", std::process::id())
}

impl Consumer {
    /// What comes within `wait`, as soon as anything does.
    ///
    /// # Errors
    ///
    /// [`BusError`]; the consumer may be asked again, and connects anew.
    pub async fn next(&mut self, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        match &mut self.0 {
            Taker::Embedded(consumer) => consumer.next(wait).await,
            Taker::RabbitMq(consumer) => consumer.next(wait).await,
        }
    }

    /// Settles what was delivered to this consumer. What is not settled is delivered again.
    ///
    /// # Errors
    ///
    /// [`BusError`]; some may have been settled all the same.
    pub async fn settle(&mut self, settled: Vec<(Delivery, Outcome)>) -> Result<(), BusError> {
        match &mut self.0 {
            Taker::Embedded(consumer) => consumer.settle(settled).await,
            Taker::RabbitMq(consumer) => consumer.settle(settled).await,
        }
    }
}
