//! Tests × runs of a suite, its trends, and two of its runs side by side: all from narrow tables.

use std::collections::HashMap;

use kennel_model::RunId;
use kennel_model::api::{MatrixCell, Outcome, TestView, TrendPoint};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{Store, StoreError, count};

const READING: &str = "read the results of a suite's runs";

/// A test in both of two runs.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) test: TestView,
    pub(crate) a: Option<MatrixCell>,
    pub(crate) b: Option<MatrixCell>,
}

impl Store {
    /// Runs of a suite that are over, newest first, by page; and how many there are.
    pub(crate) async fn runs_of_suite(
        &self,
        suite: &str,
        limit: u32,
        offset: u32,
    ) -> Result<(Vec<RunId>, u32), StoreError> {
        let total: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM suite_runs WHERE suite = $1")
            .bind(suite)
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        let ids: Vec<String> =
            sqlx::query_scalar("SELECT id FROM suite_runs WHERE suite = $1 ORDER BY id DESC LIMIT $2 OFFSET $3")
                .bind(suite)
                .bind(i64::from(limit))
                .bind(i64::from(offset))
                .fetch_all(&self.reader)
                .await
                .map_err(StoreError::database(READING))?;
        let ids = ids.iter().map(|id| id.parse().map_err(StoreError::broken("run id"))).collect::<Result<_, _>>()?;
        Ok((ids, u32::try_from(count(total)).unwrap_or(u32::MAX)))
    }

    /// How each of some tests ended in each of some runs.
    pub(crate) async fn cells(
        &self,
        tests: &[i64],
        runs: &[RunId],
    ) -> Result<HashMap<(i64, RunId), MatrixCell>, StoreError> {
        if tests.is_empty() || runs.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT test, suite_run, outcome, on_retry, duration_ms FROM test_history WHERE test IN (",
        );
        let mut listed = query.separated(", ");
        for test in tests {
            listed.push_bind(*test);
        }
        query.push(") AND suite_run IN (");
        let mut listed = query.separated(", ");
        for run in runs {
            listed.push_bind(run.to_string());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database(READING))?;
        let cell = |row: &SqliteRow| {
            let run: String = row.try_get("suite_run").map_err(StoreError::database(READING))?;
            let test: i64 = row.try_get("test").map_err(StoreError::database(READING))?;
            let cell = cell(row, ["outcome", "on_retry", "duration_ms"])?;
            Ok(cell.map(|cell| Ok(((test, run.parse().map_err(StoreError::broken("run id"))?), cell))))
        };
        rows.iter().filter_map(|row| cell(row).transpose()).map(|found| found.and_then(|cell| cell)).collect()
    }

    /// The last runs of a suite that are over, oldest first.
    pub(crate) async fn trend(&self, suite: &str, limit: u32) -> Result<Vec<TrendPoint>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, created_at, started_at, ended_at, passed, failed, error, skipped, (SELECT SUM(h.duration_ms) \
             FROM test_history h WHERE h.suite_run = suite_runs.id) AS tests_ms, origin FROM suite_runs \
             WHERE suite = $1 AND ended_at IS NOT NULL ORDER BY id DESC LIMIT $2",
        )
        .bind(suite)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read a suite's trend"))?;
        let mut points: Vec<TrendPoint> = rows.iter().map(trend_point).collect::<Result<_, _>>()?;
        points.reverse();
        Ok(points)
    }

    /// Every test that either of two runs had, with how it ended in each.
    pub(crate) async fn pairs(&self, a: RunId, b: RunId) -> Result<Vec<Pair>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.id, t.suite, t.class, t.name, t.parameters, a.outcome AS a_outcome, a.on_retry AS a_on_retry, \
             a.duration_ms AS a_duration_ms, b.outcome AS b_outcome, b.on_retry AS b_on_retry, b.duration_ms AS b_duration_ms
             FROM (SELECT test FROM test_history WHERE suite_run = $1 UNION SELECT test FROM test_history WHERE suite_run = $2) both_of
             JOIN tests t ON t.id = both_of.test
             LEFT JOIN test_history a ON a.test = t.id AND a.suite_run = $1
             LEFT JOIN test_history b ON b.test = t.id AND b.suite_run = $2
             ORDER BY t.class, t.name, t.parameters",
        )
        .bind(a.to_string())
        .bind(b.to_string())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("compare two runs"))?;
        let pair = |row: &SqliteRow| {
            Ok(Pair {
                test: super::standings::test_view(row)?,
                a: cell(row, ["a_outcome", "a_on_retry", "a_duration_ms"])?,
                b: cell(row, ["b_outcome", "b_on_retry", "b_duration_ms"])?,
            })
        };
        rows.iter().map(pair).collect()
    }

    /// Messages of the failures of a run, by test: the last attempt's, its beginning.
    pub(crate) async fn messages_of(&self, run: RunId, tests: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
        if tests.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT test, substr(message, 1, 400) AS message FROM test_results WHERE suite_run = ",
        );
        query.push_bind(run.to_string()).push(" AND test IN (");
        let mut listed = query.separated(", ");
        for test in tests {
            listed.push_bind(*test);
        }
        query.push(") AND outcome IN ('failed', 'error') ORDER BY test, attempt");
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database(READING))?;
        rows.iter()
            .map(|row| Ok((row.try_get("test")?, row.try_get("message")?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(StoreError::database(READING))
    }
}

fn cell(row: &SqliteRow, [outcome, on_retry, duration]: [&'static str; 3]) -> Result<Option<MatrixCell>, StoreError> {
    let failed = || StoreError::database(READING);
    let Some(outcome) = row.try_get::<Option<String>, _>(outcome).map_err(failed())? else { return Ok(None) };
    let outcome: Outcome = outcome.parse().map_err(StoreError::broken("outcome"))?;
    let on_retry = row.try_get::<i64, _>(on_retry).map_err(failed())? != 0;
    Ok(Some(MatrixCell { outcome, on_retry, duration_ms: row.try_get(duration).map_err(failed())? }))
}

fn trend_point(row: &SqliteRow) -> Result<TrendPoint, StoreError> {
    let failed = || StoreError::database("read a suite's trend");
    let text = |column| row.try_get::<Option<String>, _>(column).map_err(failed());
    let seconds = |from: Option<String>, to: Option<String>| {
        let moment = |text: Option<String>| text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Some(moment(to)?.duration_since(moment(from)?).as_secs_f64())
    };
    let is_import = row.try_get::<String, _>("origin").map_err(failed())? == "import";
    let tests_ms: Option<f64> = row.try_get("tests_ms").map_err(failed())?;
    let ran = seconds(text("started_at")?, text("ended_at")?);
    let small = |column| -> Result<u32, StoreError> {
        Ok(u32::try_from(row.try_get::<i64, _>(column).map_err(failed())?).unwrap_or_default())
    };
    Ok(TrendPoint {
        run: row.try_get::<String, _>("id").map_err(failed())?.parse().map_err(StoreError::broken("run id"))?,
        at: row.try_get("created_at").map_err(failed())?,
        // An import takes no time; its tests did, where they ran.
        duration_s: if is_import { tests_ms.unwrap_or(0.0) / 1000.0 } else { ran.unwrap_or(0.0) },
        tests: kennel_model::api::OutcomeCounts {
            passed: small("passed")?,
            failed: small("failed")?,
            error: small("error")?,
            skipped: small("skipped")?,
        },
    })
}
