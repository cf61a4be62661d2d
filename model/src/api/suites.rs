//! Suites and their runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::command::OfferedCommand;
use crate::protocol::Assertion;
use crate::run::{RunId, Verdict};
use crate::suite::Parameter;
use crate::words::words;

/// A request to run a suite: one that Kennel keeps, by name, or a file's text.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartSuite {
    /// Name of a suite that Kennel keeps.
    #[serde(default)]
    pub suite: Option<String>,
    /// A suite file's text instead.
    #[serde(default)]
    pub source: Option<String>,
    /// Values of parameters that differ from their defaults.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Run only these steps, by path (`steps/2`, `steps/3/parallel/0`); all when empty. Set-up and tear-down always run.
    #[serde(default)]
    pub only: Vec<String>,
    /// The run of which this one is another attempt.
    #[serde(default)]
    pub rerun_of: Option<RunId>,
    /// Labels of the run beside those of the suite.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Higher goes first in the queue; 0 unless said otherwise.
    #[serde(default)]
    pub priority: i32,
}

words! {
    /// Why a suite ran.
    Origin {
        /// Somebody started it.
        Manual = "manual",
        /// A schedule did.
        Schedule = "schedule",
        /// Its results came from elsewhere.
        Import = "import",
    }
}

words! {
    /// Where a suite's run or one of its steps is in its life.
    StepState {
        /// Not started.
        Queued = "queued",
        /// Under way.
        Running = "running",
        /// Over; the outcome stands.
        Ended = "ended",
    }
}

words! {
    /// How a step or a test ended.
    Outcome {
        /// As expected.
        Passed = "passed",
        /// Not as expected.
        Failed = "failed",
        /// It could not be carried out.
        Error = "error",
        /// It did not run.
        Skipped = "skipped",
    }
}

words! {
    /// What a step does.
    StepKind {
        /// Runs an experiment.
        Experiment = "experiment",
        /// Sends one request and looks at its answer.
        Check = "check",
        /// Runs a test command.
        Command = "command",
        /// Lets time pass.
        Wait = "wait",
        /// Runs steps at the same time.
        Parallel = "parallel",
        /// Holds results that came from elsewhere.
        Import = "import",
    }
}

/// A suite's run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuiteRunSummary {
    /// Its identity.
    pub id: RunId,
    /// Name of the suite.
    pub suite: String,
    /// Version of the suite's file; absent for files that Kennel does not keep.
    pub version: Option<u32>,
    /// Where it is in its life.
    pub state: StepState,
    /// How it ended; absent until it is over.
    pub verdict: Option<Verdict>,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
    /// Why it ran.
    pub origin: Origin,
    /// Who or what started it (a person, a token, a schedule's name).
    pub started_by: String,
    /// The run of which this is another attempt.
    pub rerun_of: Option<RunId>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Values of the parameters.
    pub parameters: BTreeMap<String, String>,
    /// Labels.
    pub labels: Vec<String>,
    /// Higher goes first in the queue.
    pub priority: i32,
    /// When it was handed in.
    pub created_at: String,
    /// When its first step started.
    pub started_at: Option<String>,
    /// When it was over.
    pub ended_at: Option<String>,
    /// Tests by outcome (last attempt of each).
    pub tests: OutcomeCounts,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct OutcomeCounts {
    /// As expected.
    pub passed: u32,
    /// Not as expected.
    pub failed: u32,
    /// Could not be carried out.
    pub error: u32,
    /// Did not run.
    pub skipped: u32,
}

/// One attempt of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// Where it stands in the suite (`set_up/0`, `steps/2`, `steps/3/parallel/0`, `tear_down/0`).
    pub path: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
    /// Where it is in its life.
    pub state: StepState,
    /// How it ended; absent until it is over.
    pub outcome: Option<Outcome>,
    /// What went wrong, or what was done, in a sentence or a few.
    pub message: String,
    /// The experiment's run, for a step that is one.
    pub run: Option<RunId>,
    /// When it started.
    pub started_at: Option<String>,
    /// When it was over.
    pub ended_at: Option<String>,
    /// Whether it has a log.
    pub has_log: bool,
    /// The agent that carried it out.
    pub agent: Option<String>,
    /// What was asserted of a check's answer, one by one.
    pub assertions: Vec<Assertion>,
}

