//! The keys of an embedded key-value server: values, expiry, a bound on memory, and what gives way when it is reached.
//! Times are arguments, in milliseconds since 1970.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

/// What an entry costs beside its key and value: the map, the two orders and the bookkeeping.
const ENTRY_BYTES: usize = 112;

/// What gives way when memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Policy {
    /// Nothing: writes are refused.
    #[default]
    NoEviction,
    /// What was not used for the longest time.
    AllKeysLru,
}

impl Policy {
    /// Its name in Redis.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoEviction => "noeviction",
            Self::AllKeysLru => "allkeys-lru",
        }
    }

    /// The policy of a name.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        [Self::NoEviction, Self::AllKeysLru].into_iter().find(|policy| policy.name().as_bytes() == name)
    }
}

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    Full,
    #[error("ERR value is not an integer or out of range")]
    NoInteger,
    #[error("ERR increment or decrement would overflow")]
    Overflow,
}

/// How `SET` is meant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SetOptions {
    /// Only if there is none.
    pub(crate) if_absent: bool,
    /// The entry's life.
    pub(crate) expires_in_ms: Option<i64>,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
}

struct Entry {
    value: Bytes,
    expires_at_ms: Option<i64>,
    /// Its place in the order of use.
    used: u64,
}

/// All keys of one server.
#[derive(Default)]
pub(crate) struct Keyspace {
    entries: HashMap<Bytes, Entry>,
    /// Keys by last use, the longest unused first.
    by_use: BTreeMap<u64, Bytes>,
    by_expiry: BTreeSet<(i64, Bytes)>,
    uses: u64,
    bytes: usize,
    /// 0 is no bound.
    pub(crate) most_bytes: usize,
    pub(crate) policy: Policy,
    /// The highest fence ever given: it must rise also when every key is removed within a millisecond.
    pub(crate) last_fence: i64,
    pub(crate) counters: Counters,
}

impl Keyspace {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops what is over.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        while let Some((at_ms, key)) = self.by_expiry.first()
            && *at_ms <= now_ms
        {
            let key = key.clone();
            self.remove(&key);
            self.counters.expired += 1;
        }
    }

    /// The value of a key, counted as a hit or a miss.
    pub(crate) fn get(&mut self, key: &Bytes, now_ms: i64) -> Option<Bytes> {
        let found = self.peek(key, now_ms);
        match found {
            Some(_) => self.counters.hits += 1,
            None => self.counters.misses += 1,
        }
        found
    }

    /// The value of a key.
    pub(crate) fn peek(&mut self, key: &Bytes, now_ms: i64) -> Option<Bytes> {
        self.expire(now_ms);
        let entry = self.entries.get_mut(key)?;
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        Some(entry.value.clone())
    }

    /// Writes a value. `false` if there was one and there must not be.
    pub(crate) fn set(&mut self, key: Bytes, value: Bytes, options: SetOptions, now_ms: i64) -> Result<bool, Refused> {
        self.expire(now_ms);
        self.make_room()?;
        if options.if_absent && self.entries.contains_key(&key) {
            return Ok(false);
        }
        self.put(key, value, options.expires_in_ms.map(|life| now_ms.saturating_add(life)));
        Ok(true)
    }

    /// Removes a key. Whether there was one.
    pub(crate) fn del(&mut self, key: &Bytes, now_ms: i64) -> bool {
        self.expire(now_ms);
        self.remove(key)
    }

    /// Adds to the number at a key, which keeps its life.
    pub(crate) fn add(&mut self, key: Bytes, by: i64, now_ms: i64) -> Result<i64, Refused> {
        self.expire(now_ms);
        self.make_room()?;
        let (before, expires_at_ms) = match self.entries.get(&key) {
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).map_err(|_| Refused::NoInteger)?;
                (text.parse::<i64>().map_err(|_| Refused::NoInteger)?, entry.expires_at_ms)
            }
            None => (0, None),
        };
        let after = before.checked_add(by).ok_or(Refused::Overflow)?;
        self.put(key, after.to_string().into(), expires_at_ms);
        Ok(after)
    }

    /// Gives a key a life. Whether there is such a key.
    pub(crate) fn expire_in(&mut self, key: &Bytes, life_ms: i64, now_ms: i64) -> bool {
        self.expire(now_ms);
        let Some(value) = self.entries.get(key).map(|entry| entry.value.clone()) else { return false };
        if life_ms <= 0 {
            return self.remove(key);
        }
        self.put(key.clone(), value, Some(now_ms.saturating_add(life_ms)));
        true
    }

    /// What is left of a key's life: −1 for ever, −2 if there is none.
    pub(crate) fn life_left_ms(&mut self, key: &Bytes, now_ms: i64) -> i64 {
        self.expire(now_ms);
        match self.entries.get(key) {
            Some(Entry { expires_at_ms: Some(at_ms), .. }) => at_ms - now_ms,
            Some(_) => -1,
            None => -2,
        }
    }

    /// Every key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.keys()
    }

    /// Every key with its value and the end of its life.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Bytes, &Bytes, Option<i64>)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value, entry.expires_at_ms))
    }

    /// Puts back what a snapshot held.
    pub(crate) fn put(&mut self, key: Bytes, value: Bytes, expires_at_ms: Option<i64>) {
        self.remove(&key);
        self.uses += 1;
        self.bytes += size(&key, &value);
        self.by_use.insert(self.uses, key.clone());
        if let Some(at_ms) = expires_at_ms {
            self.by_expiry.insert((at_ms, key.clone()));
        }
        self.entries.insert(key, Entry { value, expires_at_ms, used: self.uses });
    }

    /// Removes every key.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.by_use.clear();
        self.by_expiry.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, key: &Bytes) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.bytes -= size(key, &entry.value);
        self.by_use.remove(&entry.used);
        if let Some(at_ms) = entry.expires_at_ms {
            self.by_expiry.remove(&(at_ms, key.clone()));
        }
        true
    }

    /// As Redis does: looks before a command that may take room, not after it.
    fn make_room(&mut self) -> Result<(), Refused> {
        while self.most_bytes > 0 && self.bytes > self.most_bytes {
            if self.policy == Policy::NoEviction {
                return Err(Refused::Full);
            }
            let Some(key) = self.by_use.first_key_value().map(|(_, key)| key.clone()) else { break };
            self.remove(&key);
            self.counters.evicted += 1;
        }
        Ok(())
    }
}

