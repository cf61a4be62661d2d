//! Fault injectors: one kind per file. Each resolves a declared fault to concrete things, and knows how to undo itself
//! before it knows how to inject.
//!
//! `docs/extending/faults.md` tells how to add one.

mod kill;
mod latency;
mod pause;
mod registry_gap;
mod toxiproxy;
mod undo;

use std::time::Duration;

use futures::future::BoxFuture;
use kennel_model::fault::{Fault, FaultKind};
use kennel_model::target::{Instance, ProcessSelector, Target};
use kennel_proxy::FaultProxy;

use crate::boundary::{Boundary, BoundaryError};
use crate::process::ProcessError;

pub(crate) use latency::carried_name;
pub use undo::Undo;

/// Where faults are resolved: the target, its boundary, and what the agent itself offers.
pub struct Surroundings<'a> {
    /// The declared target.
    pub target: &'a Target,
    /// Addresses that may be reached.
    pub boundary: &'a Boundary,
    /// The agent's own fault proxy, for links that no other proxy carries.
    pub proxy: &'a FaultProxy,
    /// How long a fault may go on without hearing from the controller.
    pub lease: Duration,
}

/// Why a fault could not be injected or reverted.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The target does not declare what the fault selects.
    #[error("the target does not declare {what}")]
    NotDeclared {
        /// What is missing.
        what: String,
    },
    /// The target leads to somewhere undeclared.
    #[error(transparent)]
    Boundary(#[from] BoundaryError),
    /// The process could not be found or signalled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Something that was asked over HTTP did not do it.
    #[error("{server} did not {action}: {problem}")]
    Server {
        /// Who was asked.
        server: String,
        /// What for.
        action: String,
        /// What it said.
        problem: String,
    },
    /// What was done could not be confirmed by reading back.
    #[error("{what} could not be confirmed within {within:?}")]
    Unconfirmed {
        /// What should have come true.
        what: String,
        /// How long it was waited for.
        within: Duration,
    },
}

/// A fault on one concrete thing, resolved and checked.
pub trait Injection: Send + Sync {
    /// The thing, in words that are the same for every fault on it; two active faults may not share one.
    fn owns(&self) -> String;

    /// How to undo it; written to the journal before [`Self::inject`]. `None` when there is nothing left to undo once
    /// the agent is gone.
    fn undo(&self) -> Option<Undo>;

    /// Does it and confirms by reading back.
    fn inject(&self) -> BoxFuture<'_, Result<(), FaultError>>;

    /// Keeps it alive while it lasts; ends only if the fault ends by itself.
    fn hold(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(std::future::pending())
    }

    /// Undoes it and confirms by reading back. Undoing twice, or after the thing is gone, is success.
    fn revert(&self) -> BoxFuture<'_, Result<(), FaultError>>;
}

/// Resolves a fault to the concrete things it will be injected on.
///
/// # Errors
/// When something it selects is not declared, not found or outside the target.
pub async fn resolve(fault: &Fault, surroundings: &Surroundings<'_>) -> Result<Vec<Box<dyn Injection>>, FaultError> {
    match fault.kind {
        FaultKind::Latency => latency::resolve(fault, surroundings).await,
        FaultKind::Kill => kill::resolve(fault, surroundings),
        FaultKind::Pause => pause::resolve(fault, surroundings),
        FaultKind::RegistryGap => registry_gap::resolve(fault, surroundings).await,
    }
}

/// The declared instance that a fault selects.
fn instance<'a>(fault: &Fault, target: &'a Target) -> Result<&'a Instance, FaultError> {
    let selector = &fault.selector;
    let (service, instance) = (selector.service.as_deref().unwrap_or(""), selector.instance.as_deref().unwrap_or(""));
    target
        .instance(service, instance)
        .ok_or_else(|| FaultError::NotDeclared { what: format!("an instance `{service}/{instance}`") })
}

/// The declared way to find the process of the instance that a fault selects.
fn process_selector<'a>(fault: &Fault, target: &'a Target) -> Result<&'a ProcessSelector, FaultError> {
    let instance = instance(fault, target)?;
    let what = || format!("how to find the process of `{}`", instance.name);
    instance.process.as_ref().ok_or_else(|| FaultError::NotDeclared { what: what() })
}

/// Polls until `reached` says so, or the deadline is over.
async fn confirm(
    what: impl FnOnce() -> String,
    within: Duration,
    mut reached: impl FnMut() -> bool,
) -> Result<(), FaultError> {
    let deadline = tokio::time::Instant::now() + within;
    while !reached() {
        if tokio::time::Instant::now() >= deadline {
            return Err(FaultError::Unconfirmed { what: what(), within });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
