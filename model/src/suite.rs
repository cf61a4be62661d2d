//! Suites: ordered steps of experiments, functional checks, external test commands and waits, in one file.
//!
//! [`parse`] reads a file, puts parameters in their places and reports every error, each with its place. What comes out
//! is a [`ValidSuite`], which nothing else makes.

mod parameters;
mod rules;
mod salvage;
mod step_rules;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::StepKind;
use crate::document::{Document, Problems};
use crate::experiment::{Surroundings, TargetReference, ValidExperiment};
use crate::target::Target;
use crate::units::Span;
use crate::words::words;

pub use self::parameters::BadParameter;
use self::salvage::{Salvaged, salvage};

/// Most steps of one `parallel`.
pub const MOST_PARALLEL: usize = 16;

/// A suite as written in a file, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Kennel suite")]
pub struct Suite {
    /// Version of this format.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name of the suite; its runs form one history.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// What it is meant to find out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Words to find the suite and its runs by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The system that checks go to: the name of a declared target, or the declaration itself. Checks reach its allowed
    /// hosts and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetReference>,
    /// Labels that the agent must carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// Values that whoever starts the suite may change; `${name}` in steps stands for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Steps that prepare; when one fails, the suite's own steps are skipped and the tear-down still runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_up: Vec<Step>,
    /// The steps, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// Steps that clean up, whatever happened before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tear_down: Vec<Step>,
}

/// A value that may be given when a suite is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name: letters, digits and `_`.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What may be given.
    #[serde(default, rename = "type")]
    pub kind: ParameterKind,
    /// The value unless another is given.
    pub default: String,
    /// What may be chosen, for `type: choice`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

words! {
    /// What a parameter's value may be.
    #[derive(Default)]
    ParameterKind {
        /// Any text.
        #[default]
        Text = "text",
        /// A number.
        Number = "number",
        /// `true` or `false`.
        Boolean = "boolean",
        /// One of `choices`.
        Choice = "choice",
    }
}

/// One step: exactly one of `experiment`, `check`, `command`, `wait` and `parallel`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, unique within the suite.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Run an experiment: the name of one that Kennel keeps or ships.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// Values that replace the experiment's own, by JSON pointer (`/load/stages/0/rate: 50/s`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
    /// Send one request and look at its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Run a test command that the agent's configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Arguments appended to the command's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Let time pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Steps that run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Vec<Step>>,
    /// Whether the steps after it run although it failed. The suite still fails.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continue_on_failure: bool,
    /// How often a failed step is tried again; every attempt is shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 20))]
    pub retries: u32,
    /// Pause before it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay: Option<Span>,
    /// How long it may take before it is stopped and counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// One request with what is expected of its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// HTTP method.
    #[serde(default = "get")]
    pub method: String,
    /// Path on the target (`/orders/7`) or a whole URL on one of its allowed hosts.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Body as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// What must hold of the answer; a status of 2xx when nothing is said.
    #[serde(default)]
    pub expect: Expectation,
}

/// What must hold of an answer. Each is one assertion, shown one by one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The status: a number, or a class such as `2xx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRule>,
    /// Headers that must be there with this value; `*` for any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Texts that the body must contain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Texts that the body must not contain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Values in a JSON body, by JSON pointer (`/items/0/name: soup`); `null` asks for null, not for absence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Value>,
    /// Longest time until the whole answer is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// A status, or a class of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StatusRule {
    /// Exactly this one.
    Exact(u16),
    /// `1xx` to `5xx`.
    Class(String),
}

/// The part of a suite in which a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// It prepares.
    SetUp,
    /// It is what the suite is about.
    Steps,
    /// It cleans up.
    TearDown,
}

impl Section {
    /// In the order in which they run.
    pub const ALL: [Self; 3] = [Self::SetUp, Self::Steps, Self::TearDown];

    /// Its name in files and paths.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::SetUp => "set_up",
            Self::Steps => "steps",
            Self::TearDown => "tear_down",
        }
    }
}

impl Suite {
    /// The steps of one section.
    #[must_use]
    pub fn section(&self, section: Section) -> &[Step] {
        match section {
            Section::SetUp => &self.set_up,
            Section::Steps => &self.steps,
            Section::TearDown => &self.tear_down,
        }
    }

