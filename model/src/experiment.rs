//! Experiments: target + scenarios + load profile + fault timeline + objectives + guards + audits, in one file.
//!
//! [`parse`] reads a file and reports every error in it, each with its place. What comes out is a
//! [`ValidExperiment`], which is made by [`parse`] and [`Experiment::validate`], or decoded as it travels in the agent
//! protocol: the decoder trusts the sender and does not check the rules again.

mod overlaps;
mod rules;
mod salvage;
mod target_rules;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Document, Problems};
use crate::fault::Fault;
use crate::load::LoadProfile;
use crate::objective::Objective;
use crate::scenario::Scenario;
use crate::target::{HostRule, Target};

use self::salvage::{Salvaged, salvage};
pub(crate) use self::target_rules::check_target;

/// An experiment as written in a file, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Kennel experiment")]
pub struct Experiment {
    /// Version of this format.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name of the experiment; runs of the same name are compared with each other.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// What it is meant to find out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The system under test: the name of a declared target, or the declaration itself.
    pub target: TargetReference,
    /// When the load happens.
    pub load: LoadProfile,
    /// What virtual users do.
    #[schemars(length(min = 1))]
    pub scenarios: Vec<Scenario>,
    /// The fault timeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What must hold for the run to pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<Objective>,
    /// What must hold before the first fault and again after the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steady_state: Vec<Objective>,
    /// What is watched live; a breach halts the run. `over` gives the window (default 5s).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Objective>,
    /// Audits of the target, by name, after it has gone quiet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<String>,
}

/// A target by name or in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetReference {
    /// Name of a target that Kennel knows (one file per target in its data directory).
    Name(String),
    /// The declaration itself.
    Inline(Box<Target>),
}

/// An experiment whose every rule was checked against the target it runs on. One that was decoded was checked by
/// its sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidExperiment {
    experiment: Experiment,
    target: Target,
    source: String,
}

impl ValidExperiment {
    /// The experiment.
    #[must_use]
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The target it runs on.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The file's text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Knows what lies outside an experiment's file: declared targets and compiled scenarios.
pub trait Surroundings {
    /// The declared target of this name, or the names that exist.
    ///
    /// # Errors
    /// A sentence that says why there is none and what would help.
    fn target(&self, name: &str) -> Result<Target, String>;

    /// What declares a target of this name that is not there.
    fn way_to_declare(&self, name: &str) -> String {
        format!("`kennel file put target {name} FILE` declares it, or the page Targets")
    }

    /// Every declared target that can be read, for choices.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// Names of compiled scenarios with the request names each of them measures.
    fn builtins(&self) -> Vec<Builtin>;

    /// The text of the experiment of this name, or the names that exist.
    ///
    /// # Errors
    /// A sentence that says what would help.
    fn experiment(&self, _name: &str) -> Result<String, String> {
        Err("an experiment that Kennel keeps or ships; none is known here".to_owned())
    }

    /// Names of the test commands that agents with these labels offer; `None` when that is not known here.
    fn commands(&self, _labels: &[String]) -> Option<Vec<String>> {
        None
    }
}

/// A compiled scenario as other rooms need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    /// The name used in `builtin:`.
    pub name: String,
    /// Request names it measures.
    pub requests: Vec<String>,
}

/// Reads a target's file.
///
/// # Errors
/// Every problem in it, placed.
pub fn parse_target(file: &str, source: &str) -> Result<Target, Problems> {
    let document = Document::parse(file, source)?;
    let target: Target = document.decode(&crate::schema::target()).map_err(|problems| document.place(problems))?;
    let mut problems = Vec::new();
    target_rules::check_target(&target, "", &mut problems);
    document.finish(target, problems)
}

/// Reads and checks an experiment's file whole.
///
/// # Errors
/// Every problem in it, placed.
pub fn parse(file: &str, source: &str, surroundings: &dyn Surroundings) -> Result<ValidExperiment, Problems> {
    let document = Document::parse(file, source)?;
    let schema = crate::schema::experiment();
    let problems = match document.decode::<Experiment>(&schema) {
        Ok(experiment) => match experiment.validate(source, surroundings) {
            Ok(valid) => return Ok(valid),
            Err(problems) => problems,
        },
        Err(mut problems) => {
            if let Some(Salvaged { experiment, cuts }) = salvage(&document, &schema) {
                let (_, broken) = experiment.broken_rules(surroundings, &cuts);
                problems.extend(broken.into_iter().filter(|problem| !cuts.cover(&problem.pointer)));
            }
            problems
        }
    };
    Err(document.place(problems))
}

/// The declared links that a selector `from -> to` means: `to` is a service or one instance of it.
#[must_use]
pub fn select_links<'a>(target: &'a Target, selector: &str) -> Vec<&'a crate::target::Link> {
    let Some((from, to)) = selector.split_once("->") else { return Vec::new() };
    let (from, to) = (from.trim(), to.trim());
    target
        .links
        .iter()
        .filter(|link| link.from == from && (link.to == to || link.instance.as_deref() == Some(to)))
        .collect()
}

/// Host and port of an `http://` or `https://` URL.
#[must_use]
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (rest, default) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let rule = HostRule::parse(authority.rsplit('@').next()?);
    let malformed = rule.host.is_empty()
        || rule.host.contains(|c: char| c.is_whitespace() || (c == ':' && !authority.contains('[')));
    (!malformed).then(|| (rule.host, rule.port.unwrap_or(default)))
}
