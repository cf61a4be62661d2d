//! Suites at `/suites`: list, history matrix, editor.

use axum::Router;

use crate::Web;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
}
