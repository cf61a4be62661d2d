//! The registry in the audit (I20): whoever is listed lives, whoever can serve is listed. A watcher looks every half second
//! while the system runs; what it saw is kept, so that a stopped system is audited, too.
//!
//! Only what was seen accuses: after a look that came late, or one at which the registry did not answer, everything counts
//! from anew.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{Connection, Row};
use tokio::time::Instant;

use super::{Finding, Verdict};
use crate::store::Place;

/// Part of the auditor's store. Repeatable.
macro_rules! registry_tables {
    () => {
        "
CREATE TABLE IF NOT EXISTS registry_faults (
  instance TEXT NOT NULL, fault TEXT NOT NULL, seen_at_ms BIGINT NOT NULL, PRIMARY KEY (instance, fault, seen_at_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registry_looks (name TEXT PRIMARY KEY, looks BIGINT NOT NULL) WITHOUT ROWID;
"
    };
}
pub(crate) use registry_tables;

/// How long a dead instance may be listed beyond its lease: its last heartbeat may have been on its way for a second,
/// and etcd looks for ended leases twice a second.
const LISTED_BEYOND_LEASE: Duration = Duration::from_secs(2);
/// How long an instance that can serve may be missing.
const MISSING: Duration = Duration::from_secs(2);
/// Looks that are further apart do not belong together.
const LATE: Duration = Duration::from_millis(1_500);
/// The longest time until an instance registers with another lease.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// What one look saw of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether readers of the registry find it, or a mask hides it from them on purpose.
    pub(crate) listed: bool,
    /// Whether its process runs.
    pub(crate) lives: bool,
    /// How often its process was started again: tells its lives apart.
    pub(crate) life: u32,
    /// Whether it says that it can serve; only asked where that matters.
    pub(crate) ready: bool,
    /// How long its registrations live without it.
    pub(crate) lease: Duration,
}

impl Seen {
    /// Whether the registry tells something else than the truth, be it for a moment.
    pub(crate) fn differs(self) -> bool {
        if self.lives { !self.listed && self.ready } else { self.listed }
    }
}

/// Something that the registry told wrongly for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) instance: String,
    pub(crate) what: String,
}

/// Puts looks together. Pure: time comes in as an argument.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    last: Option<Instant>,
    instances: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    life: u32,
    dead_since: Option<Instant>,
    missing_since: Option<Instant>,
    /// The lease that was in force while it lived, the one before, and when that changed.
    lease: Option<(Duration, Duration, Instant)>,
    /// A fault is told once until it ends.
    told: bool,
}

impl Known {
    fn lived_with(&mut self, lease: Duration, now: Instant) {
        self.lease = Some(match self.lease {
            Some((is, before, changed)) if is == lease => (is, before, changed),
            Some((is, ..)) => (lease, is, now),
            None => (lease, lease, now),
        });
    }

    /// The lease that its last registration can have had.
    fn longest_lease(&self, died: Instant, otherwise: Duration) -> Duration {
        self.lease
            .map_or(otherwise, |(is, before, changed)| if died < changed + HEARTBEAT { is.max(before) } else { is })
    }
}

impl Watcher {
    /// Nothing can be seen: what was known of how long something lasted is void.
    pub(crate) fn blind(&mut self) {
        self.last = None;
    }

    /// Takes a look in, and gives what has been wrong for too long as of now.
    pub(crate) fn look(&mut self, seen: &[(&str, Seen)], now: Instant) -> Vec<Fault> {
        if self.last.is_none_or(|last| now > last + LATE) {
            self.instances.clear();
        }
        self.last = Some(now);
        seen.iter().filter_map(|(instance, seen)| self.judge(instance, *seen, now)).collect()
    }

    fn judge(&mut self, instance: &str, seen: Seen, now: Instant) -> Option<Fault> {
        let known = self.instances.entry(instance.to_owned()).or_default();
        // Another life that has ended, too, lay between two looks, and may have registered.
        if seen.lives || seen.life != known.life {
            known.life = seen.life;
            known.dead_since = None;
        }
        if seen.lives {
            known.lived_with(seen.lease, now);
        }
        if !seen.differs() {
            known.told = false;
            known.missing_since = None;
            if !seen.lives {
                known.dead_since.get_or_insert(now);
            }
            return None;
        }
        let (what, limit, since) = if seen.lives {
            ("can serve and is not listed", MISSING, *known.missing_since.get_or_insert(now))
        } else {
            let died = *known.dead_since.get_or_insert(now);
            ("is dead and listed", known.longest_lease(died, seen.lease) + LISTED_BEYOND_LEASE, died)
        };
        let lasted = now - since;
        if lasted <= limit || known.told {
            return None;
        }
        known.told = true;
        let what = format!("{what} for {:.1} s (allowed: {:.1} s)", lasted.as_secs_f64(), limit.as_secs_f64());
        Some(Fault { instance: instance.to_owned(), what })
    }
}

/// What the watcher has kept.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// How often it looked and saw something.
    pub(crate) count: u64,
    /// (instance, fault, when).
    faults: Vec<(String, String, i64)>,
    /// Where the registry and the processes differ at rest, or why nobody can tell; `None` of a system that is down.
    pub(crate) at_rest: Option<Result<Vec<String>, String>>,
}

pub(super) async fn read(store: &Place) -> Result<Looks, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut all = Looks::default();
    let faults = sqlx::query("SELECT instance, fault, seen_at_ms FROM registry_faults ORDER BY seen_at_ms");
    for row in faults.fetch_all(&mut file).await? {
        all.faults.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let looks: Option<i64> =
        sqlx::query_scalar("SELECT looks FROM registry_looks WHERE name = 'all'").fetch_optional(&mut file).await?;
    all.count = looks.map_or(0, |looks| looks.unsigned_abs());
    file.close().await?;
    Ok(all)
}

