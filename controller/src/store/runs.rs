//! Runs themselves: their state, verdict and times.

use jiff::{Timestamp, Unit};
use kennel_model::api::RunSummary;
use kennel_model::{RunId, RunState, ValidExperiment, Verdict};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::standings::{like, like_in_list};
use super::{Judgement, Store, StoreError, count, from_json, integer, to_json};

/// A run as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredRun {
    pub(crate) summary: RunSummary,
    pub(crate) experiment: ValidExperiment,
}

/// The present moment as text, to the millisecond.
pub(crate) fn now() -> String {
    moment(Timestamp::now())
}

/// A moment as text, always with three decimals: texts then sort as the moments do.
pub(crate) fn moment(moment: Timestamp) -> String {
    format!("{:.3}", moment.round(Unit::Millisecond).unwrap_or(moment))
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Those that are older than this one.
    pub before: Option<RunId>,
    /// Those whose experiment or target has this in its name, in any case; all when empty.
    pub name: String,
    /// Those that came to this.
    pub verdict: Option<Verdict>,
    /// Those that carry this label; all when empty.
    pub label: String,
    /// Those with this in their reasons or notes, in any case; all when empty.
    pub text: String,
}

impl RunFilter {
    /// A text as a pattern for `LIKE` with `\` before what stands for itself; empty for any.
    fn pattern(text: &str) -> String {
        let text = text.trim().to_lowercase();
        if text.is_empty() { text } else { like(&text) }
    }

    /// The label as a pattern for JSON lists.
    fn label_pattern(&self) -> String {
        let label = self.label.trim();
        if label.is_empty() { String::new() } else { like_in_list(label) }
    }
}

