//! One test with its history, and lists of tests.

use kennel_model::RunId;
use kennel_model::api::{OutcomeCounts, RunTestView, TestFilter, TestHistory, TestResultDetail, TestStanding};
use kennel_results::history::FLAKY_DEFINITION;

use crate::store::Subject;
use crate::{Controller, StoreError};

impl Controller {
    /// A test with its last `limit` results, those before a run where one is named. A test that was joined with
    /// another is answered as that one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn test(&self, id: i64, limit: u32, before: Option<RunId>) -> Result<Option<TestHistory>, StoreError> {
        let store = &self.inner.store;
        let id = match store.joined_into(id).await? {
            Some(joined) => joined,
            None => id,
        };
        let Some(standing) = store.test(id).await? else { return Ok(None) };
        Ok(Some(TestHistory {
            results: store.results_of(id, limit, before).await?,
            known_as: store.earlier_names(id).await?.into_iter().filter(|name| name.id != id).collect(),
            notes: store.notes(Subject::Test(id)).await?,
            flaky_definition: FLAKY_DEFINITION.to_owned(),
            standing,
        }))
    }

    /// Tests that a filter lets through, and how many those are in all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tests(&self, filter: &TestFilter) -> Result<(Vec<TestStanding>, u32), StoreError> {
        self.inner.store.tests(filter).await
    }

    /// The tests of a run with how each ended in it, failures first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tests_of_run(&self, run: RunId, filter: &TestFilter) -> Result<Vec<RunTestView>, StoreError> {
        self.inner.store.tests_of_run(run, filter).await
    }

    /// Tests of a run by outcome.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outcomes_of_run(&self, run: RunId) -> Result<OutcomeCounts, StoreError> {
        self.inner.store.outcomes_of_run(run).await
    }

    /// Every attempt of a test in a run, with stack trace, keywords and output.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts(&self, run: RunId, test: i64) -> Result<Vec<TestResultDetail>, StoreError> {
        self.inner.store.attempts_of(run, test).await
    }

    /// Names of the suites that have tests, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn suites_with_tests(&self) -> Result<Vec<String>, StoreError> {
        self.inner.store.suites_with_tests().await
    }
}
