//! `kennel system`: the reference order system, and its declaration as a target.

use std::path::Path;
use std::process::ExitCode;

use kennel_model::target::Target;
use reference_system::{Launcher, Outcome, SystemCommand, SystemError, SystemState, UpArgs};

use crate::failure::Failure;
use crate::output::print;
use crate::places::{DataArgument, Places};
use crate::reference_target::{self, NAME};

/// Runs the command on a runtime of the reference system's own choosing.
pub(crate) fn run(command: SystemCommand, data: &DataArgument) -> ExitCode {
    match try_run(command, data) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

/// The command that puts this program's own fault proxy between the services.
pub(crate) fn proxy_command() -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::could_not_run(format!("cannot find this program's own path: {e}")))?;
    // One thread: most of what it carries are short messages between processes that share its cores.
    Ok(format!("{} proxy --threads 1", program.display()))
}

/// How further processes of the system are started.
pub(crate) fn launcher() -> Result<Launcher, Failure> {
    Launcher::current_program(["system"]).map_err(|e| Failure::could_not_run(e.to_string()))
}

fn try_run(mut command: SystemCommand, data: &DataArgument) -> Result<ExitCode, Failure> {
    if let SystemCommand::Supervise(_) | SystemCommand::Role(_) = command {
        let ended = reference_system::run(command, launcher()?, None);
        return ended.map(|_| ExitCode::SUCCESS).map_err(|e| Failure::could_not_run(e.to_string()));
    }
    let places = data.places().map_err(|problem| Failure::bad_input(problem, Vec::new()))?;
    let asked = match &mut command {
        SystemCommand::Up(args) => {
            if args.toxiproxy_command.is_none() && args.toxiproxy.is_none() {
                args.toxiproxy_command = Some(proxy_command()?);
            }
            Asked::Up(Box::new(args.clone()))
        }
        SystemCommand::Down(args) => Asked::Down { purged: args.purge, json: args.json },
        _ => Asked::Other,
    };
    let own = places.reference_system();
    let command = match command {
        SystemCommand::Up(args) if args.foreground => return hold(args, &places, &own),
        command => command,
    };
    let ran = reference_system::run(command, launcher()?, Some(&own));
    let outcome = match (ran, asked) {
        // Asked for what is already so: no error, as with other tools that bring systems up and down.
        (Err(SystemError::NoSystem { dir }), Asked::Down { purged, json }) => Outcome::Down { dir, purged, json },
        (Err(SystemError::DirectoryInUse { dir }), Asked::Up(args)) => match running(&dir) {
            Some(state) if state.is_as_asked(&args) => Outcome::Up { state, json: args.json },
            _ => return Err(Failure::could_not_run(SystemError::DirectoryInUse { dir }.to_string())),
        },
        (
            Err(
                error @ (SystemError::Switch { .. }
                | SystemError::NoLog { .. }
                | SystemError::Audit { .. }
                | SystemError::Usage { .. }),
            ),
            _,
        ) => return Err(Failure::bad_input(error.to_string(), Vec::new())),
        (Err(error @ SystemError::Unaudited { .. }), _) => return Err(Failure::inconclusive(error.to_string())),
        (ran, _) => ran.map_err(|e| Failure::could_not_run(e.to_string()))?,
    };
    match &outcome {
        Outcome::Up { state, json } => {
            declare(&places, state)?;
            if !json {
                tell_target(&places);
            }
        }
        Outcome::Down { dir, .. } => withdraw(&places, dir),
        _ => {}
    }
    if !matches!(outcome, Outcome::Ended) {
        print(&outcome.to_string());
    }
    Ok(ExitCode::from(outcome.exit_code()))
}

/// A system that stays in the foreground, declared for as long as it runs.
fn hold(args: UpArgs, places: &Places, own: &Path) -> Result<ExitCode, Failure> {
    let json = args.json;
    let mut declared = Ok(());
    let mut dir = None;
    let held = reference_system::hold(args, launcher()?, Some(own), |state| {
        dir = Some(state.dir.clone());
        declared = declare(places, state);
        if declared.is_ok() && !json {
            tell_target(places);
        }
        print(&Outcome::Up { state: state.clone(), json }.to_string());
    });
    if let Some(dir) = dir {
        withdraw(places, &dir);
    }
    held.map_err(|e| Failure::could_not_run(e.to_string()))?;
    declared.map(|()| ExitCode::SUCCESS)
}

fn tell_target(places: &Places) {
    print(&format!("declared as target `{NAME}` in {}", places.target(NAME).display()));
}

/// What was asked for, as far as it matters afterwards.
enum Asked {
    Up(Box<UpArgs>),
    Down { purged: bool, json: bool },
    Other,
}

/// The state of a system that runs in a directory.
fn running(dir: &Path) -> Option<SystemState> {
    serde_json::from_slice(&std::fs::read(dir.join("system.json")).ok()?).ok()
}

/// Removes the declaration of a system that is gone, unless it is another directory's: it would only lead to refused
/// connections.
fn withdraw(places: &Places, dir: &Path) {
    let path = places.target(NAME);
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let declared: Option<Target> = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let is_its = declared.is_some_and(|target| {
        let mut processes = target.services.iter().flat_map(|s| &s.instances).filter_map(|i| i.process.as_ref());
        processes.any(|process| process.pid_file.as_ref().is_some_and(|file| Path::new(file).starts_with(&dir)))
    });
    if is_its {
        let _ = std::fs::remove_file(path);
    }
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
