//! How many writes of orders a shard takes per second, as the small database of one shard would. Without a hash that spreads
//! users evenly, the fullest shard is at its cap first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rpc::directory::Directory;
use crate::rpc::{Budget, Failure};

/// The caps of one store, by the switch `store.write_cap`.
pub(crate) struct WriteCap {
    instance: String,
    directory: Arc<Directory>,
    turns: Mutex<Turns>,
}

/// By shard.
#[derive(Default)]
struct Turns(BTreeMap<u16, Shard>);

struct Shard {
    /// When the next write may begin.
    free_at: Instant,
    /// How many had their turn, and how long they waited for it.
    writes: u64,
    waited: Duration,
}

impl WriteCap {
    pub(crate) fn new(instance: &str, directory: Arc<Directory>) -> Self {
        Self { instance: instance.to_owned(), directory, turns: Mutex::default() }
    }

    /// Waits until each of these shards has a turn for one write.
    ///
    /// # Errors
    ///
    /// 503 `shard_busy` where the turn would come after the caller has given up; no turn is used then.
    pub(crate) async fn turn(&self, shards: impl IntoIterator<Item = u16>, budget: &Budget) -> Result<(), Failure> {
        let Some(per_second) = self.directory.in_force().write_cap else { return Ok(()) };
        let (wanted, pause) = (shards.into_iter().collect(), Duration::from_secs(1) / per_second);
        let taken = self.turns.lock().unwrap_or_else(PoisonError::into_inner).take(&wanted, pause, budget.deadline);
        let begins = taken.map_err(|shard| {
            let why = format!("shard {shard} takes {per_second} writes per second, and more are waiting");
            Failure::unavailable("shard_busy", why)
        })?;
        tokio::time::sleep_until(begins).await;
        Ok(())
    }

    /// The lines of `/metrics`: a line for each shard that had a cap.
    pub(crate) fn write(&self, out: &mut String) {
        let Turns(shards) = &*self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.is_empty() {
            return;
        }
        let (writes, waited) = ("capped_shard_writes_total", "capped_shard_wait_seconds_total");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {writes} counter\n# TYPE {waited} counter");
        for (number, shard) in shards {
            let labels = format!("instance=\"{}\",shard=\"{number}\"", self.instance);
            let _ = writeln!(out, "{writes}{{{labels}}} {}", shard.writes);
            let _ = writeln!(out, "{waited}{{{labels}}} {:.6}", shard.waited.as_secs_f64());
        }
    }
}

impl Turns {
    /// When a write of these shards begins; the next one of each follows `pause` later. Gives the shard that would let it begin
    /// only after `deadline`, and takes no turn then.
    fn take(&mut self, wanted: &BTreeSet<u16>, pause: Duration, deadline: Instant) -> Result<Instant, u16> {
        let now = Instant::now();
        let free_at = |shard: &u16| self.0.get(shard).map_or(now, |known| known.free_at.max(now));
        let Some((begins, last)) = wanted.iter().map(|shard| (free_at(shard), *shard)).max() else { return Ok(now) };
        if begins > deadline {
            return Err(last);
        }
        for shard in wanted {
            let shard = self.0.entry(*shard).or_insert(Shard { free_at: now, writes: 0, waited: Duration::ZERO });
            shard.free_at = begins + pause;
            shard.writes += 1;
            shard.waited += begins - now;
        }
        Ok(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    #[test]
    fn writes_of_a_shard_follow_each_other_and_other_shards_do_not_wait() {
        let (mut turns, far) = (Turns::default(), Instant::now() + 60 * PAUSE);
        let mut at = |shards: &[u16]| turns.take(&shards.iter().copied().collect(), PAUSE, far).unwrap();
        let first = at(&[7]);
        assert_eq!(at(&[7]), first + PAUSE);
        assert!(at(&[8]) < first + PAUSE);
        // A write of two shards begins when both are free.
        assert_eq!(at(&[7, 8]), first + 2 * PAUSE);
        assert_eq!(at(&[8]), first + 3 * PAUSE);
    }

    #[test]
    fn who_would_wait_too_long_is_refused_and_takes_no_turn() {
        let (mut turns, near) = (Turns::default(), Instant::now() + PAUSE / 2);
        let mut at = |until| turns.take(&BTreeSet::from([7]), PAUSE, until);
        let first = at(near).unwrap();
        assert_eq!(at(near), Err(7));
        assert_eq!(at(near + 10 * PAUSE), Ok(first + PAUSE));
    }
}
