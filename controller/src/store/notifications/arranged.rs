//! Runs of suites as tests arrange them.

use kennel_model::{RunId, Verdict};

use crate::store::Store;

/// A run of a suite that ended.
pub(crate) struct SuiteRun<'a> {
    pub(crate) suite: &'a str,
    pub(crate) at: String,
    pub(crate) verdict: Verdict,
    pub(crate) labels: &'a [&'a str],
    /// Tests by name, and whether they passed.
    pub(crate) tests: &'a [(&'a str, bool)],
}

/// Keeps a run that ended.
pub(crate) async fn suite_run(store: &Store, run: SuiteRun<'_>) -> RunId {
    let id = RunId::new();
    let passed = run.tests.iter().filter(|(_, passed)| *passed).count();
    sqlx::query(
        "INSERT INTO suite_runs (id, suite, source, state, verdict, reasons, origin, started_by, attempt, parameters, \
         labels, steps_only, priority, created_at, ended_at, passed, failed) \
         VALUES ($1, $2, '', 'ended', $3, '[]', 'manual', 'ann', 1, '{}', $4, '[]', 0, $5, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(run.suite)
    .bind(run.verdict.word())
    .bind(serde_json::to_string(run.labels).unwrap())
    .bind(run.at)
    .bind(i64::try_from(passed).unwrap())
    .bind(i64::try_from(run.tests.len() - passed).unwrap())
    .execute(&store.writer)
    .await
    .unwrap();
    for (name, passed) in run.tests {
        sqlx::query(
            "INSERT INTO tests (suite, class, name, parameters) VALUES ($1, 'shop', $2, '') ON CONFLICT DO NOTHING",
        )
        .bind(run.suite)
        .bind(name)
        .execute(&store.writer)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO test_results (suite_run, test, attempt, step, outcome, duration_ms, message, detail) \
             SELECT $1, id, 1, 'steps/0', $2, 1.0, $3, '' FROM tests WHERE suite = $4 AND name = $5",
        )
        .bind(id.to_string())
        .bind(if *passed { "passed" } else { "failed" })
        .bind(if *passed { "" } else { "expected 3, was 4\nat line 7" })
        .bind(run.suite)
        .bind(name)
        .execute(&store.writer)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO test_history (test, suite_run, outcome, on_retry, duration_ms) \
             SELECT id, $1, $2, 0, 1.0 FROM tests WHERE suite = $3 AND name = $4",
        )
        .bind(id.to_string())
        .bind(if *passed { "passed" } else { "failed" })
        .bind(run.suite)
        .bind(name)
        .execute(&store.writer)
        .await
        .unwrap();
    }
    id
}

/// Keeps a schedule that was due at some moments, each with how that went.
pub(crate) async fn schedule(store: &Store, name: &str, occurrences: &[(&str, &str)]) {
    sqlx::query(
        "INSERT INTO schedules (id, name, draft, created_at, author, handled_at) VALUES ($1, $1, '{}', '', 'ann', '')",
    )
    .bind(name)
    .execute(&store.writer)
    .await
    .unwrap();
    for (due_at, state) in occurrences {
        sqlx::query(
            "INSERT INTO occurrences (schedule, due_at, state, reason, kind, noted_at) \
             VALUES ($1, $2, $3, 'Kennel was not running', 'suite', $2)",
        )
        .bind(name)
        .bind(due_at)
        .bind(state)
        .execute(&store.writer)
        .await
        .unwrap();
    }
}
