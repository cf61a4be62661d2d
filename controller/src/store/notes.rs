//! What people add to runs and tests: notes, labels, pins.

use kennel_model::RunId;
use kennel_model::api::NoteView;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, from_json, to_json};

/// What a note or label is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A run of an experiment.
    Run(RunId),
    /// A run of a suite.
    SuiteRun(RunId),
    /// A test.
    Test(i64),
}

impl Subject {
    fn kind(self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::SuiteRun(_) => "suite-run",
            Self::Test(_) => "test",
        }
    }

    /// Its identity as text.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Run(id) | Self::SuiteRun(id) => id.to_string(),
            Self::Test(id) => id.to_string(),
        }
    }
}

impl Store {
    /// Keeps a note.
    pub(crate) async fn add_note(
        &self,
        subject: Subject,
        text: &str,
        author: &str,
        at: &str,
    ) -> Result<NoteView, StoreError> {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO notes (kind, subject, text, author, at) VALUES ($1, $2, $3, $4, $5) RETURNING id",
        )
        .bind(subject.kind())
        .bind(subject.key())
        .bind(text)
        .bind(author)
        .bind(at)
        .fetch_one(&self.writer)
        .await
        .map_err(StoreError::database("keep a note"))?;
        Ok(NoteView { id, text: text.to_owned(), author: author.to_owned(), at: at.to_owned() })
    }

    /// Notes, newest first.
    pub(crate) async fn notes(&self, subject: Subject) -> Result<Vec<NoteView>, StoreError> {
        let rows =
            sqlx::query("SELECT id, text, author, at FROM notes WHERE kind = $1 AND subject = $2 ORDER BY id DESC")
                .bind(subject.kind())
                .bind(subject.key())
                .fetch_all(&self.reader)
                .await
                .map_err(StoreError::database("read notes"))?;
        let note = |row: &SqliteRow| {
            Ok(NoteView { id: row.try_get(0)?, text: row.try_get(1)?, author: row.try_get(2)?, at: row.try_get(3)? })
        };
        rows.iter().map(note).collect::<Result<_, sqlx::Error>>().map_err(StoreError::database("read notes"))
    }

    /// Sets a run's labels; answers whether there is such a run.
    pub(crate) async fn set_labels(&self, subject: Subject, labels: &[String]) -> Result<bool, StoreError> {
        let statement = match subject {
            Subject::Run(_) => "UPDATE runs SET labels = $2 WHERE id = $1",
            Subject::SuiteRun(_) => "UPDATE suite_runs SET labels = $2 WHERE id = $1",
            Subject::Test(_) => return Ok(false),
        };
        let updated = sqlx::query(statement)
            .bind(subject.key())
            .bind(to_json("list of labels", &labels)?)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("set a run's labels"))?;
        Ok(updated.rows_affected() > 0)
    }

    /// Labels of a run; absent when there is no such run.
    pub(crate) async fn labels(&self, subject: Subject) -> Result<Option<Vec<String>>, StoreError> {
        let statement = match subject {
            Subject::Run(_) => "SELECT labels FROM runs WHERE id = $1",
            Subject::SuiteRun(_) => "SELECT labels FROM suite_runs WHERE id = $1",
            Subject::Test(_) => "SELECT tags FROM tests WHERE id = $1",
        };
        let labels: Option<String> = sqlx::query_scalar(statement)
            .bind(subject.key())
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a run's labels"))?;
        labels.map(|labels| from_json("list of labels", &labels)).transpose()
    }

    /// Pins a suite's run or lets it go; answers whether there is such a run.
    pub(crate) async fn pin(&self, run: RunId, pinned: bool) -> Result<bool, StoreError> {
        let updated = sqlx::query("UPDATE suite_runs SET pinned = $2 WHERE id = $1")
            .bind(run.to_string())
            .bind(i64::from(pinned))
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("pin a run"))?;
        Ok(updated.rows_affected() > 0)
    }

    /// Whether a suite's run is pinned.
    pub(crate) async fn is_pinned(&self, run: RunId) -> Result<bool, StoreError> {
        let pinned: Option<i64> = sqlx::query_scalar("SELECT pinned FROM suite_runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a run's pin"))?;
        Ok(pinned.is_some_and(|pinned| pinned != 0))
    }
}
