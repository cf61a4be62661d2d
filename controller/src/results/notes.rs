//! Notes, labels and pins: what people add to runs and tests.

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{Annotations, NoteView};

use crate::store::{Subject, moment as moment_text};
use crate::{Caller, Controller, StoreError};

/// Longest note, in characters.
const LONGEST_NOTE: usize = 10_000;
/// Most labels of a run, and the longest in characters.
const MOST_LABELS: usize = 30;
const LONGEST_LABEL: usize = 60;

/// A note or label could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// There is nothing to add it to.
    #[error("there is no {what} {id}")]
    NotFound {
        /// `run`, `run of a suite` or `test`.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// It is not fit to keep.
    #[error("{field}: {why}")]
    Field {
        /// `text` or `labels`.
        field: &'static str,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// Labels, notes and pin of a run, of an experiment or of a suite; absent when there is no such run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn annotations(&self, id: RunId) -> Result<Option<Annotations>, StoreError> {
        let Some(subject) = self.subject(id).await? else { return Ok(None) };
        let store = &self.inner.store;
        Ok(Some(Annotations {
            labels: store.labels(subject).await?.unwrap_or_default(),
            notes: store.notes(subject).await?,
            pinned: store.is_pinned(id).await?,
        }))
    }

    /// Adds a note to a run, of an experiment or of a suite.
    ///
    /// # Errors
    /// When there is no such run, the note is empty or too long, or the store cannot be written.
    pub async fn add_run_note(&self, caller: &Caller, id: RunId, text: &str) -> Result<NoteView, NoteError> {
        let subject = self.subject(id).await?;
        let subject = subject.ok_or_else(|| NoteError::NotFound { what: "run", id: id.to_string() })?;
        self.add_note(caller, subject, text).await
    }

    /// Adds a note to a test.
    ///
    /// # Errors
    /// When there is no such test, the note is empty or too long, or the store cannot be written.
    pub async fn add_test_note(&self, caller: &Caller, test: i64, text: &str) -> Result<NoteView, NoteError> {
        if self.inner.store.test(test).await?.is_none() {
            return Err(NoteError::NotFound { what: "test", id: test.to_string() });
        }
        self.add_note(caller, Subject::Test(test), text).await
    }

    async fn add_note(&self, caller: &Caller, subject: Subject, text: &str) -> Result<NoteView, NoteError> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > LONGEST_NOTE {
            let why = format!("expected 1 to {LONGEST_NOTE} characters");
            return Err(NoteError::Field { field: "text", why });
        }
        let at = moment_text(Timestamp::now());
        let note = self.inner.store.add_note(subject, text, &caller.name, &at).await?;
        self.record(caller, "add note", &subject.key(), text).await?;
        Ok(note)
    }

    /// Sets the labels of a run, of an experiment or of a suite; answers them as they are kept.
    ///
    /// # Errors
    /// When there is no such run, a label is not fit, or the store cannot be written.
    pub async fn set_run_labels(
        &self,
        caller: &Caller,
        id: RunId,
        labels: &[String],
    ) -> Result<Vec<String>, NoteError> {
        let labels = tidy_labels(labels)?;
        let subject = self.subject(id).await?;
        let subject = subject.ok_or_else(|| NoteError::NotFound { what: "run", id: id.to_string() })?;
        self.inner.store.set_labels(subject, &labels).await?;
        self.record(caller, "set labels", &subject.key(), &labels.join(", ")).await?;
        Ok(labels)
    }

    /// Pins a run of a suite, so that its artifacts stay whatever the retention says, or lets it go.
    ///
    /// # Errors
    /// When there is no such run, or the store cannot be written.
    pub async fn pin(&self, caller: &Caller, run: RunId, pinned: bool) -> Result<(), NoteError> {
        if !self.inner.store.pin(run, pinned).await? {
            return Err(NoteError::NotFound { what: "run of a suite", id: run.to_string() });
        }
        self.record(caller, if pinned { "pin" } else { "unpin" }, &run.to_string(), "").await?;
        Ok(())
    }

    async fn subject(&self, id: RunId) -> Result<Option<Subject>, StoreError> {
        for subject in [Subject::SuiteRun(id), Subject::Run(id)] {
            if self.inner.store.labels(subject).await?.is_some() {
                return Ok(Some(subject));
            }
        }
        Ok(None)
    }
}

/// Labels without blanks and repetitions.
pub(super) fn tidy_labels(labels: &[String]) -> Result<Vec<String>, NoteError> {
    let mut tidy: Vec<String> = Vec::new();
    for label in labels.iter().map(|label| label.trim()).filter(|label| !label.is_empty()) {
        if label.chars().count() > LONGEST_LABEL || label.contains(|c: char| c.is_control() || c == ',') {
            let why = format!("`{label}` is no label; expected up to {LONGEST_LABEL} characters without a comma");
            return Err(NoteError::Field { field: "labels", why });
        }
        if !tidy.iter().any(|known| known == label) {
            tidy.push(label.to_owned());
        }
    }
    if tidy.len() > MOST_LABELS {
        let why = format!("{} labels; expected {MOST_LABELS} at most", tidy.len());
        return Err(NoteError::Field { field: "labels", why });
    }
    Ok(tidy)
}
