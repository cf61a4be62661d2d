//! Schedules and what became of each of their occurrences.

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{OccurrenceState, OccurrenceView, Pause, QueueKind, ScheduleDraft, ScheduleId, StepState};
use kennel_model::run::RunState;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite};

use super::{Store, StoreError, from_json, now, to_json};

/// Latest occurrences among which runs that are not over are looked for: more than are ever caught up with.
const LOOKED_AT: i64 = 60;

/// A schedule as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredSchedule {
    pub(crate) id: ScheduleId,
    pub(crate) draft: ScheduleDraft,
    pub(crate) pause: Option<Pause>,
    pub(crate) created_at: String,
    pub(crate) author: String,
    /// Every occurrence up to this moment has its row.
    pub(crate) handled_at: Timestamp,
}

/// An occurrence to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewOccurrence {
    pub(crate) due_at: Timestamp,
    pub(crate) state: OccurrenceState,
    pub(crate) reason: String,
    /// The run that it is about to have.
    pub(crate) run: Option<RunId>,
}

/// An occurrence that is being handed in, or waits to be.
#[derive(Debug, Clone)]
pub(crate) struct Unsettled {
    pub(crate) schedule: ScheduleId,
    pub(crate) due_at: Timestamp,
    pub(crate) state: OccurrenceState,
    pub(crate) reason: String,
    pub(crate) kind: QueueKind,
    pub(crate) run: Option<RunId>,
}

/// A moment as it is kept here: whole seconds, always of the same length, so that text sorts as time does.
pub(super) fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

impl Store {
    /// Every schedule, by name.
    pub(crate) async fn schedules(&self) -> Result<Vec<StoredSchedule>, StoreError> {
        let rows = sqlx::query("SELECT * FROM schedules ORDER BY name, id").fetch_all(&self.reader).await;
        rows.map_err(StoreError::database("list schedules"))?.iter().map(schedule).collect()
    }

    /// One schedule.
    pub(crate) async fn schedule(&self, id: ScheduleId) -> Result<Option<StoredSchedule>, StoreError> {
        let row = sqlx::query("SELECT * FROM schedules WHERE id = $1").bind(id.to_string());
        let row = row.fetch_optional(&self.reader).await.map_err(StoreError::database("read a schedule"))?;
        row.as_ref().map(schedule).transpose()
    }

    /// The schedule of a name.
    pub(crate) async fn schedule_named(&self, name: &str) -> Result<Option<StoredSchedule>, StoreError> {
        let row = sqlx::query("SELECT * FROM schedules WHERE name = $1").bind(name);
        let row = row.fetch_optional(&self.reader).await.map_err(StoreError::database("read a schedule"))?;
        row.as_ref().map(schedule).transpose()
    }

    /// Keeps a schedule, new or changed; occurrences up to `handled_at` are not its own. False when its name is taken.
    pub(crate) async fn save_schedule(
        &self,
        id: ScheduleId,
        draft: &ScheduleDraft,
        author: &str,
        handled_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let saved = sqlx::query(
            "INSERT INTO schedules (id, name, draft, created_at, author, handled_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, draft = excluded.draft, author = excluded.author,
             handled_at = excluded.handled_at",
        )
        .bind(id.to_string())
        .bind(&draft.name)
        .bind(to_json("schedule", draft)?)
        .bind(now())
        .bind(author)
        .bind(second(handled_at))
        .execute(&self.writer)
        .await;
        match saved {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(StoreError::database("keep a schedule")(error)),
        }
    }

    /// Pauses a schedule, or ends its pause.
    pub(crate) async fn set_pause(&self, id: ScheduleId, pause: Option<&Pause>) -> Result<(), StoreError> {
        sqlx::query("UPDATE schedules SET paused = $2, paused_until = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(i64::from(pause.is_some()))
            .bind(pause.and_then(|pause| pause.until.clone()))
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("pause a schedule"))?;
        Ok(())
    }

