//! The arguments of the `system` command, for every program that has one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::command::Launcher;
use crate::error::SystemError;
use crate::ids::SlotHash;
use crate::launch::{DEFAULT_SEED, SystemOptions};
use crate::migration::Phase;
use crate::servers::Tier;
use crate::shape::{InstanceCounts, Shape};

/// How many RabbitMQ nodes the real tier has, unless told otherwise.
const RABBITMQ_NODES: u16 = 3;

/// Which system a command is about.
#[derive(Debug, Clone, Args)]
pub struct SystemDirectory {
    /// Where the system's data, logs and pid files live [default: reference-system in Kennel's data directory]
    #[arg(long = "dir", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl SystemDirectory {
    pub(crate) fn or(self, own: Option<&Path>) -> Result<PathBuf, SystemError> {
        self.dir.or_else(|| own.map(Path::to_owned)).ok_or(SystemError::NoDirectory)
    }
}

/// Arguments of `system up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// The seed of users, restaurants, dishes and coupons
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
    /// How long a dead process stays dead (3s, 500ms)
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    pub respawn_after: Duration,
    /// The command of a server with the Toxiproxy API to put between the services [default: Kennel's own fault proxy]
    #[arg(long, value_name = "COMMAND", conflicts_with = "toxiproxy")]
    pub toxiproxy_command: Option<String>,
    /// A running Toxiproxy server to put between the services (http://HOST:PORT); it must listen where they dial
    #[arg(long, value_name = "URL", env = "KENNEL_SYSTEM_TOXIPROXY")]
    pub toxiproxy: Option<String>,
    /// The gateway's port; any free one by default
    #[arg(long)]
    pub gateway_port: Option<u16>,
    /// What everything is kept on: files of its own, or installed servers that start and stop with the system
    #[arg(long, value_enum, default_value_t)]
    tier: Tier,
    #[command(flatten)]
    pub(crate) servers: ServerOptions,
    /// How users and restaurants are spread over the shards; a directory keeps its own
    #[arg(long, value_enum, default_value_t)]
    pub slot_hash: SlotHash,
    /// One process for each instance, or the platform's modules in one process [default: as the directory was last
    /// started, services at first]
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// How many instances of a service, where other than usual (eos-c=4,ers=2)
    #[arg(long, value_name = "COUNTS")]
    pub(crate) instances: Option<InstanceCounts>,
    /// How many of each dish there are at first; about a million if not given
    #[arg(long, value_name = "COUNT")]
    pub stock: Option<u32>,
    /// Stay, print what its processes write, and take it down with Ctrl-C or SIGTERM: for containers
    #[arg(long)]
    pub foreground: bool,
    /// Start with one old, unsharded order table, to be moved to the sharded stores with `system migrate`; the directory
    /// keeps it
    #[arg(long)]
    pub migration: bool,
    /// Print the state as JSON
    #[arg(long)]
    pub json: bool,
}

impl UpArgs {
    /// What was asked for: an address of a server asks for the real tier.
    #[must_use]
    pub fn tier(&self) -> Tier {
        if self.servers.names_any() { Tier::Real } else { self.tier }
    }

    /// The system that was asked for.
    pub(crate) fn options(self, launcher: Launcher, own: Option<&Path>) -> Result<SystemOptions, SystemError> {
        let tier = self.tier();
        Ok(SystemOptions {
            seed: self.seed,
            respawn_after: self.respawn_after,
            tier,
            toxiproxy_command: self.toxiproxy_command,
            toxiproxy: self.toxiproxy,
            gateway_port: self.gateway_port,
            servers: self.servers,
            shape: self.shape,
            instances: self.instances.unwrap_or_default(),
            stock_per_dish: self.stock,
            slot_hash: self.slot_hash,
            migration: self.migration,
            ready_within: ready_within(tier),
            ..SystemOptions::new(self.place.or(own)?, launcher)
        })
    }
}

