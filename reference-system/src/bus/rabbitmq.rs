//! The client of RabbitMQ: confirmed publishing, prefetch, and a new connection to whichever node answers.
//!
//! Queues are quorum queues, so that a cluster goes on without any one of its nodes.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::Mutex;

use super::{BusError, Delivery, Depth, Handle, Message, Outcome, Queue, Taking, Topology};

/// The time for one node to answer.
const CONNECT: Duration = Duration::from_secs(2);
/// The time for an operation; making all queues takes the longest.
const OPERATION: Duration = Duration::from_secs(10);
/// Delivery mode of messages that survive a restart.
const PERSISTENT: u8 = 2;
/// The header with the key under which a message came, which retries replace.
const KEY: &str = "x-key";
/// The header with the number of failures so far.
const FAILURES: &str = "x-failures";

/// A client of one exchange.
#[derive(Clone)]
pub(super) struct Client {
    nodes: Arc<[String]>,
    topology: Arc<Topology>,
    live: Arc<Mutex<Option<Live>>>,
}

/// What is open.
#[derive(Clone)]
struct Live {
    connection: Arc<Connection>,
    /// Its publications are confirmed.
    confirming: Channel,
    /// Its publications are not.
    loose: Channel,
}

fn away(what: &'static str, why: impl ToString) -> BusError {
    BusError::Away { what, why: why.to_string() }
}