    /// Forgets a schedule and its occurrences; its runs stay.
    pub(crate) async fn remove_schedule(&self, id: ScheduleId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM schedules WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("remove a schedule"))?;
        Ok(())
    }

    /// Keeps what is to become of occurrences, and that all up to `handled_at` have been looked at: both or nothing.
    /// Answers those that were not kept already.
    pub(crate) async fn note_occurrences(
        &self,
        schedule: &StoredSchedule,
        occurrences: Vec<NewOccurrence>,
        handled_at: Timestamp,
    ) -> Result<Vec<NewOccurrence>, StoreError> {
        let failed = || StoreError::database("keep what was due");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let noted_at = now();
        let mut kept = Vec::new();
        for occurrence in occurrences {
            let inserted = sqlx::query(
                "INSERT INTO occurrences (schedule, due_at, state, reason, kind, run, noted_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (schedule, due_at) DO NOTHING",
            )
            .bind(schedule.id.to_string())
            .bind(second(occurrence.due_at))
            .bind(occurrence.state.word())
            .bind(&occurrence.reason)
            .bind(schedule.draft.kind.word())
            .bind(occurrence.run.map(|run| run.to_string()))
            .bind(&noted_at)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
            if inserted.rows_affected() == 1 {
                kept.push(occurrence);
            }
        }
        sqlx::query("UPDATE schedules SET handled_at = $2 WHERE id = $1 AND handled_at < $2")
            .bind(schedule.id.to_string())
            .bind(second(handled_at))
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(kept)
    }

    /// Keeps what became of an occurrence.
    pub(crate) async fn settle_occurrence(
        &self,
        schedule: ScheduleId,
        due_at: Timestamp,
        state: OccurrenceState,
        reason: &str,
        run: Option<RunId>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE occurrences SET state = $3, reason = $4, run = $5, noted_at = $6 WHERE schedule = $1 AND due_at = $2",
        )
        .bind(schedule.to_string())
        .bind(second(due_at))
        .bind(state.word())
        .bind(reason)
        .bind(run.map(|run| run.to_string()))
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep what became of an occurrence"))?;
        Ok(())
    }

    /// Occurrences that are being handed in or wait, the earliest first.
    pub(crate) async fn unsettled_occurrences(&self) -> Result<Vec<Unsettled>, StoreError> {
        let rows = sqlx::query("SELECT * FROM occurrences WHERE state IN ('starting', 'waiting') ORDER BY due_at")
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read what is to be started"))?;
        rows.iter()
            .map(|row| {
                Ok(Unsettled {
                    schedule: word(row, "schedule")?,
                    due_at: word(row, "due_at")?,
                    state: word(row, "state")?,
                    reason: get(row, "reason")?,
                    kind: word(row, "kind")?,
                    run: optional_word(row, "run")?,
                })
            })
            .collect()
    }

    /// Runs that a schedule started and that are not over.
    pub(crate) async fn runs_of_schedule_under_way(
        &self,
        schedule: ScheduleId,
    ) -> Result<Vec<(RunId, QueueKind)>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.run, o.kind, r.state AS run_state, s.state AS suite_state FROM occurrences o
             LEFT JOIN runs r ON r.id = o.run LEFT JOIN suite_runs s ON s.id = o.run
             WHERE o.schedule = $1 AND o.state = 'started' ORDER BY o.due_at DESC LIMIT $2",
        )
        .bind(schedule.to_string())
        .bind(LOOKED_AT)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read what a schedule started"))?;
        let mut under_way = Vec::new();
        for row in &rows {
            let run_state: Option<String> = get(row, "run_state")?;
            let suite_state: Option<String> = get(row, "suite_state")?;
            let is_on = run_state.is_some_and(|state| state != RunState::Judged.word())
                || suite_state.is_some_and(|state| state != StepState::Ended.word());
            if let (true, Some(run)) = (is_on, optional_word(row, "run")?) {
                under_way.push((run, word(row, "kind")?));
            }
        }
        Ok(under_way)
    }

    /// Occurrences from one moment to another, of one schedule or of all, newest first.
    pub(crate) async fn occurrences(
        &self,
        schedule: Option<ScheduleId>,
        from: Timestamp,
        to: Timestamp,
        limit: u32,
    ) -> Result<Vec<OccurrenceView>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.*, c.name, COALESCE(r.verdict, s.verdict) AS verdict FROM occurrences o
             JOIN schedules c ON c.id = o.schedule
             LEFT JOIN runs r ON r.id = o.run LEFT JOIN suite_runs s ON s.id = o.run
             WHERE ($1 IS NULL OR o.schedule = $1) AND o.due_at >= $2 AND o.due_at <= $3
             ORDER BY o.due_at DESC, o.schedule LIMIT $4",
        )
        .bind(schedule.map(|id| id.to_string()))
        .bind(second(from))
        .bind(second(to))
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list occurrences"))?;
        rows.iter().map(occurrence).collect()
    }

    /// The latest occurrences of every schedule, newest first.
    pub(crate) async fn latest_occurrences(&self, each: u32) -> Result<Vec<OccurrenceView>, StoreError> {
        // For each schedule one short walk down its key, whatever the number of occurrences.
        let rows = sqlx::query(
            "SELECT o.*, c.name, COALESCE(r.verdict, s.verdict) AS verdict FROM schedules c
             JOIN occurrences o ON o.schedule = c.id AND o.due_at IN
             (SELECT due_at FROM occurrences WHERE schedule = c.id ORDER BY due_at DESC LIMIT $1)
             LEFT JOIN runs r ON r.id = o.run LEFT JOIN suite_runs s ON s.id = o.run
             ORDER BY o.due_at DESC",
        )
        .bind(i64::from(each))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list the latest occurrences"))?;
        rows.iter().map(occurrence).collect()
    }
}

fn get<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::database("read what belongs to schedules"))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    get::<String>(row, column)?.parse().map_err(StoreError::broken("word of a schedule"))
}

fn optional_word<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(StoreError::broken("word of a schedule"))).transpose()
}

fn schedule(row: &SqliteRow) -> Result<StoredSchedule, StoreError> {
    let paused: i64 = get(row, "paused")?;
    let until = get(row, "paused_until")?;
    Ok(StoredSchedule {
        id: word(row, "id")?,
        draft: from_json("schedule", get(row, "draft")?)?,
        pause: (paused != 0).then_some(Pause { until }),
        created_at: get(row, "created_at")?,
        author: get(row, "author")?,
        handled_at: word(row, "handled_at")?,
    })
}

fn occurrence(row: &SqliteRow) -> Result<OccurrenceView, StoreError> {
    Ok(OccurrenceView {
        schedule: word(row, "schedule")?,
        name: get(row, "name")?,
        due_at: get(row, "due_at")?,
        state: word(row, "state")?,
        reason: get(row, "reason")?,
        kind: word(row, "kind")?,
        run: optional_word(row, "run")?,
        verdict: optional_word(row, "verdict")?,
        noted_at: get(row, "noted_at")?,
    })
}
