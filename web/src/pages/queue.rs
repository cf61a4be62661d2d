//! What waits at `/queue`.

use axum::Router;

use crate::Web;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
}
