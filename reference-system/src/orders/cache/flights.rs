//! Single flight: of many who miss the same key, one reads, and the others take what it read.
//!
//! Whoever comes while a read is under way waits for the next one, which serves everybody who came by then: the read under
//! way may be from before a change that he was told has happened.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The reads of one kind, by key.
pub(super) struct Flights<K: Eq + Hash, T> {
    lanes: Mutex<HashMap<K, Arc<Lane<T>>>>,
    /// Orders arrivals and beginnings.
    clock: AtomicU64,
}

/// Held by who reads; has when the last read began, and what it gave.
type Lane<T> = tokio::sync::Mutex<Option<(u64, T)>>;

impl<K: Eq + Hash, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { lanes: Mutex::default(), clock: AtomicU64::default() }
    }
}

impl<K: Eq + Hash + Clone, T: Clone> Flights<K, T> {
    /// What a read gives that began after this call. `read` is run unless somebody else's will do.
    pub(super) async fn share(&self, key: K, read: impl Future<Output = T>) -> T {
        let arrived = self.tick();
        let lane = Arc::clone(self.lanes().entry(key.clone()).or_default());
        let seat = Seat { flights: self, key, lane };
        let mut last = seat.lane.lock().await;
        if let Some((began, shared)) = &*last
            && *began > arrived
        {
            return shared.clone();
        }
        let began = self.tick();
        let fresh = read.await;
        *last = Some((began, fresh.clone()));
        fresh
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}

impl<K: Eq + Hash, T> Flights<K, T> {
    fn lanes(&self) -> MutexGuard<'_, HashMap<K, Arc<Lane<T>>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a lane; the last to leave takes the lane with him.
struct Seat<'a, K: Eq + Hash, T> {
    flights: &'a Flights<K, T>,
    key: K,
    lane: Arc<Lane<T>>,
}

impl<K: Eq + Hash, T> Drop for Seat<'_, K, T> {
    fn drop(&mut self) {
        let mut lanes = self.flights.lanes();
        // The map's and this one's: nobody comes while the map is locked.
        if Arc::strong_count(&self.lane) == 2 {
            lanes.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_read_shares_the_next_one() {
        let flights: Flights<u8, usize> = Flights::default();
        let (reads, gate) = (AtomicUsize::new(0), Notify::new());
        let read = || async {
            let number = reads.fetch_add(1, Ordering::Relaxed) + 1;
            gate.notified().await;
            number
        };
        let first = flights.share(1, read());
        let others = futures::future::join_all((0..50).map(|_| flights.share(1, read())));
        let other_key = flights.share(2, async { 99 });
        let opened = async {
            while flights.lanes().len() < 2 && reads.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            for _ in 0..2 {
                gate.notify_one();
                tokio::task::yield_now().await;
            }
        };
        let (first, others, other_key, ()) = tokio::join!(first, others, other_key, opened);
        assert_eq!((first, other_key), (1, 99));
        assert_eq!(others, vec![2; 50], "one read for all who came during the first");
        assert!(flights.lanes().is_empty(), "nothing is left of them");
    }

    #[tokio::test]
    async fn a_read_that_is_cut_off_is_done_by_the_next() {
        let flights: Flights<u8, u8> = Flights::default();
        let mut stuck = Box::pin(flights.share(1, std::future::pending()));
        assert!(futures::poll!(stuck.as_mut()).is_pending());
        let mut waiting = Box::pin(flights.share(1, async { 7 }));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(stuck);
        assert_eq!(waiting.await, 7);
        assert!(flights.lanes().is_empty());
    }
}
