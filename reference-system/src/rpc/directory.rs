//! The client side of the registry: the last known list, kept by a long poll, and the choice among
//! its instances.
//!
//! Unless `reg.client_cache` says otherwise, the list survives the registry: without it, callers go on
//! with what they know. An instance that fails several times in a row is left alone for a while
//! (passive ejection, `lb.eject`).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Ejection;
use crate::ids::mix64;
use crate::switches::{Choice, InForce, Settings};

/// How long the memory of a slow call lasts: after this time it weighs a third.
const FADE: Duration = Duration::from_secs(2);
/// The share of the last call in what is remembered of an instance's pace.
const NEWEST: f64 = 0.2;
/// The least that a call is taken to need, in seconds.
const QUICKEST_S: f64 = 0.000_5;

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
    /// What switches are set to.
    #[serde(default)]
    pub(crate) switches: Settings,
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
    /// Who looks at it.
    instance: String,
    links: BTreeMap<String, SocketAddr>,
    ejection: Ejection,
    lease: Duration,
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    listing: Listing,
    /// Entries of an earlier life of the registry, until their owners must have come back.
    inherited: Option<(Instant, BTreeMap<String, Vec<Registered>>)>,
    in_force: InForce,
    turn: usize,
    health: HashMap<String, Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    ejected_until: Option<Instant>,
    under_way: u32,
    /// How long calls took lately, in seconds, and when the last one ended.
    pace: Option<(f64, Instant)>,
}

impl Health {
    /// What one more call would cost: those under way, at the pace of late. A slow call is forgotten with time, so
    /// that a slow instance is tried again.
    fn cost(&self, now: Instant) -> f64 {
        let pace = self.pace.map_or(0.0, |(seconds, at)| {
            seconds * (-now.saturating_duration_since(at).as_secs_f64() / FADE.as_secs_f64()).exp()
        });
        f64::from(self.under_way + 1) * pace.max(QUICKEST_S)
    }

    fn took(&mut self, seconds: f64, now: Instant) {
        let before = self.pace.map_or(seconds, |(before, _)| before);
        // A slow call counts at once, quick ones bring the pace back bit by bit.
        let pace = if seconds > before { seconds } else { before + NEWEST * (seconds - before) };
        self.pace = Some((pace, now));
    }
}

/// A call under way; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    directory: &'a Directory,
    instance: String,
    began: Instant,
    succeeded: bool,
}

impl UnderWay<'_> {
    /// Notes how the call went.
    pub(crate) fn ended(mut self, succeeded: bool, now: Instant) {
        self.succeeded = succeeded;
        self.directory.note(&self.instance, succeeded, now);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut known = self.directory.known();
        let health = known.health.entry(self.instance.clone()).or_default();
        health.under_way = health.under_way.saturating_sub(1);
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        // A quick refusal is no good pace: it would draw all calls to the instance that is dead.
        if self.succeeded || health.pace.is_some_and(|(before, _)| seconds > before) {
            health.took(seconds, now);
        }
    }
}

impl Directory {
    /// An empty list for `instance`. `links` says which instances are dialled elsewhere.
    pub(crate) fn new(
        instance: &str,
        links: BTreeMap<String, SocketAddr>,
        ejection: Ejection,
        lease: Duration,
    ) -> Self {
        let instance = instance.to_owned();
        Self { instance, links, ejection, lease, known: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the registry says.
    pub(crate) fn learn(&self, listing: Listing, now: Instant) {
        let mut known = self.known();
        known.in_force = InForce::at(&listing.switches, &self.instance);
        if known.in_force.client_cache && known.listing.epoch != 0 && known.listing.epoch != listing.epoch {
            // A registry that has just restarted knows nobody yet; its silence proves nothing
            // until every live instance has had a lease's time to heartbeat.
            let before = std::mem::take(&mut known.listing.services);
            known.inherited = Some((now + self.lease, before));
        }
        known.listing = listing;
        drop(known);
        self.changed.send_replace(());
    }

    /// The registry does not answer.
    pub(crate) fn registry_is_away(&self) {
        let mut known = self.known();
        if !known.in_force.client_cache {
            known.listing.services.clear();
            known.inherited = None;
        }
    }

    /// The switches as this instance obeys them.
    pub(crate) fn in_force(&self) -> InForce {
        self.known().in_force
    }

    /// What switches are set to.
    pub(crate) fn switches(&self) -> Settings {
        self.known().listing.switches.clone()
    }

    /// The revision to watch from.
    pub(crate) fn position(&self) -> (u64, u64) {
        let known = self.known();
        (known.listing.epoch, known.listing.rev)
    }

    /// Chooses an instance that is not ejected and is not `except`, as `lb` says.
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
        let chosen = match known.in_force.choice {
            Choice::RoundRobin => pool.get(turn % pool.len().max(1))?,
            Choice::PowerOfTwo => {
                // Two different ones, drawn without a generator: the turn, mixed.
                let count = pool.len();
                let first = (mix64(turn as u64) >> 32) as usize % count.max(1);
                let second = (first + 1 + (mix64(!(turn as u64)) >> 32) as usize % (count.max(2) - 1)) % count.max(1);
                let cost = |n: usize| {
                    let health = pool.get(n).and_then(|entry| known.health.get(&entry.instance));
                    health.map_or(QUICKEST_S, |health| health.cost(now))
                };
                pool.get(if cost(second) < cost(first) { second } else { first })?
            }
        };
        Some(Target {
            instance: chosen.instance.clone(),
            address: self.links.get(&chosen.instance).copied().unwrap_or(chosen.address),
        })
    }

    /// A call to an instance begins.
    pub(crate) fn call(&self, instance: &str, now: Instant) -> UnderWay<'_> {
        self.known().health.entry(instance.to_owned()).or_default().under_way += 1;
        UnderWay { directory: self, instance: instance.to_owned(), began: now, succeeded: false }
    }

