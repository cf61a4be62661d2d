//! The audit: what must hold in the stores, read straight from them, not through the services.

mod books;
mod cache;
mod coupons;
mod events;
mod history;
mod identity;
pub(crate) mod invariants;
mod locks;
mod money;
mod stock;
mod told;
mod virtual_goods;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use books::{Books, Pending, pending};
pub use history::{BadHistory, History};

use crate::config::now_ms;
use crate::ids::SlotHash;
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

    fn unknown(id: &str, title: &str, why: &str) -> Self {
        Self { verdict: Verdict::Unknown, examples: vec![why.to_owned()], ..Self::new(id, title) }
    }
}

/// Audits the store files under `data` of a system that is stopped or at rest.
///
/// A file that cannot be read makes the invariants that need it unknown, never valid. What became due after the last
/// change waits for the system to come back, and is no fault.
pub async fn audit_files(data: &Path) -> AuditReport {
    let places = Places::Files(data.to_owned());
    let as_of_ms = books::last_change(&places).await.unwrap_or_else(now_ms);
    let books = Books::read_as_of(&places, None, None, as_of_ms).await;
    report(&books, SlotHash::default(), None, books.is_quiet())
}

/// What holds in `books`, and whether they keep what `history` was promised.
pub(crate) fn report(books: &Books, slot_hash: SlotHash, history: Option<&History>, quiet: bool) -> AuditReport {
    let mut invariants = invariants::check(books, slot_hash, history, quiet);
    if let Some(history) = history {
        invariants.extend(history::check(books, history));
    }
    invariants.sort_by_key(Finding::place);
    AuditReport {
        verdict: invariants.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown),
        quiet,
        orders: books.users.as_ref().map_or(0, |users| users.orders.len() as u64),
        invariants,
    }
}
