//! `kennel schema`: the JSON Schema of Kennel's files.

use std::process::ExitCode;

use crate::output::print_json;

pub(super) fn run(target: bool) -> ExitCode {
    print_json(&if target { kennel_model::schema::target() } else { kennel_model::schema::experiment() });
    ExitCode::SUCCESS
}
