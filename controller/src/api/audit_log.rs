//! The audit log: who did what.

use axum::Json;
use axum::extract::State;
use kennel_model::api::{ActView, ApiProblem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Query, Refusal};
use crate::ActFilter;
use crate::people::ACTS_PAGE;

/// Most lines in an answer.
const MOST: u32 = 1000;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which lines to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// By whom.
    who: Option<String>,
    /// Lines whose action, subject or detail hold this text.
    q: Option<String>,
    /// From this moment on: RFC 3339 in UTC, or its beginning (a day).
    from: Option<String>,
    /// Before this moment.
    to: Option<String>,
    /// Lines older than the one with this number.
    before: Option<i64>,
    /// Most lines to list, up to 1000; 100 unless given.
    limit: Option<u32>,
}

/// Read the audit log, newest first
#[utoipa::path(
    get, path = "/audit-log", tag = "people", params(Wanted),
    responses(
        (status = 200, body = Vec<ActView>),
        (status = 400, description = "The query is not valid", body = ApiProblem),
        (status = 403, body = ApiProblem),
    )
)]
async fn list(State(state): State<ApiState>, Query(wanted): Query<Wanted>) -> Result<Json<Vec<ActView>>, Refusal> {
    let limit = wanted.limit.unwrap_or(ACTS_PAGE).min(MOST);
    let filter = ActFilter { who: wanted.who, text: wanted.q, from: wanted.from, to: wanted.to, before: wanted.before };
    Ok(Json(state.controller.acts(&filter, limit).await?))
}