/// Bounds an operation, and says what it was.
async fn within<T>(
    what: &'static str,
    time: Duration,
    operation: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BusError> {
    match tokio::time::timeout(time, operation).await {
        Ok(done) => done.map_err(|error| away(what, error)),
        Err(_) => Err(away(what, format!("no answer within {time:?}"))),
    }
}

impl Client {
    pub(super) fn new(nodes: &[String], topology: Topology) -> Self {
        Self { nodes: nodes.into(), topology: Arc::new(topology), live: Arc::default() }
    }

    /// The open connection, or a new one to the first node that answers.
    async fn live(&self) -> Result<Live, BusError> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| live.connection.status().connected()) {
            return Ok(live.clone());
        }
        *live = None;
        let mut last = away("take a connection", "no node is named");
        for node in &*self.nodes {
            match self.connect(node).await {
                Ok(fresh) => return Ok(live.insert(fresh).clone()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(&self, node: &str) -> Result<Live, BusError> {
        let what = "take a connection";
        let connection = within(what, CONNECT, Connection::connect(node, ConnectionProperties::default())).await?;
        let channels = async {
            let confirming = connection.create_channel().await?;
            confirming.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok((confirming, connection.create_channel().await?))
        };
        let (confirming, loose) = within(what, CONNECT, channels).await?;
        within("declare its queues", OPERATION, declare(&loose, &self.topology)).await?;
        Ok(Live { connection: Arc::new(connection), confirming, loose })
    }

    /// Closes a connection that failed.
    async fn forget(&self) {
        if let Some(live) = self.live.lock().await.take() {
            // It failed: nobody waits for a polite end.
            let _ = tokio::time::timeout(Duration::from_millis(100), live.connection.close(200, "bye".into())).await;
        }
    }

    pub(super) async fn declare(&self) -> Result<(), BusError> {
        self.live().await.map(drop)
    }

    /// Deletes its exchange and every queue, with what is in them.
    pub(super) async fn remove(&self) -> Result<(), BusError> {
        let live = self.live().await?;
        let removed = within("remove its queues", OPERATION, async {
            for name in self.topology.queues.iter().flat_map(|queue| places(queue, self.topology.retry_ms.len())) {
                live.loose.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
            }
            let exchange = self.topology.exchange.as_str().into();
            live.loose.exchange_delete(exchange, ExchangeDeleteOptions::default()).await
        })
        .await;
        self.forget().await;
        removed
    }

    pub(super) async fn publish(&self, messages: &[Message], confirm: bool) -> Result<(), BusError> {
        let live = self.live().await?;
        let exchange = &self.topology.exchange;
        let parcels = messages.iter().map(|message| Parcel { exchange, key: &message.key, message, failures: 0 });
        let sent = if confirm {
            confirmed(&live.confirming, parcels.collect()).await
        } else {
            within("take messages", OPERATION, async {
                for parcel in parcels {
                    parcel.send(&live.loose).await?;
                }
                Ok(())
            })
            .await
        };
        if sent.is_err() {
            self.forget().await;
        }
        sent
    }

    pub(super) async fn publish_to(&self, queue: &str, messages: &[Message]) -> Result<(), BusError> {
        let queue = self.known(queue)?;
        let live = self.live().await?;
        let parcels = messages.iter().map(|message| Parcel { exchange: "", key: &queue.name, message, failures: 0 });
        confirmed(&live.confirming, parcels.collect()).await
    }

    fn known(&self, queue: &str) -> Result<&Queue, BusError> {
        self.topology.queue(queue).ok_or_else(|| BusError::NoQueue { queue: queue.to_owned() })
    }

    pub(super) fn consumer(&self, queue: &str, taking: Taking) -> Result<Consumer, BusError> {
        let queue = self.known(queue)?;
        Ok(Consumer { client: self.clone(), queue: queue.clone(), taking, open: None })
    }

    pub(super) async fn depth(&self, queue: &str) -> Result<Depth, BusError> {
        let queue = self.known(queue)?;
        let live = self.live().await?;
        let count = within("count its messages", OPERATION, async {
            // A question about a queue that is missing closes its channel.
            let channel = live.connection.create_channel().await?;
            let ready = async |name: &str| {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let told = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
                Ok::<_, lapin::Error>(u64::from(told.message_count()))
            };
            let mut depth = Depth { waiting: ready(&queue.name).await?, ..Depth::default() };
            for failures in 1..=self.topology.retry_ms.len() {
                depth.resting += ready(&queue.resting_place(failures)).await?;
            }
            depth.dead = ready(&queue.dead_letters()).await?;
            channel.close(200, "done".into()).await?;
            Ok(depth)
        })
        .await;
        if count.is_err() {
            self.forget().await;
        }
        count
    }

    pub(super) async fn dead_letters(&self, queue: &str) -> Result<Vec<Message>, BusError> {
        let queue = self.known(queue)?;
        let live = self.live().await?;
        within("show its dead letters", OPERATION, async {
            let channel = live.connection.create_channel().await?;
            let mut found = Vec::new();
            while let Some(got) =
                channel.basic_get(queue.dead_letters().into(), BasicGetOptions { no_ack: false }).await?
            {
                found.push(received(got.delivery).message);
            }
            // What was not acknowledged goes back to its place.
            channel.close(200, "done".into()).await?;
            Ok(found)
        })
        .await
    }

    /// Each letter is back in its queue before it is taken from its place, so that none is lost on the way.
    pub(super) async fn replay(&self, queue: &str, most: u64) -> Result<u64, BusError> {
        let what = "put its dead letters back";
        let queue = self.known(queue)?;
        let live = self.live().await?;
        let channel = within(what, OPERATION, live.connection.create_channel()).await?;
        let dead = queue.dead_letters();
        let mut replayed = 0;
        while replayed < most {
            let get = channel.basic_get(dead.as_str().into(), BasicGetOptions { no_ack: false });
            let Some(got) = within(what, OPERATION, get).await? else { break };
            let letter = received(got.delivery);
            let parcel = Parcel { exchange: "", key: &queue.name, message: &letter.message, failures: 0 };
            confirmed(&live.confirming, vec![parcel]).await?;
            if let Handle::RabbitMq(held) = &letter.handle {
                within(what, OPERATION, held.ack(BasicAckOptions::default())).await?;
            }
            replayed += 1;
        }
        within(what, OPERATION, channel.close(200, "done".into())).await?;
        Ok(replayed)
    }
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

async fn declare(channel: &Channel, topology: &Topology) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = ShortString::from(topology.exchange.as_str());
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let quorum = ("x-queue-type", text("quorum"));
    for queue in &topology.queues {
        let plain = [queue.name.clone(), queue.dead_letters()];
        for name in plain {
            let arguments = table(std::slice::from_ref(&quorum));
            channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        }
        for (rest_ms, failures) in topology.retry_ms.iter().zip(1..) {
            // What has rested goes back to its queue, and is not dropped on the way.
            let arguments = table(&[
                quorum.clone(),
                ("x-message-ttl", AMQPValue::LongUInt(*rest_ms)),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&queue.name)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ]);
            let name = queue.resting_place(failures);
            channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        }
        for pattern in &queue.bindings {
            let (name, pattern) = (queue.name.as_str().into(), pattern.as_str().into());
            let options = QueueBindOptions::default();
            channel.queue_bind(name, exchange.clone(), pattern, options, FieldTable::default()).await?;
        }
    }
    Ok(())
}

/// The names of a queue, of where its messages rest, and of where its dead letters are.
fn places(queue: &Queue, rests: usize) -> Vec<String> {
    let resting = (1..=rests).map(|failures| queue.resting_place(failures));
    resting.chain([queue.name.clone(), queue.dead_letters()]).collect()
}

/// A message on its way to an exchange; the one without a name leads to the queue that the key names.
struct Parcel<'a> {
    exchange: &'a str,
    key: &'a str,
    message: &'a Message,
    failures: usize,
}

impl Parcel<'_> {
    async fn send(&self, channel: &Channel) -> lapin::Result<lapin::PublisherConfirm> {
        let headers = table(&[
            (KEY, text(&self.message.key)),
            (FAILURES, AMQPValue::LongUInt(u32::try_from(self.failures).unwrap_or(u32::MAX))),
        ]);
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(self.message.id.as_str().into())
            .with_headers(headers);
        let (exchange, key, body) = (self.exchange.into(), self.key.into(), self.message.body.as_bytes());
        channel.basic_publish(exchange, key, BasicPublishOptions::default(), body, properties).await
    }
}

