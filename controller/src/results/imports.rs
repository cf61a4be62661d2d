//! Results that other systems hand in: read whole, then kept whole; what cannot be read leaves nothing behind.

use std::io::BufReader;
use std::path::Path;

use jiff::Timestamp;
use kennel_model::api::{Imported, Origin, OutcomeCounts, StepState, SuiteRunSummary};
use kennel_model::{RunId, Verdict};
use kennel_results::{Format, ReadError};

use super::notes::tidy_labels;
use crate::artifacts::ArtifactSource;
use crate::happenings::Happening;
use crate::store::{IMPORT_STEP, moment as moment_text};
use crate::{Caller, Controller, NoteError, StoreError};

/// Longest name of a suite, in characters.
const LONGEST_NAME: usize = 200;

/// What an import is to be kept as.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Name of the suite whose history it belongs to.
    pub suite: String,
    /// Labels of the run.
    pub labels: Vec<String>,
    /// Format; looked at where none is named.
    pub format: Option<Format>,
    /// Name of the file, for people.
    pub file: String,
}

/// Results could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// `suite` or `labels`.
        field: &'static str,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// The document cannot be read.
    #[error("{file} was not imported: {error}")]
    Unreadable {
        /// Name of the file.
        file: String,
        /// Why.
        error: ReadError,
    },
    /// The document holds no result.
    #[error("{file} was not imported: it holds no test")]
    NoTests {
        /// Name of the file.
        file: String,
    },
    /// The upload is too large.
    #[error("the upload has more than {} MB; split it by suite", limit / 1_000_000)]
    TooLarge {
        /// The most bytes that are taken.
        limit: u64,
    },
    /// The document could not be set aside while it arrived.
    #[error("the upload could not be kept on disk: {0}")]
    Disk(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// Reads the results in a file and keeps them as a run of a suite, with the file as its artifact.
    ///
    /// # Errors
    /// When a field is wrong, the file cannot be read (the error names the line), or the store cannot be written; then
    /// nothing was kept.
    pub async fn import_file(
        &self,
        caller: &Caller,
        request: &ImportRequest,
        path: &Path,
    ) -> Result<Imported, ImportError> {
        let suite = suite_name(&request.suite)?;
        let labels = tidy_labels(&request.labels).map_err(|error| match error {
            NoteError::Field { why, .. } => ImportError::Field { field: "labels", why },
            other => ImportError::Field { field: "labels", why: other.to_string() },
        })?;
        let file = shown_name(&request.file);
        let (format, from) = (request.format, path.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let document = std::fs::File::open(from)?;
            kennel_results::read(format, BufReader::with_capacity(1 << 16, document))
        });
        let read = read.await.map_err(|error| std::io::Error::other(error.to_string()))?;
        let cases = read.map_err(|error| ImportError::Unreadable { file: file.clone(), error })?;
        if cases.is_empty() {
            return Err(ImportError::NoTests { file });
        }
        let now = moment_text(Timestamp::now());
        let run = SuiteRunSummary {
            id: RunId::new(),
            suite,
            version: None,
            state: StepState::Ended,
            verdict: None,
            reasons: Vec::new(),
            origin: Origin::Import,
            started_by: caller.name.clone(),
            rerun_of: None,
            attempt: 1,
            parameters: std::collections::BTreeMap::new(),
            labels,
            priority: 0,
            created_at: now.clone(),
            started_at: Some(now.clone()),
            ended_at: Some(now),
            tests: OutcomeCounts::default(),
        };
        let run = self.inner.store.insert_import(&run, &file, &cases, judge).await?;
        let kept =
            self.keep_artifact(run.id, IMPORT_STEP, 1, &file, media_type(&file), ArtifactSource::File(path)).await;
        // The results stand; the file is a convenience.
        let _ = kept.inspect_err(|error| tracing::warn!(run = %run.id, %error, "an imported file could not be kept"));
        self.record(caller, "import results", &run.suite, &format!("{file}: run {}", run.id)).await?;
        self.inner.happenings.tell(Happening::SuiteRunEnded(run.id));
        Ok(Imported { run, results: u32::try_from(cases.len()).unwrap_or(u32::MAX) })
    }
}

/// The verdict over imported results, and why.
fn judge(tests: OutcomeCounts, muted: u32) -> (Verdict, Vec<String>) {
    let failed = tests.failed + tests.error;
    let counted = failed.saturating_sub(muted);
    let all = failed + tests.passed + tests.skipped;
    let mut reasons = Vec::new();
    if counted > 0 {
        reasons.push(format!("{counted} of {all} {} failed", if all == 1 { "test" } else { "tests" }));
    }
    if muted > 0 {
        reasons.push(format!("{muted} muted {} failed and {} not counted", plural(muted, "test"), plural_is(muted)));
    }
    if tests.passed == 0 && failed == 0 {
        reasons.push(format!("no test ran: {} skipped", tests.skipped));
        return (Verdict::Inconclusive, reasons);
    }
    (if counted > 0 { Verdict::Failed } else { Verdict::Passed }, reasons)
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

fn plural_is(count: u32) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// A suite's name as it is kept.
fn suite_name(name: &str) -> Result<String, ImportError> {
    let name = name.trim();
    let wrong = |why: String| ImportError::Field { field: "suite", why };
    if name.is_empty() {
        return Err(wrong("is missing; name the suite whose history the results belong to".to_owned()));
    }
    if name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
        return Err(wrong(format!("expected 1 to {LONGEST_NAME} characters on one line")));
    }
    Ok(name.to_owned())
}

/// A file's name for people.
fn shown_name(file: &str) -> String {
    let plain: String =
        file.rsplit(['/', '\\']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let plain = plain.trim();
    let plain = &plain[..plain.floor_char_boundary(200)];
    if plain.is_empty() { "results".to_owned() } else { plain.to_owned() }
}

fn media_type(file: &str) -> &'static str {
    if file.to_ascii_lowercase().ends_with(".json") { "application/json" } else { "application/xml" }
}
