//! Tests: lists, histories, what fails, mutes, joins, matrices and trends of suites, two runs compared.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::RunId;
use kennel_model::api::{
    ApiProblem, FailingView, JoinRequest, MatrixView, MuteRequest, MuteView, NoteRequest, NoteView, Outcome,
    RunTestView, SuiteComparison, TestFilter, TestHistory, TestList, TestOrder, TestResultDetail, TrendPoint,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use crate::{Caller, JoinError, MuteError, NoteError, since};

/// Entries in a list unless asked otherwise.
const PAGE: u32 = 50;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(mute, unmute))
        .routes(routes!(join))
        .routes(routes!(note))
        .routes(routes!(failing))
        .routes(routes!(of_run))
        .routes(routes!(attempts))
        .routes(routes!(matrix))
        .routes(routes!(trend))
        .routes(routes!(compare))
}

/// Which tests.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Name of the suite.
    suite: Option<String>,
    /// Text in name, class, parameters, last failure or notes.
    text: Option<String>,
    /// A tag that the test carries.
    label: Option<String>,
    /// How it ended last (in the run, for a run's tests).
    outcome: Option<Outcome>,
    /// Muted ones only, or none of them.
    muted: Option<bool>,
    /// Those that fail.
    #[serde(default)]
    failing: bool,
    /// Those that are called flaky.
    #[serde(default)]
    flaky: bool,
    /// Those that fail with this fingerprint.
    fingerprint: Option<String>,
    /// Those that have failed since this day (`2026-11-23`) or moment, or a time ago (`7d`), or later.
    since: Option<String>,
    /// In which order.
    #[serde(default)]
    #[param(inline)]
    order: TestOrder,
    /// Most entries, up to 500; 50 unless given.
    limit: Option<u32>,
    /// How many to pass over.
    #[serde(default)]
    offset: u32,
}

impl Wanted {
    fn filter(self) -> Result<TestFilter, Refusal> {
        let since = match &self.since {
            None => None,
            Some(text) => Some(since(text).map_err(|why| problem(StatusCode::BAD_REQUEST, format!("since: {why}")))?),
        };
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(TestFilter {
            suite: said(self.suite),
            text: said(self.text),
            label: said(self.label),
            outcome: self.outcome,
            muted: self.muted,
            failing: self.failing,
            flaky: self.flaky,
            fingerprint: said(self.fingerprint),
            since,
            order: self.order,
            limit: self.limit.unwrap_or(PAGE).clamp(1, 500),
            offset: self.offset,
        })
    }
}

/// List tests with how they stand
#[utoipa::path(
    get, path = "/tests", tag = "tests", params(Wanted),
    responses((status = 200, body = TestList), (status = 400, body = ApiProblem))
)]
async fn list(State(state): State<ApiState>, Query(wanted): Query<Wanted>) -> Result<Json<TestList>, Refusal> {
    let (tests, total) = state.controller.tests(&wanted.filter()?).await?;
    Ok(Json(TestList { tests, total }))
}

/// Which results of a test.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Results {
    /// Most results, up to 500; 50 unless given.
    limit: Option<u32>,
    /// Results of runs before this one.
    #[param(value_type = Option<String>)]
    before: Option<RunId>,
}

/// Read a test with its history
#[utoipa::path(
    get, path = "/tests/{id}", tag = "tests", params(("id" = i64, Path), Results),
    responses((status = 200, body = TestHistory), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
async fn show(
    State(state): State<ApiState>,
    Path(id): Path<i64>,
    Query(wanted): Query<Results>,
) -> Result<Json<TestHistory>, Refusal> {
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, 500);
    state.controller.test(id, limit, wanted.before).await?.map(Json).ok_or_else(|| no_test(id))
}

