//! The watchdog: a child process that undoes what its agent left behind.
//!
//! It holds one end of a pipe. When the pipe closes, for whatever reason, the agent is gone, and it replays the journal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::journal::{self, JournalLock};

/// How often an undo that did not work is tried again, and for how long.
const RETRY_EVERY: Duration = Duration::from_millis(500);
const RETRIES: u32 = 20;

/// A dead agent's lock comes free within moments of its pipe; held for longer, it is a new agent's.
const LOCK_WITHIN: Duration = Duration::from_secs(1);

/// Runs the watchdog process: waits for standard input to end, then replays the journal.
///
/// It is in a process group of its own and swallows the signals that end a program politely: it ends with its agent, not
/// before. Its process name is its own too, so that killing every `kennel` by name leaves it.
#[must_use]
pub fn main(journal: &Path) -> ExitCode {
    let _ = std::fs::write("/proc/self/comm", "undo-watchdog");
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::from(5);
    };
    let code = runtime.block_on(async {
        let swallowed: Vec<_> = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
            .into_iter()
            .filter_map(|kind| signal(kind).ok())
            .collect();
        let code = watch(journal).await;
        drop(swallowed);
        code
    });
    runtime.shutdown_background();
    code
}

async fn watch(path: &Path) -> ExitCode {
    let mut nothing = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    // Only what this agent left: what a later one injects is that one's business.
    let Ok(mut left) = journal::pending(path) else { return ExitCode::from(5) };
    for _ in 0..=RETRIES {
        if left.is_empty() {
            return ExitCode::SUCCESS;
        }
        {
            let Ok(_lock) = JournalLock::take(path, LOCK_WITHIN).await else {
                // A new agent has replayed the journal before it began.
                return ExitCode::SUCCESS;
            };
            for line in journal::replay_entries(path, left.clone()).await {
                tracing::warn!("the agent is gone: {line}");
            }
            match journal::pending(path) {
                Ok(pending) => left.retain(|entry| pending.contains(entry)),
                Err(error) => tracing::error!("{error}"),
            }
        }
        if !left.is_empty() {
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
    ExitCode::from(5)
}

/// Keeps a watchdog alive until told to stop; then it finds an empty journal and ends by itself.
pub(crate) async fn keep(command: Vec<OsString>, journal: PathBuf, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match spawn(&command, &journal) {
            Ok(mut child) => {
                // Waiting for a child closes its standard input, which is the very pipe that must stay open.
                let lifeline = child.stdin.take();
                tokio::select! {
                    status = child.wait() => tracing::error!("the watchdog ended ({status:?}); starting another"),
                    () = shutdown.cancelled() => {
                        drop(lifeline);
                        let _ = child.wait().await;
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::error!("cannot start the watchdog: {error}; faults would outlive a crash of this agent")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

fn spawn(command: &[OsString], journal: &Path) -> std::io::Result<Child> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| std::io::Error::other("no command is configured"))?;
    Command::new(program)
        .args(arguments)
        .arg("--journal")
        .arg(journal)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
}
