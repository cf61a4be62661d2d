//! Checking an experiment without running it.

use axum::Json;
use axum::extract::State;
use kennel_model::api::{ApiProblem, StartRun, ValidView};

use super::ApiState;
use super::problem::{Body, Refusal};

/// Check an experiment
#[utoipa::path(
    post, path = "/validate", tag = "experiments", request_body = StartRun,
    responses(
        (status = 200, body = ValidView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 422, description = "The experiment or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn validate(
    State(state): State<ApiState>,
    Body(request): Body<StartRun>,
) -> Result<Json<ValidView>, Refusal> {
    let valid = state.controller.validate(&request).await?;
    Ok(Json(ValidView {
        name: valid.experiment().name.clone(),
        target: valid.target().name.clone(),
        planned_s: valid.experiment().load.duration().as_secs_f64(),
    }))
}
