//! What is broken at `/failing`: since when, grouped by message; and muted tests at `/muted`.

use axum::Router;

use crate::Web;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
}
