//! Tests and their results: history, failures, quarantine, artifacts, notes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Outcome, OutcomeCounts, SuiteRunSummary};
use crate::run::RunId;
use crate::words::words;

/// A test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestView {
    /// Its number.
    pub id: i64,
    /// Name of the suite.
    pub suite: String,
    /// Class, file or path of suites that it belongs to; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Its parameters, where the name does not carry them; may be empty.
    pub parameters: String,
}

impl TestView {
    /// Name and parameters, as tools write them.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.parameters.is_empty() { self.name.clone() } else { format!("{}[{}]", self.name, self.parameters) }
    }
}

/// How a test ended in one run: its last attempt there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarkView {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// It passed, but an earlier attempt in the same run had not.
    pub on_retry: bool,
}

/// How flaky a test is, over its last 30 results.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FlakyView {
    /// Changes and passes on retry as a share of the results that passed or failed, 0 to 1.
    pub score: f64,
    /// Changes from pass to fail or back.
    pub changes: u32,
    /// Passes that took a retry.
    pub on_retry: u32,
    /// Results that passed or failed.
    pub results: u32,
    /// Whether it is called flaky: a pass on retry, or three changes or more.
    pub flaky: bool,
}

/// A muted test's failures do not fail its suite; it still runs and is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MuteView {
    /// Why.
    pub reason: String,
    /// Who looks after it.
    pub owner: String,
    /// When it ends by itself.
    pub expires_at: String,
    /// When it began.
    pub created_at: String,
    /// Who muted it.
    pub created_by: String,
}

/// A test as its runs left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestStanding {
    /// The test.
    #[serde(flatten)]
    pub test: TestView,
    /// Tags that its tool gave it.
    pub tags: Vec<String>,
    /// The last 30 results, oldest first.
    pub strip: Vec<MarkView>,
    /// How it ended last.
    pub outcome: Outcome,
    /// The last run that had it.
    pub last_run: RunId,
    /// When that run was handed in.
    pub last_at: String,
    /// How long it took there, in ms.
    pub duration_ms: f64,
    /// Why it failed last; empty when it passed.
    pub message: String,
    /// Fingerprint of that message.
    pub fingerprint: Option<String>,
    /// The first run of the streak of failures that has not ended.
    pub failing_since: Option<RunId>,
    /// When that run was handed in.
    pub failing_since_at: Option<String>,
    /// Runs in that streak: its age.
    pub failing_runs: u32,
    /// The last run in which it passed.
    pub last_passed: Option<RunId>,
    /// How flaky it is.
    pub flaky: FlakyView,
    /// Set while it is muted.
    pub mute: Option<MuteView>,
}

/// One attempt of a test, without its detail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestResultView {
    /// The run.
    pub suite_run: RunId,
    /// When the run was handed in.
    pub at: String,
    /// Which attempt in that run, from 1.
    pub attempt: u32,
    /// Path of the step that ran it.
    pub step: String,
    /// Which attempt of the step.
    pub step_attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in ms.
    pub duration_ms: f64,
    /// Why it failed or was skipped.
    pub message: String,
    /// Fingerprint of a failure's message.
    pub fingerprint: Option<String>,
}

/// A test with its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestHistory {
    /// The test as its runs left it.
    #[serde(flatten)]
    pub standing: TestStanding,
    /// Results, newest first: the last attempt of each run.
    pub results: Vec<TestResultView>,
    /// Names under which it was known before.
    pub known_as: Vec<TestView>,
    /// Notes, newest first.
    pub notes: Vec<NoteView>,
    /// What makes a test flaky, in words.
    pub flaky_definition: String,
}

/// A result of one test in one run with everything that is kept of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestResultDetail {
    /// The test.
    pub test: TestView,
    /// The result.
    #[serde(flatten)]
    pub result: TestResultView,
    /// Stack trace, keywords, captured output.
    pub detail: String,
}

