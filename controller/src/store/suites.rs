//! Runs of suites and their steps.

use kennel_model::RunId;
use kennel_model::api::{OutcomeCounts, StepState, StepView, SuiteRunFilter, SuiteRunSummary};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{Store, StoreError, from_json, integer, now, to_json};

/// Runs in a list unless asked otherwise.
const PAGE: u32 = 50;

/// A suite's run as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredSuiteRun {
    pub(crate) summary: SuiteRunSummary,
    /// The suite's file as it was handed in.
    pub(crate) source: String,
    /// Paths of the steps to run; all when empty.
    pub(crate) only: Vec<String>,
}

impl Store {
    /// Keeps a new run of a suite.
    pub(crate) async fn insert_suite_run(&self, run: &StoredSuiteRun) -> Result<(), StoreError> {
        let summary = &run.summary;
        sqlx::query(
            "INSERT INTO suite_runs (id, suite, version, source, state, reasons, origin, started_by, rerun_of, attempt, \
             parameters, labels, steps_only, priority, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(summary.id.to_string())
        .bind(&summary.suite)
        .bind(summary.version.map(i64::from))
        .bind(&run.source)
        .bind(summary.state.word())
        .bind(to_json("list of reasons", &summary.reasons)?)
        .bind(summary.origin.word())
        .bind(&summary.started_by)
        .bind(summary.rerun_of.map(|id| id.to_string()))
        .bind(i64::from(summary.attempt))
        .bind(to_json("set of parameters", &summary.parameters)?)
        .bind(to_json("list of labels", &summary.labels)?)
        .bind(to_json("list of steps", &run.only)?)
        .bind(i64::from(summary.priority))
        .bind(&summary.created_at)
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep a suite's run"))?;
        Ok(())
    }

    /// Keeps where a suite's run stands: state, verdict, reasons and times.
    pub(crate) async fn update_suite_run(&self, run: &SuiteRunSummary) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE suite_runs SET state = $2, verdict = $3, reasons = $4, started_at = $5, ended_at = $6 WHERE id = $1",
        )
        .bind(run.id.to_string())
        .bind(run.state.word())
        .bind(run.verdict.map(kennel_model::Verdict::word))
        .bind(to_json("list of reasons", &run.reasons)?)
        .bind(&run.started_at)
        .bind(&run.ended_at)
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep how a suite's run stands"))?;
        Ok(())
    }

    /// One run of a suite.
    pub(crate) async fn suite_run(&self, id: RunId) -> Result<Option<StoredSuiteRun>, StoreError> {
        let row = sqlx::query("SELECT * FROM suite_runs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a suite's run"))?;
        row.as_ref().map(stored).transpose()
    }

    /// Runs of suites, newest first.
    pub(crate) async fn suite_runs(&self, filter: &SuiteRunFilter) -> Result<Vec<SuiteRunSummary>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM suite_runs WHERE 1 = 1");
        if let Some(suite) = &filter.suite {
            query.push(" AND suite = ").push_bind(suite.clone());
        }
        if let Some(verdict) = filter.verdict {
            query.push(" AND verdict = ").push_bind(verdict.word());
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state.word());
        }
        if let Some(origin) = filter.origin {
            query.push(" AND origin = ").push_bind(origin.word());
        }
        if let Some(label) = &filter.label {
            // Labels are a JSON list; a label stands in it as JSON writes it.
            let written = to_json("label", label)?.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            query.push(" AND labels LIKE ").push_bind(format!("%{written}%")).push(" ESCAPE '\\'");
        }
        if let Some(first) = filter.rerun_of {
            let first = first.to_string();
            query.push(" AND (rerun_of = ").push_bind(first.clone()).push(" OR id = ").push_bind(first).push(")");
        }
        if let Some(before) = filter.before {
            query.push(" AND id < ").push_bind(before.to_string());
        }
        let limit = if filter.limit == 0 { PAGE } else { filter.limit };
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
        let rows = query.build().fetch_all(&self.reader).await;
        rows.map_err(StoreError::database("list runs of suites"))?.iter().map(summary).collect()
    }

    /// The last `limit` runs of every suite, newest first.
    pub(crate) async fn last_suite_runs(
        &self,
        of: Option<&[&str]>,
        limit: u32,
    ) -> Result<Vec<SuiteRunSummary>, StoreError> {
        // For each suite one short walk down its index, whatever the number of runs.
        let rows = sqlx::query(
            "SELECT r.* FROM (SELECT value AS suite FROM json_each($1) UNION \
             SELECT DISTINCT suite FROM suite_runs WHERE $1 IS NULL) s JOIN suite_runs r ON r.id IN \
             (SELECT id FROM suite_runs WHERE suite = s.suite ORDER BY id DESC LIMIT $2) ORDER BY r.id DESC",
        )
        .bind(of.map(|names| to_json("names of suites", &names)).transpose()?)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read the last runs of suites"))?;
        rows.iter().map(summary).collect()
    }

    /// Which attempt the next run after `first` is.
    pub(crate) async fn next_attempt(&self, first: RunId) -> Result<u32, StoreError> {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT MAX(attempt) FROM suite_runs WHERE id = $1 OR rerun_of = $1")
                .bind(first.to_string())
                .fetch_one(&self.writer)
                .await
                .map_err(StoreError::database("count the attempts of a run"))?;
        Ok(last.map_or(1, number).saturating_add(1))
    }

    /// The run of a suite that is `back` runs older than the newest.
    pub(crate) async fn nth_last_suite_run(&self, back: u32) -> Result<Option<RunId>, StoreError> {
        let found: Option<String> = sqlx::query_scalar("SELECT id FROM suite_runs ORDER BY id DESC LIMIT 1 OFFSET $1")
            .bind(i64::from(back))
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("find a suite's run"))?;
        found.map(|id| id.parse().map_err(StoreError::broken("run id"))).transpose()
    }

    /// Runs of suites whose id, without hyphens, begins or ends with `digits`; newest first, a few.
    pub(crate) async fn suite_runs_like(&self, digits: &str) -> Result<Vec<RunId>, StoreError> {
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM suite_runs WHERE replace(id, '-', '') LIKE $1 OR replace(id, '-', '') LIKE $2 \
             ORDER BY id DESC LIMIT 10",
        )
        .bind(format!("{digits}%"))
        .bind(format!("%{digits}"))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("find a suite's run"))?;
        found.iter().map(|id| id.parse().map_err(StoreError::broken("run id"))).collect()
    }

    /// Runs of suites that are not over, oldest first.
    pub(crate) async fn unfinished_suite_runs(&self) -> Result<Vec<StoredSuiteRun>, StoreError> {
        let rows = sqlx::query("SELECT * FROM suite_runs WHERE state <> 'ended' ORDER BY id")
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("find unfinished runs of suites"))?;
        rows.iter().map(stored).collect()
    }

    /// Keeps an attempt of a step as it stands now.
    pub(crate) async fn keep_step(&self, run: RunId, position: usize, step: &StepView) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO steps (suite_run, position, path, attempt, name, kind, state, outcome, message, run, started_at, \
             ended_at, has_log, agent, assertions) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
             ON CONFLICT (suite_run, path, attempt) DO UPDATE SET state = excluded.state, outcome = excluded.outcome, \
             message = excluded.message, run = excluded.run, started_at = excluded.started_at, \
             ended_at = excluded.ended_at, has_log = excluded.has_log, agent = excluded.agent, \
             assertions = excluded.assertions",
        )
        .bind(run.to_string())
        .bind(integer(position as u64))
        .bind(&step.path)
        .bind(i64::from(step.attempt))
        .bind(&step.name)
        .bind(step.kind.word())
        .bind(step.state.word())
        .bind(step.outcome.map(kennel_model::api::Outcome::word))
        .bind(&step.message)
        .bind(step.run.map(|run| run.to_string()))
        .bind(&step.started_at)
        .bind(&step.ended_at)
        .bind(i64::from(step.has_log))
        .bind(&step.agent)
        .bind(to_json("list of assertions", &step.assertions)?)
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep a step"))?;
        Ok(())
    }

    /// Every attempt of every step of a run, in the order of the suite.
    pub(crate) async fn steps_of(&self, run: RunId) -> Result<Vec<StepView>, StoreError> {
        let rows = sqlx::query("SELECT * FROM steps WHERE suite_run = $1 ORDER BY position, attempt")
            .bind(run.to_string())
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read the steps of a suite's run"))?;
        rows.iter().map(step).collect()
    }

    /// Ends the steps of a run that Kennel left under way when it stopped.
    pub(crate) async fn interrupt_steps(&self, run: RunId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE steps SET outcome = CASE state WHEN 'running' THEN 'error' ELSE 'skipped' END, \
             message = CASE state WHEN 'running' THEN 'interrupted: Kennel stopped while this step was under way' \
             ELSE 'Kennel stopped before its turn' END, state = 'ended', ended_at = $2 \
             WHERE suite_run = $1 AND state <> 'ended'",
        )
        .bind(run.to_string())
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("end the steps of an interrupted run"))?;
        Ok(())
    }
}

