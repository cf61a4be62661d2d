//! `kennel validate FILE`: every error of an experiment, suite, target or agent's configuration, with its place.

use std::path::Path;
use std::process::ExitCode;

use kennel_model::document::{Document, Problems};
use kennel_model::{command, experiment, suite};

use super::run::read;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;
use crate::surroundings::Known;

/// What a valid file says.
struct Said {
    name: String,
    /// What it is, in a sentence.
    told: String,
}

pub(super) fn run(places: &Places, file: &Path, json: bool) -> Result<ExitCode, Failure> {
    let source = read(file)?;
    let name = file.display().to_string();
    match check(&name, &source, &Known::new(places, Vec::new())) {
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

/// Reads a file as what its fields say it is.
fn check(name: &str, source: &str, known: &Known) -> Result<Said, Problems> {
    let document = Document::parse(name, source)?;
    let has = |field: &str| document.value().get(field).is_some();
    if has("steps") {
        let valid = suite::parse(name, source, known)?;
        let count = valid.suite().all_steps().len();
        let noun = if count == 1 { "step" } else { "steps" };
        let own = &valid.suite().name;
        return Ok(Said { name: own.clone(), told: format!("`{own}` is a valid suite of {count} {noun}") });
    }
    if has("commands") && !has("load") {
        let agent = command::parse(name, source)?;
        let told = format!("a valid configuration of an agent with {} test commands", agent.commands.len());
        return Ok(Said { name: "agent".to_owned(), told });
    }
    if has("base_url") && !has("load") {
        let target = experiment::parse_target(name, source)?;
        return Ok(Said { told: format!("`{}` is a valid target", target.name), name: target.name });
    }
    let valid = experiment::parse(name, source, known)?;
    let (own, target) = (&valid.experiment().name, &valid.target().name);
    Ok(Said { name: own.clone(), told: format!("`{own}` is a valid experiment on target `{target}`") })
}
