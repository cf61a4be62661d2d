//! Runs: start one, list them, read one, read its seconds.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{ApiProblem, RunDetail, RunSummary, SeriesView, StartRun, Started};
use kennel_model::{RunId, Verdict};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use crate::{Caller, RunFilter};

/// Runs in a list unless asked otherwise.
const PAGE: u32 = 50;
/// Most runs in a list.
const LONGEST_PAGE: u32 = 500;

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Most runs to list, up to 500; 50 unless given.
    limit: Option<u32>,
    /// List runs older than this one.
    before: Option<String>,
    /// List runs whose experiment or target has this in its name.
    name: Option<String>,
    /// List runs that came to this.
    verdict: Option<Verdict>,
    /// List runs that carry this label.
    label: Option<String>,
    /// List runs with this in their reasons or notes.
    text: Option<String>,
}

/// Start a run
///
/// The experiment is checked whole; every problem in it is listed. The run waits until its target and an agent are
/// free.
#[utoipa::path(
    post, path = "/runs", tag = "runs", request_body = StartRun,
    responses(
        (status = 201, body = Started),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 422, description = "The experiment or the body is not valid", body = ApiProblem),
        (status = 503, description = "Kennel is shutting down", body = ApiProblem),
    )
)]
pub(super) async fn start(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<StartRun>,
) -> Result<(StatusCode, Json<Started>), Refusal> {
    let id = state.controller.start_run_as(RunId::new(), request, &caller.name, 0).await?;
    state.controller.record(&caller, "start run", &format!("run {id}"), "").await?;
    Ok((StatusCode::CREATED, Json(Started { id })))
}

/// List runs, newest first
#[utoipa::path(
    get, path = "/runs", tag = "runs", params(Page),
    responses((status = 200, body = Vec<RunSummary>), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<RunSummary>>, Refusal> {
    let before = match &page.before {
        Some(text) => Some(state.controller.find_run(text).await?),
        None => None,
    };
    let limit = page.limit.unwrap_or(PAGE).min(LONGEST_PAGE);
    let filter = RunFilter {
        before,
        name: page.name.unwrap_or_default(),
        verdict: page.verdict,
        label: page.label.unwrap_or_default(),
        text: page.text.unwrap_or_default(),
    };
    Ok(Json(state.controller.runs_where(limit, &filter).await?))
}

/// Read a run: measurements, faults, objectives, audits, verdict
#[utoipa::path(
    get, path = "/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses((status = 200, body = RunDetail), (status = 404, body = ApiProblem))
)]
pub(super) async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<RunDetail>, Refusal> {
    let run = state.controller.find_run(&id).await?;
    state.controller.run(run).await?.map(Json).ok_or_else(|| gone(&id))
}

/// Read a run second by second
#[utoipa::path(
    get, path = "/runs/{id}/series", tag = "runs",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses((status = 200, body = SeriesView), (status = 404, body = ApiProblem))
)]
pub(super) async fn series(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<SeriesView>, Refusal> {
    let run = state.controller.find_run(&id).await?;
    state.controller.series(run).await?.map(Json).ok_or_else(|| gone(&id))
}

/// The answer for a run that was found a moment ago and is no more.
pub(super) fn gone(id: &str) -> Refusal {
    problem(StatusCode::NOT_FOUND, format!("there is no run `{id}`"))
}
