//! The live migration from the one old order table to the sharded stores: its phases, who decides in each, and the parts
//! by which a store takes part in it.
//!
//! ```text
//! P0 old only → P1 write both, old decides → P2 copy what is older → P3 read old, compare new
//!             → P4 new decides, write both → P5 new only → P6 old dropped
//! ```
//!
//! Callers learn the phase from the switch `mig.phase`, each at its own moment. So the switch only says whom to ask
//! first: who decides is what the stores themselves keep durably ([`stance`]), and at any moment at most one side
//! does. The deciding side writes to the other one ([`mirror`]); what fails is kept in its failure log.

pub(crate) mod backfill;
pub(crate) mod course;
pub(crate) mod cutover;
pub(crate) mod difference;
pub(crate) mod endpoints;
pub(crate) mod gate;
pub(crate) mod mirror;
pub(crate) mod part;
pub(crate) mod routing;
pub(crate) mod stance;
pub mod status;
pub(crate) mod sweep;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The store with the old table.
pub(crate) const OLD_STORE: &str = "st-old";
/// The role that does the work.
pub(crate) const ROLE: &str = "mig";

/// How far a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The old table alone.
    P0,
    /// Both are written, the old one decides.
    P1,
    /// Orders that are older than P1 are copied.
    P2,
    /// Reads of the old side are compared with the new one.
    P3,
    /// The new side decides, both are written.
    P4,
    /// The new side alone.
    P5,
    /// The old table is dropped; so is every system that never had one.
    P6,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 7] = [Self::P0, Self::P1, Self::P2, Self::P3, Self::P4, Self::P5, Self::P6];

    /// What happens in it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::P0 => "the old table alone",
            Self::P1 => "both sides are written, the old one decides",
            Self::P2 => "older orders are copied, the old side decides",
            Self::P3 => "both sides are compared, the old one decides",
            Self::P4 => "the new side decides, both are written",
            Self::P5 => "the new side alone, the old table is kept",
            Self::P6 => "the new side alone, the old table is dropped",
        }
    }

    /// The phase that follows.
    pub(crate) fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| *phase > self)
    }

    /// Who decides.
    pub(crate) fn decider(self) -> Side {
        if self <= Self::P3 { Side::Old } else { Side::New }
    }

    /// Whether what is decided is written to the other side, too.
    pub(crate) fn writes_both(self) -> bool {
        (Self::P1..=Self::P4).contains(&self)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", *self as u8)
    }
}

/// Text that names no phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no phase; expected P0 to P6")]
pub struct NoPhase(String);

impl FromStr for Phase {
    type Err = NoPhase;

    fn from_str(text: &str) -> Result<Self, NoPhase> {
        let named = Self::ALL.into_iter().find(|phase| phase.to_string().eq_ignore_ascii_case(text));
        named.ok_or_else(|| NoPhase(text.to_owned()))
    }
}

/// One of the two sides of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// The one old table.
    Old,
    /// The sharded stores.
    New,
}

impl Side {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    /// The store of this side that holds a group of the user dimension.
    pub(crate) const fn store(self, group: u16) -> &'static str {
        match self {
            Self::Old => OLD_STORE,
            Self::New => crate::orders::service::user_store(group),
        }
    }

    /// The side on which a store is.
    pub(crate) fn of(store: &str) -> Self {
        if store == OLD_STORE { Self::Old } else { Self::New }
    }

    /// All stores of this side.
    pub(crate) const fn stores(self) -> &'static [&'static str] {
        match self {
            Self::Old => &[OLD_STORE],
            Self::New => &["st-u0", "st-u1"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_as_they_are_written() {
        for phase in Phase::ALL {
            assert_eq!(phase.to_string().parse(), Ok(phase));
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.to_string());
        }
        assert_eq!("p4".parse(), Ok(Phase::P4));
        assert_eq!("P7".parse::<Phase>().unwrap_err().to_string(), "`P7` is no phase; expected P0 to P6");
        assert_eq!((Phase::P3.next(), Phase::P6.next()), (Some(Phase::P4), None));
    }

    #[test]
    fn the_side_that_decides_changes_once() {
        let deciders: Vec<Side> = Phase::ALL.into_iter().map(Phase::decider).collect();
        assert_eq!(deciders, [Side::Old, Side::Old, Side::Old, Side::Old, Side::New, Side::New, Side::New]);
        let both: Vec<Phase> = Phase::ALL.into_iter().filter(|phase| phase.writes_both()).collect();
        assert_eq!(both, [Phase::P1, Phase::P2, Phase::P3, Phase::P4]);
    }
}
