//! Experiments and targets that Kennel keeps: lists, editor, versions.

use axum::Router;

use crate::Web;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
}
