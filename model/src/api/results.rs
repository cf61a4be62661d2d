//! Tests and their results: history, failures, quarantine, artifacts, notes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestView {
    /// Its number.
    pub id: i64,
    /// Name of the suite.
    pub suite: String,
    /// Class, file or path of suites that it belongs to; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Its parameters, where the name does not carry them; may be empty.
    pub parameters: String,
}
