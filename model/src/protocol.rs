//! What controller and agent tell each other. The link may be a channel within one process or a network.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::Outcome;
use crate::command::OfferedCommand;
use crate::experiment::ValidExperiment;
use crate::fault::{FaultKind, FaultState};
use crate::frame::Frame;
use crate::run::RunId;
use crate::suite::Check;
use crate::target::Target;

/// From the controller to an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToAgent {
    /// Get ready for a run: check the target, resolve selectors, start the load worker. Answered by
    /// [`FromAgent::Prepared`] or [`FromAgent::Refused`].
    Prepare(Box<Assignment>),
    /// Start the prepared run's load and fault timeline now.
    Start {
        /// The run.
        run: RunId,
    },
    /// The controller is alive: leases are renewed.
    Heartbeat,
    /// Stop load and revert every fault of the run. Answered by [`FromAgent::Halted`].
    Halt {
        /// The run.
        run: RunId,
    },
    /// Run the audits of a run whose load has ended. Answered by [`FromAgent::Audited`].
    Audit {
        /// The run.
        run: RunId,
    },
    /// The run is over; forget it.
    Release {
        /// The run.
        run: RunId,
    },
    /// Carry out a step of a suite, beside whatever else goes on. Answered by [`FromAgent::StepDone`], with
    /// [`FromAgent::StepLog`] and [`FromAgent::StepFile`] before it.
    Step(Box<StepAssignment>),
    /// End a step now. Answered by its [`FromAgent::StepDone`].
    StopStep {
        /// The step.
        step: StepId,
    },
}

/// One attempt of one step of one run of a suite.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId {
    /// The suite's run.
    pub run: RunId,
    /// Where the step stands in the suite (`steps/3/parallel/0`).
    pub path: String,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// A step that an agent is to carry out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepAssignment {
    /// Which.
    pub step: StepId,
    /// What to do.
    pub task: StepTask,
    /// How long it may take at most.
    pub timeout: Duration,
    /// How long it may go on without hearing from the controller.
    pub lease: Duration,
}

/// What a step asks of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum StepTask {
    /// Send one request and look at its answer.
    Check {
        /// The request, and what is expected.
        check: Box<Check>,
        /// The only place it may go to.
        target: Box<Target>,
    },
    /// Run a command that the agent's configuration names.
    Command {
        /// Its name.
        command: String,
        /// Arguments to append.
        arguments: Vec<String>,
    },
}

/// One agent's part of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// What to do, already validated.
    pub experiment: ValidExperiment,
    /// How long load and faults may go on without hearing from the controller.
    pub lease: Duration,
    /// Plain name of a file in the agent's folder of raw logs, for one CSV line per request.
    pub raw_log: Option<String>,
}

/// From an agent to the controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromAgent {
    /// The agent is there.
    Hello(AgentDescription),
    /// The run can start.
    Prepared {
        /// The run.
        run: RunId,
        /// Things worth telling, for instance an unhealthy target.
        warnings: Vec<String>,
    },
    /// The run cannot start here; nothing was changed.
    Refused {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// One second of measurements.
    Frame(Box<Frame>),
    /// A fault went from one state to another.
    Fault(FaultReport),
    /// Load has ended by itself and every fault is reverted (or stuck).
    LoadEnded {
        /// The run.
        run: RunId,
        /// Why it ended before its time, if it did (for instance the load worker crashed).
        failure: Option<String>,
    },
    /// Answer to [`ToAgent::Halt`]: load is off and every fault reverted (or stuck).
    Halted {
        /// The run.
        run: RunId,
        /// Milliseconds until load was off and all faults were reverted.
        took_ms: u64,
    },
    /// Answer to [`ToAgent::Audit`].
    Audited {
        /// The run.
        run: RunId,
        /// One report per audit of the experiment.
        audits: Vec<AuditReport>,
    },
    /// Faults of earlier runs that were found in the journal at start and reverted.
    Replayed {
        /// One line for each.
        reverted: Vec<String>,
    },
    /// A step's log grew.
    StepLog {
        /// The step.
        step: StepId,
        /// What was added.
        text: String,
    },
    /// A file that a step left behind.
    StepFile {
        /// The step.
        step: StepId,
        /// The file.
        file: StepFile,
    },
    /// A step is over.
    StepDone {
        /// The step.
        step: StepId,
        /// How it went.
        report: StepReport,
    },
}

/// A file that a step left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFile {
    /// Its path below the folder in which it was found.
    pub name: String,
    /// What it is for.
    pub kind: StepFileKind,
    /// What is in it.
    #[serde(with = "base64_bytes")]
    pub content: Vec<u8>,
}

/// What a file of a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepFileKind {
    /// It tells how each test went.
    Results,
    /// It is to be kept.
    Artifact,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Whether it did what was asked; a command that ended with another exit code than 0 has failed.
    pub outcome: Outcome,
    /// What went wrong, or what was done, in a sentence or a few.
    pub message: String,
    /// What was asserted of a check's answer, one by one.
    pub assertions: Vec<Assertion>,
    /// Whether a command reached its end by itself, so that its result files can be believed.
    pub ran_to_its_end: bool,
}

/// One assertion with what came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Assertion {
    /// What was looked at (`status`, `header content-type`, `/items/0/name`).
    pub what: String,
    /// What should have come.
    pub expected: String,
    /// What came.
    pub actual: String,
    /// Whether that is as expected.
    pub holds: bool,
}

/// Bytes as base64 (RFC 4648) where the protocol travels as text.
mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Who an agent is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentDescription {
    /// Unique name.
    pub name: String,
    /// Version of Kennel.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Fault kinds it can inject.
    pub faults: Vec<FaultKind>,
    /// Words by which suites choose it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Test commands that its configuration names.
    #[serde(default)]
    pub commands: Vec<OfferedCommand>,
}

/// A fault's step from one state to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The run.
    pub run: RunId,
    /// Name of the fault.
    pub fault: String,
    /// The state it is in now.
    pub state: FaultState,
    /// Milliseconds since the start of the load.
    pub at_ms: u64,
    /// What it resolved to, or why it failed.
    pub detail: String,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Name of the audit.
    pub name: String,
    /// What it found, over all invariants.
    pub verdict: AuditVerdict,
    /// What it looked at.
    pub invariants: Vec<InvariantReport>,
    /// Why the verdict is unknown, where it is.
    pub problem: Option<String>,
}

/// How an audit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditVerdict {
    /// Every invariant holds.
    Valid,
    /// Something could not be read or asked.
    Unknown,
    /// An invariant is violated.
    Invalid,
}

impl AuditVerdict {
    /// The word used on screens.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

/// What an audit found about one invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InvariantReport {
    /// Its short name.
    pub id: String,
    /// What must hold.
    pub title: String,
    /// Whether it does.
    pub verdict: AuditVerdict,
    /// How many things were checked.
    #[serde(default)]
    pub checked: u64,
    /// How many broke it.
    #[serde(default)]
    pub violations: u64,
    /// Some of those.
    #[serde(default)]
    pub examples: Vec<String>,
}
