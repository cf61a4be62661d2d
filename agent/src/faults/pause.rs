//! `pause`: freezes a process with SIGSTOP and lets it go on with SIGCONT.

use std::time::Duration;

use futures::future::BoxFuture;
use kennel_model::fault::Fault;
use nix::sys::signal::Signal;

use super::{FaultError, Injection, Surroundings, Undo, confirm, process_selector};
use crate::process::Process;

struct Pause {
    process: Process,
}

pub(super) fn resolve(fault: &Fault, surroundings: &Surroundings<'_>) -> Result<Vec<Box<dyn Injection>>, FaultError> {
    let process = Process::find(process_selector(fault, surroundings.target)?)?;
    Ok(vec![Box::new(Pause { process })])
}

impl Injection for Pause {
    fn owns(&self) -> String {
        self.process.to_string()
    }

    fn undo(&self) -> Option<Undo> {
        Some(Undo::Resume { process: self.process })
    }

    fn inject(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async {
            self.process.signal(Signal::SIGSTOP)?;
            confirm(|| format!("{} being frozen", self.process), Duration::from_secs(1), || self.process.is_stopped())
                .await
        })
    }

    fn revert(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async { Undo::Resume { process: self.process }.revert().await })
    }
}
