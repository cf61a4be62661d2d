//! One child process that the supervisor keeps alive: started, counted, started again whenever it dies
//! (later each time, if it dies soon), ended in the end.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Layout, now_ms};
use crate::error::SystemError;
use crate::launch::SupervisorOptions;
use crate::process;

/// How long a child may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// A child that has lived so long is well again: its next death costs the shortest pause.
const CALM: Duration = Duration::from_secs(10);
/// The longest pause, unless the shortest is longer: who kills a process for a test waits for its return.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// What a pause grows from when there is none at first.
const LEAST_GROWTH: Duration = Duration::from_millis(50);

/// How long a child that died stays dead: twice as long with each death that comes soon after its start, so that one
/// that cannot live takes nobody's time.
#[derive(Debug)]
struct BackOff {
    shortest: Duration,
    next: Duration,
}

impl BackOff {
    fn new(shortest: Duration) -> Self {
        Self { shortest, next: shortest }
    }

    /// The pause after a life of this length.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= CALM {
            self.next = self.shortest;
        }
        let pause = self.next;
        let longest = LONGEST_PAUSE.max(self.shortest);
        self.next = (pause * 2).clamp(LEAST_GROWTH, longest);
        pause
    }
}

/// How often a child was started again, and when it will be, kept in a file for whoever asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    pub(crate) count: u32,
    /// In milliseconds since 1970.
    again_at_ms: Option<i64>,
}

impl Restarts {
    /// What the file says; nothing happened if there is none.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut words = text.split_whitespace();
        let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { count, again_at_ms: words.next().and_then(|word| word.parse().ok()) }
    }

    fn write(self, path: &Path) -> Result<(), SystemError> {
        let again = self.again_at_ms.map_or_else(String::new, |at_ms| format!(" {at_ms}"));
        process::write_whole(path, format!("{}{again}\n", self.count).as_bytes())
    }

    /// How long until it is started again, in milliseconds.
    pub(crate) fn left(self, now_ms: i64) -> Option<u64> {
        self.again_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms).max(0).unsigned_abs())
    }
}

/// One child process that is started again whenever it dies.
pub(crate) struct Ward {
    pub(crate) layout: Layout,
    pub(crate) options: SupervisorOptions,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) deaths: Arc<AtomicU32>,
    /// What asks it to end.
    pub(crate) signal: Signal,
    pub(crate) stop: CancellationToken,
}

impl Ward {
    /// Runs until told to stop.
    pub(crate) async fn keep_alive(self) {
        let pid_file = self.layout.pid_file(&self.instance);
        let restarts = self.layout.restarts(&self.instance);
        process::remove(&restarts);
        let mut back_off = BackOff::new(Duration::from_millis(self.options.respawn_after_ms));
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            match self.spawn() {
                Ok(mut child) => {
                    if let Some(pid) = child.id()
                        && let Err(error) = process::write_whole(&pid_file, format!("{pid}\n").as_bytes())
                    {
                        tracing::error!(%error, "no pid file");
                    }
                    let died = tokio::select! {
                        died = child.wait() => Some(died),
                        () = self.stop.cancelled() => None,
                    };
                    match died {
                        Some(Ok(status)) => {
                            tracing::warn!(instance = self.instance, %status, "died");
                        }
                        Some(Err(error)) => {
                            tracing::error!(instance = self.instance, %error, "was lost");
                        }
                        None => self.end(&mut child).await,
                    }
                    process::remove(&pid_file);
                }
                Err(error) => tracing::error!(%error, "did not start"),
            }
            let count = self.deaths.fetch_add(1, Ordering::Relaxed) + 1;
            if self.stop.is_cancelled() {
                return;
            }
            let pause = back_off.after(began.elapsed());
            let told = Restarts { count, again_at_ms: Some(now_ms() + pause.as_millis() as i64) };
            if let Err(error) = told.write(&restarts) {
                tracing::warn!(%error, "a restart is not counted");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn spawn(&self) -> Result<Child, SystemError> {
        let path = self.layout.log(&self.instance);
        let failed = |source| SystemError::File { path: path.clone(), source };
        let log = std::fs::File::options().create(true).append(true).open(&path).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        Command::new(&self.options.launcher.program)
            .args(&self.options.launcher.prefix)
            .args(["role", &self.service, "--instance", &self.instance])
            .args(["--parent", &std::process::id().to_string()])
            .arg("--dir")
            .arg(self.layout.root())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| SystemError::Process { what: format!("start {}", self.instance), source })
    }

    /// Asks the child to end, and kills it when it does not.
    async fn end(&self, child: &mut Child) {
        if let Some(pid) = child.id() {
            process::send(pid, self.signal);
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!(instance = self.instance, "did not end in time and is killed");
            if let Err(error) = child.kill().await {
                tracing::error!(instance = self.instance, %error, "cannot be killed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_dies_soon_comes_back_later_each_time_and_a_calm_life_is_forgiven() {
        let (soon, s) = (Duration::from_secs(1), Duration::from_secs);
        let mut back_off = BackOff::new(s(3));
        let pauses: Vec<u64> = (0..5).map(|_| back_off.after(soon).as_secs()).collect();
        assert_eq!(pauses, [3, 6, 12, 15, 15]);
        assert_eq!((back_off.after(CALM), back_off.after(soon)), (s(3), s(6)));
        // Whoever asks for a longer pause gets it, always the same.
        let mut back_off = BackOff::new(s(60));
        assert_eq!([back_off.after(soon), back_off.after(soon)], [s(60), s(60)]);
        let mut at_once = BackOff::new(Duration::ZERO);
        assert_eq!([at_once.after(soon), at_once.after(soon)], [Duration::ZERO, LEAST_GROWTH]);
    }

    #[test]
    fn what_is_told_of_restarts_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-1.restarts");
        assert_eq!(Restarts::read(&path), Restarts::default());
        let told = Restarts { count: 3, again_at_ms: Some(5_000) };
        told.write(&path).unwrap();
        assert_eq!(Restarts::read(&path), told);
        assert_eq!((told.left(4_000), told.left(6_000), Restarts::default().left(0)), (Some(1_000), Some(0), None));
    }
}
