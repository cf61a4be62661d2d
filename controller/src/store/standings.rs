//! Tests as their runs left them: one by one, what fails, what is muted.

use std::collections::HashMap;

use kennel_model::RunId;
use kennel_model::api::{
    FlakyView, MarkView, MuteView, OutcomeCounts, RunTestView, TestFilter, TestOrder, TestResultDetail, TestResultView,
    TestStanding, TestView,
};
use kennel_results::history::{Mark, Standing};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Store, StoreError, count, from_json, now, to_json};

const READING: &str = "read tests";

/// Everything that a [`TestStanding`] tells, of the tests `t` with the standing `s`; `$1` is the present moment.
const STANDINGS: &str = "SELECT t.id, t.suite, t.class, t.name, t.parameters, t.tags, s.outcome, s.last_run, \
    s.duration_ms, s.fingerprint, s.message, s.failing_since, s.failing_runs, s.last_passed, s.flaky, s.score, s.strip, \
    l.created_at AS last_at, f.created_at AS failing_since_at, \
    m.reason AS mute_reason, m.owner AS mute_owner, m.expires_at AS mute_expires_at, m.created_at AS mute_created_at, \
    m.created_by AS mute_created_by \
    FROM test_standings s JOIN tests t ON t.id = s.test JOIN suite_runs l ON l.id = s.last_run \
    LEFT JOIN suite_runs f ON f.id = s.failing_since LEFT JOIN mutes m ON m.test = s.test AND m.expires_at > ";

/// One group of failures, without its tests.
#[derive(Debug, Clone)]
pub(crate) struct StoredGroup {
    pub(crate) fingerprint: String,
    pub(crate) tests: u32,
    pub(crate) muted: u32,
    pub(crate) suites: u32,
    pub(crate) failing_since: RunId,
    pub(crate) newest_since: RunId,
    pub(crate) failing_runs: u32,
}

