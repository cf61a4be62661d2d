//! One child process that the supervisor keeps alive: started, counted, started again whenever it dies, ended in the end.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::config::Layout;
use crate::error::SystemError;
use crate::launch::SupervisorOptions;
use crate::process;

/// How long a child may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);

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
        while !self.stop.is_cancelled() {
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
            let deaths = self.deaths.fetch_add(1, Ordering::Relaxed) + 1;
            if !self.stop.is_cancelled()
                && let Err(error) = process::write_whole(&restarts, format!("{deaths}\n").as_bytes())
            {
                tracing::warn!(%error, "a restart is not counted");
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(self.options.respawn_after_ms)) => {}
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
