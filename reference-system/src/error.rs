//! What can go wrong with a system as a whole.

use std::path::PathBuf;
use std::time::Duration;

use crate::elsewhere::Remaining;
use crate::ids::SlotHash;
use crate::servers::Tier;

/// Why a system command did not succeed. The messages name the next step.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// Another system runs in the directory.
    #[error("{dir} is in use by a running system; stop it with `system down --dir {dir}`", dir = .dir.display())]
    DirectoryInUse {
        /// The directory.
        dir: PathBuf,
    },
    /// No system runs in the directory.
    #[error("no system runs in {dir}; start one with `system up --dir {dir}`", dir = .dir.display())]
    NoSystem {
        /// The directory.
        dir: PathBuf,
    },
    /// A command that names no directory, in a program that has none of its own.
    #[error("which system? name its directory with --dir")]
    NoDirectory,
    /// The system has no log of that name.
    #[error("there is no log of {wanted} in {}{}", .dir.display(), one_of(.known))]
    NoLog {
        /// The directory.
        dir: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The logs that there are.
        known: Vec<String>,
    },
    /// The directory holds the data of another population.
    #[error("{} holds data of seed {stored}, not {asked}; give that seed or another directory", .dir.display())]
    OtherSeed {
        /// The directory.
        dir: PathBuf,
        /// The seed of its data.
        stored: u64,
        /// The seed that was asked for.
        asked: u64,
    },
    /// The directory holds data of the other tier.
    #[error("{} holds data of the tier {stored}, not {asked}; give that tier or another directory", .dir.display())]
    OtherTier {
        /// The directory.
        dir: PathBuf,
        /// The tier of its data.
        stored: Tier,
        /// The tier that was asked for.
        asked: Tier,
    },
    /// The rows of the directory lie by the other hash.
    #[error(
        "the orders in {} lie by the slot hash {stored}, not {asked}; give --slot-hash {stored} or another directory",
        .dir.display()
    )]
    OtherSlotHash {
        /// The directory.
        dir: PathBuf,
        /// The hash that its rows lie by.
        stored: SlotHash,
        /// The hash that was asked for.
        asked: SlotHash,
    },
    /// A migration was asked for where there is nothing to move.
    #[error(
        "the orders in {} are in the sharded stores already; a migration starts in an empty directory: \
         `system up --migration --dir DIR`",
        .dir.display()
    )]
    NoOldTable {
        /// The directory.
        dir: PathBuf,
    },
    /// The words of a command do not go together.
    #[error("{why}")]
    Usage {
        /// Which, and what goes with what.
        why: String,
    },
    /// A migration did not do what was asked.
    #[error("{why}")]
    Migration {
        /// Why.
        why: String,
    },
    /// The wanted gateway port is taken.
    #[error("port {port} cannot be used for the gateway: {source}")]
    Port {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The system did not come up.
    #[error("the system did not become ready: {why}")]
    NotReady {
        /// What was missing, with the end of the failing role's log.
        why: String,
    },
    /// The system did not go down.
    #[error("the system in {} did not stop within {within:?}", .dir.display())]
    NotStopped {
        /// The directory.
        dir: PathBuf,
        /// How long was waited.
        within: Duration,
    },
    /// Servers that others run still have what the system has made there.
    #[error(
        "the system in {dir} is down, but this is still there: {}; its files stay until \
         `system down --purge --dir {dir}` has removed it: run it again when the servers answer",
        listed(.remaining),
        dir = .dir.display()
    )]
    NotPurged {
        /// The directory.
        dir: PathBuf,
        /// What is left.
        remaining: Vec<Remaining>,
    },
    /// A server of the real tier is not installed.
    #[error(
        "the real tier runs `{program}`, which is not installed (Debian: package `{package}`); install it, or start \
         the system with `--tier embedded`"
    )]
    NoServer {
        /// The program.
        program: String,
        /// The package that has it.
        package: String,
    },
    /// A file of the system's directory could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A process could not be started or signalled.
    #[error("cannot {what}: {source}")]
    Process {
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A switch could not be read or set.
    #[error("{why}")]
    Switch {
        /// Why.
        why: String,
    },
    /// Past orders could not be put in.
    #[error("{why}; run the same command again to go on")]
    Seeding {
        /// Why.
        why: String,
    },
    /// The history that an audit was given makes no sense.
    #[error("{why}")]
    Audit {
        /// Why.
        why: String,
    },
    /// An audit could not look: whether the data are right is not known.
    #[error("unknown: {why}")]
    Unaudited {
        /// Why.
        why: String,
    },
    /// The fault proxy did not do what was asked.
    #[error("the fault proxy ({name}) {why}")]
    Proxy {
        /// Its command or its URL.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// A role that the configuration does not have.
    #[error("the system has no instance {instance} of {service}")]
    UnknownInstance {
        /// The service that was asked for.
        service: String,
        /// The instance that was asked for.
        instance: String,
    },
    /// A role ended before it was told to.
    #[error("{instance} ended: {why}")]
    Role {
        /// The instance.
        instance: String,
        /// Why.
        why: String,
    },
}

fn listed(remaining: &[Remaining]) -> String {
    remaining.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn one_of(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; expected one of {}", known.join(", ")) }
}
