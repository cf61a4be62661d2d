//! Experiments known by name.

use axum::Json;
use axum::extract::State;
use kennel_model::api::LibraryEntry;

use super::ApiState;

/// List the experiments that Kennel knows by name
#[utoipa::path(get, path = "/library", tag = "experiments", responses((status = 200, body = Vec<LibraryEntry>)))]
pub(super) async fn library(State(state): State<ApiState>) -> Json<Vec<LibraryEntry>> {
    Json(state.controller.library().to_vec())
}
