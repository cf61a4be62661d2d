//! Runs while they go: phases and states (pure), the attached agents, and one driver task per run.

pub(crate) mod account;
pub(crate) mod active;
pub(crate) mod agents;
pub(crate) mod driver;
pub(crate) mod logbook;
pub(crate) mod phases;
pub(crate) mod queue;
pub(crate) mod state;

use kennel_model::frame::LatenciesError;

use crate::store::StoreError;

/// Sums histograms up on a thread that may be busy for a while.
///
/// # Errors
/// When a histogram that was kept cannot be read.
pub(crate) async fn blocking<T: Send + 'static>(
    sum: impl FnOnce() -> Result<T, LatenciesError> + Send + 'static,
) -> Result<T, StoreError> {
    let summed = tokio::task::spawn_blocking(sum).await.map_err(StoreError::broken("recording"))?;
    summed.map_err(StoreError::broken("histogram"))
}
