//! The `system` command: its arguments, and the entry of every process of the system.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::audit::{AuditReport, Verdict};
use crate::error::SystemError;
use crate::launch::{self, SystemOptions};
use crate::process;
use crate::servers::{Server, Tier};
use crate::state::{SystemState, SystemStatus};
use crate::switching::SwitchList;
use crate::{auditing, logs, roles, supervisor, switching};

/// Start, stop and watch the reference order system.
#[derive(Debug, Clone, Subcommand)]
pub enum SystemCommand {
    /// Start the order system in the background and wait until an order has gone through it
    Up(UpArgs),
    /// Stop the order system of a directory
    Down(DirArgs),
    /// Tell how each process of an order system is doing
    Status(StatusArgs),
    /// Print what the processes of an order system wrote
    Logs(LogsArgs),
    /// Show the switches of an order system, or set one
    Switch(SwitchArgs),
    /// Check the invariants of an order system's rows: exit 0 valid, 1 invalid, 3 unknown
    Audit(AuditArgs),
    /// Keep the processes of a system alive
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// Be one process of a system
    #[command(hide = true)]
    Role(RoleArgs),
}

/// Arguments of `system up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Where its data, logs and pid files live
    #[arg(long)]
    pub dir: PathBuf,
    /// The seed of users, restaurants, dishes and coupons
    #[arg(long, default_value_t = launch::DEFAULT_SEED)]
    pub seed: u64,
    /// How long a dead process stays dead (for example 3s, 500ms)
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub respawn_after: Duration,
    /// A server with the Toxiproxy API to put between the services (for example "kennel proxy")
    #[arg(long)]
    pub toxiproxy_command: Option<String>,
    /// The gateway's port; any free one by default
    #[arg(long)]
    pub gateway_port: Option<u16>,
    /// What rows are kept on: SQLite files, or an installed PostgreSQL that is started with the system
    #[arg(long, value_enum, default_value_t)]
    pub tier: Tier,
    /// A running PostgreSQL to use instead (for example "postgres://user:password@127.0.0.1:5432"); its role must be
    /// allowed to make databases, which are called order_…
    #[arg(long)]
    pub postgres: Option<String>,
    /// How many of each dish there are at first; about a million, by the seed, if not given
    #[arg(long)]
    pub stock: Option<u32>,
    /// A running RabbitMQ to use instead (for example "amqp://user:password@127.0.0.1:5672")
    #[arg(long)]
    pub rabbitmq: Option<String>,
    /// A running etcd to use instead (for example "http://127.0.0.1:2379")
    #[arg(long)]
    pub etcd: Option<String>,
    /// A running Redis to use instead (for example "redis://:password@127.0.0.1:6379"), of which the databases 0, 1 and 2
    /// are used
    #[arg(long)]
    pub redis: Option<String>,
    /// How many RabbitMQ nodes the real tier starts, as one cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub rabbitmq_nodes: u16,
    /// Print the state as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system down`.
#[derive(Debug, Clone, Args)]
pub struct DirArgs {
    /// The directory given to `system up`
    #[arg(long)]
    pub dir: PathBuf,
}

/// Arguments of `system status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The directory given to `system up`
    #[arg(long)]
    pub dir: PathBuf,
    /// Print the status as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// One instance, for example `eos-c-1`; all by default
    pub instance: Option<String>,
    /// The directory given to `system up`
    #[arg(long)]
    pub dir: PathBuf,
    /// How many lines of each
    #[arg(long, short = 'n', default_value_t = 20)]
    pub tail: usize,
    /// Go on printing what is added
    #[arg(long, short)]
    pub follow: bool,
}