impl Store {
    /// Keeps a new run, queued.
    pub(crate) async fn insert_run(&self, id: RunId, experiment: &ValidExperiment) -> Result<RunSummary, StoreError> {
        let summary = RunSummary {
            id,
            name: experiment.experiment().name.clone(),
            target: experiment.target().name.clone(),
            state: RunState::Queued,
            verdict: None,
            reasons: Vec::new(),
            created_at: now(),
            started_at: None,
            ended_at: None,
            planned_s: experiment.experiment().load.duration().as_secs_f64(),
            measured_s: 0,
        };
        let statement = "INSERT INTO runs (id, name, target, state, reasons, experiment, planned_s, created_at) \
                         VALUES ($1, $2, $3, $4, '[]', $5, $6, $7)";
        sqlx::query(statement)
            .bind(id.to_string())
            .bind(&summary.name)
            .bind(&summary.target)
            .bind(summary.state.word())
            .bind(to_json("experiment", experiment)?)
            .bind(summary.planned_s)
            .bind(&summary.created_at)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("keep a new run"))?;
        Ok(summary)
    }

    /// Keeps a run's state.
    pub(crate) async fn set_state(&self, id: RunId, state: RunState) -> Result<(), StoreError> {
        sqlx::query("UPDATE runs SET state = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(state.word())
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("keep a run's state"))?;
        Ok(())
    }

    /// Keeps that a run's load starts now; answers the moment.
    pub(crate) async fn set_started(&self, id: RunId) -> Result<String, StoreError> {
        let started_at = now();
        sqlx::query("UPDATE runs SET started_at = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(&started_at)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("keep a run's start"))?;
        Ok(started_at)
    }

    /// Keeps how a run ended and what it came to: both or, on an error, nothing.
    pub(crate) async fn finish_run(
        &self,
        run: &RunSummary,
        judgement: Option<Judgement<'_>>,
    ) -> Result<(), StoreError> {
        let doing = "keep a verdict";
        let mut transaction = self.writer.begin().await.map_err(StoreError::database(doing))?;
        sqlx::query("UPDATE runs SET state = $2, verdict = $3, reasons = $4, ended_at = $5 WHERE id = $1")
            .bind(run.id.to_string())
            .bind(run.state.word())
            .bind(run.verdict.map(Verdict::word))
            .bind(to_json("list of reasons", &run.reasons)?)
            .bind(&run.ended_at)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(doing))?;
        if let Some(judgement) = judgement {
            Self::insert_judgement(&mut transaction, run.id, judgement).await?;
        }
        transaction.commit().await.map_err(StoreError::database(doing))
    }

    /// Gives every run that was not over the verdict `error`; answers which.
    pub(crate) async fn mark_interrupted(&self) -> Result<Vec<RunId>, StoreError> {
        let doing = "find interrupted runs";
        let rows = sqlx::query("SELECT * FROM runs WHERE state <> $1 ORDER BY id")
            .bind(RunState::Judged.word())
            .fetch_all(&self.writer)
            .await
            .map_err(StoreError::database(doing))?;
        let mut marked = Vec::new();
        for row in &rows {
            let mut run = summary(row)?;
            let reason = format!(
                "interrupted: Kennel stopped while this run was in {}; {} s of measurements were kept",
                run.state, run.measured_s
            );
            (run.state, run.verdict) = (RunState::Judged, Some(Verdict::Error));
            (run.reasons, run.ended_at) = (vec![reason], Some(now()));
            self.finish_run(&run, None).await?;
            marked.push(run.id);
        }
        Ok(marked)
    }

    /// Runs, newest first, as the filter wants them.
    pub(crate) async fn list_runs(&self, limit: u32, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        // Every UUID sorts before `g`.
        let before = filter.before.map_or_else(|| "g".to_owned(), |id| id.to_string());
        let statement = "SELECT * FROM runs WHERE id < $1 AND ($3 = '' OR verdict = $3) \
                         AND ($4 = '' OR lower(name) LIKE $4 ESCAPE '\\' OR lower(target) LIKE $4 ESCAPE '\\') \
                         AND ($5 = '' OR labels LIKE $5 ESCAPE '\\') \
                         AND ($6 = '' OR lower(reasons) LIKE $6 ESCAPE '\\' OR id IN (SELECT subject FROM notes \
                         WHERE kind = 'run' AND lower(text) LIKE $6 ESCAPE '\\')) \
                         ORDER BY id DESC LIMIT $2";
        let rows = sqlx::query(statement)
            .bind(before)
            .bind(i64::from(limit))
            .bind(filter.verdict.map_or("", Verdict::word))
            .bind(RunFilter::pattern(&filter.name))
            .bind(filter.label_pattern())
            .bind(RunFilter::pattern(&filter.text))
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("list runs"))?;
        rows.iter().map(summary).collect()
    }

    /// One run.
    pub(crate) async fn run(&self, id: RunId) -> Result<Option<StoredRun>, StoreError> {
        let row = sqlx::query("SELECT * FROM runs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a run"))?;
        let Some(row) = row else { return Ok(None) };
        let experiment: String = get(&row, "experiment")?;
        Ok(Some(StoredRun { summary: summary(&row)?, experiment: from_json("experiment", &experiment)? }))
    }

    /// The run that is `back` runs older than the newest.
    pub(crate) async fn nth_last_run(&self, back: u32) -> Result<Option<RunId>, StoreError> {
        let row = sqlx::query("SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET $1")
            .bind(i64::from(back))
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("find a run"))?;
        row.as_ref().map(id).transpose()
    }

    /// Runs whose id, without hyphens, begins or ends with `digits` (lower-case hexadecimal); newest first, a few.
    pub(crate) async fn runs_like(&self, digits: &str) -> Result<Vec<RunId>, StoreError> {
        let statement = "SELECT id FROM runs WHERE replace(id, '-', '') LIKE $1 OR replace(id, '-', '') LIKE $2 \
                         ORDER BY id DESC LIMIT 10";
        let rows = sqlx::query(statement)
            .bind(format!("{digits}%"))
            .bind(format!("%{digits}"))
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("find a run"))?;
        rows.iter().map(id).collect()
    }

    /// Keeps how many seconds of a run were measured.
    pub(super) async fn set_measured(
        transaction: &mut sqlx::SqliteConnection,
        id: RunId,
        seconds: u32,
    ) -> Result<(), sqlx::Error> {
        let statement = "UPDATE runs SET measured_s = $2 WHERE id = $1";
        sqlx::query(statement)
            .bind(id.to_string())
            .bind(integer(u64::from(seconds)))
            .execute(transaction)
            .await
            .map(|_| ())
    }
}

fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::database("read a run"))
}

fn id(row: &SqliteRow) -> Result<RunId, StoreError> {
    get::<String>(row, "id")?.parse().map_err(StoreError::broken("run id"))
}

fn summary(row: &SqliteRow) -> Result<RunSummary, StoreError> {
    let state: String = get(row, "state")?;
    let verdict: Option<String> = get(row, "verdict")?;
    let reasons: String = get(row, "reasons")?;
    Ok(RunSummary {
        id: id(row)?,
        name: get(row, "name")?,
        target: get(row, "target")?,
        state: state.parse().map_err(StoreError::broken("run state"))?,
        verdict: verdict.map(|word| word.parse()).transpose().map_err(StoreError::broken("verdict"))?,
        reasons: from_json("list of reasons", &reasons)?,
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
        planned_s: get(row, "planned_s")?,
        measured_s: u32::try_from(count(get(row, "measured_s")?)).unwrap_or(u32::MAX),
    })
}
