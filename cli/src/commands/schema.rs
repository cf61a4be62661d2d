//! `kennel schema`: the JSON Schema of Kennel's files.

use std::process::ExitCode;

use crate::output::print_json;

pub(super) fn run(target: bool, suite: bool, agent: bool) -> ExitCode {
    let schema = match (target, suite, agent) {
        (true, ..) => kennel_model::schema::target(),
        (_, true, _) => kennel_model::schema::suite(),
        (.., true) => kennel_model::schema::agent(),
        _ => kennel_model::schema::experiment(),
    };
    print_json(&schema);
    ExitCode::SUCCESS
}