/// The result of one test in a run's list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunTestView {
    /// The test as its runs left it (not only this one).
    pub standing: TestStanding,
    /// Its last attempt in this run.
    pub result: TestResultView,
    /// It passed, but an earlier attempt in this run had not.
    pub on_retry: bool,
}

/// Failures with one fingerprint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureGroup {
    /// The fingerprint.
    pub fingerprint: String,
    /// The message of its newest failure.
    pub message: String,
    /// Tests that fail this way.
    pub tests: u32,
    /// Those of them that are muted.
    pub muted: u32,
    /// Suites that they are in.
    pub suites: u32,
    /// The first run of the streak that began first.
    pub failing_since: RunId,
    /// When that run was handed in.
    pub failing_since_at: String,
    /// The first run of the streak that began last.
    pub newest_since: RunId,
    /// When that run was handed in.
    pub newest_since_at: String,
    /// Runs in the longest streak.
    pub failing_runs: u32,
    /// Some of the tests, those that broke last first.
    pub members: Vec<TestStanding>,
}

/// What fails, grouped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailingView {
    /// Groups, the newest breakage first.
    pub groups: Vec<FailureGroup>,
    /// Groups in all.
    pub total_groups: u32,
    /// Failing tests in all.
    pub total_tests: u32,
}

/// Tests × runs of a suite, one page of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MatrixView {
    /// The suite.
    pub suite: String,
    /// Runs of this page, newest first.
    pub runs: Vec<SuiteRunSummary>,
    /// Tests of this page.
    pub rows: Vec<MatrixRow>,
    /// Runs in all.
    pub total_runs: u32,
    /// Tests in all.
    pub total_tests: u32,
}

/// One test in the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MatrixRow {
    /// The test.
    pub test: TestView,
    /// How flaky it is.
    pub flaky: FlakyView,
    /// Whether it is muted.
    pub muted: bool,
    /// One cell per run of the page; absent where the run did not have the test.
    pub cells: Vec<Option<MatrixCell>>,
}

/// One result in the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MatrixCell {
    /// How it ended.
    pub outcome: Outcome,
    /// It passed, but an earlier attempt in the same run had not.
    pub on_retry: bool,
    /// How long it took, in ms.
    pub duration_ms: f64,
}

/// One run of a suite in its trends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrendPoint {
    /// The run.
    pub run: RunId,
    /// When it was handed in.
    pub at: String,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Tests by outcome.
    pub tests: OutcomeCounts,
}

words! {
    /// What became of a test from one run to another.
    TestChange {
        /// It failed, and had not.
        NewlyFailing = "newly-failing",
        /// It passed, and had failed.
        Fixed = "fixed",
        /// It failed in both.
        StillFailing = "still-failing",
        /// It passed in both, and took much longer.
        Slower = "slower",
        /// It passed in both, and took much less time.
        Faster = "faster",
        /// Only the later run has it.
        Added = "added",
        /// Only the earlier run has it.
        Removed = "removed",
        /// It ended otherwise without being broken or fixed (skipped in one of them).
        Other = "other",
        /// Nothing.
        Same = "same",
    }
}

/// Two runs of suites, test by test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuiteComparison {
    /// The earlier run, or the one named first.
    pub a: SuiteRunSummary,
    /// The other.
    pub b: SuiteRunSummary,
    /// What makes the two hard to compare.
    pub warnings: Vec<String>,
    /// How many tests changed how.
    pub counts: Vec<ChangeCount>,
    /// Tests that changed, the worst first; those that are the same in both are left out.
    pub tests: Vec<TestDifference>,
    /// What is called slower, in words.
    pub slower_definition: String,
}

/// How many tests changed in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeCount {
    /// The way.
    pub change: TestChange,
    /// How many.
    pub tests: u32,
}

