//! A role's subscription: takes messages, applies each at most once to the role's own store, and settles them.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::event::Event;
use super::{Bus, Consumer, Delivery, Message, Outcome, Taking};
use crate::config::now_ms;
use crate::extract::At;
use crate::rpc::{Directory, Failure};
use crate::store::outbox::{effects_of, note_all_in_inbox};
use crate::store::{Store, StoreError};
use crate::switches::OnError;
use crate::trace::Arrival;

/// How long one question for messages may wait.
const WAIT: Duration = Duration::from_secs(2);
/// How long the first question waits for the registry to tell the switches.
const SWITCHES_WITHIN: Duration = Duration::from_secs(2);
/// Pause after the broker or the store failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause between two questions of a consumer that asks for single messages and found none.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How many messages may be held until they are due.
const HELD: u16 = 60_000;
/// The tag of requests whose events one consumer cannot read starts so, and ends with its name.
const POISON: &str = "poison-";

/// What an event does to a consumer's store, in the transaction of its inbox row.
pub(crate) type Effect =
    Arc<dyn for<'c> Fn(&'c mut AnyConnection, Event, Message) -> BoxFuture<'c, Result<(), StoreError>> + Send + Sync>;

/// Until when a consumer holds a message without settling it, if it does.
pub(crate) type Hold = Arc<dyn Fn(&Event) -> Option<i64> + Send + Sync>;

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
    pub(crate) hold: Option<Hold>,
    pub(crate) counts: Arc<Counts>,
}

/// A message that is held until it is due.
struct Held {
    due_at_ms: i64,
    delivery: Delivery,
}

/// Tells at `/inbox/{event}` how often an event has taken effect in a consumer's store: once, or not yet.
pub(crate) fn inbox(store: Store, consumer: &'static str) -> Router {
    let effects = async move |At(event): At<String>| -> Result<Json<Value>, Failure> {
        let effects = effects_of(store.readers(), &event, consumer).await?;
        Ok(Json(json!({ "effects": effects })))
    };
    Router::new().route("/inbox/{event}", get(effects))
}

