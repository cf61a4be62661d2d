//! Faults as declared: kind, selector, parameters, start and duration. How they are done is the agent's business.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::units::Span;

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Delays what passes over a link.
    Latency,
    /// Ends a process at once (SIGKILL).
    Kill,
    /// Freezes a process (SIGSTOP) and lets it go on (SIGCONT).
    Pause,
    /// Hides an instance from discovery though it lives.
    RegistryGap,
}

/// What a kind of fault works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorKind {
    /// A declared link.
    Link,
    /// A declared instance's process.
    Process,
    /// A declared instance's registry entry.
    RegistryEntry,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Latency, Self::Kill, Self::Pause, Self::RegistryGap];

    /// The word used in files and on screens.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::RegistryGap => "registry-gap",
        }
    }

    /// What this kind works on.
    #[must_use]
    pub fn selects(self) -> SelectorKind {
        match self {
            Self::Latency => SelectorKind::Link,
            Self::Kill | Self::Pause => SelectorKind::Process,
            Self::RegistryGap => SelectorKind::RegistryEntry,
        }
    }

    /// The parameters it takes, by field, and whether it needs them.
    #[must_use]
    pub fn parameters(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Latency => &[("latency", true), ("jitter", false)],
            Self::Kill | Self::Pause | Self::RegistryGap => &[],
        }
    }

    /// Whether the fault lasts, and so needs a duration. A kill is over once the process runs again.
    #[must_use]
    pub fn lasts(self) -> bool {
        self != Self::Kill
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One failure on the timeline of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name in tables, charts and objectives (`during <name>`); unique within the experiment.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What breaks.
    pub kind: FaultKind,
    /// What it breaks.
    pub selector: Selector,
    /// How hard, by kind.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// When it starts, counted from the start of the load.
    pub start: Span,
    /// How long it lasts; needed by every kind but `kill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
}

/// What a fault breaks: a link, or an instance of a service. All of it must be declared by the target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// A link as `from -> to`, where `to` is a service (all its instances) or one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// A service; with `instance`, one process of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// An instance of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.link, &self.service, &self.instance) {
            (Some(link), ..) => f.write_str(link),
            (None, Some(service), Some(instance)) => write!(f, "{service}/{instance}"),
            (None, Some(service), None) => f.write_str(service),
            _ => f.write_str("nothing"),
        }
    }
}

/// How hard a fault hits; each kind uses its own of these and refuses the rest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// `latency`: delay added to each chunk, in one direction (towards the caller).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Span>,
    /// `latency`: the delay varies by up to this much either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
}

impl Parameters {
    /// Whether none is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Fault {
    /// When it is to be reverted, counted from the start of the load; for kinds that do not last, its start.
    #[must_use]
    pub fn planned_end(&self) -> Duration {
        self.start.get() + self.duration.unwrap_or_default().get()
    }

    /// The fault in a few words, for tables: `latency 200ms on eos-c -> eus`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.kind.word().to_owned();
        if let Some(latency) = self.parameters.latency {
            text.push_str(&format!(" {latency}"));
        }
        if let Some(jitter) = self.parameters.jitter {
            text.push_str(&format!(" ± {jitter}"));
        }
        format!("{text} on {}", self.selector)
    }
}

/// Where a fault is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultState {
    /// On the timeline, not yet due.
    Planned,
    /// Resolved and checked, its undo about to be written.
    Armed,
    /// Undo written; being done.
    Injecting,
    /// Done and confirmed by reading back.
    Active,
    /// Being undone.
    Reverting,
    /// Undone and confirmed.
    Reverted,
    /// Could not be injected; nothing changed.
    Failed,
    /// Could not be undone; a person must.
    Stuck,
}

impl FaultState {
    /// The word used on screens.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Armed => "armed",
            Self::Injecting => "injecting",
            Self::Active => "active",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
        }
    }

    /// Whether nothing more will happen to it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Reverted | Self::Failed | Self::Stuck)
    }
}

impl fmt::Display for FaultState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
