//! Runs whose results came from elsewhere: kept with everything in them, or not at all.

use kennel_model::api::{OutcomeCounts, SuiteRunSummary};
use kennel_model::{RunId, Verdict};
use kennel_results::TestCase;
use sqlx::{QueryBuilder, Sqlite};

use super::suites::summary;
use super::{Store, StoreError, to_json};

/// Path of the only step of an import.
pub(crate) const IMPORT_STEP: &str = "import";

const DOING: &str = "keep imported results";

impl Store {
    /// Keeps a run that is over, with one step named `step`, its results, and what `judge` makes of their counts and of
    /// how many of its failed tests are muted at `now`.
    pub(crate) async fn insert_import(
        &self,
        run: &SuiteRunSummary,
        step: &str,
        cases: &[TestCase],
        judge: impl FnOnce(OutcomeCounts, u32) -> (Verdict, Vec<String>) + Send,
    ) -> Result<SuiteRunSummary, StoreError> {
        let failed = || StoreError::database(DOING);
        let id = run.id.to_string();
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query(
            "INSERT INTO suite_runs (id, suite, source, state, reasons, origin, started_by, attempt, parameters, labels, \
             steps_only, priority, created_at, started_at, ended_at) \
             VALUES ($1, $2, '', $3, '[]', $4, $5, 1, '{}', $6, '[]', 0, $7, $7, $7)",
        )
        .bind(&id)
        .bind(&run.suite)
        .bind(run.state.word())
        .bind(run.origin.word())
        .bind(&run.started_by)
        .bind(to_json("list of labels", &run.labels)?)
        .bind(&run.created_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        Self::record_within(&mut transaction, run.id, IMPORT_STEP, 1, cases).await?;
        let muted: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM test_history h JOIN mutes m ON m.test = h.test AND m.expires_at > $2 \
             WHERE h.suite_run = $1 AND h.outcome IN ('failed', 'error')",
        )
        .bind(&id)
        .bind(&run.created_at)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed())?;
        let row = sqlx::query("SELECT * FROM suite_runs WHERE id = $1")
            .bind(&id)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed())?;
        let mut kept = summary(&row)?;
        let (verdict, reasons) = judge(kept.tests, u32::try_from(muted).unwrap_or_default());
        (kept.verdict, kept.reasons) = (Some(verdict), reasons);
        sqlx::query("UPDATE suite_runs SET verdict = $2, reasons = $3 WHERE id = $1")
            .bind(&id)
            .bind(verdict.word())
            .bind(to_json("list of reasons", &kept.reasons)?)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        let outcome = if verdict == Verdict::Passed { "passed" } else { "failed" };
        sqlx::query(
            "INSERT INTO steps (suite_run, position, path, attempt, name, kind, state, outcome, message, started_at, \
             ended_at, has_log) VALUES ($1, 0, $2, 1, $3, 'import', 'ended', $4, $5, $6, $6, 0)",
        )
        .bind(&id)
        .bind(IMPORT_STEP)
        .bind(step)
        .bind(outcome)
        .bind(kept.reasons.join("; "))
        .bind(&run.created_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(kept)
    }

    /// Some runs of suites in a few words, newest first; those that do not exist are left out.
    pub(crate) async fn suite_run_summaries(&self, ids: &[RunId]) -> Result<Vec<SuiteRunSummary>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM suite_runs WHERE id IN (");
        let mut listed = query.separated(", ");
        for id in ids {
            listed.push_bind(id.to_string());
        }
        query.push(") ORDER BY id DESC");
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database("read runs of suites"))?;
        rows.iter().map(summary).collect()
    }
}