impl Subscription {
    /// Runs until told to stop. What is not settled then is delivered again.
    pub(crate) async fn run(self, stop: CancellationToken) {
        // What was taken by another switch than is in force cannot be given back.
        let _ = tokio::time::timeout(SWITCHES_WITHIN, self.directory.learned()).await;
        let mut open: Option<(Taking, bool, Consumer)> = None;
        let mut held = Vec::new();
        loop {
            let in_force = self.directory.in_force();
            let holds = self.hold.is_some() && in_force.timers_unacked;
            let taking = match in_force.taking {
                Taking::Consume { .. } if holds => Taking::Consume { prefetch: HELD },
                taking => taking,
            };
            let mut consumer = match open.take() {
                Some((before, held_before, consumer)) if (before, held_before) == (taking, holds) => consumer,
                // What the one before held comes again.
                _ => match self.bus.consumer(self.queue, taking) {
                    Ok(consumer) => {
                        held.clear();
                        consumer
                    }
                    Err(error) => {
                        tracing::error!(%error, "no subscription");
                        return;
                    }
                },
            };
            let pause = tokio::select! {
                pause = self.round(&mut consumer, taking, holds, &mut held) => pause,
                () = stop.cancelled() => return,
            };
            self.counts.holds(held.len());
            match pause {
                Pause::None => open = Some((taking, holds, consumer)),
                Pause::For(time) => {
                    open = Some((taking, holds, consumer));
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Takes and settles what there is. Gives the pause until the next round.
    async fn round(&self, consumer: &mut Consumer, taking: Taking, holds: bool, held: &mut Vec<Held>) -> Pause {
        let wait =
            held.iter().map(|one| one.due_at_ms).min().map_or(WAIT, |due| {
                WAIT.min(Duration::from_millis(due.saturating_sub(now_ms()).max(0).unsigned_abs()))
            });
        let mut deliveries = match consumer.next(wait).await {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::debug!(%error, queue = self.queue, "the broker is away");
                // What was held is handed out again.
                held.clear();
                return Pause::For(PAUSE);
            }
        };
        self.counts.took(deliveries.len());
        let nothing = deliveries.is_empty();
        if holds {
            deliveries = self.keep_until_due(deliveries, held);
        }
        if deliveries.is_empty() {
            return if nothing && taking == Taking::Get { Pause::For(ASK_AGAIN) } else { Pause::None };
        }
        let (settled, went_well) = self.apply(deliveries).await;
        if let Err(error) = consumer.settle(settled).await {
            tracing::warn!(%error, queue = self.queue, "deliveries are not settled and come again");
            held.clear();
            return Pause::For(PAUSE);
        }
        if went_well { Pause::None } else { Pause::For(PAUSE) }
    }

    /// Puts what is not due aside, and gives what is: of the new ones, and of those that were put aside.
    fn keep_until_due(&self, deliveries: Vec<Delivery>, held: &mut Vec<Held>) -> Vec<Delivery> {
        for delivery in deliveries {
            let due = self.read(&delivery.message).ok().and_then(|event| (self.hold.as_ref()?)(&event));
            held.push(Held { due_at_ms: due.unwrap_or(0), delivery });
        }
        let now_ms = now_ms();
        held.extract_if(.., |one| one.due_at_ms <= now_ms).map(|one| one.delivery).collect()
    }

    /// What a message says. A request can be tagged so that one consumer cannot read what comes of it.
    fn read(&self, message: &Message) -> Result<Event, String> {
        let event: Event = serde_json::from_str(&message.body).map_err(|error| error.to_string())?;
        let poison = event.cause().tag.as_deref().and_then(|tag| tag.strip_prefix(POISON));
        if poison == Some(self.consumer) {
            return Err(format!("its request is tagged as poison for {}", self.consumer));
        }
        Ok(event)
    }

    /// Applies messages, all in one transaction. `false` if the store is away, which is not the messages' fault: all
    /// of them come again.
    async fn apply(&self, deliveries: Vec<Delivery>) -> (Vec<(Delivery, Outcome)>, bool) {
        let mut events = Vec::with_capacity(deliveries.len());
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            match self.read(&delivery.message) {
                Ok(event) => {
                    events.push((event, delivery.message.clone()));
                    outcomes.push(Outcome::Done);
                }
                Err(error) => {
                    self.counts.failed();
                    let (id, failures) = (&delivery.message.id, delivery.failures);
                    tracing::warn!(error, id, failures, queue = self.queue, "a message cannot be read");
                    outcomes.push(match self.directory.in_force().on_error {
                        OnError::RetryThenDead => Outcome::Retry,
                        OnError::Requeue => Outcome::Requeue,
                        OnError::Drop => Outcome::Done,
                    });
                }
            }
        }
        let readable = events.len();
        let traced: Vec<Arrival> = events.iter().filter_map(|(event, _)| Arrival::of(event)).collect();
        let at_ms: Vec<i64> = events.iter().map(|(event, _)| event.at_ms()).collect();
        let (consumer, effect) = (self.consumer, Arc::clone(&self.effect));
        let work = self.store.write(move |connection| {
            Box::pin(async move {
                let ids: Vec<String> = events.iter().map(|(event, _)| event.id()).collect();
                let asked: Vec<&str> = ids.iter().map(String::as_str).collect();
                let mut fresh = note_all_in_inbox(connection, &asked, consumer).await?;
                let count = fresh.len();
                for (id, (event, message)) in ids.iter().zip(events) {
                    // The same event twice in one go takes effect once, too.
                    if fresh.remove(id) {
                        effect(connection, event, message).await?;
                    }
                }
                Ok(count)
            })
        });
        let applied = if readable == 0 { Ok(0) } else { work.await };
        match applied {
            Ok(fresh) => {
                traced.iter().for_each(|arrival| arrival.tell(self.queue));
                self.counts.applied(readable - fresh, &at_ms, now_ms());
                (deliveries.into_iter().zip(outcomes).collect(), true)
            }
            Err(error) => {
                tracing::warn!(%error, queue = self.queue, "events wait for their store");
                (deliveries.into_iter().map(|delivery| (delivery, Outcome::Requeue)).collect(), false)
            }
        }
    }
}

/// Until the next round.
enum Pause {
    None,
    For(Duration),
}
