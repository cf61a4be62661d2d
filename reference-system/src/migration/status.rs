//! How a migration is doing, for people and programs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Phase;

/// How a migration is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationStatus {
    /// How far it has come.
    pub phase: Phase,
    /// What happens in this phase.
    pub meaning: String,
    /// Where it is to go.
    pub goal: Phase,
    /// Whether it stays where it is.
    pub paused: bool,
    /// Whether it is between two phases.
    pub between: bool,
    /// Orders in the old table; `None` if it cannot be asked.
    pub old_orders: Option<i64>,
    /// Orders in the sharded stores.
    pub new_orders: Option<i64>,
    /// The copies of orders that are older than P1.
    pub backfill: Option<Backfill>,
    /// What comparing has found.
    pub comparison: Comparison,
    /// Writes that the other side does not have.
    pub failure_log: FailureLog,
    /// Why the new stores may not take over yet; in P3.
    pub gate: Vec<String>,
    /// What keeps the work from going on.
    pub obstacle: Option<String>,
}

/// The copies of older orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backfill {
    /// Copied.
    pub copied: i64,
    /// Of so many.
    pub total: i64,
    /// Whether all are.
    pub done: bool,
    /// Orders per second, lately.
    pub rate_per_s: Option<f64>,
    /// Seconds that are left at this rate.
    pub left_s: Option<f64>,
}

/// What comparing has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Reads of the old side that were compared in the life of its store.
    pub reads: u64,
    /// Orders compared in the walk over all of them that is under way.
    pub compared: u64,
    /// Whole walks that have ended in this phase, and this life of the role.
    pub walks: u64,
    /// Orders that were seen to differ lately.
    pub differ: i64,
    /// Some of them.
    pub orders: Vec<String>,
}

/// Writes that the other side does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureLog {
    /// All, those that are on their way included.
    pub waiting: i64,
    /// Those that were tried in vain.
    pub failed: i64,
    /// Some of their orders.
    pub orders: Vec<String>,
}

impl MigrationStatus {
    /// Whether it has arrived, and nothing is under way.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        let copied = self.phase != Phase::P2 || self.backfill.is_none_or(|backfill| backfill.done);
        self.phase == self.goal && !self.between && copied
    }

    /// What moves while there is progress.
    pub(crate) fn mark(&self) -> (Phase, bool, Option<i64>, i64, i64, Option<u64>) {
        let copied = self.backfill.map(|backfill| backfill.copied);
        // Walking over all orders again and again is none.
        let compared = (self.comparison.walks == 0).then_some(self.comparison.compared);
        (self.phase, self.between, copied, self.failure_log.failed, self.comparison.differ, compared)
    }

    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut text = format!("{}  {}", self.phase, self.meaning);
        if let Some(backfill) = self.backfill.filter(|_| self.phase == Phase::P2) {
            text.push_str(&format!(": {} of {}", backfill.copied, backfill.total));
            if let (Some(rate), Some(left)) = (backfill.rate_per_s, backfill.left_s) {
                text.push_str(&format!(", {rate:.0}/s, {left:.0} s left"));
            }
        }
        if self.failure_log.failed > 0 {
            text.push_str(&format!("; {} writes have failed", self.failure_log.failed));
        }
        if self.comparison.differ > 0 {
            text.push_str(&format!("; {} orders differ", self.comparison.differ));
        }
        if let Some(obstacle) = &self.obstacle {
            text.push_str(&format!("; waiting: {obstacle}"));
        }
        text
    }
}

impl fmt::Display for MigrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "phase       {}  {}", self.phase, self.meaning)?;
        let between = if self.between { ", a step is under way" } else { "" };
        match (self.paused, self.phase == self.goal) {
            (true, _) => writeln!(f, "goal        {} (paused{between})", self.goal)?,
            (false, true) => writeln!(f, "goal        {} (reached{between})", self.goal)?,
            (false, false) => writeln!(f, "goal        {}{between}", self.goal)?,
        }
        let count = |count: Option<i64>| count.map_or("cannot be asked".to_owned(), |count| count.to_string());
        writeln!(f, "old orders  {}", count(self.old_orders))?;
        writeln!(f, "new orders  {}", count(self.new_orders))?;
        if let Some(backfill) = self.backfill {
            write!(f, "copied      {} of {} older orders", backfill.copied, backfill.total)?;
            if let (Some(rate), Some(left)) = (backfill.rate_per_s, backfill.left_s) {
                write!(f, ", {rate:.0}/s, {left:.0} s left")?;
            }
            writeln!(f)?;
        }
        let comparison = &self.comparison;
        writeln!(
            f,
            "compared    {} reads, {} whole walks over all orders since {} began; {} orders differ",
            comparison.reads, comparison.walks, self.phase, comparison.differ
        )?;
        for order in &comparison.orders {
            writeln!(f, "            {order}")?;
        }
        let log = &self.failure_log;
        write!(f, "failure log {} writes on their way, {} have failed", log.waiting, log.failed)?;
        if !log.orders.is_empty() {
            write!(f, " (orders {})", log.orders.join(", "))?;
        }
        for reason in &self.gate {
            write!(f, "\ngate        {reason}")?;
        }
        if let Some(obstacle) = &self.obstacle {
            write!(f, "\nwaiting     {obstacle}")?;
        }
        Ok(())
    }
}
