//! Telling people what runs mean. One task works out what every run that ended changes, writes what is to be sent with
//! it into the store, and sends from there: what a crash cuts off is caught up with at the next start.

mod channels;
mod digests;
mod telling;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use kennel_model::api::{DeliveryState, NotificationEvent};
use kennel_notifications::courier::{Attempt, Courier, End, Parcel};
use kennel_notifications::retry::pause;
use rand::Rng as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, OnceCell, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use channels::{DeliveryQuery, NotificationError};

use crate::happenings::Happening;
use crate::people::KnownUrl;
use crate::store::{Due, Store, StoreError, Tried};

/// Longest time between two looks at what is due, should a happening have been missed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pause after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long what was sent and what happened are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How often what is older is forgotten.
const FORGET_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// A moment as the store keeps it: to the millisecond, always of the same length, so that text sorts as time does.
pub(crate) fn text(moment: Timestamp) -> String {
    let moment = moment.round(Unit::Millisecond).unwrap_or(moment);
    format!("{moment:.3}")
}

/// The task that tells people.
pub(crate) struct Notifier {
    pub(crate) store: Store,
    /// Told when a channel, a rule or a delivery was changed.
    pub(crate) wake: Arc<Notify>,
    /// How links begin.
    public_url: Arc<KnownUrl>,
    courier: Arc<OnceCell<Courier>>,
    forgotten_at: Option<Timestamp>,
}

impl Notifier {
    pub(crate) fn new(store: Store, wake: Arc<Notify>, public_url: Arc<KnownUrl>) -> Self {
        Self { store, wake, public_url, courier: Arc::default(), forgotten_at: None }
    }

