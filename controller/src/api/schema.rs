//! Machine-readable descriptions: of experiment files and of this API.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa::openapi::OpenApi;

use super::ApiState;

/// JSON Schema of experiment files
#[utoipa::path(get, path = "/schema", tag = "experiments", responses((status = 200, body = Value)))]
pub(super) async fn experiment_schema() -> Json<Value> {
    Json(kennel_model::schema::experiment())
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "about", responses((status = 200, body = Value)))]
pub(super) async fn openapi_document(State(state): State<ApiState>) -> Json<OpenApi> {
    Json((*state.document).clone())
}