impl Store {
    /// One test as its runs left it.
    pub(crate) async fn test(&self, id: i64) -> Result<Option<TestStanding>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(STANDINGS);
        query.push_bind(now()).push(" WHERE t.id = ").push_bind(id);
        let row = query.build().fetch_optional(&self.reader).await.map_err(StoreError::database(READING))?;
        row.as_ref().map(view).transpose()
    }

    /// A test that nothing ran yet, or that was joined with another.
    pub(crate) async fn test_name(&self, id: i64) -> Result<Option<TestView>, StoreError> {
        let row = sqlx::query("SELECT id, suite, class, name, parameters FROM tests WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        row.as_ref().map(test_view).transpose()
    }

    /// The test that another was joined into.
    pub(crate) async fn joined_into(&self, id: i64) -> Result<Option<i64>, StoreError> {
        sqlx::query_scalar(
            "SELECT a.test FROM tests t JOIN test_aliases a ON a.suite = t.suite AND a.class = t.class \
             AND a.name = t.name AND a.parameters = t.parameters WHERE t.id = $1",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database(READING))
    }

    /// Tests that a filter lets through, and how many those are in all.
    pub(crate) async fn tests(&self, filter: &TestFilter) -> Result<(Vec<TestStanding>, u32), StoreError> {
        let mut counting = QueryBuilder::<Sqlite>::new(
            "SELECT COUNT(*) FROM test_standings s JOIN tests t ON t.id = s.test WHERE 1 = 1",
        );
        narrow(&mut counting, filter);
        let total: i64 =
            counting.build_query_scalar().fetch_one(&self.reader).await.map_err(StoreError::database("count tests"))?;
        Ok((self.listed_tests(filter).await?, u32::try_from(count(total)).unwrap_or(u32::MAX)))
    }

    /// Tests that a filter lets through.
    pub(crate) async fn listed_tests(&self, filter: &TestFilter) -> Result<Vec<TestStanding>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(STANDINGS);
        query.push_bind(now()).push(" WHERE 1 = 1");
        narrow(&mut query, filter);
        query.push(match filter.order {
            TestOrder::Name => " ORDER BY t.suite, t.class, t.name, t.parameters",
            TestOrder::Newest => " ORDER BY s.failing_since DESC, s.test",
            TestOrder::Oldest => " ORDER BY s.failing_since, t.id",
            TestOrder::Flaky => " ORDER BY s.score DESC, s.test",
            TestOrder::Slowest => " ORDER BY s.duration_ms DESC, s.test",
            TestOrder::Expiry => " ORDER BY mute_expires_at, t.id",
        });
        query.push(" LIMIT ").push_bind(i64::from(filter.limit.clamp(1, 500)));
        query.push(" OFFSET ").push_bind(i64::from(filter.offset));
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database(READING))?;
        rows.iter().map(view).collect()
    }

    /// When some runs of suites were handed in.
    pub(crate) async fn run_moments(&self, runs: &[RunId]) -> Result<HashMap<RunId, String>, StoreError> {
        if runs.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, created_at FROM suite_runs WHERE id IN (");
        let mut listed = query.separated(", ");
        for run in runs {
            listed.push_bind(run.to_string());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database(READING))?;
        rows.iter().map(|row| Ok((word(row, "id")?, get(row, "created_at")?))).collect()
    }

    /// Groups of failing tests by fingerprint, the newest breakage first; with how many groups and tests there are.
    pub(crate) async fn failure_groups(&self, filter: &TestFilter) -> Result<(Vec<StoredGroup>, u32, u32), StoreError> {
        let plain = filter.text.is_none() && filter.label.is_none() && filter.outcome.is_none();
        // Without a search in names, the index of failures alone answers.
        let from =
            if plain { " FROM test_standings s" } else { " FROM test_standings s JOIN tests t ON t.id = s.test" };
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT COALESCE(s.fingerprint, '') AS fingerprint, COUNT(*) AS tests, COUNT(DISTINCT s.suite) AS suites, \
             MIN(s.failing_since) AS since, MAX(s.failing_since) AS newest, MAX(s.failing_runs) AS runs, \
             SUM(CASE WHEN s.test IN (SELECT test FROM mutes WHERE expires_at > ",
        );
        query
            .push_bind(now())
            .push(") THEN 1 ELSE 0 END) AS muted")
            .push(from)
            .push(" WHERE s.failing_since IS NOT NULL");
        narrow(&mut query, filter);
        query.push(" GROUP BY s.fingerprint ORDER BY newest DESC, tests DESC");
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database("group failures"))?;
        let groups: Vec<StoredGroup> = rows.iter().map(group).collect::<Result<_, _>>()?;
        let tests = groups.iter().map(|group| group.tests).sum();
        let total = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        let page = groups.into_iter().skip(filter.offset as usize).take(filter.limit.clamp(1, 200) as usize);
        Ok((page.collect(), total, tests))
    }

    /// The tests of a run with how each ended in it; a part of them, the failures first.
    pub(crate) async fn tests_of_run(&self, run: RunId, filter: &TestFilter) -> Result<Vec<RunTestView>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(STANDINGS.replace(
            "SELECT ",
            "SELECT h.outcome AS run_outcome, h.on_retry, h.duration_ms AS run_duration_ms, r.attempt, r.step, \
             r.step_attempt, r.message AS run_message, r.fingerprint AS run_fingerprint, q.created_at AS run_at, ",
        ));
        query.push_bind(now()).push(
            " JOIN test_history h ON h.test = s.test JOIN suite_runs q ON q.id = h.suite_run \
             JOIN test_results r ON r.suite_run = h.suite_run AND r.test = h.test AND r.attempt = h.attempt \
             WHERE h.suite_run = ",
        );
        query.push_bind(run.to_string());
        let mut rest = filter.clone();
        if let Some(outcome) = rest.outcome.take() {
            query.push(" AND h.outcome = ").push_bind(outcome.word());
        }
        if std::mem::take(&mut rest.failing) {
            query.push(" AND h.outcome IN ('failed', 'error')");
        }
        if let Some(fingerprint) = rest.fingerprint.take() {
            query.push(" AND r.fingerprint = ").push_bind(fingerprint);
        }
        narrow(&mut query, &rest);
        query.push(
            " ORDER BY CASE h.outcome WHEN 'error' THEN 0 WHEN 'failed' THEN 0 WHEN 'passed' THEN 2 - h.on_retry ELSE 3 END, \
             t.class, t.name, t.parameters LIMIT ",
        );
        query.push_bind(i64::from(filter.limit.clamp(1, 1000))).push(" OFFSET ").push_bind(i64::from(filter.offset));
        let rows = query.build().fetch_all(&self.reader).await.map_err(StoreError::database("read a run's tests"))?;
        rows.iter().map(|row| run_test(row, run)).collect()
    }

    /// Results of a test, one per run: its last attempt there, newest first.
    pub(crate) async fn results_of(
        &self,
        test: i64,
        limit: u32,
        before: Option<RunId>,
    ) -> Result<Vec<TestResultView>, StoreError> {
        let rows = sqlx::query(
            "SELECT h.suite_run, q.created_at AS run_at, h.outcome AS run_outcome, h.duration_ms AS run_duration_ms, r.attempt, \
             r.step, r.step_attempt, r.message AS run_message, r.fingerprint AS run_fingerprint
             FROM test_history h JOIN suite_runs q ON q.id = h.suite_run
             JOIN test_results r ON r.suite_run = h.suite_run AND r.test = h.test AND r.attempt = h.attempt
             WHERE h.test = $1 AND h.suite_run < $2 ORDER BY h.suite_run DESC LIMIT $3",
        )
        .bind(test)
        .bind(before.map_or_else(|| "g".to_owned(), |run| run.to_string()))
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read a test's results"))?;
        rows.iter().map(|row| result(row, word(row, "suite_run")?)).collect()
    }

    /// Every attempt of a test in one run, whole, in order.
    pub(crate) async fn attempts_of(&self, run: RunId, test: i64) -> Result<Vec<TestResultDetail>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.outcome AS run_outcome, r.duration_ms AS run_duration_ms, r.attempt, r.step, r.step_attempt, \
             r.message AS run_message, r.fingerprint AS run_fingerprint, r.detail, q.created_at AS run_at, t.id, t.suite, \
             t.class, t.name, t.parameters FROM test_results r JOIN tests t ON t.id = r.test \
             JOIN suite_runs q ON q.id = r.suite_run WHERE r.suite_run = $1 AND r.test = $2 ORDER BY r.attempt",
        )
        .bind(run.to_string())
        .bind(test)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read a test's attempts"))?;
        let detail = |row: &SqliteRow| {
            Ok(TestResultDetail { test: test_view(row)?, result: result(row, run)?, detail: get(row, "detail")? })
        };
        rows.iter().map(detail).collect()
    }

    /// Steps of a run in which a test did not go well, by path; `tests` names some tests, none for every one.
    pub(crate) async fn failed_steps(&self, run: RunId, tests: &[i64]) -> Result<Vec<String>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT DISTINCT r.step FROM test_results r JOIN test_history h ON h.test = r.test AND h.suite_run = r.suite_run \
             WHERE r.suite_run = ",
        );
        query.push_bind(run.to_string());
        if tests.is_empty() {
            query.push(" AND h.outcome IN ('failed', 'error') AND r.outcome IN ('failed', 'error')");
        } else {
            query.push(" AND r.test IN (");
            let mut listed = query.separated(", ");
            tests.iter().for_each(|test| {
                listed.push_bind(*test);
            });
            query.push(")");
        }
        query.push(" ORDER BY r.step");
        query.build_query_scalar().fetch_all(&self.reader).await.map_err(StoreError::database("find failed steps"))
    }

    /// Tests of a run by outcome.
    pub(crate) async fn outcomes_of_run(&self, run: RunId) -> Result<OutcomeCounts, StoreError> {
        let row = sqlx::query("SELECT passed, failed, error, skipped FROM suite_runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("count a run's tests"))?;
        row.as_ref().map_or(Ok(OutcomeCounts::default()), counts)
    }

    /// Names of the suites that have tests.
    pub(crate) async fn suites_with_tests(&self) -> Result<Vec<String>, StoreError> {
        // One step down the index for each suite, however many tests there are.
        sqlx::query_scalar(
            "WITH RECURSIVE names (suite) AS (SELECT MIN(suite) FROM test_standings UNION ALL \
             SELECT (SELECT MIN(s.suite) FROM test_standings s WHERE s.suite > names.suite) FROM names \
             WHERE names.suite IS NOT NULL) SELECT suite FROM names WHERE suite IS NOT NULL",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list suites with tests"))
    }
}

/// Adds what a filter asks for; the query has the tests as `t` and their standings as `s`.
fn narrow(query: &mut QueryBuilder<Sqlite>, filter: &TestFilter) {
    if let Some(suite) = &filter.suite {
        query.push(" AND s.suite = ").push_bind(suite.clone());
    }
    if let Some(text) = &filter.text {
        let pattern = like(text);
        query.push(" AND (t.name LIKE ").push_bind(pattern.clone()).push(" ESCAPE '\\' OR t.class LIKE ");
        query.push_bind(pattern.clone()).push(" ESCAPE '\\' OR t.parameters LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR s.message LIKE ").push_bind(pattern.clone());
        query.push(
            " ESCAPE '\\' OR s.test IN (SELECT CAST(n.subject AS BIGINT) FROM notes n WHERE n.kind = 'test' AND n.text LIKE ",
        );
        query.push_bind(pattern).push(" ESCAPE '\\'))");
    }
    if let Some(label) = &filter.label {
        query.push(" AND t.tags LIKE ").push_bind(like_in_list(label)).push(" ESCAPE '\\'");
    }
    if let Some(outcome) = filter.outcome {
        query.push(" AND s.outcome = ").push_bind(outcome.word());
    }
    if filter.failing {
        query.push(" AND s.failing_since IS NOT NULL");
    }
    if filter.flaky {
        query.push(" AND s.flaky <> 0");
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query.push(" AND s.fingerprint = ").push_bind(fingerprint.clone());
    }
    if let Some(since) = filter.since {
        query.push(" AND s.failing_since >= ").push_bind(since.to_string());
    }
    if let Some(muted) = filter.muted {
        query.push(if muted { " AND s.test IN" } else { " AND s.test NOT IN" });
        query.push(" (SELECT test FROM mutes WHERE expires_at > ").push_bind(now()).push(")");
    }
}

/// A pattern for texts that contain this one.
pub(super) fn like(text: &str) -> String {
    format!("%{}%", escaped(text))
}

/// A pattern for JSON lists that hold this text.
pub(super) fn like_in_list(text: &str) -> String {
    let written = serde_json::Value::from(text).to_string();
    format!("%{}%", escaped(&written))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn get<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::database(READING))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    get::<String>(row, column)?.parse().map_err(StoreError::broken("word in a test's results"))
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(StoreError::broken("word in a test's results"))).transpose()
}

