//! Test commands: what the agent's configuration names, run under a guard, its log streamed, its files gathered.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kennel_model::api::Outcome;
use kennel_model::command::{OUTPUT, TestCommand};
use kennel_model::protocol::{FromAgent, StepReport};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::Instant;

use super::files::Harvest;
use super::guard::{Ended, GRACE};
use super::{Early, Work, cut_short, refused};

/// Most bytes of a log that are sent.
const LONGEST_LOG: u64 = 64 << 20;
/// How long output is gathered before it is sent: a page that follows needs no more.
const GATHER: Duration = Duration::from_millis(100);
/// Most bytes of output sent at once.
const CHUNK: usize = 64 << 10;
/// How long a guard may take beyond its grace.
const GUARD_ENDS: Duration = Duration::from_secs(10);
/// Variables of the agent that commands see too.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// Runs a command of the agent's configuration.
pub(super) async fn run(work: &Work<'_>, name: &str, arguments: &[String]) -> StepReport {
    let commands = &work.bench.file.commands;
    let Some(command) = commands.iter().find(|command| command.name == name) else {
        let known: Vec<String> = commands.iter().map(|command| format!("`{}`", command.name)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let why = format!(
            "agent `{}` has no command `{name}`: its configuration names {known}; nothing was started",
            work.bench.agent
        );
        work.log(format!("{why}\n")).await;
        return refused(why);
    };
    let step = &work.assignment.step;
    let output = work.bench.folder.join(format!("{}-{}-{}", step.run, step.path.replace('/', "-"), step.attempt));
    let report = match fresh(&output) {
        Ok(()) => carry_out(work, command, arguments, &output).await,
        Err(error) => refused(format!("cannot make the folder {}: {error}", output.display())),
    };
    if let Err(error) = std::fs::remove_dir_all(&output) {
        tracing::warn!("the folder {} of a step is left behind: {error}", output.display());
    }
    report
}

fn fresh(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(folder)
}

async fn carry_out(work: &Work<'_>, command: &TestCommand, arguments: &[String], output: &Path) -> StepReport {
    let filled = |text: &String| text.replace(OUTPUT, &output.display().to_string());
    let directory = command.directory.as_ref().map_or_else(|| output.to_owned(), PathBuf::from);
    let patterns = |patterns: &[String]| patterns.iter().map(filled).collect::<Vec<_>>();
    let (results, artifacts) = (patterns(&command.results), patterns(&command.artifacts));
    let place = directory.clone();
    let Ok(harvest) = tokio::task::spawn_blocking(move || Harvest::prepare(&place, &results, &artifacts)).await else {
        return refused("the files that were there before could not be noted");
    };
    // The suite's arguments are taken as they are: what `${output}` means is the configuration's affair.
    let all: Vec<String> = command.arguments.iter().map(filled).chain(arguments.iter().cloned()).collect();
    work.log(format!("$ {} {}\n", command.program, all.join(" "))).await;
    let mut guarded = match Guarded::spawn(work, command, &all, &directory, output) {
        Ok(guarded) => guarded,
        Err(error) => {
            return refused(format!("`{}` cannot be started in {}: {error}", command.program, directory.display()));
        }
    };
    let began = Instant::now();
    let early = guarded.follow(work, command.timeout.get()).await;
    let ended = guarded.end(work).await;
    let limit = command.timeout.get().min(work.assignment.timeout);
    let mut report = match early {
        Some(early) => cut_short(early, limit),
        None => judged(&ended, began.elapsed()),
    };
    work.log(format!("[{}]\n", report.message)).await;
    gather(work, harvest, &directory, command, &mut report).await;
    report
}

/// Sends the files that the command left.
async fn gather(work: &Work<'_>, harvest: Harvest, directory: &Path, command: &TestCommand, report: &mut StepReport) {
    let place = directory.to_owned();
    let Ok((files, notes)) = tokio::task::spawn_blocking(move || harvest.gather(&place)).await else { return };
    for note in notes {
        work.log(format!("[{note}]\n")).await;
    }
    let has_results = files.iter().any(|file| file.kind == kennel_model::protocol::StepFileKind::Results);
    for file in files {
        work.tell(FromAgent::StepFile { step: work.assignment.step.clone(), file }).await;
    }
    if report.ran_to_its_end && !command.results.is_empty() && !has_results {
        report.outcome = Outcome::Error;
        report.message =
            format!("{}, but it wrote no results: no new file matches {}", report.message, command.results.join(", "));
        work.log(format!("[{}]\n", report.message)).await;
    }
}

fn judged(ended: &Ended, took: Duration) -> StepReport {
    let seconds = format!("{:.1} s", took.as_secs_f64());
    let (outcome, message, ran_to_its_end) = match ended {
        Ended::Code(0) => (Outcome::Passed, format!("ended well after {seconds}"), true),
        Ended::Code(code) => (Outcome::Failed, format!("ended with exit code {code} after {seconds}"), true),
        Ended::Signal(number) => (Outcome::Failed, format!("ended by {} after {seconds}", signal_name(*number)), false),
        Ended::NotStarted(why) => (Outcome::Error, format!("could not be started: {why}"), false),
    };
    StepReport { outcome, message, assertions: Vec::new(), ran_to_its_end }
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(nix::sys::signal::Signal::SIGXCPU) => "SIGXCPU (its limit of cpu_time)".to_owned(),
        Ok(nix::sys::signal::Signal::SIGXFSZ) => "SIGXFSZ (its limit of file_size)".to_owned(),
        Ok(signal) => signal.to_string(),
        Err(_) => format!("signal {number}"),
    }
}

