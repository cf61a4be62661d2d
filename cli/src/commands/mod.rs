//! The commands, one file each.

mod compare;
mod demo;
mod file;
mod halt;
mod import;
mod proxy;
mod queue;
mod run;
mod runs;
mod schedule;
mod schema;
mod serve;
mod show;
mod suite;
pub(crate) mod system;
mod token;
mod user;
mod validate;

use std::process::ExitCode;

use crate::arguments::Command;
use crate::failure::Failure;
use crate::places::DataArgument;

/// Runs a command.
pub(crate) async fn run(command: Command, data: DataArgument) -> Result<ExitCode, Failure> {
    let places = || data.places().map_err(|problem| Failure::bad_input(problem, Vec::new()));
    match command {
        Command::Demo { exit, port, json } => demo::run(&places()?, exit, port, json).await,
        Command::Serve { arguments } => serve::run(&places()?, arguments).await,
        Command::User { command } => user::run(&places()?, command).await,
        Command::Token { command } => token::run(&places()?, command).await,
        Command::Run { file, raw_log, json } => run::run(&places()?, &file, raw_log, json).await,
        Command::Validate { file, json } => validate::run(&places()?, &file, json).await,
        Command::Schema { target, suite, agent } => Ok(schema::run(target, suite, agent)),
        Command::Suite { command } => suite::run(&places()?, command).await,
        Command::Schedule { command } => schedule::run(&places()?, command).await,
        Command::Queue { command, json } => queue::run(&places()?, command, json).await,
        Command::Runs { limit, json } => runs::run(&places()?, limit, json).await,
        Command::Show { run, json } => show::run(&places()?, &run, json).await,
        Command::Compare { a, b, all, json } => compare::run(&places()?, &a, &b, all, json).await,
        Command::File { command } => file::run(&places()?, command).await,
        Command::Import { command } => import::run(&places()?, command).await,
        Command::Halt { run, json } => halt::run(&places()?, run, json).await,
        Command::Proxy { host, port, threads: _ } => proxy::run(&host, port).await,
        // Handled before there is a runtime.
        Command::System { .. }
        | Command::Worker
        | Command::Guard { .. }
        | Command::Confine { .. }
        | Command::Watchdog { .. } => Ok(ExitCode::SUCCESS),
    }
}