/// Mute a test
///
/// It still runs and is counted; its failures do not fail its suite until the mute expires.
#[utoipa::path(
    put, path = "/tests/{id}/mute", tag = "tests", params(("id" = i64, Path)), request_body = MuteRequest,
    responses(
        (status = 200, body = MuteView),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "A field is wrong", body = ApiProblem),
    )
)]
async fn mute(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(request): Body<MuteRequest>,
) -> Result<Json<MuteView>, Refusal> {
    Ok(Json(state.controller.mute(&caller, id, &request).await?))
}

/// End a mute
#[utoipa::path(
    delete, path = "/tests/{id}/mute", tag = "tests", params(("id" = i64, Path)),
    responses((status = 204), (status = 400, body = ApiProblem), (status = 404, description = "It is not muted", body = ApiProblem))
)]
async fn unmute(State(state): State<ApiState>, caller: Caller, Path(id): Path<i64>) -> Result<StatusCode, Refusal> {
    if state.controller.unmute(&caller, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(problem(StatusCode::NOT_FOUND, format!("test {id} is not muted")))
    }
}

/// Join a test with the one that it was before it was renamed
///
/// The earlier history becomes its own, and results that still come under the earlier name too. This cannot be undone.
#[utoipa::path(
    post, path = "/tests/{id}/join", tag = "tests", params(("id" = i64, Path)), request_body = JoinRequest,
    responses(
        (status = 204),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "The two cannot be joined", body = ApiProblem),
    )
)]
async fn join(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(request): Body<JoinRequest>,
) -> Result<StatusCode, Refusal> {
    state.controller.join_tests(&caller, id, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Add a note to a test
#[utoipa::path(
    post, path = "/tests/{id}/notes", tag = "tests", params(("id" = i64, Path)), request_body = NoteRequest,
    responses(
        (status = 201, body = NoteView),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, body = ApiProblem),
    )
)]
async fn note(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(request): Body<NoteRequest>,
) -> Result<(StatusCode, Json<NoteView>), Refusal> {
    Ok((StatusCode::CREATED, Json(state.controller.add_test_note(&caller, id, &request.text).await?)))
}

/// What fails, grouped by what the failures have in common
///
/// Newest breakage first; `limit` and `offset` count groups.
#[utoipa::path(
    get, path = "/failing", tag = "tests", params(Wanted),
    responses((status = 200, body = FailingView), (status = 400, body = ApiProblem))
)]
async fn failing(State(state): State<ApiState>, Query(wanted): Query<Wanted>) -> Result<Json<FailingView>, Refusal> {
    Ok(Json(state.controller.failing(&wanted.filter()?).await?))
}

/// The tests of a suite's run, failures first
#[utoipa::path(
    get, path = "/suite-runs/{id}/tests", tag = "tests", params(("id" = String, Path, description = "The run's whole id"), Wanted),
    responses((status = 200, body = Vec<RunTestView>), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
async fn of_run(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<RunTestView>>, Refusal> {
    let run = suite_run(&state, &id).await?;
    Ok(Json(state.controller.tests_of_run(run, &wanted.filter()?).await?))
}

/// Every attempt of a test in a suite's run, with trace and output
#[utoipa::path(
    get, path = "/suite-runs/{id}/tests/{test}", tag = "tests",
    params(("id" = String, Path, description = "The run's whole id"), ("test" = i64, Path)),
    responses((status = 200, body = Vec<TestResultDetail>), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
async fn attempts(
    State(state): State<ApiState>,
    Path((id, test)): Path<(String, i64)>,
) -> Result<Json<Vec<TestResultDetail>>, Refusal> {
    let run = suite_run(&state, &id).await?;
    let attempts = state.controller.attempts(run, test).await?;
    if attempts.is_empty() {
        return Err(problem(StatusCode::NOT_FOUND, format!("run {run} has no test {test}")));
    }
    Ok(Json(attempts))
}

/// Which part of a matrix.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Part {
    /// Text in name, class, parameters or last failure.
    text: Option<String>,
    /// Those that fail.
    #[serde(default)]
    failing: bool,
    /// Those that are called flaky.
    #[serde(default)]
    flaky: bool,
    /// Most tests, up to 200; 50 unless given.
    limit: Option<u32>,
    /// How many tests to pass over.
    #[serde(default)]
    offset: u32,
    /// Most runs, up to 100; 30 unless given.
    runs: Option<u32>,
    /// How many runs to pass over, from the newest.
    #[serde(default)]
    skip_runs: u32,
}

/// Tests × runs of a suite, by page
#[utoipa::path(
    get, path = "/suites/{name}/matrix", tag = "tests", params(("name" = String, Path), Part),
    responses((status = 200, body = MatrixView), (status = 400, body = ApiProblem))
)]
async fn matrix(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Query(part): Query<Part>,
) -> Result<Json<MatrixView>, Refusal> {
    let filter = TestFilter {
        text: part.text.filter(|text| !text.is_empty()),
        failing: part.failing,
        flaky: part.flaky,
        limit: part.limit.unwrap_or(PAGE).clamp(1, 200),
        offset: part.offset,
        ..TestFilter::default()
    };
    let runs = part.runs.unwrap_or(30).clamp(1, 100);
    Ok(Json(state.controller.matrix(&name, &filter, runs, part.skip_runs).await?))
}

