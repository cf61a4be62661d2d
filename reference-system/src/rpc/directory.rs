//! The client side of the registry: the last known list, kept by a long poll, and the choice among
//! its instances.
//!
//! The list survives the registry: without it, callers go on with what they know. An instance that
//! fails several times in a row is left alone for a while (passive ejection).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Balancing;

/// One registered instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Its name.
    pub(crate) instance: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// `up`, once it is ready.
    pub(crate) state: String,
    /// Its share among its peers.
    pub(crate) weight: u32,
}

/// What the registry knows, as of one revision of one life of the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// Which life of the registry: its state does not survive it.
    pub(crate) epoch: u64,
    /// Rises with each change.
    pub(crate) rev: u64,
    /// Instances by service.
    pub(crate) services: BTreeMap<String, Vec<Registered>>,
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) instance: String,
    pub(crate) address: SocketAddr,
}

/// The last known list and the health of its instances.
#[derive(Debug)]
pub(crate) struct Directory {
    links: BTreeMap<String, SocketAddr>,
    balancing: Balancing,
    lease: Duration,
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    listing: Listing,
    /// Entries of an earlier life of the registry, until their owners must have come back.
    inherited: Option<(Instant, BTreeMap<String, Vec<Registered>>)>,
    turn: usize,
    health: HashMap<String, Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    ejected_until: Option<Instant>,
}

