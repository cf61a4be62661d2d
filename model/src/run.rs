//! A run: its identity, the states it passes through, the phases of its load, and how it may end.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use crate::words::UnknownWord;
use crate::words::words;

/// Identity of a run; time-ordered (UUID version 7), so sorting by it sorts by creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "019ab4c6-6f0e-7cc1-8a43-0f6a1c2a7b11")]
pub struct RunId(pub Uuid);

impl RunId {
    /// A new identity, later than all that this process made before.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The last eight hexadecimal digits: enough to tell runs apart on a screen. (The first ones are the time.)
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

words! {
    /// Where a run is in its life.
    RunState {
        /// Waiting for its target or an agent.
        Queued = "queued",
        /// Agents resolve selectors and start their load workers.
        Preparing = "preparing",
        /// Load is on, measurements do not count yet.
        WarmUp = "warm-up",
        /// Load is on, no fault yet.
        Steady = "steady",
        /// At least one fault is active.
        Fault = "fault",
        /// The last fault so far is reverted, load is still on.
        Recovery = "recovery",
        /// Load is off; business invariants are checked.
        Audit = "audit",
        /// Over; the verdict stands.
        Judged = "judged",
    }
}

words! {
    /// The part of a run that a measured second belongs to.
    Phase {
        /// Before measurements count.
        WarmUp = "warm-up",
        /// After warm-up and before the first fault.
        Steady = "steady",
        /// While at least one fault is active.
        Fault = "fault",
        /// After a fault, with none active.
        Recovery = "recovery",
    }
}

words! {
    /// How a run ended.
    Verdict {
        /// Every objective was met and every audit valid.
        Passed = "passed",
        /// An objective was missed or an audit found a violation.
        Failed = "failed",
        /// Not enough was measured to tell.
        Inconclusive = "inconclusive",
        /// The environment was unfit to judge (for instance the load generator could not keep up).
        Invalid = "invalid",
        /// Stopped by a person or a guard.
        Halted = "halted",
        /// Could not be carried out or was interrupted.
        Error = "error",
    }
}

impl RunState {
    /// Whether the run is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        self == Self::Judged
    }
}

impl From<Phase> for RunState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::WarmUp => Self::WarmUp,
            Phase::Steady => Self::Steady,
            Phase::Fault => Self::Fault,
            Phase::Recovery => Self::Recovery,
        }
    }
}

impl Verdict {
    /// Exit code of a command whose result this is: 0 passed, 1 failed, 3 inconclusive or invalid, 5 halted or error.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Inconclusive | Self::Invalid => 3,
            Self::Halted | Self::Error => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for phase in Phase::ALL {
            assert_eq!(phase.word().parse::<Phase>().unwrap(), *phase);
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.word());
        }
        let error = "warmup".parse::<Phase>().unwrap_err();
        assert_eq!(error.to_string(), "`warmup` is none of warm-up, steady, fault, recovery");
    }

    #[test]
    fn later_runs_sort_later() {
        let (first, second) = (RunId::new(), RunId::new());
        assert!(first < second);
        assert_ne!(first.short(), second.short());
    }
}
