//! What is known of artifacts; their bytes lie on disk.

use kennel_model::RunId;
use kennel_model::api::{ArtifactView, Retention, StorageView};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, count, integer};

const READING: &str = "read artifacts";

impl Store {
    /// Keeps what is known of an artifact.
    pub(crate) async fn insert_artifact(&self, artifact: &ArtifactView) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO artifacts (id, suite_run, step, attempt, name, media_type, bytes, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(artifact.id.to_string())
        .bind(artifact.suite_run.to_string())
        .bind(&artifact.step)
        .bind(i64::from(artifact.attempt))
        .bind(&artifact.name)
        .bind(&artifact.media_type)
        .bind(integer(artifact.bytes))
        .bind(&artifact.created_at)
        .execute(&self.writer)
        .await
        .map(|_| ())
        .map_err(StoreError::database("keep an artifact"))
    }

    /// Artifacts of a run, by step and name.
    pub(crate) async fn artifacts(&self, run: RunId) -> Result<Vec<ArtifactView>, StoreError> {
        let rows = sqlx::query("SELECT * FROM artifacts WHERE suite_run = $1 ORDER BY step, attempt, name, id")
            .bind(run.to_string())
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        rows.iter().map(artifact).collect()
    }

    /// One artifact.
    pub(crate) async fn artifact(&self, id: RunId) -> Result<Option<ArtifactView>, StoreError> {
        let row = sqlx::query("SELECT * FROM artifacts WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        row.as_ref().map(artifact).transpose()
    }

    /// Forgets an artifact.
    pub(crate) async fn delete_artifact(&self, id: RunId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM artifacts WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.writer)
            .await
            .map(|_| ())
            .map_err(StoreError::database("forget an artifact"))
    }

    /// Artifacts that the retention lets go, oldest first: those kept before `before`, and the oldest beyond
    /// `total_bytes`. Those of pinned runs and of runs that are not over stay, but count.
    pub(crate) async fn outdated_artifacts(
        &self,
        before: Option<&str>,
        total_bytes: Option<u64>,
    ) -> Result<Vec<ArtifactView>, StoreError> {
        let (_, mut bytes) = self.artifact_totals().await?;
        let rows = sqlx::query(
            "SELECT a.* FROM artifacts a JOIN suite_runs r ON r.id = a.suite_run \
             WHERE r.pinned = 0 AND r.state = 'ended' ORDER BY a.id",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(READING))?;
        let mut outdated = Vec::new();
        for row in &rows {
            let artifact = artifact(row)?;
            let is_old = before.is_some_and(|before| artifact.created_at.as_str() < before);
            let is_beyond = total_bytes.is_some_and(|most| bytes > most);
            if !is_old && !is_beyond {
                break;
            }
            bytes = bytes.saturating_sub(artifact.bytes);
            outdated.push(artifact);
        }
        Ok(outdated)
    }

    async fn artifact_totals(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM artifacts")
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        let number = |at: usize| row.try_get::<i64, _>(at).map(count).map_err(StoreError::database(READING));
        Ok((number(0)?, number(1)?))
    }

    /// Artifacts of the whole data directory in numbers.
    pub(crate) async fn storage(&self) -> Result<StorageView, StoreError> {
        let (artifacts, bytes) = self.artifact_totals().await?;
        let pinned: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM suite_runs WHERE pinned <> 0")
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        let (runs, suite_runs, database): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM runs), (SELECT COUNT(*) FROM suite_runs), \
             (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)",
        )
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database(READING))?;
        Ok(StorageView {
            retention: self.retention().await?,
            artifacts,
            bytes,
            pinned_runs: count(pinned),
            database_bytes: count(database),
            runs: count(runs),
            suite_runs: count(suite_runs),
        })
    }

    /// How long artifacts stay.
    pub(crate) async fn retention(&self) -> Result<Retention, StoreError> {
        let failed = || StoreError::database("read the retention");
        let row = sqlx::query("SELECT days, total_bytes FROM retention WHERE id = 1")
            .fetch_one(&self.reader)
            .await
            .map_err(failed())?;
        let days: Option<i64> = row.try_get(0).map_err(failed())?;
        let total_bytes: Option<i64> = row.try_get(1).map_err(failed())?;
        let days = days.map(|days| u32::try_from(days).unwrap_or(u32::MAX));
        Ok(Retention { days, total_bytes: total_bytes.map(count) })
    }

    /// Changes how long artifacts stay.
    pub(crate) async fn set_retention(&self, retention: Retention) -> Result<(), StoreError> {
        sqlx::query("UPDATE retention SET days = $1, total_bytes = $2 WHERE id = 1")
            .bind(retention.days.map(i64::from))
            .bind(retention.total_bytes.map(integer))
            .execute(&self.writer)
            .await
            .map(|_| ())
            .map_err(StoreError::database("keep the retention"))
    }
}

fn artifact(row: &SqliteRow) -> Result<ArtifactView, StoreError> {
    fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        row: &'r SqliteRow,
        column: &'static str,
    ) -> Result<T, StoreError> {
        row.try_get(column).map_err(StoreError::database(READING))
    }
    let id = |column| get::<String>(row, column)?.parse().map_err(StoreError::broken("id of an artifact"));
    Ok(ArtifactView {
        id: id("id")?,
        suite_run: id("suite_run")?,
        step: get(row, "step")?,
        attempt: u32::try_from(get::<i64>(row, "attempt")?).unwrap_or_default(),
        name: get(row, "name")?,
        media_type: get(row, "media_type")?,
        bytes: count(get(row, "bytes")?),
        created_at: get(row, "created_at")?,
    })
}