    /// Every step with its path (`steps/3`, `steps/3/parallel/0`), in the order in which they stand.
    #[must_use]
    pub fn all_steps(&self) -> Vec<(String, &Step)> {
        let mut all = Vec::new();
        for section in Section::ALL {
            for (at, step) in self.section(section).iter().enumerate() {
                let path = format!("{}/{at}", section.word());
                all.push((path.clone(), step));
                for (within, inner) in step.parallel.iter().flatten().enumerate() {
                    all.push((format!("{path}/parallel/{within}"), inner));
                }
            }
        }
        all
    }
}

impl Step {
    /// What it does; of several actions the first, and a wait when it has none (no valid step has).
    #[must_use]
    pub fn kind(&self) -> StepKind {
        match self {
            Self { experiment: Some(_), .. } => StepKind::Experiment,
            Self { check: Some(_), .. } => StepKind::Check,
            Self { command: Some(_), .. } => StepKind::Command,
            Self { parallel: Some(_), .. } => StepKind::Parallel,
            _ => StepKind::Wait,
        }
    }
}

impl StatusRule {
    /// Whether a status is what is wanted.
    #[must_use]
    pub fn allows(&self, status: u16) -> bool {
        match self {
            Self::Exact(wanted) => *wanted == status,
            Self::Class(class) => class.bytes().next().is_some_and(|digit| u16::from(digit - b'0') == status / 100),
        }
    }
}

impl std::fmt::Display for StatusRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(status) => status.fmt(f),
            Self::Class(class) => class.fmt(f),
        }
    }
}

/// A suite whose every rule was checked, with its parameters in their places.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidSuite {
    suite: Suite,
    target: Option<Target>,
    experiments: BTreeMap<String, ValidExperiment>,
    parameters: BTreeMap<String, String>,
    source: String,
}

impl ValidSuite {
    /// The suite, with values where parameters stood.
    #[must_use]
    pub fn suite(&self) -> &Suite {
        &self.suite
    }

    /// The target that checks go to.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The experiment of the step at a path.
    #[must_use]
    pub fn experiment(&self, path: &str) -> Option<&ValidExperiment> {
        self.experiments.get(path)
    }

    /// The value of every parameter.
    #[must_use]
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// The file's text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Names of every target that some step touches.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<String> {
        let experiments = self.experiments.values().map(|experiment| experiment.target().name.clone());
        self.target.iter().map(|target| target.name.clone()).chain(experiments).collect()
    }
}

/// Reads and checks a suite's file whole, with its parameters' defaults.
///
/// # Errors
/// Every problem in it, placed.
pub fn parse(file: &str, source: &str, surroundings: &dyn Surroundings) -> Result<ValidSuite, Problems> {
    parse_with(file, source, &BTreeMap::new(), surroundings)
}

/// Reads and checks a suite's file whole, with other values for some of its parameters.
///
/// # Errors
/// Every problem in it, placed; what is wrong with a value stands at its parameter's declaration.
pub fn parse_with(
    file: &str,
    source: &str,
    values: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
) -> Result<ValidSuite, Problems> {
    let document = Document::parse(file, source)?;
    let schema = crate::schema::suite();
    let problems = match document.decode::<Suite>(&schema) {
        Ok(suite) => {
            let checked = rules::check(suite, values, surroundings, false);
            if checked.problems.is_empty() {
                return Ok(ValidSuite {
                    suite: checked.suite,
                    target: checked.target,
                    experiments: checked.experiments,
                    parameters: checked.parameters,
                    source: source.to_owned(),
                });
            }
            checked.problems
        }
        Err(mut problems) => {
            if let Some(Salvaged { suite, cuts }) = salvage(&document, &schema) {
                let found = rules::check(suite, values, surroundings, cuts.touch_parameters()).problems;
                problems.extend(found.into_iter().filter(|problem| !cuts.cover(&problem.pointer)));
            }
            problems
        }
    };
    Err(document.place(problems))
}

/// A suite as its file's form says, whether or not what it refers to is there; `None` when the form is wrong.
#[must_use]
pub fn outline(source: &str) -> Option<Suite> {
    Document::parse("", source).ok()?.decode(&crate::schema::suite()).ok()
}

/// The values of a suite's parameters, given some.
///
/// # Errors
/// What is wrong with each.
pub fn values_of(
    suite: &Suite,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<BadParameter>> {
    parameters::values(&suite.parameters, given)
}

fn get() -> String {
    "GET".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
