//! Load profiles: when arrivals happen (open model) or how many users there are (closed model).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Rate, Span};

/// When the load happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "model", rename_all = "lowercase", deny_unknown_fields)]
pub enum LoadProfile {
    /// Arrivals come at a planned rate, whether or not the target keeps up.
    Open {
        /// How arrivals are spaced.
        #[serde(default)]
        arrivals: Arrivals,
        /// What the rate does over time.
        #[schemars(length(min = 1))]
        stages: Vec<Stage>,
        /// Most users that may be busy at once, over all scenarios.
        #[serde(default = "default_max_users")]
        #[schemars(range(min = 1, max = 100_000))]
        max_users: u32,
        /// How long an arrival waits for a free user before it is dropped and counted as dropped.
        #[serde(default = "default_patience")]
        patience: Span,
        /// Load that does not count yet, at the beginning.
        #[serde(default)]
        warm_up: Span,
        /// Seed of everything random in the load; the same seed gives the same arrivals.
        #[serde(default = "default_seed")]
        seed: u64,
    },
    /// A number of users, each sending its next request when the last one is answered.
    Closed {
        /// How many users.
        #[schemars(range(min = 1, max = 100_000))]
        users: u32,
        /// How long.
        duration: Span,
        /// Over what time the users start.
        #[serde(default)]
        ramp_up: Span,
        /// Pause between two rounds of the scenario.
        #[serde(default)]
        think_time: Span,
        /// Load that does not count yet, at the beginning.
        #[serde(default)]
        warm_up: Span,
        /// Seed of everything random in the load.
        #[serde(default = "default_seed")]
        seed: u64,
    },
}

fn default_max_users() -> u32 {
    200
}

fn default_patience() -> Span {
    Span::from_secs(10)
}

fn default_seed() -> u64 {
    1
}

/// How arrivals are spaced within a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// At random with exponential gaps, as independent users come.
    Poisson,
}

/// A stretch of the load: the rate goes from `from` (default: `rate`, so it stays) to `rate`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Rate at the end of the stage.
    pub rate: Rate,
    /// Rate at its beginning, for a ramp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Rate>,
    /// How long.
    pub duration: Span,
}

impl Stage {
    /// Rate at the beginning of the stage.
    #[must_use]
    pub fn start_rate(&self) -> Rate {
        self.from.unwrap_or(self.rate)
    }
}

impl LoadProfile {
    /// How long the load is on.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match self {
            Self::Open { stages, .. } => stages.iter().map(|stage| stage.duration.get()).sum(),
            Self::Closed { duration, .. } => duration.get(),
        }
    }

    /// How long measurements do not count, from the beginning.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        match self {
            Self::Open { warm_up, .. } | Self::Closed { warm_up, .. } => warm_up.get(),
        }
    }

    /// Most users at once.
    #[must_use]
    pub fn users(&self) -> u32 {
        match self {
            Self::Open { max_users, .. } => *max_users,
            Self::Closed { users, .. } => *users,
        }
    }

    /// Highest arrival rate, where the model has one.
    #[must_use]
    pub fn peak_rate(&self) -> Option<Rate> {
        match self {
            Self::Open { stages, .. } => stages
                .iter()
                .flat_map(|stage| [stage.start_rate(), stage.rate])
                .max_by(|a, b| a.get().total_cmp(&b.get())),
            Self::Closed { .. } => None,
        }
    }

    /// Seed of everything random in the load.
    #[must_use]
    pub fn seed(&self) -> u64 {
        match self {
            Self::Open { seed, .. } | Self::Closed { seed, .. } => *seed,
        }
    }
}
