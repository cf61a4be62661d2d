//! A role's subscription: takes messages, applies each at most once to the role's own store, and settles them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use tokio_util::sync::CancellationToken;

use super::{Bus, Consumer, Delivery, Message, Outcome, Taking};
use crate::orders::event::OrderEvent;
use crate::rpc::Directory;
use crate::store::outbox::note_in_inbox;
use crate::store::{Store, StoreError};
use crate::switches::OnError;

/// How long one question for messages may wait.
const WAIT: Duration = Duration::from_secs(2);
/// Pause after the broker or the store failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause between two questions of a consumer that asks for single messages and found none.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// What an event does to a consumer's store, in the transaction of its inbox row.
pub(crate) type Effect =
    for<'c> fn(&'c mut AnyConnection, OrderEvent, Message) -> BoxFuture<'c, Result<(), StoreError>>;

/// One role's interest in one queue.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) bus: Bus,
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: Store,
    pub(crate) queue: &'static str,
    /// Its name in the inbox.
    pub(crate) consumer: &'static str,
    pub(crate) effect: Effect,
    pub(crate) counts: Arc<Counts>,
}

/// What a subscription has seen, for `/debug/state`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    taken: AtomicU64,
    repeated: AtomicU64,
    failed: AtomicU64,
    batches: AtomicU64,
}

impl Counts {
    pub(crate) fn describe(&self) -> Value {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "taken": of(&self.taken),
            "repeated": of(&self.repeated),
            "failed": of(&self.failed),
            "batches": of(&self.batches),
        })
    }
}

impl Subscription {
    /// Runs until told to stop. What is not settled then is delivered again.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut open: Option<(Taking, Consumer)> = None;
        loop {
            let taking = self.directory.in_force().taking;
            let mut consumer = match open.take() {
                Some((before, consumer)) if before == taking => consumer,
                // What the one before held comes again.
                _ => match self.bus.consumer(self.queue, taking) {
                    Ok(consumer) => consumer,
                    Err(error) => {
                        tracing::error!(%error, "no subscription");
                        return;
                    }
                },
            };
            let pause = tokio::select! {
                pause = self.round(&mut consumer, taking) => pause,
                () = stop.cancelled() => return,
            };
            open = Some((taking, consumer));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Takes and settles what there is. Gives the pause until the next round.
    async fn round(&self, consumer: &mut Consumer, taking: Taking) -> Duration {
        let deliveries = match consumer.next(WAIT).await {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::debug!(%error, queue = self.queue, "the broker is away");
                return PAUSE;
            }
        };
        if deliveries.is_empty() {
            return if taking == Taking::Get { ASK_AGAIN } else { Duration::ZERO };
        }
        self.counts.batches.fetch_add(1, Ordering::Relaxed);
        self.counts.taken.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
        let outcomes = futures::future::join_all(deliveries.iter().map(|delivery| self.apply(delivery))).await;
        let away = outcomes.contains(&None);
        let settled = deliveries.into_iter().zip(outcomes);
        let settled = settled.map(|(delivery, outcome)| (delivery, outcome.unwrap_or(Outcome::Requeue))).collect();
        if let Err(error) = consumer.settle(settled).await {
            tracing::warn!(%error, queue = self.queue, "deliveries are not settled and come again");
            return PAUSE;
        }
        if away { PAUSE } else { Duration::ZERO }
    }

    /// Applies one message. `None`: the store is away, which is not the message's fault.
    async fn apply(&self, delivery: &Delivery) -> Option<Outcome> {
        let message = delivery.message.clone();
        let event: OrderEvent = match serde_json::from_str(&message.body) {
            Ok(event) => event,
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, id = message.id, failures = delivery.failures, "a message cannot be read");
                return Some(match self.directory.in_force().on_error {
                    OnError::RetryThenDead => Outcome::Retry,
                    OnError::Requeue => Outcome::Requeue,
                    OnError::Drop => Outcome::Done,
                });
            }
        };
        let (consumer, effect) = (self.consumer, self.effect);
        let applied = self.store.write(move |connection| {
            Box::pin(async move {
                let is_new = note_in_inbox(connection, &event.event_id, consumer).await?;
                if is_new {
                    effect(connection, event, message).await?;
                }
                Ok(is_new)
            })
        });
        match applied.await {
            Ok(true) => Some(Outcome::Done),
            Ok(false) => {
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                Some(Outcome::Done)
            }
            Err(error) => {
                tracing::warn!(%error, queue = self.queue, "events wait for their store");
                None
            }
        }
    }
}
