//! Files that Kennel keeps: list, read, save, compare versions, remove.

use utoipa_axum::router::OpenApiRouter;

use super::ApiState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
}
