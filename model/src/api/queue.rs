//! What waits, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::run::RunId;
use crate::words::words;

words! {
    /// What waits or runs.
    QueueKind {
        /// The run of an experiment.
        Experiment = "experiment",
        /// The run of a suite.
        Suite = "suite",
    }
}

/// What waits and what it waits for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// What has its targets.
    pub running: Vec<QueueHolder>,
    /// What waits, in the order in which it goes.
    pub waiting: Vec<QueueEntry>,
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueEntry {
    /// The run, of an experiment or of a suite.
    pub id: RunId,
    /// Which of the two.
    pub kind: QueueKind,
    /// Its name.
    pub name: String,
    /// Targets that it needs for itself.
    pub targets: Vec<String>,
    /// Place in the queue, from 1.
    pub position: u32,
    /// Why it waits, in a sentence.
    pub reason: String,
    /// The run that has a target which it needs; absent where none has.
    #[serde(default)]
    pub held_by: Option<RunId>,
    /// Who or what handed it in; empty where nobody said.
    pub requested_by: String,
    /// Higher goes first.
    pub priority: i32,
    /// Whether somebody moved it to the front.
    pub moved_to_front: bool,
    /// When it was handed in.
    pub created_at: String,
    /// When it is likely to start; absent where the length of something ahead is unknown.
    pub expected_start_at: Option<String>,
    /// How long it is likely to take, in seconds: as planned, or as it took lately.
    pub expected_s: Option<f64>,
}

/// Something that has its targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueHolder {
    /// The run, of an experiment or of a suite.
    pub id: RunId,
    /// Which of the two.
    pub kind: QueueKind,
    /// Its name.
    pub name: String,
    /// Targets that nobody else may use meanwhile.
    pub targets: Vec<String>,
    /// Who or what handed it in; empty where nobody said.
    pub requested_by: String,
    /// Since when it has them.
    pub since: String,
    /// How many seconds are likely to be left; absent where nothing tells.
    pub expected_left_s: Option<f64>,
}
