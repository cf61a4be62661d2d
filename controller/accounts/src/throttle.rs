//! Makes guessing slow: after a few failures each further attempt has to wait, longer each time, per account and per
//! address. Whether the account exists plays no part, and memory is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Most accounts and addresses that are remembered.
const REMEMBERED: usize = 10_000;
/// Failures are forgotten after this time without another one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Longest wait: a stranger can keep an account's owner out for no longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Whose failures are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// An account's name as it was given, whether it exists or not.
    Account(String),
    /// Where attempts come from.
    Address(IpAddr),
}

impl Key {
    /// Failures before the first wait. Many people may sit behind one address.
    fn free(&self) -> u32 {
        match self {
            Self::Account(_) => 5,
            Self::Address(_) => 30,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    failures: u32,
    last: Instant,
}

/// Remembers failed attempts.
#[derive(Debug, Default)]
pub struct Throttle {
    tries: HashMap<Key, Tries>,
}

/// An attempt has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts; try again in {} s", wait.as_secs().max(1))]
pub struct Wait {
    /// How long.
    pub wait: Duration,
}

impl Throttle {
    /// Asks for an attempt. It counts as failed until [`succeed`](Self::succeed) says otherwise, so that attempts made
    /// at the same time cannot slip through together.
    ///
    /// # Errors
    /// When it has to wait; then it does not count.
    pub fn attempt(&mut self, keys: &[Key], now: Instant) -> Result<(), Wait> {
        let wait = keys.iter().map(|key| self.wait(key, now)).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(Wait { wait });
        }
        for key in keys {
            self.make_room(now);
            let tries = self.tries.entry(key.clone()).or_insert(Tries { failures: 0, last: now });
            let failures = if forgotten(tries, now) { 0 } else { tries.failures };
            *tries = Tries { failures: failures.saturating_add(1), last: now };
        }
        Ok(())
    }

    /// Says that an attempt was right: the account is free again; of its address only this attempt is taken back, so
    /// that one known password does not free a guesser.
    pub fn succeed(&mut self, keys: &[Key]) {
        for key in keys {
            let left = match (key, self.tries.get_mut(key)) {
                (Key::Address(_), Some(tries)) => {
                    tries.failures = tries.failures.saturating_sub(1);
                    tries.failures
                }
                _ => 0,
            };
            if left == 0 {
                self.tries.remove(key);
            }
        }
    }

    fn wait(&self, key: &Key, now: Instant) -> Duration {
        let Some(tries) = self.tries.get(key).filter(|tries| !forgotten(tries, now)) else {
            return Duration::ZERO;
        };
        let over = tries.failures.saturating_sub(key.free());
        let wait = if tries.failures < key.free() { Duration::ZERO } else { doubled(over) };
        wait.saturating_sub(now.saturating_duration_since(tries.last))
    }

    fn make_room(&mut self, now: Instant) {
        if self.tries.len() < REMEMBERED {
            return;
        }
        self.tries.retain(|_, tries| !forgotten(tries, now));
        while self.tries.len() >= REMEMBERED {
            // Those with many failures stay: a guesser cannot push his own out with made-up names.
            let least = self.tries.iter().min_by_key(|(_, tries)| (tries.failures, tries.last));
            let Some(least) = least.map(|(key, _)| key.clone()) else { return };
            self.tries.remove(&least);
        }
    }
}

fn forgotten(tries: &Tries, now: Instant) -> bool {
    now.saturating_duration_since(tries.last) > FORGOTTEN_AFTER
}

/// 1 s, 2 s, 4 s, … up to the longest.
fn doubled(times: u32) -> Duration {
    Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(name: &str) -> Vec<Key> {
        vec![Key::Account(name.to_owned())]
    }

    #[test]
    fn waits_grow_with_failures_and_end_with_success() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        let ann = account("ann");
        for _ in 0..5 {
            throttle.attempt(&ann, now).unwrap();
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = throttle.attempt(&ann, now).unwrap_err().wait;
            waits.push(wait.as_secs());
            assert!(throttle.attempt(&ann, now + wait - Duration::from_millis(1)).is_err());
            now += wait;
            throttle.attempt(&ann, now).unwrap();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(throttle.attempt(&account("bob"), now).is_ok(), "others do not wait");
        throttle.succeed(&ann);
        assert!(throttle.attempt(&ann, now).is_ok());
    }

    #[test]
    fn an_address_waits_although_it_tries_another_account_each_time() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let address = Key::Address("192.0.2.1".parse().unwrap());
        let keys = |n: u32| [Key::Account(format!("a{n}")), address.clone()];
        for n in 0..30 {
            throttle.attempt(&keys(n), now).unwrap();
            if n % 3 == 0 {
                throttle.succeed(&keys(n));
            }
        }
        let mut further = 30;
        while throttle.attempt(&keys(further), now).is_ok() {
            further += 1;
        }
        assert_eq!(further, 40, "successes in between are taken back one by one, and no more");
    }

    #[test]
    fn failures_are_forgotten_after_an_hour() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            throttle.attempt(&account("ann"), now).unwrap();
        }
        let later = now + FORGOTTEN_AFTER + Duration::from_secs(1);
        for _ in 0..5 {
            throttle.attempt(&account("ann"), later).unwrap();
        }
        assert!(throttle.attempt(&account("ann"), later).is_err());
    }

    #[test]
    fn made_up_names_neither_fill_the_memory_nor_push_a_guessed_account_out() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            throttle.attempt(&account("ann"), now).unwrap();
        }
        for n in 0..REMEMBERED + 500 {
            throttle.attempt(&account(&format!("made up {n}")), now).unwrap();
        }
        assert!(throttle.tries.len() <= REMEMBERED);
        assert!(throttle.attempt(&account("ann"), now).is_err());
    }

    proptest! {
        #[test]
        fn no_guesser_gets_more_than_the_free_attempts_and_one_per_wait(gaps in prop::collection::vec(0_u64..400, 1..200)) {
            let (mut throttle, start) = (Throttle::default(), Instant::now());
            let (mut now, mut allowed) = (start, 0_u32);
            for gap in gaps {
                now += Duration::from_secs(gap);
                allowed += u32::from(throttle.attempt(&account("ann"), now).is_ok());
            }
            // Waits add up to 1 + 2 + … before they reach the longest, and nobody waits an hour here.
            let seconds = now.duration_since(start).as_secs();
            let most = (0..).take_while(|n: &u32| (0..*n).map(|k| doubled(k).as_secs()).sum::<u64>() <= seconds).count();
            prop_assert!(allowed as usize <= 5 + most, "{} in {} s", allowed, seconds);
        }
    }
}
