//! The configuration of this machine's agent: labels, and the test commands that suites may have run here.

use std::io::ErrorKind;
use std::path::Path;

use kennel_model::command::{self, AgentFile};

use crate::failure::Failure;
use crate::places::Places;

/// Reads the file that is named, or `agent.yaml` in the agent's folder of the data directory if there is one.
pub(crate) fn read(places: &Places, named: Option<&Path>) -> Result<AgentFile, Failure> {
    let own = places.agent().join("agent.yaml");
    let path = named.unwrap_or(&own);
    let source = match std::fs::read_to_string(path) {
        Ok(source) => source,
        // Without one, the agent offers no command.
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => return Ok(AgentFile::default()),
        Err(error) => {
            return Err(Failure::bad_input(format!("cannot read {}: {error}", path.display()), Vec::new()));
        }
    };
    let file = path.display().to_string();
    command::parse(&file, &source).map_err(|problems| {
        let count = problems.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        Failure::bad_input(format!("the agent's configuration {file} has {count} {noun}"), problems.problems)
    })
}
