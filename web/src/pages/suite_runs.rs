//! A run of a suite at `/suite-runs/{id}`, live or over: verdict, steps with their logs and tests, files, and what can be
//! done with it; and a whole log at `/suite-runs/{id}/log`.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use jiff::Timestamp;
use kennel_controller::{Caller, CancelSuiteError, RerunError, StartSuiteError};
use kennel_model::RunId;
use kennel_model::api::{
    Annotations, ArtifactView, Outcome, RerunSuite, RerunWhich, RunTestView, StepKind, StepState, StepView,
    SuiteRunDetail, SuiteRunSummary, TestFilter,
};
use serde::Deserialize;

use super::file_place::encoded;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/suite-runs/{id}", get(show))
        .route("/suite-runs/{id}/log", get(log))
        .route("/suite-runs/{id}/cancel", post(cancel))
        .route("/suite-runs/{id}/rerun", post(rerun))
}

/// Bytes of a log's end that stand in the page itself.
const TAIL: u64 = 12 << 10;
/// Logs that stand in the page itself; the others are a click away.
const TAILS: usize = 6;
/// Bytes of a log's end on its own page.
const WHOLE: u64 = 4 << 20;
/// Tests of a run that its page lists.
const TESTS: u32 = 1000;
/// Passed tests of a step that are listed beside the failed ones.
const PASSED: usize = 50;

/// The end of a log.
struct Tail {
    text: String,
    /// Byte after its last, where the next part begins.
    end: u64,
    /// Whether there is more before it.
    is_cut: bool,
}

/// One attempt of a step.
struct AttemptRow {
    view: StepView,
    /// The end of its log, where it is shown in the page.
    tail: Option<Tail>,
}

/// A step with its attempts, its tests, and the steps within it.
struct StepRow {
    /// Its path as part of an id.
    key: String,
    /// The last attempt.
    last: StepView,
    attempts: Vec<AttemptRow>,
    /// Tests that did not pass, then some that did.
    tests: Vec<RunTestView>,
    /// Passed tests that are not listed.
    more_tests: usize,
    artifacts: Vec<ArtifactView>,
    inner: Vec<StepRow>,
}

impl StepRow {
    fn is_bad(&self) -> bool {
        matches!(self.last.outcome, Some(Outcome::Failed | Outcome::Error))
    }

    /// Whether it stands open: what failed and what is under way.
    fn is_open(&self) -> bool {
        self.is_bad() || self.last.state == StepState::Running || self.last.kind == StepKind::Parallel
    }

    fn has_more(&self) -> bool {
        !self.tests.is_empty()
            || !self.artifacts.is_empty()
            || !self.last.assertions.is_empty()
            || self.last.run.is_some()
            || self.attempts.iter().any(|attempt| attempt.view.has_log)
    }

    fn can_rerun(&self) -> bool {
        self.last.path.starts_with("steps/")
    }
}

#[derive(Template)]
#[template(path = "suite_run.html")]
struct SuiteRunPage {
    layout: Layout,
    run: SuiteRunSummary,
    live: bool,
    cancelling: bool,
    steps: Vec<StepRow>,
    /// Steps that did not pass, with the id of their row.
    bad: Vec<(String, String)>,
    /// Every attempt that belongs with this run.
    attempts: Vec<SuiteRunSummary>,
    source: String,
    now: Timestamp,
    /// Why it was not run again.
    refused: String,
    annotations: Annotations,
    /// Address below which notes and labels are posted.
    base: String,
}

impl SuiteRunPage {
    fn suite_href(&self) -> String {
        format!("/suites/{}", encoded(&self.run.suite))
    }

    fn command(&self) -> String {
        let (origin, id) = (&self.layout.origin(), self.run.id);
        format!(
            "# everything on this page, as JSON\ncurl -s {origin}/api/v1/suite-runs/{id}\n# events as they happen\ncurl -sN {origin}/api/v1/suite-runs/{id}/live\n# its tests as JUnit XML\ncurl -s {origin}/api/v1/suite-runs/{id}/junit\n# end it; the tear-down still runs\ncurl -X POST {origin}/api/v1/suite-runs/{id}/cancel\n# only what failed, once more\ncurl -X POST {origin}/api/v1/suite-runs/{id}/rerun -H 'content-type: application/json' -d '{{\"which\": \"failed\"}}'"
        )
    }
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Set after the cancel button was pressed without script.
    cancelling: Option<String>,
}

