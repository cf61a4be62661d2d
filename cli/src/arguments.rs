//! The command line: commands, flags, help and the meaning of exit codes.

use std::ffi::OsString;
mod people;
mod schedules;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use kennel_model::api::FileKind;
use reference_system::SystemCommand;

use crate::places::DataArgument;

pub(crate) use people::{ServeArguments, TokenCommand, UserCommand};
pub(crate) use schedules::{QueueArguments, ScheduleArguments};

const EXIT_CODES: &str = "\
Exit codes:
    0  passed, or done
    1  the verdict is failed
    2  wrong usage or bad input; nothing was started
    3  the verdict is inconclusive or invalid
    5  could not run, or was halted
  130  interrupted (Ctrl-C); faults were reverted first";

/// Load, faults and a verdict: what happens to a system, under this load, when that breaks.
#[derive(Debug, Parser)]
#[command(name = "kennel", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) data: DataArgument,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start an order platform, load it, break it, judge it: a minute that shows everything
    Demo {
        /// Stop everything when the run is judged, instead of leaving the web pages up
        #[arg(long)]
        exit: bool,
        /// Port of the web pages on 127.0.0.1; another free one is taken when it is in use
        #[arg(long, default_value_t = crate::server::DEFAULT_PORT)]
        port: u16,
        /// Print the finished run as JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve the web pages and the API, with an agent on this machine
    Serve {
        #[command(flatten)]
        arguments: ServeArguments,
    },
    /// Run an experiment file and exit by its verdict
    Run {
        /// The experiment file
        file: PathBuf,
        /// Write one CSV line per request to this file
        #[arg(long, value_name = "FILE")]
        raw_log: Option<PathBuf>,
        /// Print the finished run as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run suites and look at their runs: run, list, show, rerun
    Suite {
        #[command(subcommand)]
        command: SuiteArguments,
    },
    /// Run suites and experiments by the clock: list, show, add, pause, resume, remove, next, run, calendars, freeze, thaw
    Schedule {
        #[command(subcommand)]
        command: ScheduleArguments,
    },
    /// Show what runs and what waits, why and until when; cancel it or move it to the front
    Queue {
        #[command(subcommand)]
        command: Option<QueueArguments>,
        /// Print the queue as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a file (experiment, suite, target or agent.yaml) and list every error with line, column and field
    Validate {
        /// The file
        file: PathBuf,
        /// Print the problems as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of experiment files, for editors and checkers
    Schema {
        /// The schema of target files instead
        #[arg(long, group = "kind")]
        target: bool,
        /// The schema of suite files instead
        #[arg(long, group = "kind")]
        suite: bool,
        /// The schema of agents' configurations instead
        #[arg(long, group = "kind")]
        agent: bool,
    },
    /// List runs, newest first
    Runs {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a run: its id, the beginning or end of its id, `last`, `last-1`, …
    Show {
        /// The run
        #[arg(default_value = "last")]
        run: String,
        /// Print the run as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare two runs (named as in `show`)
    Compare {
        /// The earlier run
        a: String,
        /// The later run
        b: String,
        /// Show the warm-up, the whole run and every metric of every request, too
        #[arg(long)]
        all: bool,
        /// Print the comparison as JSON, whole
        #[arg(long, conflicts_with = "all")]
        json: bool,
    },
    /// The experiments, suites and targets that Kennel keeps, with their versions
    File {
        #[command(subcommand)]
        command: FileCommand,
    },
    /// Hand in what other systems' tests came to
    Import {
        #[command(subcommand)]
        command: ImportArguments,
    },
    /// Stop load and revert every fault, of one run or of all
    Halt {
        /// The run; all when absent
        run: Option<String>,
        /// Print the halted runs as JSON
        #[arg(long)]
        json: bool,
    },
    /// People who may use this Kennel: add, list, disable, passwords
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// API tokens: create, list, revoke
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// The reference order system: up, down, status, logs, switch, seed, audit
    System {
        #[command(subcommand)]
        command: SystemCommand,
    },
    /// Serve the fault proxy alone, with the HTTP API of Toxiproxy 2.x
    Proxy {
        /// Address of the API
        #[arg(long, default_value = "127.0.0.1")]
        host: String,
        /// Port of the API
        #[arg(long, default_value_t = 8474)]
        port: u16,
        /// How many threads carry the connections; one per core by default
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        threads: Option<u16>,
    },
    /// Generate load; started by an agent
    #[command(hide = true)]
    Worker,
    /// Hold a test command and leave nothing of it behind; started by an agent
    #[command(hide = true)]
    Guard {
        /// Its limits, as JSON
        #[arg(long)]
        limits: String,
        /// The program and its arguments
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Become a test command, under its limits; started by a guard
    #[command(hide = true)]
    Confine {
        /// Its limits, as JSON
        #[arg(long)]
        limits: String,
        /// The program and its arguments
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Undo what a dead agent left behind; started by an agent
    #[command(hide = true)]
    Watchdog {
        /// The agent's undo journal
        #[arg(long)]
        journal: PathBuf,
    },
}

/// What to hand in.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportArguments {
    /// Results of tests: JUnit XML, Robot Framework output.xml or output.json
    Results {
        /// The file; `-` for the standard input
        file: PathBuf,
        /// Name of the suite whose history they belong to
        #[arg(long)]
        suite: String,
        /// A label of the run; may be given several times
        #[arg(long)]
        label: Vec<String>,
        /// The file's format; looked at when absent
        #[arg(long, value_parser = ["junit", "robot", "robot-json"])]
        format: Option<String>,
        /// Exit by the verdict over the results instead of 0
        #[arg(long)]
        exit_by_verdict: bool,
        /// Print the new run as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with kept files. KIND is experiment, suite or target.
#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// List files of a kind
    List {
        kind: FileKind,
        /// Those that were removed and can be restored
        #[arg(long)]
        removed: bool,
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a file
    Get {
        kind: FileKind,
        name: String,
        /// An earlier version
        #[arg(long)]
        version: Option<u32>,
        /// Print it as JSON, with its version and author
        #[arg(long)]
        json: bool,
    },
    /// Save a file as a new version
    Put {
        kind: FileKind,
        name: String,
        /// Where its text is; `-` for the standard input
        file: PathBuf,
        /// Why
        #[arg(long, short)]
        message: Option<String>,
        /// The version that was changed, 0 for a new file; another current one refuses
        #[arg(long)]
        expected: Option<u32>,
        /// Print the saved version as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the versions of a file, newest first
    History {
        kind: FileKind,
        name: String,
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what changed between two versions: the last two unless told otherwise
    Diff {
        kind: FileKind,
        name: String,
        /// The earlier version; 0 is the empty file
        #[arg(long)]
        from: Option<u32>,
        /// The other
        #[arg(long)]
        to: Option<u32>,
        /// Print the difference as JSON, also side by side
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SuiteArguments {
    /// Run a suite, by file or by the name of one that Kennel keeps or ships, and exit by its verdict
    Run {
        /// The suite's file, or its name
        suite: String,
        /// Give a parameter another value than its default
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        /// Add a label to the run
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
        /// Print the finished run as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the suites that Kennel knows
    List {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a run of a suite: its id, the beginning or end of its id, `last`, `last-1`, …
    Show {
        /// The run
        #[arg(default_value = "last")]
        run: String,
        /// Print the run as JSON
        #[arg(long, conflicts_with = "junit")]
        json: bool,
        /// Write its tests as JUnit XML to this file (`-` for standard output)
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Run a run of a suite again, and exit by the new verdict
    Rerun {
        /// The run (named as in `show`)
        #[arg(default_value = "last")]
        run: String,
        /// Only the steps that did not pass
        #[arg(long, conflicts_with = "steps")]
        failed: bool,
        /// Only this step, by path (`steps/2`)
        #[arg(long = "step", value_name = "PATH")]
        steps: Vec<String>,
        /// Give a parameter another value than the run had
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        /// Print the finished run as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Reads `name=value`.
fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no `name=value`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