    /// Works until `stop`, or until its controller is dropped. What is being sent then is sent again after the next start.
    pub(crate) async fn work(mut self, mut happenings: broadcast::Receiver<Happening>, stop: CancellationToken) {
        let mut sending = JoinSet::new();
        let mut busy = BTreeSet::new();
        loop {
            let wait = match self.look(&mut sending, &mut busy).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "notifications could not be worked out; trying again");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                is_alive = news(&mut happenings) => if !is_alive { break },
                () = self.wake.notified() => {}
                Some(sent) = sending.join_next() => match sent {
                    Ok(channel) => { busy.remove(&channel); }
                    // Only a panic ends a task here; which one is not told, so look at all of them anew.
                    Err(error) => { tracing::error!(%error, "a delivery broke off"); busy.clear(); }
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
        sending.shutdown().await;
    }

    /// Does everything that is due; answers how long nothing else will be.
    async fn look(&mut self, sending: &mut JoinSet<i64>, busy: &mut BTreeSet<i64>) -> Result<Duration, StoreError> {
        self.tell().await?;
        self.digest(Timestamp::now()).await?;
        self.forget(Timestamp::now()).await?;
        let now = text(Timestamp::now());
        for due in self.store.due_deliveries(&now).await? {
            // One at a time per channel, so that a recovery does not overtake its failure.
            if busy.insert(due.channel) {
                sending.spawn(send(self.store.clone(), Arc::clone(&self.courier), due));
            }
        }
        let next = [self.store.next_delivery_after(&now).await?, self.next_digest().await?];
        let next = next.iter().flatten().filter_map(|moment| moment.parse::<Timestamp>().ok()).min();
        let wait = next.map(|next| Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default());
        // A little later than due, so that it is due when looked at.
        Ok(wait.map_or(LOOK_EVERY, |wait| (wait + Duration::from_millis(5)).min(LOOK_EVERY)))
    }

    async fn forget(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.forgotten_at.is_none_or(|then| now.duration_since(then) > FORGET_EVERY) {
            self.store.forget_notifications(&text(now - KEPT)).await?;
            self.forgotten_at = Some(now);
        }
        Ok(())
    }
}

/// Waits until something happens that could be news; false when the controller is gone.
async fn news(happenings: &mut broadcast::Receiver<Happening>) -> bool {
    loop {
        match happenings.recv().await {
            Ok(Happening::RunEnded(_) | Happening::SuiteRunEnded(_) | Happening::SchedulesChanged)
            | Err(RecvError::Lagged(_)) => return true,
            Ok(_) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

/// Sends one delivery and keeps what came of it; answers its channel.
async fn send(store: Store, courier: Arc<OnceCell<Courier>>, due: Due) -> i64 {
    let attempt = match courier.get_or_try_init(courier_of_the_system).await {
        Ok(courier) => {
            let parcel = Parcel {
                id: &due.id,
                destination: &due.destination,
                allow_private_addresses: due.allow_private,
                body: &due.body,
                now: Timestamp::now(),
            };
            courier.deliver(parcel).await
        }
        Err(why) => Attempt { end: End::Again(None), code: None, answer: why, head: String::new() },
    };
    let tried = tried(&due, attempt, Timestamp::now(), rand::rng().random());
    tracing::info!(delivery = due.id, state = %tried.state, code = tried.code, answer = tried.answer, "a delivery was tried");
    if let Err(error) = store.record_attempt(&due.id, &tried).await {
        tracing::error!(%error, delivery = due.id, "what came of a delivery could not be kept: it will be sent again");
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    due.channel
}

/// The system's certificates are read only once something is to be sent: that takes a while.
async fn courier_of_the_system() -> Result<Courier, String> {
    let made = tokio::task::spawn_blocking(Courier::new).await.map_err(|error| error.to_string())?;
    made.map_err(|error| error.to_string())
}

/// What an attempt means for its delivery. Pure.
fn tried(due: &Due, attempt: Attempt, now: Timestamp, chance: f64) -> Tried {
    let again = match attempt.end {
        // Whoever tries a channel out wants to know at once.
        End::Again(_) if due.event == NotificationEvent::Test => None,
        End::Again(asked) => pause(due.attempts + 1, asked, chance),
        End::Sent | End::Never => None,
    };
    let state = match (attempt.end, again) {
        (End::Sent, _) => DeliveryState::Sent,
        (_, Some(_)) => DeliveryState::Waiting,
        (_, None) => DeliveryState::Failed,
    };
    Tried {
        state,
        code: attempt.code,
        answer: attempt.answer,
        head: attempt.head,
        next_try_at: again.map(|pause| text(now + pause)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use kennel_model::api::Secret;
    use kennel_notifications::destination::Destination;

    fn due(event: NotificationEvent, attempts: u32) -> Due {
        Due {
            id: "1".to_owned(),
            channel: 1,
            destination: Destination::Slack { url: Secret("https://hooks.slack.example/".to_owned()) },
            allow_private: false,
            event,
            body: String::new(),
            attempts,
        }
    }

    fn after(event: NotificationEvent, attempts: u32, end: End) -> (DeliveryState, Option<String>) {
        let attempt = Attempt { end, code: None, answer: String::new(), head: String::new() };
        let tried = tried(&due(event, attempts), attempt, "2026-01-01T00:00:00Z".parse().unwrap(), 0.5);
        (tried.state, tried.next_try_at)
    }

    #[test]
    fn what_fails_waits_longer_each_time_until_it_is_given_up() {
        use NotificationEvent::{FirstFailure, Test};
        let waiting = |moment: &str| (DeliveryState::Waiting, Some(moment.to_owned()));
        assert_eq!(after(FirstFailure, 0, End::Again(None)), waiting("2026-01-01T00:00:05.000Z"));
        assert_eq!(after(FirstFailure, 1, End::Again(None)), waiting("2026-01-01T00:00:30.000Z"));
        assert_eq!(
            after(FirstFailure, 1, End::Again(Some(Duration::from_secs(90)))),
            waiting("2026-01-01T00:01:30.000Z")
        );
        assert_eq!(after(FirstFailure, 9, End::Again(None)), (DeliveryState::Failed, None));
        assert_eq!(after(FirstFailure, 0, End::Never), (DeliveryState::Failed, None));
        assert_eq!(after(FirstFailure, 4, End::Sent), (DeliveryState::Sent, None));
        assert_eq!(after(Test, 0, End::Again(None)), (DeliveryState::Failed, None));
    }
}
