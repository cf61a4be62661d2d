//! The `system` command: its arguments, and the entry of every process of the system.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::arguments::{
    AuditArgs, DownArgs, LogsArgs, MigrateArgs, RoleArgs, SeedArgs, StatusArgs, SuperviseArgs, SwitchArgs, UpArgs,
};
use crate::audit::{AuditReport, Verdict};
use crate::error::SystemError;
use crate::launch;
use crate::migration::status::MigrationStatus;
use crate::process;
use crate::seeding::Seeded;
use crate::servers::Server;
use crate::state::{SystemState, SystemStatus};
use crate::switching::SwitchList;
use crate::{auditing, logs, migrating, roles, seeding, supervisor, switching};

/// Start, stop and watch the reference order system.
#[derive(Debug, Clone, Subcommand)]
pub enum SystemCommand {
    /// Start the order system in the background and wait until an order has gone through it
    Up(UpArgs),
    /// Stop the order system of a directory
    Down(DownArgs),
    /// Tell how each process of an order system is doing
    Status(StatusArgs),
    /// Print what the processes of an order system wrote
    Logs(LogsArgs),
    /// Show the switches of an order system, or set one
    Switch(SwitchArgs),
    /// Tell what the seed of an order system makes, or put past orders of it through the running system
    Seed(SeedArgs),
    /// Move the orders of a system that was started with --migration from its old table to the sharded stores
    Migrate(MigrateArgs),
    /// Check the invariants of an order system's rows: exit 0 valid, 1 invalid, 3 unknown
    Audit(AuditArgs),
    /// Keep the processes of a system alive
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// Be one process of a system
    #[command(hide = true)]
    Role(RoleArgs),
}

/// How a process of the system is started: a program and the arguments before `supervise` or
/// `role`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// For example `["system"]`.
    pub prefix: Vec<OsString>,
}

impl Launcher {
    /// This very program, with these arguments first.
    ///
    /// # Errors
    ///
    /// [`SystemError::Process`] if the operating system does not tell the program's path.
    pub fn current_program(prefix: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, SystemError> {
        let program = std::env::current_exe()
            .map_err(|source| SystemError::Process { what: "find the path of this program".to_owned(), source })?;
        Ok(Self { program, prefix: prefix.into_iter().map(Into::into).collect() })
    }
}

/// What a command has to say; print it with [`fmt::Display`].
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The system is up.
    Up {
        /// Its state.
        state: SystemState,
        /// Whether to show it as JSON.
        json: bool,
    },
    /// The system is down.
    Down {
        /// Its directory.
        dir: PathBuf,
        /// Whether its data are gone, too.
        purged: bool,
        /// Whether to show it as JSON.
        json: bool,
    },
    /// How the system is doing.
    Status {
        /// Its status.
        status: SystemStatus,
        /// Whether to show it as JSON.
        json: bool,
    },
    /// What switches are set to.
    Switches {
        /// The switches.
        switches: SwitchList,
        /// Whether to show them as JSON.
        json: bool,
    },
    /// What the seed makes, and what became of past orders.
    Seed {
        /// What there is.
        seeded: Seeded,
        /// Whether to show it as JSON.
        json: bool,
    },
    /// How a migration is doing.
    Migration {
        /// Its status.
        status: MigrationStatus,
        /// Whether to show it as JSON.
        json: bool,
    },
    /// What the audit found.
    Audit {
        /// The findings.
        report: AuditReport,
        /// Whether to show them as JSON.
        json: bool,
    },
    /// A process of the system has ended as it should.
    Ended,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let as_json =
            |f: &mut fmt::Formatter<'_>, text: serde_json::Result<String>| f.write_str(&text.map_err(|_| fmt::Error)?);
        match self {
            Self::Up { state, json: true } => as_json(f, serde_json::to_string_pretty(state)),
            Self::Up { state, json: false } => write!(f, "ready\n{state}"),
            Self::Down { dir, purged, json: true } => {
                let told = serde_json::json!({ "dir": dir, "down": true, "purged": purged });
                as_json(f, serde_json::to_string_pretty(&told))
            }
            Self::Down { dir, purged, json: false } => {
                let data = if *purged { ", and its data are gone" } else { "" };
                write!(f, "the system in {} is down{data}", dir.display())
            }
            Self::Status { status, json: true } => as_json(f, serde_json::to_string_pretty(status)),
            Self::Status { status, json: false } => status.fmt(f),
            Self::Switches { switches, json: true } => as_json(f, serde_json::to_string_pretty(switches)),
            Self::Switches { switches, json: false } => switches.fmt(f),
            Self::Seed { seeded, json: true } => as_json(f, serde_json::to_string_pretty(seeded)),
            Self::Seed { seeded, json: false } => seeded.fmt(f),
            Self::Migration { status, json: true } => as_json(f, serde_json::to_string_pretty(status)),
            Self::Migration { status, json: false } => status.fmt(f),
            Self::Audit { report, json: true } => as_json(f, serde_json::to_string_pretty(report)),
            Self::Audit { report, json: false } => report.fmt(f),
            Self::Ended => Ok(()),
        }
    }
}