/// One test in two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestDifference {
    /// The test.
    pub test: TestView,
    /// What became of it.
    pub change: TestChange,
    /// How it ended in run a.
    pub a: Option<MatrixCell>,
    /// How it ended in run b.
    pub b: Option<MatrixCell>,
    /// Time in b over time in a; absent where it has no meaning.
    pub ratio: Option<f64>,
    /// Why it failed in run b.
    pub message: String,
}

/// A request to mute a test.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MuteRequest {
    /// Why.
    pub reason: String,
    /// Who looks after it; whoever asks unless said otherwise.
    #[serde(default)]
    pub owner: Option<String>,
    /// When it ends by itself: a moment (`2026-12-31T00:00:00Z`), a day (`2026-12-31`) or a time from now (`14d`).
    pub expires: String,
}

/// A request to join a test with the one that it was before it was renamed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Number of the test under its earlier name; its history becomes this test's.
    pub earlier: i64,
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoteView {
    /// Its number.
    pub id: i64,
    /// What it says.
    pub text: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub at: String,
}

/// A request to write a note.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteRequest {
    /// What it says.
    pub text: String,
}

/// A request to set a run's labels.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsRequest {
    /// All labels that the run is to have.
    pub labels: Vec<String>,
}

/// What people added to a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Annotations {
    /// Labels.
    pub labels: Vec<String>,
    /// Notes, newest first.
    pub notes: Vec<NoteView>,
    /// Whether the run is pinned: its artifacts stay whatever the retention says.
    pub pinned: bool,
}

/// A file that a run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Its identity.
    pub id: RunId,
    /// The run.
    pub suite_run: RunId,
    /// Path of the step.
    pub step: String,
    /// Which attempt of the step.
    pub attempt: u32,
    /// Its name.
    pub name: String,
    /// Media type as far as it is known.
    pub media_type: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was kept.
    pub created_at: String,
}

/// How long artifacts stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Days after which artifacts go; absent for never.
    pub days: Option<u32>,
    /// Bytes of all artifacts together; beyond that the oldest go. Absent for no limit.
    pub total_bytes: Option<u64>,
}

/// Artifacts of the whole data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageView {
    /// How long they stay.
    pub retention: Retention,
    /// How many there are.
    pub artifacts: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Runs that are pinned.
    pub pinned_runs: u64,
    /// Size of the database: everything but artifacts and logs of steps.
    pub database_bytes: u64,
    /// Runs of experiments that are kept.
    pub runs: u64,
    /// Runs of suites that are kept.
    pub suite_runs: u64,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The run that holds the results.
    pub run: SuiteRunSummary,
    /// Results that were read, every attempt counted.
    pub results: u32,
}

words! {
    /// In which order tests are listed.
    #[derive(Default)]
    TestOrder {
        /// By suite, class and name.
        #[default]
        Name = "name",
        /// Those that broke last first.
        Newest = "newest",
        /// Those that have failed longest first.
        Oldest = "oldest",
        /// The flakiest first.
        Flaky = "flaky",
        /// The slowest first.
        Slowest = "slowest",
        /// Those whose mute ends first.
        Expiry = "expiry",
    }
}

/// Which tests are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestFilter {
    /// Of this suite.
    pub suite: Option<String>,
    /// With this text in name, class, parameters, last failure or notes.
    pub text: Option<String>,
    /// With this tag.
    pub label: Option<String>,
    /// That ended so last.
    pub outcome: Option<Outcome>,
    /// Muted, or not.
    pub muted: Option<bool>,
    /// That fail.
    pub failing: bool,
    /// That are called flaky.
    pub flaky: bool,
    /// That fail with this fingerprint.
    pub fingerprint: Option<String>,
    /// That have failed since this run or a later one.
    pub since: Option<RunId>,
    /// In which order.
    pub order: TestOrder,
    /// Most tests to list.
    pub limit: u32,
    /// How many to pass over.
    pub offset: u32,
}

/// Tests of a list, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestList {
    /// Tests of this page.
    pub tests: Vec<TestStanding>,
    /// Tests in all.
    pub total: u32,
}
