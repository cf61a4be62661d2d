//! Suites as they are known, with how they fared; and checking one without running it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{AgentView, ApiProblem, StartSuite, SuiteDetail, SuiteSummary};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Refusal, problem};

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(validate)).routes(routes!(agents))
}

/// List suites by name, each with its last runs
///
/// Those that Kennel keeps or ships, and those of which it only has runs.
#[utoipa::path(get, path = "/suites", tag = "suites", responses((status = 200, body = Vec<SuiteSummary>)))]
async fn list(State(state): State<ApiState>) -> Result<Json<Vec<SuiteSummary>>, Refusal> {
    Ok(Json(state.controller.suites().await?))
}

/// Read a suite: its file, parameters, steps and last runs
#[utoipa::path(
    get, path = "/suites/{name}", tag = "suites",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = SuiteDetail), (status = 404, body = ApiProblem))
)]
async fn show(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Json<SuiteDetail>, Refusal> {
    let suite = state.controller.suite(&name).await?;
    suite.map(Json).ok_or_else(|| problem(StatusCode::NOT_FOUND, format!("there is no suite `{name}`")))
}

/// Check a suite's text against what is known and attached now
#[utoipa::path(
    post, path = "/suites/validate", tag = "suites", request_body = StartSuite,
    responses(
        (status = 204, description = "It is valid"),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 422, description = "The suite or the body is not valid", body = ApiProblem),
    )
)]
async fn validate(State(state): State<ApiState>, Body(request): Body<StartSuite>) -> Result<StatusCode, Refusal> {
    let source = request.source.ok_or_else(|| {
        problem(StatusCode::UNPROCESSABLE_ENTITY, "`source` is missing: the suite file's text is what is checked")
    })?;
    state.controller.validate_suite("suite.yaml", &source, &request.parameters).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// List the attached agents with their labels and the test commands that they offer
#[utoipa::path(get, path = "/agents", tag = "suites", responses((status = 200, body = Vec<AgentView>)))]
async fn agents(State(state): State<ApiState>) -> Json<Vec<AgentView>> {
    Json(state.controller.agent_views())
}