    fn note(&self, instance: &str, succeeded: bool, now: Instant) {
        let mut known = self.known();
        let eject = known.in_force.eject;
        let health = known.health.entry(instance.to_owned()).or_default();
        if succeeded {
            health.failures = 0;
            health.ejected_until = None;
            return;
        }
        health.failures += 1;
        if eject && health.failures >= self.ejection.eject_after {
            health.failures = 0;
            health.ejected_until = Some(now + Duration::from_millis(self.ejection.eject_ms));
        }
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

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until the registry has told what it knows.
    pub(crate) async fn learned(&self) {
        let mut changed = self.changed.subscribe();
        while self.position().0 == 0 {
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
        let under_way: BTreeMap<&String, u32> =
            known.health.iter().map(|(instance, health)| (instance, health.under_way)).collect();
        serde_json::json!({
            "listing": known.listing, "ejected": ejected, "under_way": under_way, "links": self.links,
        })
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
    use crate::switches::Setting;

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
        Listing { epoch, rev: 1, services: [("a".to_owned(), entries)].into(), switches: Settings::new() }
    }

    fn set(mut listing: Listing, switches: &[(&str, &str)]) -> Listing {
        for (name, value) in switches {
            let value = Some(crate::switches::check(name, value).unwrap().1.to_owned());
            listing.switches.insert((*name).to_owned(), Setting { version: 1, value, instances: BTreeMap::new() });
        }
        listing
    }

    fn directory() -> Directory {
        Directory::new("b-1", BTreeMap::new(), Ejection::default(), Duration::from_secs(3))
    }

    fn picks(directory: &Directory, now: Instant) -> Vec<String> {
        let mut picks: Vec<String> =
            (0..32).filter_map(|_| directory.choose("a", None, now)).map(|target| target.instance).collect();
        picks.sort();
        picks.dedup();
        picks
    }

    #[tokio::test]
    async fn calls_go_round_and_leave_a_failing_instance_alone_for_a_while() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(listing(1, &[("a-1", 1), ("a-2", 2)]), now);
        assert_eq!(picks(&directory, now), ["a-1", "a-2"]);
        for _ in 0..Ejection::default().eject_after {
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
    async fn without_ejection_a_failing_instance_keeps_its_turn() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(set(listing(1, &[("a-1", 1), ("a-2", 2)]), &[("lb.eject", "off")]), now);
        for _ in 0..20 {
            directory.note("a-1", false, now);
        }
        assert_eq!(picks(&directory, now), ["a-1", "a-2"]);
    }

    #[tokio::test]
    async fn without_the_clients_cache_a_lost_registry_empties_the_list() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(set(listing(1, &[("a-1", 1)]), &[("reg.client_cache", "off")]), now);
        assert_eq!(picks(&directory, now), ["a-1"]);
        directory.registry_is_away();
        assert!(picks(&directory, now).is_empty());
    }

    /// The share of calls that a slow instance gets among three quick ones, when calls to it take 50 times as long.
    fn share_of_the_slow_one(lb: &str) -> f64 {
        let (directory, began) = (directory(), Instant::now());
        let four = listing(1, &[("a-1", 1), ("a-2", 2), ("a-3", 3), ("a-4", 4)]);
        directory.learn(set(four, &[("lb", lb)]), began);
        let calls = 2_000;
        let mut slow = 0;
        for n in 0..calls {
            let now = began + Duration::from_millis(n);
            let chosen = directory.choose("a", None, now).unwrap().instance;
            let is_slow = chosen == "a-1";
            slow += u32::from(is_slow);
            let took = if is_slow { 0.1 } else { 0.002 };
            directory.known().health.entry(chosen).or_default().took(took, now);
        }
        f64::from(slow) / calls as f64
    }

    #[tokio::test]
    async fn the_better_of_two_spares_a_slow_instance_and_turns_do_not() {
        assert!((share_of_the_slow_one("rr") - 0.25).abs() < 0.01);
        let spared = share_of_the_slow_one("p2c_ewma");
        assert!(spared < 0.08, "{spared}");
        assert!(spared > 0.0, "nobody would notice that it is quick again");
    }

    #[tokio::test]
    async fn calls_under_way_count_and_a_cancelled_one_counts_no_longer() {
        let (directory, now) = (directory(), Instant::now());
        directory.learn(listing(1, &[("a-1", 1), ("a-2", 2)]), now);
        let busy: Vec<UnderWay<'_>> = (0..10).map(|_| directory.call("a-1", now)).collect();
        assert_eq!(picks(&directory, now), ["a-2"]);
        drop(busy);
        assert_eq!(directory.known().health["a-1"].under_way, 0);
    }

    #[tokio::test]
    async fn a_link_is_dialled_in_place_of_the_instance() {
        let link: SocketAddr = ([127, 0, 0, 1], 99).into();
        let directory =
            Directory::new("b-1", [("a-1".to_owned(), link)].into(), Ejection::default(), Duration::from_secs(3));
        directory.learn(listing(1, &[("a-1", 1)]), Instant::now());
        assert_eq!(directory.choose("a", None, Instant::now()).unwrap().address, link);
    }
}
