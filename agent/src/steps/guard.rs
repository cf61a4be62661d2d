//! The guard of a test command: a child process that starts the command in a group of its own and under its limits, and
//! leaves nothing of it behind.
//!
//! It holds one end of a pipe. When the pipe closes, because the step is to end or because the agent is gone, it ends the
//! command: politely first, then by force. It is the reaper of everything below it (prctl(2), PR_SET_CHILD_SUBREAPER), so
//! that a process which left the command's group is found too.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kennel_model::command::Limits;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// How long a command may take to end after it was asked politely.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long processes may take to die after they were killed.
const DYING: Duration = Duration::from_secs(5);

/// How a command ended, as its guard tells the agent on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ended {
    /// It ended with this exit code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It could not be started.
    NotStarted(String),
}

/// Runs the guard process: `limits` as JSON, then the program and its arguments. Its own standard error is the command's
/// standard output and error. `confine` is the command that runs [`confine`].
#[must_use]
pub fn main(limits: &str, confine: &[OsString], command: &[OsString]) -> ExitCode {
    let _ = std::fs::write("/proc/self/comm", "step-guard");
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::from(5);
    };
    let ended = runtime.block_on(async {
        let swallowed: Vec<_> = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
            .into_iter()
            .filter_map(|kind| signal(kind).ok())
            .collect();
        let ended = watch(limits, confine, command).await.unwrap_or_else(|error| Ended::NotStarted(error.to_string()));
        drop(swallowed);
        ended
    });
    // Standard input may still be waited for on a thread of its own.
    runtime.shutdown_background();
    let told = serde_json::to_string(&ended).unwrap_or_default();
    // An agent that is gone needs no answer.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes());
    ExitCode::SUCCESS
}

async fn watch(limits: &str, confine: &[OsString], command: &[OsString]) -> std::io::Result<Ended> {
    prctl::set_child_subreaper(true)?;
    let missing = || std::io::Error::other("no command is given");
    let (program, arguments) = confine.split_first().ok_or_else(missing)?;
    let log = std::io::stderr().as_fd().try_clone_to_owned()?;
    let mut child = Command::new(program)
        .args(arguments)
        .args(["--limits", limits, "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw).ok_or_else(missing)?;
    let agent_lets_go = async {
        let mut nothing = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    };
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        () = agent_lets_go => None,
    };
    let status = match status {
        Some(status) => status,
        None => {
            let _ = killpg(group, Signal::SIGTERM);
            match tokio::time::timeout(GRACE, child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    let _ = killpg(group, Signal::SIGKILL);
                    child.wait().await?
                }
            }
        }
    };
    // What the command left in its group or anywhere below.
    let _ = killpg(group, Signal::SIGKILL);
    sweep().await;
    Ok(how(status))
}

fn how(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::NotStarted("it ended in a way that nobody knows".to_owned()),
    }
}

/// Kills every process below this one, until none is left: children of the killed become this one's.
async fn sweep() {
    let deadline = Instant::now() + DYING;
    while Instant::now() < deadline {
        for child in children() {
            let _ = kill(child, Signal::SIGKILL);
        }
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                Err(Errno::ECHILD) => return,
                Err(_) => break,
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The processes whose parent this one is.
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The parent is the second field after the name in parentheses (proc(5)).
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(own.as_str())
    })
    .map(Pid::from_raw)
    .collect()
}

/// Becomes the command, under its limits. Returns only when it could not.
#[must_use]
pub fn confine(limits: &str, command: &[OsString]) -> ExitCode {
    let failed = |why: String| {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("kennel: {why}\n").as_bytes());
        ExitCode::from(126)
    };
    let limits: Limits = match serde_json::from_str(limits) {
        Ok(limits) => limits,
        Err(error) => return failed(format!("cannot read the limits: {error}")),
    };
    let Some((program, arguments)) = command.split_first() else { return failed("no command is given".to_owned()) };
    // When the guard dies, even by SIGKILL, so does the command.
    let guard = getppid();
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return failed(format!("cannot be tied to its guard: {error}"));
    }
    if getppid() != guard {
        return ExitCode::from(126);
    }
    let seconds = |time: kennel_model::units::Span| time.get().as_secs().max(1);
    let all = [
        (Resource::RLIMIT_AS, "memory", limits.memory.map(|bytes| bytes.0)),
        (Resource::RLIMIT_CPU, "cpu_time", limits.cpu_time.map(seconds)),
        (Resource::RLIMIT_FSIZE, "file_size", limits.file_size.map(|bytes| bytes.0)),
        (Resource::RLIMIT_NPROC, "processes", limits.processes.map(u64::from)),
        // A crash must not fill the disk with an image of it.
        (Resource::RLIMIT_CORE, "core", Some(0)),
    ];
    for (resource, name, limit) in all {
        if let Some(limit) = limit
            && let Err(error) = setrlimit(resource, limit, limit)
        {
            return failed(format!("cannot set the limit `{name}` to {limit}: {error}"));
        }
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    failed(format!("cannot start {}: {error}", program.to_string_lossy()))
}
