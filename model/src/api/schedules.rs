//! Schedules, calendars and what is due.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A moment at which a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OccurrenceView {
    /// When, in UTC.
    pub due_at: String,
}