/// How much of a trend.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Length {
    /// Most runs, up to 500; 50 unless given.
    limit: Option<u32>,
}

/// Duration and tests by outcome of a suite's last runs, oldest first
#[utoipa::path(
    get, path = "/suites/{name}/trend", tag = "tests", params(("name" = String, Path), Length),
    responses((status = 200, body = Vec<TrendPoint>), (status = 400, body = ApiProblem))
)]
async fn trend(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Query(length): Query<Length>,
) -> Result<Json<Vec<TrendPoint>>, Refusal> {
    Ok(Json(state.controller.trend(&name, length.limit.unwrap_or(PAGE).clamp(1, 500)).await?))
}

/// Which runs of suites to compare, by their whole ids.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pair {
    /// The run that is compared with.
    a: String,
    /// The run that is compared.
    b: String,
}

/// Compare two runs of suites, test by test
#[utoipa::path(
    get, path = "/compare/suite-runs", tag = "tests", params(Pair),
    responses((status = 200, body = SuiteComparison), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
async fn compare(State(state): State<ApiState>, Query(pair): Query<Pair>) -> Result<Json<SuiteComparison>, Refusal> {
    let (a, b) = (suite_run(&state, &pair.a).await?, suite_run(&state, &pair.b).await?);
    state.controller.compare_suite_runs(a, b).await?.map(Json).ok_or_else(|| no_suite_run(&pair.b))
}

/// A run of a suite that exists.
pub(super) async fn suite_run(state: &ApiState, text: &str) -> Result<RunId, Refusal> {
    let id: RunId = text.parse().map_err(|_| no_suite_run(text))?;
    match state.controller.suite_run_summary(id).await? {
        Some(_) => Ok(id),
        None => Err(no_suite_run(text)),
    }
}

fn no_suite_run(text: &str) -> Refusal {
    problem(StatusCode::NOT_FOUND, format!("there is no run of a suite `{text}`"))
}

fn no_test(id: i64) -> Refusal {
    problem(StatusCode::NOT_FOUND, format!("there is no test {id}; GET /api/v1/tests lists them"))
}

impl From<MuteError> for Refusal {
    fn from(error: MuteError) -> Self {
        match error {
            MuteError::NoSuchTest { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            MuteError::Field { .. } => problem(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            MuteError::Store(error) => error.into(),
        }
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::NoSuchTest { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            JoinError::Same { .. } | JoinError::OtherSuite { .. } => {
                problem(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            JoinError::Store(error) => error.into(),
        }
    }
}

impl From<NoteError> for Refusal {
    fn from(error: NoteError) -> Self {
        match error {
            NoteError::NotFound { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            NoteError::Field { .. } => problem(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            NoteError::Store(error) => error.into(),
        }
    }
}
