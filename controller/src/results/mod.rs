//! Tests and what became of them: results as they come, histories, failures, mutes, notes, imports. Which reports are
//! understood, and how tests are scored, is `kennel_results`' business; what is kept, the store's.

mod failing;
mod imports;
pub(crate) mod inbox;
mod matrix;
mod mutes;
mod notes;
mod since;
mod tests;
mod upload;

use std::collections::BTreeSet;

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_results::TestCase;

pub use imports::{ImportError, ImportRequest};
pub use mutes::{JoinError, MuteError};
pub use notes::NoteError;
pub use since::since;
pub use upload::Upload;

use crate::store::moment;
use crate::{Controller, StoreError};

/// Failures of a run, told apart by whether they are muted: what a suite is judged by, and run again by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// Tests that failed and are not muted, with the path of a step that ran them.
    pub counted: Vec<(String, i64)>,
    /// Tests that failed and are muted.
    pub muted: Vec<(String, i64)>,
}

impl Failures {
    /// Paths of the steps in which a test failed that is not muted.
    #[must_use]
    pub fn steps(&self) -> BTreeSet<&str> {
        self.counted.iter().map(|(step, _)| step.as_str()).collect()
    }
}

impl Controller {
    /// Keeps the results of one attempt of one step, with everything that follows from them for tests and run.
    ///
    /// # Errors
    /// When the store cannot be written; then nothing was kept.
    pub async fn record_results(
        &self,
        suite_run: RunId,
        step_path: &str,
        step_attempt: u32,
        cases: &[TestCase],
    ) -> Result<(), StoreError> {
        self.inner.store.record_results(suite_run, step_path, step_attempt, cases).await
    }

    /// Numbers of the tests of a suite whose failures do not count at `now`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn muted_tests(&self, suite: &str, now: Timestamp) -> Result<BTreeSet<i64>, StoreError> {
        self.inner.store.muted_tests(suite, &moment(now)).await
    }

    /// Tests that did not pass in a run, by step, told apart by whether they are muted at `now`. Only the last attempt
    /// in each step counts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failures(&self, run: RunId, suite: &str, now: Timestamp) -> Result<Failures, StoreError> {
        let muted = self.muted_tests(suite, now).await?;
        let failures = self.inner.store.failures_of_run(run).await?;
        let (muted, counted) = failures.into_iter().partition(|(_, test)| muted.contains(test));
        Ok(Failures { counted, muted })
    }

    /// Paths of the steps of a run in which tests failed; of those in which `tests` (by number) ran, where some are
    /// named.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_steps(&self, run: RunId, tests: &[i64]) -> Result<Vec<String>, StoreError> {
        self.inner.store.failed_steps(run, tests).await
    }
}
