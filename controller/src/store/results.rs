//! Results as they come: each attempt whole in `test_results`, and what follows from it for the test and the run in
//! narrow tables, all in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kennel_model::RunId;
use kennel_model::api::Outcome;
use kennel_results::history::{Mark, Standing, is_failure};
use kennel_results::{TestCase, TestName, fingerprint};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use super::{Store, StoreError, to_json};

const DOING: &str = "keep test results";

/// Bytes of a failure's message that lists show.
const LISTED_MESSAGE: usize = 1_000;

/// An attempt of a test in the run at hand, narrow.
#[derive(Debug, Clone)]
struct Attempt {
    number: i64,
    step: String,
    outcome: Outcome,
    duration_ms: f64,
    fingerprint: Option<String>,
    /// Beginning of a failure's message.
    message: String,
}

/// A standing as it is kept.
struct Kept {
    standing: Standing,
    fingerprint: Option<String>,
    message: String,
}

impl Store {
    /// Keeps the results of one attempt of one step, and what follows from them: the tests' histories and standings,
    /// and the run's counts by outcome. All of it or, on an error, nothing.
    pub(crate) async fn record_results(
        &self,
        suite_run: RunId,
        step_path: &str,
        step_attempt: u32,
        cases: &[TestCase],
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await.map_err(StoreError::database(DOING))?;
        Self::record_within(&mut transaction, suite_run, step_path, step_attempt, cases).await?;
        transaction.commit().await.map_err(StoreError::database(DOING))
    }

    /// As [`Self::record_results`], as part of more.
    pub(super) async fn record_within(
        transaction: &mut Transaction<'_, Sqlite>,
        suite_run: RunId,
        step_path: &str,
        step_attempt: u32,
        cases: &[TestCase],
    ) -> Result<(), StoreError> {
        let run = suite_run.to_string();
        let suite: String = sqlx::query_scalar("SELECT suite FROM suite_runs WHERE id = $1")
            .bind(&run)
            .fetch_one(&mut **transaction)
            .await
            .map_err(StoreError::database(DOING))?;
        let aliases = aliases(transaction, &suite).await?;
        let mut attempts = attempts_so_far(transaction, &run).await?;
        let mut ids: HashMap<&TestName, i64> = HashMap::new();
        let mut touched = BTreeSet::new();
        for case in cases {
            let id = match ids.get(&case.test) {
                Some(id) => *id,
                None => {
                    let id = match aliases.get(&case.test) {
                        Some(id) => *id,
                        None => test_id(transaction, &suite, case).await?,
                    };
                    ids.insert(&case.test, id);
                    id
                }
            };
            touched.insert(id);
            let earlier = attempts.entry(id).or_default();
            let attempt = attempt_of(case, earlier, step_path);
            insert_result(transaction, &run, id, step_attempt, case, &attempt).await?;
            earlier.push(attempt);
        }
        let mut standings = standings(transaction, &run, &touched).await?;
        for id in touched {
            let Some(attempts) = attempts.get(&id) else { continue };
            let end = end_of(attempts);
            insert_history(transaction, &run, id, &end).await?;
            let kept = standings.remove(&id).unwrap_or_else(Kept::new);
            keep_standing(transaction, id, &suite, suite_run, kept, &end).await?;
        }
        count_outcomes(transaction, &run).await
    }
}

impl Kept {
    fn new() -> Self {
        Self { standing: Standing::default(), fingerprint: None, message: String::new() }
    }
}

/// How a test ended in the run.
struct End {
    outcome: Outcome,
    on_retry: bool,
    duration_ms: f64,
    fingerprint: Option<String>,
    message: String,
    /// The attempt that says so.
    attempt: i64,
}

fn attempt_of(case: &TestCase, earlier: &[Attempt], step: &str) -> Attempt {
    let failed = is_failure(case.outcome);
    Attempt {
        number: earlier.iter().map(|attempt| attempt.number).max().unwrap_or(0) + 1,
        step: step.to_owned(),
        outcome: case.outcome,
        duration_ms: case.duration.as_secs_f64() * 1000.0,
        fingerprint: failed.then(|| fingerprint::fingerprint(&case.message)),
        message: if failed { beginning(&case.message).to_owned() } else { String::new() },
    }
}

fn beginning(message: &str) -> &str {
    &message[..message.floor_char_boundary(LISTED_MESSAGE)]
}