impl Directory {
    /// An empty list. `links` says which instances are dialled elsewhere.
    pub(crate) fn new(links: BTreeMap<String, SocketAddr>, balancing: Balancing, lease: Duration) -> Self {
        Self { links, balancing, lease, known: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the registry says.
    pub(crate) fn learn(&self, listing: Listing, now: Instant) {
        let mut known = self.known();
        if known.listing.epoch != 0 && known.listing.epoch != listing.epoch {
            // A registry that has just restarted knows nobody yet; its silence proves nothing
            // until every live instance has had a lease's time to heartbeat.
            let before = std::mem::take(&mut known.listing.services);
            known.inherited = Some((now + self.lease, before));
        }
        known.listing = listing;
        drop(known);
        self.changed.send_replace(());
    }

    /// The revision to watch from.
    pub(crate) fn position(&self) -> (u64, u64) {
        let known = self.known();
        (known.listing.epoch, known.listing.rev)
    }

    /// Chooses an instance: the next in turn that is not ejected and is not `except`.
    pub(crate) fn choose(&self, service: &str, except: Option<&str>, now: Instant) -> Option<Target> {
        let mut known = self.known();
        known.turn = known.turn.wrapping_add(1);
        let turn = known.turn;
        let candidates = known.instances(service, now);
        let ejected = |entry: &&Registered| {
            known
                .health
                .get(&entry.instance)
                .is_some_and(|health| health.ejected_until.is_some_and(|until| now < until))
        };
        let others: Vec<&Registered> =
            candidates.iter().filter(|entry| Some(entry.instance.as_str()) != except).collect();
        let healthy: Vec<&Registered> = others.iter().copied().filter(|entry| !ejected(entry)).collect();
        // With nobody healthy left, an ejected instance is better than none.
        let pool = if healthy.is_empty() { &others } else { &healthy };
        let chosen = pool.get(turn % pool.len().max(1))?;
        Some(Target {
            instance: chosen.instance.clone(),
            address: self.links.get(&chosen.instance).copied().unwrap_or(chosen.address),
        })
    }

    /// Notes how a call went.
    pub(crate) fn note(&self, instance: &str, succeeded: bool, now: Instant) {
        let mut known = self.known();
        if succeeded {
            known.health.remove(instance);
            return;
        }
        let health = known.health.entry(instance.to_owned()).or_default();
        health.failures += 1;
        if health.failures >= self.balancing.eject_after {
            health.failures = 0;
            health.ejected_until = Some(now + Duration::from_millis(self.balancing.eject_ms));
        }
    }

    /// How calls are balanced.
    pub(crate) fn balancing(&self) -> Balancing {
        self.balancing
    }

    /// Waits until each of `services` has an instance.
    pub(crate) async fn wait_for(&self, services: &[&str]) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let now = Instant::now();
            if services.iter().all(|service| self.choose(service, None, now).is_some()) {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// What is known, for `/debug/state`.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let known = self.known();
        let now = Instant::now();
        let ejected: Vec<&String> = known
            .health
            .iter()
            .filter(|(_, health)| health.ejected_until.is_some_and(|until| now < until))
            .map(|(instance, _)| instance)
            .collect();
        serde_json::json!({ "listing": known.listing, "ejected": ejected, "links": self.links })
    }
}

impl Known {
    fn instances(&self, service: &str, now: Instant) -> Vec<Registered> {
        let mut entries = self.listing.services.get(service).cloned().unwrap_or_default();
        if let Some((until, before)) = &self.inherited
            && now < *until
        {
            for entry in before.get(service).into_iter().flatten() {
                if !entries.iter().any(|known| known.instance == entry.instance) {
                    entries.push(entry.clone());
                }
            }
        }
        entries.retain(|entry| entry.state == "up" && entry.weight > 0);
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(epoch: u64, instances: &[(&str, u16)]) -> Listing {
        let entries = instances
            .iter()
            .map(|(instance, port)| Registered {
                instance: (*instance).to_owned(),
                address: ([127, 0, 0, 1], *port).into(),
                state: "up".to_owned(),
                weight: 1,
            })
            .collect();
        Listing { epoch, rev: 1, services: [("a".to_owned(), entries)].into() }
    }

    fn directory() -> Directory {
        Directory::new(BTreeMap::new(), Balancing::default(), Duration::from_secs(3))
    }

    fn picks(directory: &Directory, now: Instant) -> Vec<String> {
        let mut picks: Vec<String> =
            (0..6).filter_map(|_| directory.choose("a", None, now)).map(|target| target.instance).collect();
        picks.sort();
        picks.dedup();
        picks
    }

    #[tokio::test]
    async fn calls_go_round_and_leave_a_failing_instance_alone_for_a_while() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(listing(1, &[("a-1", 1), ("a-2", 2)]), now);
        assert_eq!(picks(&directory, now), ["a-1", "a-2"]);
        for _ in 0..Balancing::default().eject_after {
            directory.note("a-1", false, now);
        }
        assert_eq!(picks(&directory, now), ["a-2"]);
        assert_eq!(picks(&directory, now + Duration::from_secs(4)), ["a-1", "a-2"]);
    }

    #[tokio::test]
    async fn a_single_failure_or_failures_between_successes_eject_nobody() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(listing(1, &[("a-1", 1), ("a-2", 2)]), now);
        for _ in 0..20 {
            directory.note("a-1", false, now);
            directory.note("a-1", true, now);
        }
        assert_eq!(picks(&directory, now), ["a-1", "a-2"]);
    }

    #[tokio::test]
    async fn a_restarted_registry_does_not_empty_the_list_but_a_living_one_does() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(listing(1, &[("a-1", 1)]), now);
        directory.learn(listing(2, &[]), now);
        assert_eq!(picks(&directory, now), ["a-1"]);
        assert!(picks(&directory, now + Duration::from_secs(4)).is_empty());
        directory.learn(listing(2, &[("a-1", 1)]), now);
        directory.learn(listing(2, &[]), now + Duration::from_secs(4));
        assert!(picks(&directory, now + Duration::from_secs(4)).is_empty());
    }

    #[tokio::test]
    async fn a_link_is_dialled_in_place_of_the_instance() {
        let link: SocketAddr = ([127, 0, 0, 1], 99).into();
        let directory = Directory::new([("a-1".to_owned(), link)].into(), Balancing::default(), Duration::from_secs(3));
        directory.learn(listing(1, &[("a-1", 1)]), Instant::now());
        assert_eq!(directory.choose("a", None, Instant::now()).unwrap().address, link);
    }
}