fn size(key: &Bytes, value: &Bytes) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> Bytes {
        format!("key-{n}").into()
    }

    fn plain(keys: &mut Keyspace, n: u32) -> Result<bool, Refused> {
        keys.set(key(n), vec![b'x'; 100].into(), SetOptions::default(), 0)
    }

    #[test]
    fn a_full_keyspace_refuses_writes_and_takes_removals() {
        let mut keys = Keyspace { most_bytes: 1_000, ..Keyspace::default() };
        let written = (0..20).take_while(|n| plain(&mut keys, *n).is_ok()).count();
        assert!((4..8).contains(&written), "{written}");
        assert_eq!(keys.add("n".into(), 1, 0), Err(Refused::Full));
        while keys.bytes() > 1_000 {
            let any = keys.keys().next().cloned().unwrap();
            assert!(keys.del(&any, 0));
        }
        assert_eq!(keys.add("n".into(), 1, 0), Ok(1));
        assert_eq!(keys.counters.evicted, 0);
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_gives_way() {
        let mut keys = Keyspace { most_bytes: 1_000, policy: Policy::AllKeysLru, ..Keyspace::default() };
        for n in 0..20 {
            plain(&mut keys, n).unwrap();
            assert!(keys.get(&key(0), 0).is_some(), "used all the time");
        }
        assert!(keys.get(&key(1), 0).is_none());
        assert!(keys.get(&key(19), 0).is_some());
        assert!(keys.counters.evicted > 10);
    }

    proptest! {
        #[test]
        fn the_orders_and_the_sum_stay_true(steps in prop::collection::vec((0_u8..5, 0_u32..8, 0_i64..50), 0..200)) {
            let mut keys = Keyspace { most_bytes: 900, policy: Policy::AllKeysLru, ..Keyspace::default() };
            let mut now = 0;
            for (what, n, by) in steps {
                now += by / 10;
                match what {
                    0 => drop(plain(&mut keys, n)),
                    1 => drop(keys.set(key(n), "1".into(), SetOptions { if_absent: true, expires_in_ms: Some(by) }, now)),
                    2 => drop(keys.del(&key(n), now)),
                    3 => drop(keys.expire_in(&key(n), by, now)),
                    _ => drop(keys.get(&key(n), now)),
                }
                let sum: usize = keys.entries().map(|(key, value, _)| size(key, value)).sum();
                prop_assert_eq!(sum, keys.bytes());
                prop_assert_eq!(keys.by_use.len(), keys.len());
                let mortal = keys.entries().filter(|(_, _, expires)| expires.is_some()).count();
                prop_assert_eq!(mortal, keys.by_expiry.len());
                keys.expire(now);
                prop_assert!(keys.entries().all(|(_, _, expires)| expires.is_none_or(|at| at > now)));
            }
        }
    }
}