/// The last attempt of each step counts, and of several steps the worst.
fn end_of(attempts: &[Attempt]) -> End {
    let mut last: BTreeMap<&str, &Attempt> = BTreeMap::new();
    let mut failed_before = false;
    for attempt in attempts {
        if let Some(before) = last.insert(&attempt.step, attempt) {
            failed_before |= is_failure(before.outcome);
        }
    }
    let severity = |outcome: Outcome| match outcome {
        Outcome::Error => 3,
        Outcome::Failed => 2,
        Outcome::Passed => 1,
        Outcome::Skipped => 0,
    };
    let worst = last.values().max_by_key(|attempt| severity(attempt.outcome));
    End {
        outcome: worst.map_or(Outcome::Skipped, |attempt| attempt.outcome),
        on_retry: failed_before && worst.is_some_and(|attempt| attempt.outcome == Outcome::Passed),
        duration_ms: last.values().map(|attempt| attempt.duration_ms).fold(0.0, f64::max),
        fingerprint: worst.and_then(|attempt| attempt.fingerprint.clone()),
        message: worst.map(|attempt| attempt.message.clone()).unwrap_or_default(),
        attempt: worst.map_or(1, |attempt| attempt.number),
    }
}

async fn aliases(connection: &mut SqliteConnection, suite: &str) -> Result<HashMap<TestName, i64>, StoreError> {
    let rows = sqlx::query("SELECT class, name, parameters, test FROM test_aliases WHERE suite = $1")
        .bind(suite)
        .fetch_all(connection)
        .await
        .map_err(StoreError::database(DOING))?;
    let alias = |row: &SqliteRow| {
        let name = TestName { class: row.try_get(0)?, name: row.try_get(1)?, parameters: row.try_get(2)? };
        Ok((name, row.try_get(3)?))
    };
    rows.iter().map(alias).collect::<Result<_, sqlx::Error>>().map_err(StoreError::database(DOING))
}

async fn attempts_so_far(
    connection: &mut SqliteConnection,
    run: &str,
) -> Result<HashMap<i64, Vec<Attempt>>, StoreError> {
    let rows = sqlx::query(
        "SELECT test, attempt, step, outcome, duration_ms, fingerprint, substr(message, 1, 250) AS message \
         FROM test_results WHERE suite_run = $1 ORDER BY test, attempt",
    )
    .bind(run)
    .fetch_all(connection)
    .await
    .map_err(StoreError::database(DOING))?;
    let mut attempts: HashMap<i64, Vec<Attempt>> = HashMap::new();
    for row in &rows {
        let failed = StoreError::database(DOING);
        let (test, outcome, attempt) = (|| {
            let attempt = Attempt {
                number: row.try_get("attempt")?,
                step: row.try_get("step")?,
                outcome: Outcome::Passed,
                duration_ms: row.try_get("duration_ms")?,
                fingerprint: row.try_get("fingerprint")?,
                message: row.try_get("message")?,
            };
            Ok((row.try_get::<i64, _>("test")?, row.try_get::<String, _>("outcome")?, attempt))
        })()
        .map_err(failed)?;
        let outcome = outcome.parse().map_err(StoreError::broken("outcome"))?;
        attempts.entry(test).or_default().push(Attempt { outcome, ..attempt });
    }
    Ok(attempts)
}

/// The number of a test; it gets one when it is seen for the first time.
async fn test_id(connection: &mut SqliteConnection, suite: &str, case: &TestCase) -> Result<i64, StoreError> {
    sqlx::query_scalar(
        "INSERT INTO tests (suite, class, name, parameters, tags) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (suite, class, name, parameters) DO UPDATE SET tags = excluded.tags RETURNING id",
    )
    .bind(suite)
    .bind(&case.test.class)
    .bind(&case.test.name)
    .bind(&case.test.parameters)
    .bind(to_json("list of tags", &case.tags)?)
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(DOING))
}

async fn insert_result(
    connection: &mut SqliteConnection,
    run: &str,
    test: i64,
    step_attempt: u32,
    case: &TestCase,
    attempt: &Attempt,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO test_results (suite_run, test, attempt, step, step_attempt, outcome, duration_ms, message, \
         fingerprint, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(run)
    .bind(test)
    .bind(attempt.number)
    .bind(&attempt.step)
    .bind(i64::from(step_attempt))
    .bind(case.outcome.word())
    .bind(attempt.duration_ms)
    .bind(&case.message)
    .bind(&attempt.fingerprint)
    .bind(&case.detail)
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(StoreError::database(DOING))
}

async fn insert_history(connection: &mut SqliteConnection, run: &str, test: i64, end: &End) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO test_history (test, suite_run, outcome, on_retry, duration_ms, attempt) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (test, suite_run) DO UPDATE SET outcome = excluded.outcome, on_retry = excluded.on_retry, \
         duration_ms = excluded.duration_ms, attempt = excluded.attempt",
    )
    .bind(test)
    .bind(run)
    .bind(end.outcome.word())
    .bind(i64::from(end.on_retry))
    .bind(end.duration_ms)
    .bind(end.attempt)
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(StoreError::database(DOING))
}