impl Outcome {
    /// The exit code of the command: 0, or for an audit 1 when an invariant is broken and 3 when nobody knows, or for a
    /// status 1 when something is not ready.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Audit { report, .. } => match report.verdict {
                Verdict::Valid => 0,
                Verdict::Invalid => 1,
                Verdict::Unknown => 3,
            },
            Self::Status { status, .. } => u8::from(!status.instances.iter().all(|instance| instance.ready)),
            _ => 0,
        }
    }
}

/// Runs a command to its end. Blocks the thread and makes its own single-threaded runtime, so call
/// it outside of any other. `launcher` says how further processes of the system are started, `own` which directory is
/// meant when the command names none.
///
/// # Errors
///
/// Any [`SystemError`]; its message is meant for the user.
pub fn run(command: SystemCommand, launcher: Launcher, own: Option<&Path>) -> Result<Outcome, SystemError> {
    if let SystemCommand::Role(args) = &command
        && args.service == roles::PROXY
    {
        return Err(supervisor::become_proxy(args));
    }
    if let SystemCommand::Role(args) = &command
        && let Some(server) = Server::of(&args.service)
    {
        return Err(supervisor::become_server(args, server));
    }
    runtime()?.block_on(async {
        match command {
            SystemCommand::Up(args) => {
                let json = args.json;
                Ok(Outcome::Up { state: launch::up(args.options(launcher, own)?).await?, json })
            }
            SystemCommand::Down(args) => {
                let dir = args.place.or(own)?;
                launch::down(&dir, args.purge).await?;
                Ok(Outcome::Down { dir, purged: args.purge, json: args.json })
            }
            SystemCommand::Status(args) => {
                Ok(Outcome::Status { status: launch::status(&args.place.or(own)?).await?, json: args.json })
            }
            SystemCommand::Logs(args) => {
                let mut out = std::io::stdout();
                let wanted = logs::Wanted {
                    instance: args.instance.as_deref(),
                    tail: args.tail,
                    follow: args.follow,
                    trace: args.trace.as_deref(),
                };
                logs::write(&args.place.or(own)?, wanted, &mut out).await?;
                Ok(Outcome::Ended)
            }
            SystemCommand::Switch(args) => {
                let dir = args.place.or(own)?;
                let switches = match args.name {
                    Some(name) if args.value.is_some() || args.reset => {
                        let wanted = switching::Wanted { name, value: args.value, instance: args.instance };
                        switching::set(&dir, &wanted).await?
                    }
                    Some(name) => switching::read(&dir, &name).await?,
                    None => switching::list(&dir).await?,
                };
                Ok(Outcome::Switches { switches, json: args.json })
            }
            SystemCommand::Seed(args) => {
                let dir = args.place.or(own)?;
                let progress = |progress: &seeding::Progress| {
                    // Nobody may be looking.
                    let _ = writeln!(std::io::stderr(), "{progress}");
                };
                let seeded = seeding::seed(&dir, args.orders, progress).await?;
                Ok(Outcome::Seed { seeded, json: args.json })
            }
            SystemCommand::Migrate(args) => {
                let dir = args.place.clone().or(own)?;
                let mut out = std::io::stderr();
                let status = migrating::run(&dir, &args, &mut |line: &str| writeln!(out, "{line}")).await?;
                Ok(Outcome::Migration { status, json: args.json })
            }
            SystemCommand::Audit(args) => {
                let dir = args.place.or(own)?;
                if args.watch {
                    auditing::watch(&dir, args.watch_for, args.json, &mut std::io::stdout()).await?;
                }
                let report = auditing::audit(&dir, args.history.as_deref(), args.wait).await?;
                Ok(Outcome::Audit { report, json: args.json })
            }
            SystemCommand::Supervise(args) => {
                process_log();
                if args.detached {
                    process::leave_session()?;
                }
                supervisor::run(&args).await.map(|()| Outcome::Ended)
            }
            SystemCommand::Role(args) => {
                process_log();
                roles::run(args).await.map(|()| Outcome::Ended)
            }
        }
    })
}

/// Starts a system, calls `ready` with its state, and stays: prints what its processes write, as those who run things in
/// containers expect, until Ctrl-C or SIGTERM. Then takes it down. It goes down with this process, however that ends.
///
/// # Errors
///
/// Any [`SystemError`]; its message is meant for the user.
pub fn hold(
    args: UpArgs,
    launcher: Launcher,
    own: Option<&Path>,
    ready: impl FnOnce(&SystemState),
) -> Result<(), SystemError> {
    runtime()?.block_on(async {
        let asked = process::on_signals()?;
        tokio::pin!(asked);
        let quiet = args.json;
        let system = tokio::select! {
            started = launch::start(args.options(launcher, own)?) => started?,
            // What was started so far ends with the lifeline.
            () = &mut asked => return Ok(()),
        };
        let state = system.state().clone();
        ready(&state);
        let follow = async {
            let mut out = std::io::stdout();
            if !quiet
                && let Err(error) =
                    logs::write(&state.dir, logs::Wanted { follow: true, ..Default::default() }, &mut out).await
            {
                tracing::warn!(%error, "the logs cannot be followed");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asked => {}
            () = follow => {}
        }
        system.stop().await
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, SystemError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SystemError::Process { what: "start a runtime".to_owned(), source })
}

/// The log of a process of the system goes to its standard error, which is a file.
fn process_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // The embedding command may have set up its own.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).try_init();
}