/// Arguments of `system switch`.
#[derive(Debug, Clone, Args)]
pub struct SwitchArgs {
    /// One switch; all by default
    pub name: Option<String>,
    /// What to set it to
    #[arg(requires = "name", conflicts_with = "reset")]
    pub value: Option<String>,
    /// Set it at this instance only
    #[arg(long, requires = "name")]
    pub instance: Option<String>,
    /// Set it back to its default
    #[arg(long, requires = "name")]
    pub reset: bool,
    /// The directory given to `system up`
    #[arg(long)]
    pub dir: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// The directory given to `system up`
    #[arg(long)]
    pub dir: PathBuf,
    /// The record of a load's writes, one JSON object per line: checks also that what was acknowledged is there
    #[arg(long)]
    pub history: Option<PathBuf>,
    /// How long to wait until the system is at rest
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the supervisor's process.
#[derive(Debug, Clone, Args)]
pub struct SuperviseArgs {
    /// The system's directory
    #[arg(long)]
    pub dir: PathBuf,
    /// Stop everything when standard input ends
    #[arg(long)]
    pub lifeline: bool,
    /// Leave the session of the process that started it
    #[arg(long)]
    pub detached: bool,
}

/// Arguments of a role's process.
#[derive(Debug, Clone, Args)]
pub struct RoleArgs {
    /// The role
    pub service: String,
    /// The instance's name
    #[arg(long)]
    pub instance: String,
    /// The system's directory
    #[arg(long)]
    pub dir: PathBuf,
    /// The supervisor's process
    #[arg(long)]
    pub parent: u32,
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
            Self::Down { dir } => write!(f, "the system in {} is down", dir.display()),
            Self::Status { status, json: true } => as_json(f, serde_json::to_string_pretty(status)),
            Self::Status { status, json: false } => status.fmt(f),
            Self::Switches { switches, json: true } => as_json(f, serde_json::to_string_pretty(switches)),
            Self::Switches { switches, json: false } => switches.fmt(f),
            Self::Audit { report, json: true } => as_json(f, serde_json::to_string_pretty(report)),
            Self::Audit { report, json: false } => report.fmt(f),
            Self::Ended => Ok(()),
        }
    }
}

impl Outcome {
    /// The exit code of the command: 0, or for an audit 1 when an invariant is broken and 3 when nobody knows.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Audit { report, .. } => match report.verdict {
                Verdict::Valid => 0,
                Verdict::Invalid => 1,
                Verdict::Unknown => 3,
            },
            _ => 0,
        }
    }
}

/// Runs a command to its end. Blocks the thread and makes its own single-threaded runtime, so call
/// it outside of any other. `launcher` says how further processes of the system are started.
///
/// # Errors
///
/// Any [`SystemError`]; its message is meant for the user.
pub fn run(command: SystemCommand, launcher: Launcher) -> Result<Outcome, SystemError> {
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SystemError::Process { what: "start a runtime".to_owned(), source })?;
    runtime.block_on(async {
        match command {
            SystemCommand::Up(args) => {
                let json = args.json;
                let options = SystemOptions {
                    seed: args.seed,
                    respawn_after: args.respawn_after,
                    toxiproxy_command: args.toxiproxy_command,
                    gateway_port: args.gateway_port,
                    tier: if args.postgres.is_some()
                        || args.rabbitmq.is_some()
                        || args.etcd.is_some()
                        || args.redis.is_some()
                    {
                        Tier::Real
                    } else {
                        args.tier
                    },
                    postgres: args.postgres,
                    stock_per_dish: args.stock,
                    rabbitmq: args.rabbitmq,
                    etcd: args.etcd,
                    redis: args.redis,
                    rabbitmq_nodes: args.rabbitmq_nodes,
                    ..SystemOptions::new(args.dir, launcher)
                };
                Ok(Outcome::Up { state: launch::up(options).await?, json })
            }
            SystemCommand::Down(args) => {
                launch::down(&args.dir).await?;
                Ok(Outcome::Down { dir: args.dir })
            }
            SystemCommand::Status(args) => {
                Ok(Outcome::Status { status: launch::status(&args.dir).await?, json: args.json })
            }
            SystemCommand::Logs(args) => {
                let mut out = std::io::stdout();
                logs::write(&args.dir, args.instance.as_deref(), args.tail, args.follow, &mut out).await?;
                Ok(Outcome::Ended)
            }
            SystemCommand::Switch(args) => {
                let switches = match args.name {
                    Some(name) if args.value.is_some() || args.reset => {
                        let wanted = switching::Wanted { name, value: args.value, instance: args.instance };
                        switching::set(&args.dir, &wanted).await?
                    }
                    Some(name) => switching::read(&args.dir, &name).await?,
                    None => switching::list(&args.dir).await?,
                };
                Ok(Outcome::Switches { switches, json: args.json })
            }
            SystemCommand::Audit(args) => {
                let report = auditing::audit(&args.dir, args.history.as_deref(), args.wait).await?;
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

/// The log of a process of the system goes to its standard error, which is a file.
fn process_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // The embedding command may have set up its own.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).try_init();
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration; write for example 3s or 500ms");
    let (number, milliseconds) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1_000),
        (None, None) => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(number.saturating_mul(milliseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["3", "s", "-1s", "1.5s", "soon"] {
            let message = parse_duration(wrong).unwrap_err();
            assert_eq!(message, format!("\"{wrong}\" is no duration; write for example 3s or 500ms"));
        }
    }
}