/// The finding of I20, before anything was looked at.
pub(crate) fn finding() -> Finding {
    Finding::new("I20", "The registry tells the truth")
}

/// I20.
pub(super) fn check(finding: &mut Finding, looks: &Looks) {
    finding.checked = looks.count;
    for (instance, fault, seen_at_ms) in &looks.faults {
        finding.violate_at(*seen_at_ms, || format!("{instance} {fault}"));
    }
    match &looks.at_rest {
        Some(Ok(differences)) => {
            finding.checked += 1;
            for difference in differences {
                finding.violate(|| format!("at rest, {difference}"));
            }
        }
        Some(Err(why)) => {
            finding.verdict = finding.verdict.max(Verdict::Unknown);
            finding.examples.push(why.clone());
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    fn seen(listed: bool, lives: bool, ready: bool) -> Seen {
        Seen { listed, lives, ready, life: 1, lease: LEASE }
    }

    /// Looks each half second while `of` says what there is to see; gives when the first fault was told.
    fn first_fault(watcher: &mut Watcher, from: Instant, of: impl Fn(u64) -> Option<Seen>) -> Option<(u64, String)> {
        (0..40).map(|n| n * 500).find_map(|ms| {
            let now = from + Duration::from_millis(ms);
            let Some(seen) = of(ms) else {
                watcher.blind();
                return None;
            };
            watcher.look(&[("a-1", seen)], now).pop().map(|fault| (ms, fault.what))
        })
    }

    #[tokio::test]
    async fn a_dead_instance_may_be_listed_for_its_lease_and_two_seconds() {
        let start = Instant::now();
        let dies = |stays: u64| move |ms: u64| Some(seen(ms < 1_000 + stays, ms < 1_000, ms < 1_000));
        assert_eq!(first_fault(&mut Watcher::default(), start, dies(5_000)), None);
        let (at, what) = first_fault(&mut Watcher::default(), start, dies(30_000)).unwrap();
        assert_eq!((at, what.as_str()), (6_500, "is dead and listed for 5.5 s (allowed: 5.0 s)"));
    }

    #[tokio::test]
    async fn a_life_between_two_looks_begins_the_lease_anew() {
        let start = Instant::now();
        let lives_again = |at: u64| {
            move |ms: u64| Some(Seen { life: if ms < at { 1 } else { 2 }, ..seen(ms < at + 5_000, false, false) })
        };
        assert_eq!(first_fault(&mut Watcher::default(), start, lives_again(4_000)), None);
        let stays = |ms: u64| Some(Seen { life: if ms < 4_000 { 1 } else { 2 }, ..seen(true, false, false) });
        assert_eq!(first_fault(&mut Watcher::default(), start, stays).unwrap().0, 9_500);
    }

    #[tokio::test]
    async fn an_instance_that_can_serve_may_be_missing_for_two_seconds() {
        let start = Instant::now();
        let returns = |after: u64| move |ms: u64| Some(seen(ms >= after, true, true));
        assert_eq!(first_fault(&mut Watcher::default(), start, returns(2_000)), None);
        assert_eq!(first_fault(&mut Watcher::default(), start, returns(4_000)).unwrap().0, 2_500);
        let warming_up = |ms: u64| Some(seen(ms > 9_000, true, ms > 8_000));
        assert_eq!(first_fault(&mut Watcher::default(), start, warming_up), None, "what cannot serve is not missed");
    }

    #[tokio::test]
    async fn what_was_not_seen_accuses_nobody() {
        let start = Instant::now();
        let sometimes = |ms: u64| (!ms.is_multiple_of(2_000)).then_some(seen(false, true, true));
        assert_eq!(first_fault(&mut Watcher::default(), start, sometimes), None);
        let mut watcher = Watcher::default();
        watcher.look(&[("a-1", seen(true, false, false))], start);
        let late = start + Duration::from_secs(60);
        assert_eq!(watcher.look(&[("a-1", seen(true, false, false))], late), [], "a minute that nobody saw");
    }

    #[tokio::test]
    async fn a_lease_that_was_longer_when_the_instance_died_counts() {
        let start = Instant::now();
        let mut watcher = Watcher::default();
        let with = |lease: u64, lives: bool| Seen { lease: Duration::from_secs(lease), ..seen(true, lives, lives) };
        for (ms, seen) in [(0, with(30, true)), (500, with(3, true)), (1_000, with(3, false))] {
            watcher.look(&[("a-1", seen)], start + Duration::from_millis(ms));
        }
        let dead = |watcher: &mut Watcher, s: u64| {
            (3..2 * s)
                .find_map(|n| watcher.look(&[("a-1", with(3, false))], start + Duration::from_millis(500 * n)).pop())
        };
        assert_eq!(dead(&mut watcher, 30), None);
        assert!(dead(&mut watcher, 34).is_some());
    }

    #[tokio::test]
    async fn a_fault_is_told_once_until_it_ends() {
        let (mut watcher, start) = (Watcher::default(), Instant::now());
        let told = |watcher: &mut Watcher, from: u64| {
            (from..from + 40)
                .map(|n| {
                    watcher.look(&[("a-1", seen(true, false, false))], start + Duration::from_millis(500 * n)).len()
                })
                .sum::<usize>()
        };
        assert_eq!(told(&mut watcher, 0), 1);
        watcher.look(&[("a-1", seen(false, false, false))], start + Duration::from_secs(20));
        assert_eq!(told(&mut watcher, 41), 1);
    }
}
