//! The shapes in which the JSON API answers and which pages and commands show. Times are milliseconds, moments are
//! RFC 3339 text in UTC, seconds within a run count from the start of its load.

mod files;
mod notifications;
mod people;
mod queue;
mod results;
mod schedules;
mod suites;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::document::PlacedProblem;
use crate::fault::{FaultKind, FaultState};
use crate::protocol::{AuditVerdict, InvariantReport};
use crate::run::{Phase, RunId, RunState, Verdict};

pub use files::*;
pub use notifications::*;
pub use people::*;
pub use queue::*;
pub use results::*;
pub use schedules::*;
pub use suites::*;

/// A request to start a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// The experiment file's text.
    pub experiment: String,
    /// Name of the file, for error messages.
    #[serde(default)]
    pub file: Option<String>,
    /// Plain name of a file in the agent's folder of raw logs, for one CSV line per request.
    #[serde(default)]
    pub raw_log: Option<String>,
}

/// Answer to a started run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Started {
    /// The new run.
    pub id: RunId,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Its identity.
    pub id: RunId,
    /// Name of the experiment.
    pub name: String,
    /// Name of the target.
    pub target: String,
    /// Where it is in its life.
    pub state: RunState,
    /// How it ended; absent until judged.
    pub verdict: Option<Verdict>,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
    /// When it was handed in.
    pub created_at: String,
    /// When its load started.
    pub started_at: Option<String>,
    /// When it was judged.
    pub ended_at: Option<String>,
    /// Planned length of the load in seconds.
    pub planned_s: f64,
    /// Seconds of load measured so far.
    pub measured_s: u32,
}

/// A run with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// The experiment file as it was handed in.
    pub experiment: String,
    /// Its description.
    pub description: String,
    /// Phases in order.
    pub phases: Vec<PhaseView>,
    /// Measurements per request name and phase.
    pub requests: Vec<RequestRow>,
    /// What became of planned arrivals, per scenario.
    pub arrivals: Vec<ArrivalRow>,
    /// The fault timeline.
    pub faults: Vec<FaultView>,
    /// Objectives with what was measured.
    pub objectives: Vec<ObjectiveView>,
    /// Guards with what was measured last.
    pub guards: Vec<ObjectiveView>,
    /// What the audits found.
    pub audits: Vec<AuditView>,
    /// How the load workers fared.
    pub workers: WorkerView,
    /// Things worth telling, in the order in which they happened.
    pub warnings: Vec<String>,
}

/// A stretch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseView {
    /// Which phase.
    pub phase: Phase,
    /// First second.
    pub from_s: u32,
    /// The second after its last.
    pub to_s: u32,
}

/// Measurements of one request name in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestRow {
    /// Request name; `all` for the sum.
    pub request: String,
    /// Phase; absent for the whole run without warm-up.
    pub phase: Option<Phase>,
    /// Requests that ended.
    pub count: u64,
    /// Requests per second.
    pub rate: f64,
    /// Failed requests by kind.
    pub failures: BTreeMap<String, u64>,
    /// Failed over all, 0 to 1.
    pub error_rate: f64,
    /// Response times.
    pub response: TimesView,
    /// Service times.
    pub service: TimesView,
    /// Bytes of answers' bodies.
    pub bytes: u64,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct TimesView {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

/// What became of one scenario's planned arrivals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArrivalRow {
    /// Name of the scenario.
    pub scenario: String,
    /// Arrivals that were due.
    pub scheduled: u64,
    /// Arrivals that a user took.
    pub started: u64,
    /// Arrivals that found no user in time.
    pub dropped: u64,
}

/// A fault with its times and its effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaultView {
    /// Its name.
    pub name: String,
    /// What breaks.
    pub kind: FaultKind,
    /// Kind, strength and selector in a few words.
    pub description: String,
    /// Where it is in its life.
    pub state: FaultState,
    /// When it is due, in seconds.
    pub planned_start_s: f64,
    /// How long it is to last, in seconds; absent for faults that end by themselves.
    pub planned_duration_s: Option<f64>,
    /// When it was confirmed active, in seconds.
    pub injected_at_s: Option<f64>,
    /// When its reversal was confirmed, in seconds.
    pub reverted_at_s: Option<f64>,
    /// What it resolved to, or why it failed.
    pub detail: String,
    /// What it did to the load; absent until measured.
    pub effect: Option<FaultEffect>,
}

