//! `kennel validate FILE`: every error of an experiment file, with its place.

use std::path::Path;
use std::process::ExitCode;

use kennel_model::experiment;

use super::run::read;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;
use crate::surroundings::Known;

pub(super) fn run(places: &Places, file: &Path, json: bool) -> Result<ExitCode, Failure> {
    let source = read(file)?;
    let name = file.display().to_string();
    match experiment::parse(&name, &source, &Known::new(places, Vec::new())) {
        Ok(valid) if json => {
            print_json(&serde_json::json!({ "file": name, "name": valid.experiment().name, "problems": [] }))
        }
        Ok(valid) => print(&format!(
            "{name}: `{}` is a valid experiment on target `{}`",
            valid.experiment().name,
            valid.target().name
        )),
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