/// Sends all, then waits until the broker has taken each over.
async fn confirmed(channel: &Channel, parcels: Vec<Parcel<'_>>) -> Result<(), BusError> {
    let what = "take messages";
    let published = parcels.len();
    let taken = within(what, OPERATION, async {
        let mut waiting = Vec::with_capacity(published);
        for parcel in &parcels {
            waiting.push(parcel.send(channel).await?);
        }
        let mut taken = 0;
        for confirmation in waiting {
            taken += usize::from(confirmation.await?.is_ack());
        }
        Ok(taken)
    })
    .await?;
    if taken == published {
        return Ok(());
    }
    Err(BusError::NotConfirmed { published, unconfirmed: published - taken })
}

fn received(mut delivery: lapin::message::Delivery) -> Delivery {
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let header = |name: &str| headers.inner().get(name);
    let key = match header(KEY) {
        Some(AMQPValue::LongString(key)) => key.to_string(),
        _ => delivery.routing_key.to_string(),
    };
    let failures = match header(FAILURES) {
        Some(AMQPValue::LongUInt(failures)) => *failures as usize,
        _ => 0,
    };
    Delivery {
        message: Message {
            id: delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
            key,
            body: String::from_utf8_lossy(&std::mem::take(&mut delivery.data)).into_owned(),
        },
        failures,
        handle: Handle::RabbitMq(Box::new(delivery)),
    }
}

/// A consumer of one queue.
pub(super) struct Consumer {
    client: Client,
    queue: Queue,
    taking: Taking,
    open: Option<Open>,
}

struct Open {
    channel: Channel,
    /// What is sent, unless messages are asked for.
    sent: Option<lapin::Consumer>,
}