async fn standings(
    connection: &mut SqliteConnection,
    run: &str,
    touched: &BTreeSet<i64>,
) -> Result<HashMap<i64, Kept>, StoreError> {
    let (Some(first), Some(last)) = (touched.first(), touched.last()) else { return Ok(HashMap::new()) };
    // Numbers of a suite's tests lie close together; what else lies between is passed over.
    let rows = sqlx::query(
        "SELECT * FROM test_standings WHERE test BETWEEN $1 AND $2 \
         AND suite = (SELECT suite FROM suite_runs WHERE id = $3)",
    )
    .bind(first)
    .bind(last)
    .bind(run)
    .fetch_all(connection)
    .await
    .map_err(StoreError::database(DOING))?;
    let mut kept = HashMap::new();
    for row in &rows {
        let id: i64 = row.try_get("test").map_err(StoreError::database(DOING))?;
        if touched.contains(&id) {
            let fingerprint = row.try_get("fingerprint").map_err(StoreError::database(DOING))?;
            let message = row.try_get("message").map_err(StoreError::database(DOING))?;
            kept.insert(id, Kept { standing: super::standings::standing(row)?, fingerprint, message });
        }
    }
    Ok(kept)
}

async fn keep_standing(
    connection: &mut SqliteConnection,
    test: i64,
    suite: &str,
    run: RunId,
    mut kept: Kept,
    end: &End,
) -> Result<(), StoreError> {
    kept.standing.take(Mark { run, outcome: end.outcome, on_retry: end.on_retry });
    let is_last = kept.standing.last().is_none_or(|mark| mark.run == run);
    if is_last && is_failure(end.outcome) {
        (kept.fingerprint, kept.message) = (end.fingerprint.clone(), end.message.clone());
    }
    write_standing(connection, test, suite, &kept.standing, kept.fingerprint.as_deref(), &kept.message).await
}

/// Keeps a standing; how long the last run of the test took is read from its history.
pub(super) async fn write_standing(
    connection: &mut SqliteConnection,
    test: i64,
    suite: &str,
    standing: &Standing,
    fingerprint: Option<&str>,
    message: &str,
) -> Result<(), StoreError> {
    let Some(last) = standing.last() else { return Ok(()) };
    let flakiness = standing.flakiness();
    sqlx::query(
        "INSERT INTO test_standings (test, suite, outcome, last_run, duration_ms, fingerprint, message, failing_since, \
         failing_runs, last_passed, flaky, score, strip)
         VALUES ($1, $2, $3, $4, (SELECT duration_ms FROM test_history WHERE test = $1 AND suite_run = $4), \
         $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (test) DO UPDATE SET suite = excluded.suite, outcome = excluded.outcome, \
         last_run = excluded.last_run, duration_ms = excluded.duration_ms, fingerprint = excluded.fingerprint, \
         message = excluded.message, failing_since = excluded.failing_since, failing_runs = excluded.failing_runs, \
         last_passed = excluded.last_passed, flaky = excluded.flaky, score = excluded.score, strip = excluded.strip",
    )
    .bind(test)
    .bind(suite)
    .bind(last.outcome.word())
    .bind(last.run.to_string())
    .bind(fingerprint)
    .bind(message)
    .bind(standing.failing_since.map(|run| run.to_string()))
    .bind(i64::from(standing.failing_runs))
    .bind(standing.last_passed.map(|run| run.to_string()))
    .bind(i64::from(flakiness.is_flaky()))
    .bind(flakiness.score)
    .bind(super::standings::strip_to_json(&standing.strip)?)
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(StoreError::database(DOING))
}

pub(super) async fn count_outcomes(connection: &mut SqliteConnection, run: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE suite_runs SET
         passed = (SELECT COUNT(*) FROM test_history WHERE suite_run = $1 AND outcome = 'passed'),
         failed = (SELECT COUNT(*) FROM test_history WHERE suite_run = $1 AND outcome = 'failed'),
         error = (SELECT COUNT(*) FROM test_history WHERE suite_run = $1 AND outcome = 'error'),
         skipped = (SELECT COUNT(*) FROM test_history WHERE suite_run = $1 AND outcome = 'skipped')
         WHERE id = $1",
    )
    .bind(run)
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(StoreError::database(DOING))
}
