//! `kill`: ends a supervised process with SIGKILL. The fault ends when its supervisor has started it again.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kennel_model::fault::Fault;
use kennel_model::target::ProcessSelector;
use nix::sys::signal::Signal;

use super::{FaultError, Injection, Surroundings, Undo, confirm, process_selector};
use crate::process::Process;

/// How long a supervisor may take to start the process again.
const RESTART_WITHIN: Duration = Duration::from_secs(20);

struct Kill {
    process: Process,
    /// When it was killed; every wait for its return ends a fixed time after that.
    killed_at: OnceLock<Instant>,
    selector: ProcessSelector,
    name: String,
}

pub(super) fn resolve(fault: &Fault, surroundings: &Surroundings<'_>) -> Result<Vec<Box<dyn Injection>>, FaultError> {
    let selector = process_selector(fault, surroundings.target)?.clone();
    if !selector.supervised {
        let what = format!("`{}` as supervised, and Kennel kills nothing that stays dead", fault.selector);
        return Err(FaultError::NotDeclared { what });
    }
    let process = Process::find(&selector)?;
    Ok(vec![Box::new(Kill { process, killed_at: OnceLock::new(), selector, name: fault.selector.to_string() })])
}

impl Kill {
    async fn restarted(&self) -> Result<(), FaultError> {
        let what = || format!("{} being started again by its supervisor", self.name);
        let waited = self.killed_at.get().map_or(Duration::ZERO, Instant::elapsed);
        let left = RESTART_WITHIN.saturating_sub(waited);
        confirm(what, left, || Process::find(&self.selector).is_ok_and(|now| now != self.process)).await
    }
}

impl Injection for Kill {
    fn owns(&self) -> String {
        self.process.to_string()
    }

    /// Starting it again is its supervisor's business, whether or not the agent lives.
    fn undo(&self) -> Option<Undo> {
        None
    }

    fn inject(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async {
            self.killed_at.get_or_init(Instant::now);
            self.process.signal(Signal::SIGKILL)?;
            confirm(|| format!("{} being gone", self.process), Duration::from_secs(2), || !self.process.is_alive())
                .await
        })
    }

    fn hold(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(self.restarted())
    }

    fn revert(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(self.restarted())
    }
}
