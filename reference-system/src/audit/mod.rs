//! The audit: what must hold in the stores, read straight from them, not through the services.

mod books;
mod cache;
mod coupons;
mod dimensions;
mod events;
mod history;
mod identity;
pub(crate) mod invariants;
mod liveness;
mod locks;
mod migration;
mod money;
mod names;
mod online;
mod promises;
mod reading;
mod registry;
mod stock;
mod told;
mod virtual_goods;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use books::{Books, Pending};
pub use history::{ANSWER_FIELDS, BadHistory, History};
pub use online::OnlineView;
pub(crate) use online::{Rounds, online_tables};
pub(crate) use reading::pending;
pub(crate) use registry::{Fault, Seen, Watcher, finding as listing_finding, registry_tables};

use crate::bus::Bus;
use crate::config::{SystemConfig, now_ms};
use crate::ids::SlotHash;
use crate::orders::plan::Timers;
use crate::store::Places;

/// The most counter-examples per invariant.
const EXAMPLES: usize = 20;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds for everything checked.
    Valid,
    /// A part could not be read, so nobody knows.
    Unknown,
    /// There are counter-examples.
    Invalid,
}

/// The outcome of an audit. The verdict is the worst of its invariants'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The worst verdict.
    pub verdict: Verdict,
    /// Whether the system had come to rest: no task row due, no order between two services.
    pub quiet: bool,
    /// Orders in the user dimension.
    pub orders: u64,
    /// Each invariant.
    pub invariants: Vec<Finding>,
}

/// The outcome for one invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// For example `I5`.
    pub id: String,
    /// What must hold.
    pub title: String,
    /// Whether it does.
    pub verdict: Verdict,
    /// How many things were looked at.
    pub checked: u64,
    /// How many break the rule.
    pub violations: u64,
    /// Some of them, or why nothing could be read.
    pub examples: Vec<String>,
    /// When it was broken first while the system ran, in milliseconds since 1970, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_ms: Option<i64>,
}

impl Finding {
    fn new(id: &str, title: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            verdict: Verdict::Valid,
            checked: 0,
            violations: 0,
            examples: Vec::new(),
            first_seen_ms: None,
        }
    }

    /// By which findings are listed: cross sums after invariants, each by number.
    fn place(&self) -> (bool, u32) {
        let number = self.id.trim_start_matches(char::is_alphabetic).parse();
        (!self.id.starts_with('I'), number.unwrap_or(u32::MAX))
    }

    fn violate(&mut self, example: impl FnOnce() -> String) {
        self.violations += 1;
        self.verdict = Verdict::Invalid;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    /// As [`Self::violate`], seen at a moment.
    pub(crate) fn violate_at(&mut self, at_ms: i64, example: impl FnOnce() -> String) {
        self.first_seen_ms = Some(self.first_seen_ms.map_or(at_ms, |first| first.min(at_ms)));
        self.violate(example);
    }

    fn unknown(id: &str, title: &str, why: &str) -> Self {
        Self { verdict: Verdict::Unknown, examples: vec![why.to_owned()], ..Self::new(id, title) }
    }
}

/// What an audit has to know of a system beyond its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Design {
    pub(crate) slot_hash: SlotHash,
    pub(crate) timers: Timers,
}

impl Design {
    pub(crate) fn of(config: &SystemConfig) -> Self {
        Self { slot_hash: config.slot_hash, timers: config.timers }
    }
}

/// Audits the store files under `data` of a system that is stopped or at rest, with the record of a load's writes if
/// there is one.
///
/// A file that cannot be read makes the invariants that need it unknown, never valid. What became due after the last
/// change waits for the system to come back, and is no fault.
pub async fn audit_files(data: &Path, history: Option<&History>) -> AuditReport {
    let design = Design { slot_hash: SlotHash::default(), timers: Timers::default() };
    audit_stopped(&Places::Files(data.to_owned()), design, history).await
}

/// As [`audit_files`], of the databases on a PostgreSQL server whose names begin with `prefix`, and of the broker beside
/// them.
pub async fn audit_databases(server: &str, prefix: &str, broker: &Bus, history: Option<&History>) -> AuditReport {
    let design = Design { slot_hash: SlotHash::default(), timers: Timers::default() };
    let stores = Places::Postgres { server: server.to_owned(), prefix: prefix.to_owned() };
    audit_resting(&stores, Some(broker), design, history).await
}

/// Audits the stores of a system that is down, as of its last change.
pub(crate) async fn audit_stopped(stores: &Places, design: Design, history: Option<&History>) -> AuditReport {
    audit_resting(stores, None, design, history).await
}

async fn audit_resting(
    stores: &Places,
    broker: Option<&Bus>,
    design: Design,
    history: Option<&History>,
) -> AuditReport {
    let as_of_ms = reading::last_change(stores).await.unwrap_or_else(now_ms);
    let books = Books::read_as_of(stores, broker, None, as_of_ms).await;
    report(&books, design, history, books.is_quiet())
}

/// What holds in `books`, and whether they keep what `history` was promised.
pub(crate) fn report(books: &Books, design: Design, history: Option<&History>, quiet: bool) -> AuditReport {
    let mut invariants = invariants::check(books, design, history, quiet);
    invariants.extend(promises::check(books, history, quiet));
    if let Ok(watched) = &books.watched {
        online::recall(&mut invariants, &watched.firsts);
    }
    invariants.sort_by_key(Finding::place);
    AuditReport {
        verdict: invariants.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown),
        quiet,
        orders: books.users.as_ref().map_or(0, |users| users.orders.len() as u64),
        invariants,
    }
}
