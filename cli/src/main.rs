//! The `kennel` command. It parses its arguments, runs one command, and turns the outcome into an exit code.

mod agent_file;
mod arguments;
mod client;
mod commands;
mod failure;
mod follow;
mod follow_suite;
mod interrupt;
mod output;
mod places;
mod reference_target;
mod report;
mod server;
mod suite_report;
mod surroundings;
mod waiting;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Processes that are nothing but their role build the runtime that suits them.
    match arguments.command {
        Command::Worker => kennel_agent::worker::main(),
        Command::Watchdog { journal } => {
            log_to_stderr();
            kennel_agent::watchdog::main(&journal)
        }
        Command::Guard { limits, command } => {
            let Ok(program) = std::env::current_exe() else { return ExitCode::from(5) };
            kennel_agent::steps::guard::main(&limits, &[program.into(), "confine".into()], &command)
        }
        Command::Confine { limits, command } => kennel_agent::steps::guard::confine(&limits, &command),
        Command::System { command } => commands::system::run(command, &arguments.data),
        command => {
            log_to_stderr();
            run(command, arguments.data)
        }
    }
}

fn run(command: Command, data: places::DataArgument) -> ExitCode {
    let mut runtime = match command {
        Command::Proxy { threads: Some(1), .. } => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Command::Proxy { threads: Some(threads), .. } = command {
        runtime.worker_threads(usize::from(threads));
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::could_not_run(format!("cannot start a runtime: {error}")).tell(),
    };
    match runtime.block_on(commands::run(command, data)) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KENNEL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        // A log that cannot be written (its reader is gone) must not end a process that has faults to revert.
        .log_internal_errors(false)
        .init();
}
