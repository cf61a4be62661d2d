//! Runs of suites: start, list, read, follow, cancel, run again; logs of their steps.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use kennel_model::api::{
    ApiProblem, Origin, RerunSuite, StartSuite, Started, StepState, SuiteEvent, SuiteRunDetail, SuiteRunFilter,
    SuiteRunSummary,
};
use kennel_model::{RunId, Verdict};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use crate::Caller;

/// Most runs in a list.
const LONGEST_PAGE: u32 = 500;
/// Most bytes of a log that are answered at once.
const LONGEST_PART: u64 = 64 << 20;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, start))
        .routes(routes!(show))
        .routes(routes!(live))
        .routes(routes!(log))
        .routes(routes!(junit))
        .routes(routes!(cancel))
        .routes(routes!(rerun))
}

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Runs of this suite.
    suite: Option<String>,
    /// Runs that ended so.
    verdict: Option<Verdict>,
    /// Runs that are there in their life.
    state: Option<StepState>,
    /// Runs that came about so.
    origin: Option<Origin>,
    /// Runs that carry this label.
    label: Option<String>,
    /// Attempts that belong with this run.
    rerun_of: Option<String>,
    /// Runs older than this one.
    before: Option<String>,
    /// Most runs to list, up to 500; 50 unless given.
    limit: Option<u32>,
}

/// Start a run of a suite
///
/// The suite is checked whole; every problem in it is listed. The run waits until its targets are free.
#[utoipa::path(
    post, path = "/suite-runs", tag = "suites", request_body = StartSuite,
    responses(
        (status = 201, body = Started),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 404, description = "There is no such suite", body = ApiProblem),
        (status = 422, description = "The suite or the body is not valid", body = ApiProblem),
        (status = 503, description = "Kennel is shutting down", body = ApiProblem),
    )
)]
async fn start(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<StartSuite>,
) -> Result<(StatusCode, Json<Started>), Refusal> {
    let id = state.controller.start_suite_by(&caller, request).await?;
    Ok((StatusCode::CREATED, Json(Started { id })))
}

/// List runs of suites, newest first
#[utoipa::path(
    get, path = "/suite-runs", tag = "suites", params(Wanted),
    responses(
        (status = 200, body = Vec<SuiteRunSummary>),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
    )
)]
async fn list(
    State(state): State<ApiState>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<SuiteRunSummary>>, Refusal> {
    let find = async |text: &Option<String>| match text {
        Some(text) => state.controller.find_suite_run(text).await.map(Some),
        None => Ok(None),
    };
    let filter = SuiteRunFilter {
        rerun_of: find(&wanted.rerun_of).await?,
        before: find(&wanted.before).await?,
        suite: wanted.suite,
        verdict: wanted.verdict,
        state: wanted.state,
        origin: wanted.origin,
        label: wanted.label,
        limit: wanted.limit.map_or(0, |limit| limit.clamp(1, LONGEST_PAGE)),
    };
    Ok(Json(state.controller.suite_runs(&filter).await?))
}

/// Read a run of a suite: verdict, and every attempt of every step
#[utoipa::path(
    get, path = "/suite-runs/{id}", tag = "suites",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses((status = 200, body = SuiteRunDetail), (status = 404, body = ApiProblem))
)]
async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<SuiteRunDetail>, Refusal> {
    let run = state.controller.find_suite_run(&id).await?;
    state.controller.suite_run(run).await?.map(Json).ok_or_else(|| gone(&id))
}

