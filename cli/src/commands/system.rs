//! `kennel system`: the reference order system, and its declaration as a target.

use std::path::PathBuf;
use std::process::ExitCode;

use reference_system::command::{DirArgs, StatusArgs, UpArgs};
use reference_system::{Launcher, Outcome, SystemCommand};

use crate::arguments::SystemArguments;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::{DataArgument, Places};
use crate::reference_target::{self, NAME};

/// Runs the command on a runtime of the reference system's own choosing.
pub(crate) fn run(command: SystemArguments, data: &DataArgument) -> ExitCode {
    match try_run(command, data) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// The command that puts this program's own fault proxy between the services.
pub(crate) fn proxy_command() -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::could_not_run(format!("cannot find this program's own path: {e}")))?;
    Ok(format!("{} proxy", program.display()))
}

/// How further processes of the system are started.
pub(crate) fn launcher() -> Result<Launcher, Failure> {
    Launcher::current_program(["system"]).map_err(|e| Failure::could_not_run(e.to_string()))
}

fn try_run(command: SystemArguments, data: &DataArgument) -> Result<(), Failure> {
    let command = match command {
        SystemArguments::Process(process) => {
            return reference_system::run(process.into(), launcher()?)
                .map(|_| ())
                .map_err(|e| Failure::could_not_run(e.to_string()));
        }
        other => other,
    };
    let places = data.places().map_err(|problem| Failure::bad_input(problem, Vec::new()))?;
    let dir_or_own = |dir: Option<PathBuf>| dir.unwrap_or_else(|| places.reference_system());
    let down_as_json = matches!(command, SystemArguments::Down { json: true, .. });
    let (command, going_down) = match command {
        SystemArguments::Up { dir, seed, respawn_after, gateway_port, json } => {
            let toxiproxy_command = Some(proxy_command()?);
            let respawn_after = respawn_after.get();
            (
                SystemCommand::Up(UpArgs {
                    dir: dir_or_own(dir),
                    seed,
                    respawn_after,
                    toxiproxy_command,
                    gateway_port,
                    json,
                }),
                false,
            )
        }
        SystemArguments::Down { dir, .. } => (SystemCommand::Down(DirArgs { dir: dir_or_own(dir) }), true),
        SystemArguments::Status { dir, json } => {
            (SystemCommand::Status(StatusArgs { dir: dir_or_own(dir), json }), false)
        }
        SystemArguments::Process(_) => return Ok(()),
    };
    let outcome = reference_system::run(command, launcher()?).map_err(|e| Failure::could_not_run(e.to_string()))?;
    if let Outcome::Up { state, json } = &outcome {
        declare(&places, state)?;
        if !json {
            print(&format!("declared as target `{NAME}` in {}", places.target(NAME).display()));
        }
    }
    if going_down {
        // The declaration of a system that is gone would only lead to refused connections.
        let _ = std::fs::remove_file(places.target(NAME));
    }
    match &outcome {
        Outcome::Down { dir } if down_as_json => print_json(&serde_json::json!({ "dir": dir, "down": true })),
        outcome => print(&outcome.to_string()),
    }
    Ok(())
}

fn declare(places: &Places, state: &reference_system::SystemState) -> Result<(), Failure> {
    let path = places.target(NAME);
    // JSON is YAML, and the declaration is made by a program.
    let text = serde_json::to_string_pretty(&reference_target::declare(state)).unwrap_or_default();
    let written = std::fs::create_dir_all(places.targets()).and_then(|()| std::fs::write(&path, text));
    written.map_err(|e| {
        Failure::could_not_run(format!("the system is up, but cannot be declared in {}: {e}", path.display()))
    })
}