/// A request to run a suite's run again; its attempts stay together.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RerunSuite {
    /// What of it; everything unless said otherwise.
    #[serde(default)]
    pub which: RerunWhich,
    /// Paths of the steps to run, for `which: steps`.
    #[serde(default)]
    pub steps: Vec<String>,
    /// Values of parameters that differ from those of the run.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

words! {
    /// What of a suite's run is run again.
    #[derive(Default)]
    RerunWhich {
        /// Every step.
        #[default]
        All = "all",
        /// Steps that did not pass.
        Failed = "failed",
        /// The steps that are named.
        Steps = "steps",
    }
}

/// Which runs of suites to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuiteRunFilter {
    /// Of this suite.
    pub suite: Option<String>,
    /// That ended so.
    pub verdict: Option<Verdict>,
    /// That are there in their life.
    pub state: Option<StepState>,
    /// That came about so.
    pub origin: Option<Origin>,
    /// That carry this label.
    pub label: Option<String>,
    /// That are attempts of this run.
    pub rerun_of: Option<RunId>,
    /// Older than this one.
    pub before: Option<RunId>,
    /// Most runs to list; 50 when 0.
    pub limit: u32,
}

words! {
    /// Where a suite comes from.
    SuiteOrigin {
        /// Kennel keeps it, with its versions.
        Kept = "kept",
        /// It ships with Kennel.
        Library = "library",
        /// Only its runs are known: it was run from a file or its results were imported.
        Runs = "runs",
    }
}

/// A suite in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuiteSummary {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Where it comes from.
    pub origin: SuiteOrigin,
    /// Version of its file, where Kennel keeps it.
    pub version: Option<u32>,
    /// How many steps it has, those in parallel and set-up and tear-down included.
    pub steps: u32,
    /// Why its file cannot be run, where that is so.
    pub problem: Option<String>,
    /// What has to be there first, where nothing else is wrong: `target …, which is not declared; … declares it`.
    #[serde(default)]
    pub needs: Option<String>,
    /// Its last runs, newest first.
    pub last_runs: Vec<SuiteRunSummary>,
}

/// A suite whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuiteDetail {
    /// The suite.
    #[serde(flatten)]
    pub summary: SuiteSummary,
    /// Its file's text; empty where only its runs are known.
    pub source: String,
    /// What whoever starts it may change.
    #[schema(value_type = Vec<Object>)]
    pub parameters: Vec<Parameter>,
    /// Values of parameters in its last run that somebody started.
    pub last_values: BTreeMap<String, String>,
    /// Its steps, in order.
    pub plan: Vec<PlannedStep>,
}

/// A step as a suite's file plans it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// Where it stands (`steps/3/parallel/0`).
    pub path: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
    /// What exactly, in a few words.
    pub what: String,
}

/// An attached agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Version of Kennel.
    pub version: String,
    /// The host it is on.
    pub host: String,
    /// Words by which suites choose it.
    pub labels: Vec<String>,
    /// Test commands that its configuration names.
    pub commands: Vec<OfferedCommand>,
}

/// A suite's run with its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuiteRunDetail {
    /// The run.
    #[serde(flatten)]
    pub summary: SuiteRunSummary,
    /// The suite file as it ran.
    pub source: String,
    /// Every attempt of every step, in the order of the suite.
    pub steps: Vec<StepView>,
}

/// Something that happened in a suite's run, as the live stream sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum SuiteEvent {
    /// The run changed.
    Run {
        /// As it is now.
        run: Box<SuiteRunSummary>,
    },
    /// A step changed.
    Step {
        /// As it is now.
        step: Box<StepView>,
    },
    /// A step's log grew.
    Log {
        /// Where the step stands.
        path: String,
        /// Which attempt.
        attempt: u32,
        /// What was added.
        text: String,
    },
}
