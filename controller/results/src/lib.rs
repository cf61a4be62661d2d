//! Test results: read from JUnit XML and Robot output, named, fingerprinted and scored. Nothing here does I/O.

use std::time::Duration;

use kennel_model::api::Outcome;
use serde::{Deserialize, Serialize};

/// What makes a test the same test from run to run, within its suite.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TestName {
    /// Class, file or path of suites that it belongs to; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Its parameters, where the name does not carry them; may be empty.
    pub parameters: String,
}

/// One result of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestCase {
    /// Which test.
    pub test: TestName,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed or was skipped, as its tool says it; empty otherwise.
    pub message: String,
    /// Stack trace, keywords, captured output; may be empty.
    pub detail: String,
}
