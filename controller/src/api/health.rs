//! How Kennel itself is.

use axum::Json;
use axum::extract::State;
use kennel_model::api::HealthView;

use super::ApiState;

/// Tell how Kennel is
#[utoipa::path(get, path = "/health", tag = "about", responses((status = 200, body = HealthView)))]
pub(super) async fn health(State(state): State<ApiState>) -> Json<HealthView> {
    Json(HealthView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agents: state.controller.agents(),
        active: state.controller.active_runs(),
    })
}
