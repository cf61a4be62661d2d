//! The commands, one file each, and what may go wrong with any of them.

mod compare;
mod demo;
mod halt;
mod proxy;
mod run;
mod runs;
mod schema;
mod serve;
mod show;
pub(crate) mod system;
mod validate;

use std::io::Write as _;
use std::process::ExitCode;

use kennel_model::document::PlacedProblem;
use serde::Serialize;

use crate::arguments::Command;
use crate::places::DataArgument;

/// Exit code of an interrupted command: 128 + SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command ended without doing its work.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    problems: Vec<PlacedProblem>,
}

impl Failure {
    /// Wrong usage or bad input.
    pub(crate) fn bad_input(message: impl Into<String>, problems: Vec<PlacedProblem>) -> Self {
        Self { code: 2, message: message.into(), problems }
    }

    /// It could not be done.
    pub(crate) fn could_not_run(message: impl Into<String>) -> Self {
        Self { code: 5, message: message.into(), problems: Vec::new() }
    }

    /// Says it on standard error and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "kennel: {}", self.message);
        for problem in &self.problems {
            let expected =
                if problem.expected.is_empty() { String::new() } else { format!("; expected {}", problem.expected) };
            let field = if problem.field.is_empty() { String::new() } else { format!("{}: ", problem.field) };
            let _ = writeln!(out, "  {}:{}: {field}{}{expected}", problem.line, problem.column, problem.message);
        }
        ExitCode::from(self.code)
    }
}

/// Prints a result on standard output. A closed pipe is the reader's choice.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Tells a person what is going on; results go to standard output.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a result as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Runs a command.
pub(crate) async fn run(command: Command, data: DataArgument) -> Result<ExitCode, Failure> {
    let places = || data.places().map_err(|problem| Failure::bad_input(problem, Vec::new()));
    match command {
        Command::Demo { exit, port, json } => demo::run(&places()?, exit, port, json).await,
        Command::Serve { listen } => serve::run(&places()?, listen).await,
        Command::Run { file, raw_log, json } => run::run(&places()?, &file, raw_log, json).await,
        Command::Validate { file, json } => validate::run(&places()?, &file, json),
        Command::Schema { target } => Ok(schema::run(target)),
        Command::Runs { limit, json } => runs::run(&places()?, limit, json).await,
        Command::Show { run, json } => show::run(&places()?, &run, json).await,
        Command::Compare { a, b, json } => compare::run(&places()?, &a, &b, json).await,
        Command::Halt { run, json } => halt::run(&places()?, run, json).await,
        Command::Proxy { host, port } => proxy::run(&host, port).await,
        // Handled before there is a runtime.
        Command::System { .. } | Command::Worker | Command::Watchdog { .. } => Ok(ExitCode::SUCCESS),
    }
}