fn get<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::database("read a suite's run"))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    get::<String>(row, column)?.parse().map_err(StoreError::broken("word in a suite's run"))
}

fn optional_word<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(StoreError::broken("word in a suite's run"))).transpose()
}

fn number(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}

/// A run in a few words, from its row.
pub(super) fn summary(row: &SqliteRow) -> Result<SuiteRunSummary, StoreError> {
    let version: Option<i64> = get(row, "version")?;
    Ok(SuiteRunSummary {
        id: word(row, "id")?,
        suite: get(row, "suite")?,
        version: version.map(number),
        state: word(row, "state")?,
        verdict: optional_word(row, "verdict")?,
        reasons: from_json("list of reasons", get(row, "reasons")?)?,
        origin: word(row, "origin")?,
        started_by: get(row, "started_by")?,
        rerun_of: optional_word(row, "rerun_of")?,
        attempt: number(get(row, "attempt")?),
        parameters: from_json("set of parameters", get(row, "parameters")?)?,
        labels: from_json("list of labels", get(row, "labels")?)?,
        priority: i32::try_from(get::<i64>(row, "priority")?).unwrap_or_default(),
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
        tests: OutcomeCounts {
            passed: number(get(row, "passed")?),
            failed: number(get(row, "failed")?),
            error: number(get(row, "error")?),
            skipped: number(get(row, "skipped")?),
        },
    })
}

fn stored(row: &SqliteRow) -> Result<StoredSuiteRun, StoreError> {
    Ok(StoredSuiteRun {
        summary: summary(row)?,
        source: get(row, "source")?,
        only: from_json("list of steps", get(row, "steps_only")?)?,
    })
}

fn step(row: &SqliteRow) -> Result<StepView, StoreError> {
    Ok(StepView {
        path: get(row, "path")?,
        attempt: number(get(row, "attempt")?),
        name: get(row, "name")?,
        kind: word(row, "kind")?,
        state: word::<StepState>(row, "state")?,
        outcome: optional_word(row, "outcome")?,
        message: get(row, "message")?,
        run: optional_word(row, "run")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
        has_log: get::<i64>(row, "has_log")? != 0,
        agent: get(row, "agent")?,
        assertions: from_json("list of assertions", get(row, "assertions")?)?,
    })
}
