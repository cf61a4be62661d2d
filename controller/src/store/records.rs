//! What happened in a run besides measurements: steps of faults, audits, warnings and guards.

use kennel_model::RunId;
use kennel_model::api::ObjectiveView;
use kennel_model::protocol::AuditReport;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, count, from_json, integer, to_json};
use crate::runs::phases::FaultStep;

const READING: &str = "read what happened in a run";

impl Store {
    /// Appends a step of a fault.
    pub(crate) async fn append_fault_step(
        &self,
        run: RunId,
        position: usize,
        step: &FaultStep,
    ) -> Result<(), StoreError> {
        let statement = "INSERT INTO fault_events (run, position, fault, state, at_ms, detail) \
                         VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(statement)
            .bind(run.to_string())
            .bind(integer(position as u64))
            .bind(&step.fault)
            .bind(step.state.word())
            .bind(integer(step.at_ms))
            .bind(&step.detail)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("keep a step of a fault"))?;
        Ok(())
    }

    /// Steps of a run's faults in the order in which they were reported.
    pub(crate) async fn fault_steps(&self, run: RunId) -> Result<Vec<FaultStep>, StoreError> {
        let rows = self.rows("SELECT * FROM fault_events WHERE run = $1 ORDER BY position", run).await?;
        let step = |row: &SqliteRow| {
            let state: String = get(row, "state")?;
            Ok(FaultStep {
                fault: get(row, "fault")?,
                state: serde_json::from_value(state.into()).map_err(StoreError::broken("state of a fault"))?,
                at_ms: count(row.try_get("at_ms").map_err(StoreError::database(READING))?),
                detail: get(row, "detail")?,
            })
        };
        rows.iter().map(step).collect()
    }

    /// Appends a warning.
    pub(crate) async fn append_warning(&self, run: RunId, position: usize, message: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO warnings (run, position, message) VALUES ($1, $2, $3)")
            .bind(run.to_string())
            .bind(integer(position as u64))
            .bind(message)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("keep a warning"))?;
        Ok(())
    }

    /// Warnings of a run in order.
    pub(crate) async fn warnings(&self, run: RunId) -> Result<Vec<String>, StoreError> {
        let rows = self.rows("SELECT message FROM warnings WHERE run = $1 ORDER BY position", run).await?;
        rows.iter().map(|row| get(row, "message")).collect()
    }

    /// Keeps what the audits of a run found.
    pub(crate) async fn keep_audits(&self, run: RunId, audits: &[AuditReport]) -> Result<(), StoreError> {
        for (position, audit) in audits.iter().enumerate() {
            sqlx::query("INSERT INTO audits (run, position, report) VALUES ($1, $2, $3)")
                .bind(run.to_string())
                .bind(integer(position as u64))
                .bind(to_json("audit", audit)?)
                .execute(&self.writer)
                .await
                .map_err(StoreError::database("keep an audit"))?;
        }
        Ok(())
    }

    /// What the audits of a run found.
    pub(crate) async fn audits(&self, run: RunId) -> Result<Vec<AuditReport>, StoreError> {
        let rows = self.rows("SELECT report FROM audits WHERE run = $1 ORDER BY position", run).await?;
        rows.iter().map(|row| from_json("audit", &get(row, "report")?)).collect()
    }

    /// Keeps the guards of a run as they were evaluated last.
    pub(crate) async fn keep_guards(&self, run: RunId, guards: &[ObjectiveView]) -> Result<(), StoreError> {
        for (position, view) in guards.iter().enumerate() {
            sqlx::query("INSERT INTO guards (run, position, view) VALUES ($1, $2, $3)")
                .bind(run.to_string())
                .bind(integer(position as u64))
                .bind(to_json("guard", view)?)
                .execute(&self.writer)
                .await
                .map_err(StoreError::database("keep a guard"))?;
        }
        Ok(())
    }

    /// The guards of a run as they were evaluated last; none while it has not ended.
    pub(crate) async fn guards(&self, run: RunId) -> Result<Vec<ObjectiveView>, StoreError> {
        let rows = self.rows("SELECT view FROM guards WHERE run = $1 ORDER BY position", run).await?;
        rows.iter().map(|row| from_json("guard", &get(row, "view")?)).collect()
    }

    async fn rows(&self, statement: &'static str, run: RunId) -> Result<Vec<SqliteRow>, StoreError> {
        let query = sqlx::query(statement).bind(run.to_string());
        query.fetch_all(&self.reader).await.map_err(StoreError::database(READING))
    }
}

fn get(row: &SqliteRow, column: &'static str) -> Result<String, StoreError> {
    row.try_get(column).map_err(StoreError::database(READING))
}
