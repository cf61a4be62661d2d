//! How Kennel itself is.

use axum::Json;
use axum::extract::State;
use kennel_model::api::HealthView;

use super::ApiState;
use crate::people::Visit;

/// Tell how Kennel is
///
/// Anybody learns that it answers; only who is known here learns of agents and runs.
#[utoipa::path(get, path = "/health", tag = "about", responses((status = 200, body = HealthView)))]
pub(super) async fn health(State(state): State<ApiState>, visit: Visit) -> Json<HealthView> {
    let is_known = visit.known().is_some();
    Json(HealthView {
        status: "ok".to_owned(),
        version: is_known.then(|| env!("CARGO_PKG_VERSION").to_owned()),
        agents: is_known.then(|| state.controller.agents()),
        active: is_known.then(|| state.controller.active_runs()),
    })
}