impl Consumer {
    async fn open(&mut self) -> Result<&mut Open, BusError> {
        if self.open.as_ref().is_none_or(|open| !open.channel.status().connected()) {
            // Its channel closes with it, and what it held is handed out again.
            self.open = None;
            let live = self.client.live().await?;
            let (queue, taking) = (self.queue.name.as_str(), self.taking);
            let opened = within("let a consumer in", OPERATION, async {
                let channel = live.connection.create_channel().await?;
                let sent = match taking {
                    Taking::Get => None,
                    Taking::Consume { prefetch } => {
                        channel.basic_qos(prefetch.max(1), BasicQosOptions::default()).await?;
                        let options = BasicConsumeOptions::default();
                        Some(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
                    }
                };
                Ok(Open { channel, sent })
            })
            .await;
            if opened.is_err() {
                self.client.forget().await;
            }
            self.open = Some(opened?);
        }
        self.open.as_mut().ok_or_else(|| away("let a consumer in", "it was closed"))
    }

    pub(super) async fn next(&mut self, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let queue = self.queue.name.clone();
        let open = self.open().await?;
        let what = "hand out messages";
        let taken = match &mut open.sent {
            None => {
                let options = BasicGetOptions { no_ack: false };
                within(what, OPERATION, open.channel.basic_get(queue.as_str().into(), options))
                    .await
                    .map(|got| got.map(|got| received(got.delivery)).into_iter().collect())
            }
            Some(sent) => take(sent, wait).await,
        };
        if taken.is_err() {
            self.open = None;
        }
        taken
    }

    pub(super) async fn settle(&mut self, settled: Vec<(Delivery, Outcome)>) -> Result<(), BusError> {
        let done = self.settle_all(settled).await;
        if done.is_err() {
            // What is not settled is handed out again when the channel is closed.
            if let Some(open) = self.open.take() {
                let _ = tokio::time::timeout(CONNECT, open.channel.close(200, "again".into())).await;
            }
        }
        done
    }

    async fn settle_all(&self, settled: Vec<(Delivery, Outcome)>) -> Result<(), BusError> {
        let retried: Vec<(String, &Delivery)> = settled
            .iter()
            .filter(|(_, outcome)| *outcome == Outcome::Retry)
            .map(|(delivery, _)| (self.next_place(delivery.failures), delivery))
            .collect();
        if !retried.is_empty() {
            let live = self.client.live().await?;
            let parcels = retried.iter().map(|(place, delivery)| Parcel {
                exchange: "",
                key: place,
                message: &delivery.message,
                failures: delivery.failures + 1,
            });
            confirmed(&live.confirming, parcels.collect()).await?;
        }
        within("settle messages", OPERATION, async {
            for (delivery, outcome) in &settled {
                let Handle::RabbitMq(held) = &delivery.handle else { continue };
                if *outcome == Outcome::Requeue {
                    held.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
                } else {
                    held.ack(BasicAckOptions::default()).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Where a message goes that failed once more than `failures` times.
    fn next_place(&self, failures: usize) -> String {
        if failures < self.client.topology.retry_ms.len() {
            self.queue.resting_place(failures + 1)
        } else {
            self.queue.dead_letters()
        }
    }
}

/// The first message that comes within `wait`, and those that are there already behind it.
async fn take(sent: &mut lapin::Consumer, wait: Duration) -> Result<Vec<Delivery>, BusError> {
    let what = "hand out messages";
    let closed = || away(what, "the channel is closed");
    let Ok(first) = tokio::time::timeout(wait, sent.next()).await else {
        return Ok(Vec::new());
    };
    let first = first.ok_or_else(closed)?.map_err(|error| away(what, error))?;
    let mut taken = vec![received(first)];
    // The broker sends no more than the prefetch. An end or an error comes again at the next question.
    while let Some(Some(Ok(delivery))) = sent.next().now_or_never() {
        taken.push(received(delivery));
    }
    Ok(taken)
}