/// Watch a run of a suite
///
/// Server-sent events whose data is a JSON object with `event`. The first ones tell the run and its steps as they are;
/// the stream ends when the run is over.
#[utoipa::path(
    get, path = "/suite-runs/{id}/live", tag = "suites",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses((status = 200, content_type = "text/event-stream", body = SuiteEvent), (status = 404, body = ApiProblem))
)]
async fn live(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Refusal> {
    let run = state.controller.find_suite_run(&id).await?;
    // Watched before it is read, so that no change falls between the two.
    let events = state.controller.suite_live(run);
    let now = state.controller.suite_run(run).await?.ok_or_else(|| gone(&id))?;
    let steps = now.steps.into_iter().map(|step| SuiteEvent::Step { step: Box::new(step) });
    let first = std::iter::once(SuiteEvent::Run { run: Box::new(now.summary) }).chain(steps).collect::<Vec<_>>();
    let events = futures::stream::iter(first).chain(events).filter_map(|event| {
        let event =
            Event::default().json_data(event).inspect_err(|error| tracing::error!(%error, "a live event is lost"));
        std::future::ready(event.ok().map(Ok))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Which part of which log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogWanted {
    /// Path of the step (`steps/2`).
    path: String,
    /// Which attempt; the first unless given.
    attempt: Option<u32>,
    /// Byte to begin at; the beginning unless given.
    from: Option<u64>,
    /// Answer as a file to save.
    #[serde(default)]
    download: bool,
}

/// Read the log of a step, as it wrote it
///
/// The header `x-log-length` tells how long the log is by now, in bytes.
#[utoipa::path(
    get, path = "/suite-runs/{id}/log", tag = "suites",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`"), LogWanted),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
    )
)]
async fn log(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(wanted): Query<LogWanted>,
) -> Result<Response, Refusal> {
    let run = state.controller.find_suite_run(&id).await?;
    let attempt = wanted.attempt.unwrap_or(1);
    let from = Some(wanted.from.unwrap_or(0));
    let part = state.controller.step_log(run, &wanted.path, attempt, from, LONGEST_PART).await;
    let part = part.map_err(|error| {
        problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the log of {} cannot be read: {error}", wanted.path))
    })?;
    let part = part.ok_or_else(|| {
        let what = format!("attempt {attempt} of step {} of run {run} has no log", wanted.path);
        problem(StatusCode::NOT_FOUND, what)
    })?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-log-length", HeaderValue::from(part.length));
    if wanted.download {
        let name = format!("{}-{}-{attempt}.log", run.short(), wanted.path.replace('/', "-"));
        let saved = HeaderValue::try_from(format!("attachment; filename=\"{name}\""));
        headers.insert(header::CONTENT_DISPOSITION, saved.unwrap_or(HeaderValue::from_static("attachment")));
    }
    Ok((headers, part.bytes).into_response())
}

/// Read the tests of a run of a suite as JUnit XML
#[utoipa::path(
    get, path = "/suite-runs/{id}/junit", tag = "suites",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses((status = 200, content_type = "application/xml", body = String), (status = 404, body = ApiProblem))
)]
async fn junit(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let run = state.controller.find_suite_run(&id).await?;
    let xml = state.controller.suite_run_junit(run).await?.ok_or_else(|| gone(&id))?;
    Ok(([(header::CONTENT_TYPE, "application/xml; charset=utf-8")], xml).into_response())
}

/// Cancel a run of a suite
///
/// What is under way ends, and the tear-down runs. Cancelled once more, the tear-down ends too.
#[utoipa::path(
    post, path = "/suite-runs/{id}/cancel", tag = "suites",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses(
        (status = 202, description = "It will end"),
        (status = 404, body = ApiProblem),
        (status = 409, description = "It is over", body = ApiProblem),
    )
)]
async fn cancel(State(state): State<ApiState>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let run = state.controller.find_suite_run(&id).await?;
    state.controller.cancel_suite_by(&caller, run).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Run a run of a suite again, whole or in part, with the same or other parameters
#[utoipa::path(
    post, path = "/suite-runs/{id}/rerun", tag = "suites", request_body = RerunSuite,
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses(
        (status = 201, body = Started),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "It is not over, was imported, or nothing in it failed", body = ApiProblem),
        (status = 422, description = "The suite or the body is not valid", body = ApiProblem),
        (status = 503, description = "Kennel is shutting down", body = ApiProblem),
    )
)]
async fn rerun(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<RerunSuite>,
) -> Result<(StatusCode, Json<Started>), Refusal> {
    let run = state.controller.find_suite_run(&id).await?;
    let id: RunId = state.controller.rerun_suite_by(&caller, run, request).await?;
    Ok((StatusCode::CREATED, Json(Started { id })))
}

fn gone(id: &str) -> Refusal {
    problem(StatusCode::NOT_FOUND, format!("there is no run `{id}` of a suite"))
}