fn small(row: &SqliteRow, column: &'static str) -> Result<u32, StoreError> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or_default())
}

fn counts(row: &SqliteRow) -> Result<OutcomeCounts, StoreError> {
    Ok(OutcomeCounts {
        passed: small(row, "passed")?,
        failed: small(row, "failed")?,
        error: small(row, "error")?,
        skipped: small(row, "skipped")?,
    })
}

/// A test from a row with its columns.
pub(super) fn test_view(row: &SqliteRow) -> Result<TestView, StoreError> {
    Ok(TestView {
        id: get(row, "id")?,
        suite: get(row, "suite")?,
        class: get(row, "class")?,
        name: get(row, "name")?,
        parameters: get(row, "parameters")?,
    })
}

/// A standing from a row of its table.
pub(super) fn standing(row: &SqliteRow) -> Result<Standing, StoreError> {
    let strip = strip(row)?.into_iter();
    Ok(Standing {
        strip: strip.map(|mark| Mark { run: mark.run, outcome: mark.outcome, on_retry: mark.on_retry }).collect(),
        failing_since: optional(row, "failing_since")?,
        failing_runs: small(row, "failing_runs")?,
        last_passed: optional(row, "last_passed")?,
    })
}

fn strip(row: &SqliteRow) -> Result<Vec<MarkView>, StoreError> {
    from_json("strip of results", get(row, "strip")?)
}

