//! What people add to runs, of experiments and of suites: notes, labels, pins.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::RunId;
use kennel_model::api::{Annotations, ApiProblem, LabelsRequest, NoteRequest, NoteView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Refusal, problem};
use crate::Caller;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(note)).routes(routes!(labels)).routes(routes!(pin, unpin))
}

/// Read a run's labels and notes
#[utoipa::path(
    get, path = "/annotations/{run}", tag = "annotations",
    params(("run" = String, Path, description = "Whole id of a run, of an experiment or of a suite")),
    responses((status = 200, body = Annotations), (status = 404, body = ApiProblem))
)]
async fn show(State(state): State<ApiState>, Path(run): Path<String>) -> Result<Json<Annotations>, Refusal> {
    let id = id(&run)?;
    state.controller.annotations(id).await?.map(Json).ok_or_else(|| no_run(&run))
}

/// Add a note to a run
#[utoipa::path(
    post, path = "/annotations/{run}/notes", tag = "annotations", request_body = NoteRequest,
    params(("run" = String, Path, description = "Whole id of a run, of an experiment or of a suite")),
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
    Path(run): Path<String>,
    Body(request): Body<NoteRequest>,
) -> Result<(StatusCode, Json<NoteView>), Refusal> {
    let note = state.controller.add_run_note(&caller, id(&run)?, &request.text).await?;
    Ok((StatusCode::CREATED, Json(note)))
}

/// Set a run's labels
///
/// All of them: those that are not named go. Answers the labels as they are kept.
#[utoipa::path(
    put, path = "/annotations/{run}/labels", tag = "annotations", request_body = LabelsRequest,
    params(("run" = String, Path, description = "Whole id of a run, of an experiment or of a suite")),
    responses(
        (status = 200, body = LabelsRequest),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, body = ApiProblem),
    )
)]
async fn labels(
    State(state): State<ApiState>,
    caller: Caller,
    Path(run): Path<String>,
    Body(request): Body<LabelsRequest>,
) -> Result<Json<LabelsRequest>, Refusal> {
    let labels = state.controller.set_run_labels(&caller, id(&run)?, &request.labels).await?;
    Ok(Json(LabelsRequest { labels }))
}

/// Pin a suite's run
///
/// Its artifacts stay, whatever the retention says.
#[utoipa::path(
    put, path = "/annotations/{run}/pin", tag = "annotations",
    params(("run" = String, Path, description = "Whole id of a suite's run")),
    responses((status = 204), (status = 404, body = ApiProblem))
)]
async fn pin(State(state): State<ApiState>, caller: Caller, Path(run): Path<String>) -> Result<StatusCode, Refusal> {
    state.controller.pin(&caller, id(&run)?, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a pinned run go
#[utoipa::path(
    delete, path = "/annotations/{run}/pin", tag = "annotations",
    params(("run" = String, Path, description = "Whole id of a suite's run")),
    responses((status = 204), (status = 404, body = ApiProblem))
)]
async fn unpin(State(state): State<ApiState>, caller: Caller, Path(run): Path<String>) -> Result<StatusCode, Refusal> {
    state.controller.pin(&caller, id(&run)?, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|_| no_run(text))
}

fn no_run(text: &str) -> Refusal {
    problem(StatusCode::NOT_FOUND, format!("there is no run `{text}`; name it by its whole id"))
}
