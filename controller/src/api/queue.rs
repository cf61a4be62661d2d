//! What waits: read, cancel, move to the front.

use utoipa_axum::router::OpenApiRouter;

use super::ApiState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
}
