//! Checking a file without running or saving it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{ApiProblem, FileKind, ValidView, ValidateFile};

use super::ApiState;
use super::problem::{Body, Refusal, problem};

/// Check an experiment, a suite or a target
#[utoipa::path(
    post, path = "/validate", tag = "files", request_body = ValidateFile,
    responses(
        (status = 200, body = ValidView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 422, description = "The file or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn validate(
    State(state): State<ApiState>,
    Body(request): Body<ValidateFile>,
) -> Result<Json<ValidView>, Refusal> {
    let kind = request.kind.unwrap_or(FileKind::Experiment);
    let Some(source) = request.source.or(request.experiment) else {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "missing field `source`: the file's text"));
    };
    let file = request.file.unwrap_or_else(|| format!("{kind}.yaml"));
    Ok(Json(state.controller.check_file(kind, &file, &source).await?))
}
