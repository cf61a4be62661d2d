//! Schedules at `/schedules`: list, calendar view, editor.

use axum::Router;

use crate::Web;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
}