/// `GET /suite-runs/{id}`
async fn show(
    State(web): State<Web>,
    text: Result<Path<String>, PathRejection>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let Path(text) = text?;
    let Ok(id) = text.parse::<RunId>() else {
        let id = web.controller.find_suite_run(&text).await?;
        return Ok(Redirect::to(&format!("/suite-runs/{id}")).into_response());
    };
    page(&web, id, wanted.cancelling.is_some(), String::new()).await
}

async fn page(web: &Web, id: RunId, cancelling: bool, refused: String) -> Result<Response, Problem> {
    let detail = web.controller.suite_run(id).await?;
    let detail = detail.ok_or_else(|| Problem::no_run(id))?;
    let live = detail.summary.state != StepState::Ended;
    let filter = TestFilter { limit: TESTS, ..TestFilter::default() };
    let tests = web.controller.tests_of_run(id, &filter).await?;
    let artifacts = web.controller.artifacts(id).await?;
    let mut tails = tails(web, id, &detail).await?;
    let steps = rows(&detail, tests, artifacts, &mut tails);
    let all = steps.iter().flat_map(|step| std::iter::once(step).chain(&step.inner));
    let bad = all.filter(|step| step.is_bad() && step.last.kind != StepKind::Parallel);
    let page = SuiteRunPage {
        layout: web.layout.at("suites"),
        bad: bad.map(|step| (step.key.clone(), step.last.name.clone())).collect(),
        attempts: web.controller.attempts_of(&detail.summary).await?,
        annotations: web.controller.annotations(id).await?.unwrap_or_default(),
        base: format!("/suite-runs/{id}"),
        run: detail.summary,
        live,
        cancelling: cancelling && live,
        steps,
        source: detail.source,
        now: Timestamp::now(),
        refused,
    };
    let status =
        if page.refused.is_empty() { axum::http::StatusCode::OK } else { axum::http::StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, fill(&page)?).into_response())
}

/// The ends of the logs that are shown at once: of steps under way and of steps that failed.
async fn tails(web: &Web, run: RunId, detail: &SuiteRunDetail) -> Result<BTreeMap<(String, u32), Tail>, Problem> {
    let is_wanted = |step: &&StepView| {
        step.has_log
            && (step.state == StepState::Running || matches!(step.outcome, Some(Outcome::Failed | Outcome::Error)))
    };
    let mut tails = BTreeMap::new();
    for step in detail.steps.iter().filter(is_wanted).take(TAILS) {
        if let Some(tail) = tail(web, run, &step.path, step.attempt, TAIL).await? {
            tails.insert((step.path.clone(), step.attempt), tail);
        }
    }
    Ok(tails)
}

async fn tail(web: &Web, run: RunId, path: &str, attempt: u32, most: u64) -> Result<Option<Tail>, Problem> {
    let part = web.controller.step_log(run, path, attempt, None, most).await;
    let part = part.map_err(|error| Problem::Broken { what: format!("The log of {path} cannot be read: {error}") })?;
    Ok(part.map(|part| {
        let text = notation::plain_log(&String::from_utf8_lossy(&part.bytes));
        // What is cut begins with the rest of a line.
        let text =
            if part.from > 0 { text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.to_owned()) } else { text };
        Tail { text, end: part.from + part.bytes.len() as u64, is_cut: part.from > 0 }
    }))
}

