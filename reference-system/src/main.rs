//! The system's processes without the rest of the platform: what the crate's own tests start.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use reference_system::{Launcher, Outcome, SystemCommand, hold, run};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: SystemCommand,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = Launcher::current_program(Vec::<String>::new()).and_then(|launcher| match arguments.command {
        SystemCommand::Up(args) if args.foreground => {
            let told = |state: &_| drop(writeln!(std::io::stdout(), "ready\n{state}"));
            hold(args, launcher, None, told).map(|()| Outcome::Ended)
        }
        command => run(command, launcher, None),
    });
    match ended {
        Ok(Outcome::Ended) => ExitCode::SUCCESS,
        Ok(outcome) => {
            let _ = writeln!(std::io::stdout(), "{outcome}");
            ExitCode::from(outcome.exit_code())
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
