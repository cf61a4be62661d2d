//! Two runs side by side.

use axum::Json;
use axum::extract::State;
use kennel_model::api::{ApiProblem, ComparisonView};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ApiState;
use super::problem::{Query, Refusal};
use super::runs::gone;

/// Which runs to compare; each is named by its id, the id's unique beginning or end, `last` or `last-1`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Pair {
    /// The run that is compared with.
    a: String,
    /// The run that is compared.
    b: String,
}

/// Compare two runs
#[utoipa::path(
    get, path = "/compare", tag = "runs", params(Pair),
    responses((status = 200, body = ComparisonView), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn compare(
    State(state): State<ApiState>,
    Query(pair): Query<Pair>,
) -> Result<Json<ComparisonView>, Refusal> {
    let (a, b) = (state.controller.find_run(&pair.a).await?, state.controller.find_run(&pair.b).await?);
    state.controller.compare(a, b).await?.map(Json).ok_or_else(|| gone(&pair.b))
}