/// Steps in the order of the suite, those in parallel within theirs.
fn rows(
    detail: &SuiteRunDetail,
    tests: Vec<RunTestView>,
    artifacts: Vec<ArtifactView>,
    tails: &mut BTreeMap<(String, u32), Tail>,
) -> Vec<StepRow> {
    let mut tests_of: BTreeMap<String, Vec<RunTestView>> = BTreeMap::new();
    for test in tests {
        tests_of.entry(test.result.step.clone()).or_default().push(test);
    }
    let mut rows: Vec<StepRow> = Vec::new();
    for attempts in detail.steps.chunk_by(|a, b| a.path == b.path) {
        let Some(last) = attempts.last() else { continue };
        let mut tests = tests_of.remove(&last.path).unwrap_or_default();
        tests.sort_by_key(|test| matches!(test.result.outcome, Outcome::Passed | Outcome::Skipped));
        let failed =
            tests.iter().filter(|test| !matches!(test.result.outcome, Outcome::Passed | Outcome::Skipped)).count();
        let more_tests = tests.len().saturating_sub(failed + PASSED);
        tests.truncate(failed + PASSED);
        let attempt =
            |view: &StepView| AttemptRow { tail: tails.remove(&(view.path.clone(), view.attempt)), view: view.clone() };
        let row = StepRow {
            key: last.path.replace('/', "-"),
            attempts: attempts.iter().map(attempt).collect(),
            tests,
            more_tests,
            artifacts: artifacts.iter().filter(|artifact| artifact.step == last.path).cloned().collect(),
            inner: Vec::new(),
            last: last.clone(),
        };
        match row.last.path.split_once("/parallel/").map(|(outer, _)| outer.to_owned()) {
            Some(outer) => match rows.iter_mut().find(|known| known.last.path == outer) {
                Some(known) => known.inner.push(row),
                None => rows.push(row),
            },
            None => rows.push(row),
        }
    }
    rows
}

#[derive(Debug, Deserialize)]
struct LogWanted {
    path: String,
    #[serde(default = "first")]
    attempt: u32,
}

fn first() -> u32 {
    1
}

#[derive(Template)]
#[template(path = "suite_run_log.html")]
struct LogPage {
    layout: Layout,
    run: SuiteRunSummary,
    step: StepView,
    tail: Tail,
}

/// `GET /suite-runs/{id}/log?path=steps/0&attempt=1`
async fn log(
    State(web): State<Web>,
    text: Result<Path<String>, PathRejection>,
    Query(wanted): Query<LogWanted>,
) -> Result<Html<String>, Problem> {
    let Path(text) = text?;
    let id = web.controller.find_suite_run(&text).await?;
    let missing = || Problem::Unusable {
        what: format!("Attempt {} of {} has no log.", wanted.attempt, wanted.path),
        next: "The run's page lists the steps that have one.",
    };
    let detail = web.controller.suite_run(id).await?.ok_or_else(missing)?;
    let step = detail.steps.into_iter().find(|step| step.path == wanted.path && step.attempt == wanted.attempt);
    let step = step.ok_or_else(missing)?;
    let tail = tail(&web, id, &wanted.path, wanted.attempt, WHOLE).await?.ok_or_else(missing)?;
    fill(&LogPage { layout: web.layout.at("suites"), run: detail.summary, step, tail })
}

/// `POST /suite-runs/{id}/cancel`: back to the run's page, where one sees it end.
async fn cancel(
    State(web): State<Web>,
    caller: Caller,
    text: Result<Path<String>, PathRejection>,
) -> Result<Redirect, Problem> {
    let Path(text) = text?;
    let id = web.controller.find_suite_run(&text).await?;
    match web.controller.cancel_suite_by(&caller, id).await {
        Ok(()) => Ok(Redirect::to(&format!("/suite-runs/{id}?cancelling=1"))),
        Err(CancelSuiteError::AlreadyOver { .. }) => Ok(Redirect::to(&format!("/suite-runs/{id}"))),
        Err(CancelSuiteError::NotFound { .. }) => Err(Problem::NoSuchPage),
        Err(CancelSuiteError::Store(error)) => Err(error.into()),
    }
}

/// `POST /suite-runs/{id}/rerun`: to the new run's page, or back with why not.
async fn rerun(
    State(web): State<Web>,
    caller: Caller,
    text: Result<Path<String>, PathRejection>,
    Form(sent): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let Path(text) = text?;
    let id = web.controller.find_suite_run(&text).await?;
    let mut request = RerunSuite::default();
    for (name, value) in sent {
        match name.as_str() {
            "which" => request.which = value.parse().unwrap_or(RerunWhich::All),
            "step" => request.steps.push(value),
            _ => {
                if let Some(parameter) = name.strip_prefix("parameter.") {
                    request.parameters.insert(parameter.to_owned(), value);
                }
            }
        }
    }
    match web.controller.rerun_suite_by(&caller, id, request).await {
        Ok(id) => Ok(Redirect::to(&format!("/suite-runs/{id}")).into_response()),
        Err(RerunError::NotFound { .. }) => Err(Problem::NoSuchPage),
        Err(RerunError::Store(error) | RerunError::Start(StartSuiteError::Store(error))) => Err(error.into()),
        Err(error) => page(&web, id, false, error.to_string()).await,
    }
}
