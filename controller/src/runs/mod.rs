//! Runs while they go: phases and states (pure), the attached agents, and one driver task per run.

pub(crate) mod active;
pub(crate) mod agents;
pub(crate) mod driver;
pub(crate) mod logbook;
pub(crate) mod phases;
pub(crate) mod state;
