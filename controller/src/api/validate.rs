//! Checking a file without running or saving it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kennel_model::api::{ApiProblem, CheckReport, FileKind, ValidView, ValidateFile};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ApiState;
use super::problem::{Body, Query, Refusal, problem};

/// How to tell what is wrong.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Answer 200 with the problems of a file that is not valid, too.
    #[serde(default)]
    report: bool,
}

/// Check an experiment, a suite or a target
#[utoipa::path(
    post, path = "/validate", tag = "files", request_body = ValidateFile, params(How),
    responses(
        (status = 200, description = "The file is valid; with `report`, a report whether or not it is", body = ValidView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 422, description = "The file or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn validate(
    State(state): State<ApiState>,
    Query(how): Query<How>,
    Body(request): Body<ValidateFile>,
) -> Result<Response, Refusal> {
    let kind = request.kind.unwrap_or(FileKind::Experiment);
    let Some(source) = request.source.or(request.experiment) else {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "missing field `source`: the file's text"));
    };
    let file = request.file.unwrap_or_else(|| format!("{kind}.yaml"));
    match state.controller.check_file(kind, &file, &source).await {
        Ok(valid) if how.report => Ok(Json(CheckReport { valid: Some(valid), problems: Vec::new() }).into_response()),
        Err(problems) if how.report => {
            Ok(Json(CheckReport { valid: None, problems: problems.problems }).into_response())
        }
        checked => Ok(Json(checked?).into_response()),
    }
}
