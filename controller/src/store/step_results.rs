//! Results of a run's tests, step by step.

use kennel_model::RunId;
use kennel_model::api::Outcome;
use sqlx::Row as _;

use super::{Store, StoreError};

/// One attempt of one test in a run.
#[derive(Debug, Clone)]
pub(crate) struct StoredResult {
    pub(crate) test: i64,
    pub(crate) class: String,
    pub(crate) name: String,
    pub(crate) parameters: String,
    /// Path of the step that ran it.
    pub(crate) step: String,
    pub(crate) outcome: Outcome,
    pub(crate) duration_ms: f64,
    pub(crate) message: String,
    pub(crate) detail: String,
}

impl Store {
    /// Every attempt of every test of a run: by step, then test, then attempt.
    pub(crate) async fn step_results(&self, run: RunId) -> Result<Vec<StoredResult>, StoreError> {
        let failed = || StoreError::database("read the results of tests");
        let rows = sqlx::query(
            "SELECT r.test, t.class, t.name, t.parameters, r.step, r.outcome, r.duration_ms, r.message, r.detail
             FROM test_results r JOIN tests t ON t.id = r.test WHERE r.suite_run = $1 ORDER BY r.step, r.test, r.attempt",
        )
        .bind(run.to_string())
        .fetch_all(&self.reader)
        .await
        .map_err(failed())?;
        let results = rows.iter().map(|row| {
            let outcome: String = row.try_get("outcome").map_err(failed())?;
            Ok(StoredResult {
                test: row.try_get("test").map_err(failed())?,
                class: row.try_get("class").map_err(failed())?,
                name: row.try_get("name").map_err(failed())?,
                parameters: row.try_get("parameters").map_err(failed())?,
                step: row.try_get("step").map_err(failed())?,
                outcome: outcome.parse().map_err(StoreError::broken("outcome"))?,
                duration_ms: row.try_get("duration_ms").map_err(failed())?,
                message: row.try_get("message").map_err(failed())?,
                detail: row.try_get("detail").map_err(failed())?,
            })
        });
        results.collect()
    }
}
