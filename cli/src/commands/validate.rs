//! `kennel validate FILE`: every error of an experiment, suite, target or agent's configuration, with its place.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use kennel_controller::surroundings_at;
use kennel_model::api::{CheckReport, FileKind, ValidateFile};
use kennel_model::document::{Document, Problems};
use kennel_model::experiment::Surroundings;
use kennel_model::{command, experiment, suite};
use kennel_scenarios::library;

use super::run::read;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json, say};
use crate::places::Places;
use crate::server::shipped;
use crate::surroundings::Known;

/// What a valid file says.
struct Said {
    name: String,
    /// What it is, in a sentence.
    told: String,
}

pub(super) async fn run(places: &Places, file: &Path, json: bool) -> Result<ExitCode, Failure> {
    let source = read(file)?;
    let name = file.display().to_string();
    let checked = match (Document::parse(&name, &source), places.remote()) {
        (Err(problems), _) => Err(problems),
        (Ok(document), Some(_)) if What::of(&document) != What::Agent => {
            elsewhere(places, What::of(&document), &name, source).await?
        }
        (Ok(document), _) => check(What::of(&document), &name, &source, &*known(places).await),
    };
    match checked {
        Ok(said) if json => print_json(&serde_json::json!({ "file": name, "name": said.name, "problems": [] })),
        Ok(said) => print(&format!("{name}: {}", said.told)),
        Err(problems) if json => {
            print_json(&problems);
            return Ok(ExitCode::from(2));
        }
        Err(problems) => {
            let count = problems.problems.len();
            let noun = if count == 1 { "problem" } else { "problems" };
            print(&format!("{problems}\n{count} {noun} in {name}"));
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file is, by its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Experiment,
    Suite,
    Target,
    /// An agent's configuration.
    Agent,
}

impl What {
    fn of(document: &Document) -> Self {
        let has = |field: &str| document.value().get(field).is_some();
        match () {
            () if has("steps") => Self::Suite,
            () if has("load") => Self::Experiment,
            () if has("commands") => Self::Agent,
            () if has("base_url") => Self::Target,
            () => Self::Experiment,
        }
    }
}

/// What a file may refer to, as `kennel run` on the same data directory knows it.
async fn known(places: &Places) -> Box<dyn Surroundings + Send + Sync> {
    let outside = Arc::new(Known::new(places, Vec::new()));
    match surroundings_at(places.data(), outside, &shipped(library::EXPERIMENTS)).await {
        Ok(known) => known,
        Err(error) => {
            // A store of another version of Kennel, perhaps: the file itself can be checked all the same.
            say(&format!("note: targets and experiments that Kennel keeps are not known here: {error}"));
            Box::new(Known::new(places, Vec::new()))
        }
    }
}

/// Has a file checked by the Kennel that was named, which knows its own targets, experiments and agents.
async fn elsewhere(places: &Places, what: What, name: &str, source: String) -> Result<Result<Said, Problems>, Failure> {
    let kind = match what {
        What::Suite => FileKind::Suite,
        What::Target => FileKind::Target,
        What::Experiment | What::Agent => FileKind::Experiment,
    };
    let client = Client::open(places).await?;
    let request =
        ValidateFile { kind: Some(kind), source: Some(source), experiment: None, file: Some(name.to_owned()) };
    let report: Result<CheckReport, Failure> = client.post("/validate?report=true", &request).await;
    let url = client.url().to_owned();
    client.close().await;
    let report = report?;
    Ok(match report.valid {
        Some(valid) => {
            Ok(Said { told: format!("`{}` is a valid {kind} for Kennel at {url}", valid.name), name: valid.name })
        }
        None => Err(Problems { file: name.to_owned(), problems: report.problems }),
    })
}

/// Reads a file as what it is.
fn check(what: What, name: &str, source: &str, known: &dyn Surroundings) -> Result<Said, Problems> {
    match what {
        What::Suite => {
            let valid = suite::parse(name, source, known)?;
            let steps = valid.suite().all_steps();
            let noun = if steps.len() == 1 { "step" } else { "steps" };
            let unchecked = match steps.iter().any(|(_, step)| step.command.is_some()) {
                true => "; whether an agent offers its commands shows when it runs",
                false => "",
            };
            let (own, count) = (&valid.suite().name, steps.len());
            let told = format!("`{own}` is a valid suite of {count} {noun}{unchecked}");
            Ok(Said { name: own.clone(), told })
        }
        What::Agent => {
            let agent = command::parse(name, source)?;
            let told = format!("a valid configuration of an agent with {} test commands", agent.commands.len());
            Ok(Said { name: "agent".to_owned(), told })
        }
        What::Target => {
            let target = experiment::parse_target(name, source)?;
            Ok(Said { told: format!("`{}` is a valid target", target.name), name: target.name })
        }
        What::Experiment => {
            let valid = experiment::parse(name, source, known)?;
            let (own, target) = (&valid.experiment().name, &valid.target().name);
            Ok(Said { name: own.clone(), told: format!("`{own}` is a valid experiment on target `{target}`") })
        }
    }
}