/// The servers of the real tier: which run already, and how many of our own.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ServerOptions {
    /// A running PostgreSQL to use instead of one of its own (postgres://ROLE:PASSWORD@HOST:PORT); the role makes
    /// databases orders_…
    #[arg(long, value_name = "URL", env = "KENNEL_SYSTEM_POSTGRES", hide_env_values = true)]
    pub postgres: Option<String>,
    /// A running RabbitMQ to use instead of nodes of its own (amqp://USER:PASSWORD@HOST:PORT); the nodes of a cluster
    /// with commas between them
    #[arg(long, value_name = "URL", env = "KENNEL_SYSTEM_RABBITMQ", hide_env_values = true, value_delimiter = ',')]
    #[serde(default)]
    pub rabbitmq: Vec<String>,
    /// A running etcd to use instead of one of its own (http://HOST:PORT)
    #[arg(long, value_name = "URL", env = "KENNEL_SYSTEM_ETCD")]
    pub etcd: Option<String>,
    /// A running Redis to use instead of three of its own (redis://:PASSWORD@HOST:PORT), of which the databases 0, 1 and
    /// 2 are used
    #[arg(long, value_name = "URL", env = "KENNEL_SYSTEM_REDIS", hide_env_values = true)]
    pub redis: Option<String>,
    /// How many RabbitMQ nodes the real tier starts, as one cluster
    #[arg(long, default_value_t = RABBITMQ_NODES, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub rabbitmq_nodes: u16,
}

impl ServerOptions {
    fn names_any(&self) -> bool {
        !self.rabbitmq.is_empty() || [&self.postgres, &self.etcd, &self.redis].into_iter().any(Option::is_some)
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { postgres: None, rabbitmq: Vec::new(), etcd: None, redis: None, rabbitmq_nodes: RABBITMQ_NODES }
    }
}

/// Arguments of `system down`.
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// Remove its data, logs and settings as well, also what it has made on servers that were named
    #[arg(long)]
    pub purge: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// Print the status as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// One instance, for example `eos-c-1`; all by default
    pub instance: Option<String>,
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// How many lines of each
    #[arg(long, short = 'n', default_value_t = 20)]
    pub tail: usize,
    /// Go on printing what is added, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Only what belongs to this trace (the header x-trace of a request or of its answer), in the order of time
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
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
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system seed`.
#[derive(Debug, Clone, Args)]
pub struct SeedArgs {
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// Put so many past orders of the seed through their whole life: the same ones each time, none of them twice
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub orders: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What `system migrate` shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MigrateAction {
    /// Tell how it is doing
    Status,
    /// Begin, in the background
    Start,
    /// Go on, in the background
    Continue,
    /// Begin or go on, and show the progress until the goal is reached
    Run,
    /// Stay where it is
    Pause,
    /// To an earlier phase, where nothing is lost by it: P1 to P3 back to P0 or P1, P4 back to P3
    Back,
}

/// Arguments of `system migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// What to do [default: status, with --to run]
    #[arg(value_enum)]
    pub action: Option<MigrateAction>,
    /// The phase to go to (P0 to P6) [default: P5; the old table is dropped in P6]
    #[arg(long, value_name = "PHASE")]
    pub to: Option<Phase>,
    /// How long both sides must be equal before the new one takes over [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub calm: Option<Duration>,
    /// The most older orders that are copied in a second [default: about 2000]
    #[arg(long, value_name = "ORDERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// How long `run` waits for progress before it says what is missing
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub wait: Duration,
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// Print the status as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `system audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub(crate) place: SystemDirectory,
    /// The record of a load's writes, one JSON object per line: checks also that what was acknowledged is there
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// How long to wait until the system is at rest
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Tell what the auditor finds while the system runs, until Ctrl-C; then audit
    #[arg(long)]
    pub watch: bool,
    /// How long to watch
    #[arg(long = "for", value_name = "DURATION", requires = "watch", value_parser = parse_duration)]
    pub watch_for: Option<Duration>,
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

/// How long a start may take: three nodes of a broker need half a minute on a machine that does nothing else.
fn ready_within(tier: Tier) -> Duration {
    Duration::from_secs(match tier {
        Tier::Embedded => 30,
        Tier::Real => 180,
    })
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
