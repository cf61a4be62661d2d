//! Kitchen numbers: a counter per restaurant and day on kv-id, and the merchant store that knows which numbers are out.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::kv::Purpose;
use crate::kv::client::{KvClients, KvError};
use crate::rpc::{Caller, Failure};
use crate::store::slips::{self, Found, NumberAnswer, NumberRequest, Slip};
use crate::store::{Store, StoreError};

/// A day's counter outlives its day, since clocks differ, and not much more.
const COUNTER_LIFE: Duration = Duration::from_secs(2 * 86_400);

/// Gives the orders of one merchant store their numbers.
pub(crate) struct Kitchens {
    caller: Caller,
    kv: KvClients,
    store: Store,
    /// One round at a time: between a look at the counter and the slip nobody else draws for this store.
    turn: Mutex<()>,
}

impl Kitchens {
    pub(crate) fn new(caller: Caller, kv: KvClients, store: Store) -> Self {
        Self { caller, kv, store, turn: Mutex::default() }
    }

    /// The numbers of these orders, each with its shard. Asking again gives the same.
    pub(crate) async fn number(&self, requests: &[(u16, NumberRequest)]) -> Result<Vec<NumberAnswer>, Failure> {
        let _turn = self.turn.lock().await;
        let (mut answers, open) = self.look(requests).await?;
        if open.is_empty() {
            return Ok(answers);
        }
        let reseed = self.caller.in_force().reseed_numbers;
        let drawn = open.into_iter().map(|(kitchen, waiting)| async move {
            let first = self.draw(kitchen, &waiting, reseed).await;
            (kitchen, waiting, first)
        });
        let mut written = Vec::new();
        for (kitchen, waiting, first) in futures::future::join_all(drawn).await {
            let Kitchen { restaurant_id, day, .. } = kitchen;
            let Some(first) = first else { continue };
            for (place, number) in waiting.into_iter().zip(first..) {
                let order_id = requests[place].1.order_id;
                written.push((place, Slip { order_id, restaurant_id, day, number, guarded: reseed }));
            }
        }
        let kept = self
            .store
            .write(move |connection| {
                Box::pin(async move {
                    let mut kept = Vec::with_capacity(written.len());
                    for (place, slip) in written {
                        if slips::write(connection, &slip).await? {
                            kept.push((place, slip));
                        }
                    }
                    Ok(kept)
                })
            })
            .await?;
        for (place, slip) in kept {
            answers[place].kitchen = Some((slip.day, slip.number));
        }
        Ok(answers)
    }

    /// What is numbered already, and the places of those that wait, by kitchen.
    async fn look(
        &self,
        requests: &[(u16, NumberRequest)],
    ) -> Result<(Vec<NumberAnswer>, BTreeMap<Kitchen, Vec<usize>>), StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        let mut open: BTreeMap<Kitchen, Vec<usize>> = BTreeMap::new();
        let mut answers = Vec::with_capacity(requests.len());
        for (place, (shard, request)) in requests.iter().enumerate() {
            let found = slips::find(&mut reader, *shard, request).await?;
            let kitchen = match found {
                Found::Numbered(day, number) => Some((day, number)),
                Found::Hidden | Found::Open(_) => None,
            };
            // An order that is asked for twice in one round gets its number once.
            let repeated = requests[..place].iter().any(|(_, other)| other.order_id == request.order_id);
            if let (Found::Open(restaurant_id), false) = (found, repeated) {
                let highest = slips::highest(&mut reader, restaurant_id, request.day).await?;
                open.entry(Kitchen { restaurant_id, day: request.day, highest }).or_default().push(place);
            }
            answers.push(NumberAnswer { order_id: request.order_id, kitchen });
        }
        Ok((answers, open))
    }

    /// The first of as many numbers as there are orders; `None` while there is none to be had.
    async fn draw(&self, kitchen: Kitchen, waiting: &[usize], reseed: bool) -> Option<i64> {
        let wanted = i64::try_from(waiting.len()).unwrap_or(i64::MAX);
        let kv = self.kv.of(Purpose::Id);
        let key = format!("kitchen:{}:{}", kitchen.restaurant_id, kitchen.day);
        let drawn = async {
            let last = kv.add(&key, wanted).await?;
            if last == wanted {
                kv.expire(&key, COUNTER_LIFE).await?;
            }
            Ok::<_, KvError>(last)
        };
        let drawn = drawn.await;
        if !reseed {
            return drawn
                .inspect_err(|error| tracing::warn!(%error, "kitchen numbers wait"))
                .ok()
                .map(|last| last - wanted + 1);
        }
        // Behind after the counter store went back, ahead after numbers that were drawn and never printed.
        let after = kitchen.highest + wanted;
        let reseeded = match drawn {
            Ok(last) if last == after => Ok(()),
            Ok(last) => {
                tracing::info!(restaurant = kitchen.restaurant_id, last, after, "a kitchen's counter is reseeded");
                kv.add(&key, after - last).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = reseeded {
            tracing::warn!(%error, "kitchen numbers come from the store alone");
        }
        Some(kitchen.highest + 1)
    }
}

/// A restaurant's day, and the highest number that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kitchen {
    restaurant_id: i64,
    day: i64,
    highest: i64,
}