/// What a fault did to the load, compared with the steady phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaultEffect {
    /// Requests that failed while it was active.
    pub failed: u64,
    /// Error rate while it was active, 0 to 1.
    pub error_rate: f64,
    /// Median response time in the steady phase, ms.
    pub p50_before: f64,
    /// Median response time while it was active, ms.
    pub p50_during: f64,
    /// 99th percentile in the steady phase, ms.
    pub p99_before: f64,
    /// 99th percentile while it was active, ms.
    pub p99_during: f64,
    /// Seconds from its reversal until the load was back to the steady phase's level; absent if it never was.
    pub recovered_after_s: Option<f64>,
    /// Seconds of load measured after its reversal; fewer than 3 cannot tell whether the load was back.
    #[serde(default)]
    pub observed_after_s: u32,
}

/// An objective with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ObjectiveView {
    /// The objective as written.
    pub objective: String,
    /// `objective`, `steady state before` or `steady state after`, or `guard`.
    pub role: String,
    /// Whether it was met; absent when nothing was measured.
    pub met: Option<bool>,
    /// What was measured, as people read it.
    pub measured: Option<String>,
    /// What was measured, in the metric's unit (ms, share, per second, count).
    pub value: Option<f64>,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its name.
    pub name: String,
    /// Over all invariants.
    pub verdict: AuditVerdict,
    /// One by one.
    pub invariants: Vec<InvariantReport>,
    /// Why the verdict is unknown, where it is.
    pub problem: Option<String>,
}

/// How the load workers fared over the run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// Their own lag in handing out arrivals, 99th percentile, ms.
    pub lag_p99_ms: f64,
    /// CPU time per request, µs.
    pub cpu_us_per_request: f64,
    /// Most memory held, bytes.
    pub resident_bytes: u64,
}

/// One second of a run, for charts; all request names merged unless asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct SecondView {
    /// Which second.
    pub second: u32,
    /// Requests that ended.
    pub rate: u64,
    /// Failed ones.
    pub errors: u64,
    /// Arrivals that were dropped.
    pub dropped: u64,
    /// Median response time, ms; absent when no request ended.
    pub p50: Option<f64>,
    /// 90th percentile, ms.
    pub p90: Option<f64>,
    /// 99th percentile, ms.
    pub p99: Option<f64>,
    /// Longest, ms.
    pub max: Option<f64>,
}

/// Seconds of a run for charts, by request name; `all` is the sum.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct SeriesView {
    /// By request name.
    pub series: BTreeMap<String, Vec<SecondView>>,
}

/// Something that happened in a run, as the live stream sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum LiveEvent {
    /// One second was measured; by request name, `all` is the sum. A later event for the same second replaces it.
    Second {
        /// The measurements.
        seconds: BTreeMap<String, SecondView>,
    },
    /// The run went to another state.
    State {
        /// The run as it is now.
        run: RunSummary,
    },
    /// A fault went to another state.
    Fault {
        /// The fault as it is now.
        fault: FaultView,
    },
    /// A guard was evaluated.
    Guard {
        /// The guard as it is now.
        guard: ObjectiveView,
    },
    /// Something worth telling.
    Warning {
        /// What.
        message: String,
    },
}

/// Two runs side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparisonView {
    /// The earlier run, or the one named first.
    pub a: RunSummary,
    /// The other.
    pub b: RunSummary,
    /// What makes the two hard to compare (another load profile, other scenarios …).
    pub warnings: Vec<String>,
    /// One row per request name, phase and metric.
    pub rows: Vec<ComparisonRow>,
}

/// One compared number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparisonRow {
    /// Request name; `all` for the sum.
    pub request: String,
    /// Phase; absent for the whole run without warm-up.
    pub phase: Option<Phase>,
    /// Which number: `rate`, `error_rate`, `p50`, `p90`, `p99`, `max`.
    pub metric: String,
    /// In run a; absent when not measured.
    pub a: Option<f64>,
    /// In run b; absent when not measured.
    pub b: Option<f64>,
    /// (b − a) / a; absent when it has no meaning.
    pub change: Option<f64>,
    /// Whether more is better (`rate`) or worse (everything else).
    pub higher_is_better: bool,
}

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiProblem {
    /// What went wrong, in a sentence.
    pub error: String,
    /// Every problem of a refused file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PlacedProblem>,
}

/// An experiment or target that Kennel knows by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LibraryEntry {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The file's text.
    pub source: String,
}

/// What happened to halted runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HaltView {
    /// Runs that were told to halt.
    pub halted: Vec<RunId>,
}

/// What a valid file comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValidView {
    /// What the file says.
    pub kind: FileKind,
    /// Its name.
    pub name: String,
    /// Name of the target; empty for a suite without one.
    pub target: String,
    /// Planned length of the load in seconds; 0 where there is no load.
    pub planned_s: f64,
}

/// How Kennel itself is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`: it answers.
    pub status: String,
    /// Version of Kennel; like what follows, for whoever is known here, and for everybody while there are no accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Names of the attached agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// Runs that are not over, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Vec<RunId>>,
}