/// A command under its guard.
struct Guarded {
    guard: Child,
    log: ChildStderr,
    sent: u64,
    /// The end of a character that is not whole yet.
    pending: Vec<u8>,
}

impl Guarded {
    fn spawn(
        work: &Work<'_>,
        command: &TestCommand,
        arguments: &[String],
        directory: &Path,
        output: &Path,
    ) -> std::io::Result<Self> {
        let missing = || std::io::Error::other("no command for the guard is configured");
        let (program, own) = work.bench.guard_command.split_first().ok_or_else(missing)?;
        let limits = serde_json::to_string(&command.limits)?;
        let test_program = find(&command.program, command.environment.get("PATH"))?;
        let mut guard = Command::new(program);
        guard
            .args(own)
            .arg("--limits")
            .arg(limits)
            .arg("--")
            .arg(test_program)
            .args(arguments)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .envs(
                command
                    .environment
                    .iter()
                    .map(|(name, value)| (name.clone(), value.replace(OUTPUT, &output.display().to_string()))),
            )
            .env("KENNEL_OUTPUT", output)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for the agent, which ends its commands in its own way.
            .process_group(0)
            .kill_on_drop(false);
        let mut guard = guard.spawn()?;
        let log = guard.stderr.take().ok_or_else(missing)?;
        Ok(Self { guard, log, sent: 0, pending: Vec::new() })
    }

    /// Streams the log until the command has ended; gives why it is to end before that, if it is.
    async fn follow(&mut self, work: &Work<'_>, limit: Duration) -> Option<Early> {
        let early = async {
            tokio::select! {
                early = work.early() => early,
                () = tokio::time::sleep(limit) => Early::Late,
            }
        };
        let mut early = std::pin::pin!(early);
        loop {
            let read = async {
                let more = self.read().await;
                if more {
                    // Many small writes become one message.
                    let _ = tokio::time::timeout(GATHER, async {
                        while self.pending.len() < CHUNK && self.read().await {}
                    })
                    .await;
                }
                more
            };
            let more = tokio::select! {
                more = read => more,
                early = &mut early => return Some(early),
            };
            self.send(work, !more).await;
            if !more {
                return None;
            }
        }
    }

    /// Reads what is there; false at the end. Cancelling it loses nothing.
    async fn read(&mut self) -> bool {
        matches!(self.log.read_buf(&mut self.pending).await, Ok(read) if read > 0)
    }

    /// Sends what was read, up to the last whole character; at the end all of it.
    async fn send(&mut self, work: &Work<'_>, all: bool) {
        let end = if all { self.pending.len() } else { whole(&self.pending) };
        let bytes: Vec<u8> = self.pending.drain(..end).collect();
        if bytes.is_empty() || self.sent > LONGEST_LOG {
            return;
        }
        self.sent += bytes.len() as u64;
        work.log(String::from_utf8_lossy(&bytes)).await;
        if self.sent > LONGEST_LOG {
            work.log("\n[the log is longer than the agent sends; the rest is dropped]\n").await;
        }
    }

    /// Lets the guard end whatever is left of the command, and hears how it ended.
    async fn end(&mut self, work: &Work<'_>) -> Ended {
        drop(self.guard.stdin.take());
        let deadline = Instant::now() + GRACE + GUARD_ENDS;
        // A full pipe would keep the command from ending politely.
        while let Ok(true) = tokio::time::timeout_at(deadline, self.read()).await {
            self.send(work, false).await;
        }
        self.send(work, true).await;
        let mut told = Vec::new();
        if let Some(mut output) = self.guard.stdout.take() {
            let _ = tokio::time::timeout_at(deadline, output.read_to_end(&mut told)).await;
        }
        if tokio::time::timeout_at(deadline, self.guard.wait()).await.is_err() {
            // Its command dies with it (see `guard::confine`).
            let _ = self.guard.kill().await;
        }
        serde_json::from_slice(&told)
            .unwrap_or_else(|_| Ended::NotStarted("its guard was killed before it could tell how it ended".to_owned()))
    }
}

/// Where a text in UTF-8 may be cut: before the beginning of a character that is not whole.
fn whole(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needs = match bytes[at] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        return if at + needs > bytes.len() { at } else { bytes.len() };
    }
    bytes.len()
}

/// The program's file: a path as it is, a name looked up in PATH.
fn find(program: &str, path: Option<&String>) -> std::io::Result<OsString> {
    if program.contains('/') {
        return match std::fs::metadata(program) {
            Ok(meta) if meta.is_file() => Ok(program.into()),
            Ok(_) => Err(std::io::Error::other("it is no file")),
            Err(error) => Err(error),
        };
    }
    let path = path.map(OsString::from).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.map(PathBuf::into_os_string).ok_or_else(|| std::io::Error::other("no such program is in PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_cut_at_any_byte_is_put_together_again(text in "\\PC{0,40}", at in 0_usize..80) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            let cut = whole(&bytes[..at]);
            let both = format!("{}{}", String::from_utf8_lossy(&bytes[..cut]), String::from_utf8_lossy(&bytes[cut..]));
            prop_assert_eq!(both, text);
        }
    }
}