/// A strip as it is kept.
pub(super) fn strip_to_json(strip: &[Mark]) -> Result<String, StoreError> {
    let marks: Vec<MarkView> =
        strip.iter().map(|mark| MarkView { run: mark.run, outcome: mark.outcome, on_retry: mark.on_retry }).collect();
    to_json("strip of results", &marks)
}

fn view(row: &SqliteRow) -> Result<TestStanding, StoreError> {
    let flakiness = standing(row)?.flakiness();
    let mute = match get::<Option<String>>(row, "mute_reason")? {
        None => None,
        Some(reason) => Some(MuteView {
            reason,
            owner: get(row, "mute_owner")?,
            expires_at: get(row, "mute_expires_at")?,
            created_at: get(row, "mute_created_at")?,
            created_by: get(row, "mute_created_by")?,
        }),
    };
    Ok(TestStanding {
        test: test_view(row)?,
        tags: from_json("list of tags", get(row, "tags")?)?,
        strip: strip(row)?,
        outcome: word(row, "outcome")?,
        last_run: word(row, "last_run")?,
        last_at: get(row, "last_at")?,
        duration_ms: get(row, "duration_ms")?,
        message: get(row, "message")?,
        fingerprint: get(row, "fingerprint")?,
        failing_since: optional(row, "failing_since")?,
        failing_since_at: get(row, "failing_since_at")?,
        failing_runs: small(row, "failing_runs")?,
        last_passed: optional(row, "last_passed")?,
        flaky: FlakyView {
            score: flakiness.score,
            changes: flakiness.changes,
            on_retry: flakiness.on_retry,
            results: flakiness.results,
            flaky: flakiness.is_flaky(),
        },
        mute,
    })
}

fn result(row: &SqliteRow, run: RunId) -> Result<TestResultView, StoreError> {
    Ok(TestResultView {
        suite_run: run,
        at: get(row, "run_at")?,
        attempt: small(row, "attempt")?,
        step: get(row, "step")?,
        step_attempt: small(row, "step_attempt")?,
        outcome: word(row, "run_outcome")?,
        duration_ms: get(row, "run_duration_ms")?,
        message: get(row, "run_message")?,
        fingerprint: get(row, "run_fingerprint")?,
    })
}

fn run_test(row: &SqliteRow, run: RunId) -> Result<RunTestView, StoreError> {
    Ok(RunTestView { standing: view(row)?, result: result(row, run)?, on_retry: get::<i64>(row, "on_retry")? != 0 })
}

fn group(row: &SqliteRow) -> Result<StoredGroup, StoreError> {
    Ok(StoredGroup {
        fingerprint: get(row, "fingerprint")?,
        tests: small(row, "tests")?,
        muted: small(row, "muted")?,
        suites: small(row, "suites")?,
        failing_since: word(row, "since")?,
        newest_since: word(row, "newest")?,
        failing_runs: small(row, "runs")?,
    })
}
