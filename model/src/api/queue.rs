//! What waits, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::run::RunId;

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueEntry {
    /// The run, of an experiment or of a suite.
    pub id: RunId,
    /// Its name.
    pub name: String,
    /// Place in the queue, from 1.
    pub position: u32,
    /// Why it waits, in a sentence.
    pub reason: String,
}
