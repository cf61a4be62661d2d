//! Artifacts of suite runs: list, download, keep.

use utoipa_axum::router::OpenApiRouter;

use super::ApiState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
}
