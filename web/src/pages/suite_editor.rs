//! The editor of suites at `/suites/new` and `/suites/{name}/edit`; their list and pages are in [`super::suites`].

use axum::routing::{get, post};
use axum::{Extension, Router};
use kennel_model::api::FileKind;

use crate::Web;
use crate::pages::{file_editor, file_history, file_list};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/suites/new", get(file_editor::begin).post(file_editor::create))
        .route("/suites/upload", post(file_list::upload))
        .route("/suites/{name}/edit", get(file_editor::edit).post(file_editor::save))
        .route("/suites/{name}/history", get(file_history::show))
        .route("/suites/{name}/restore", post(file_history::restore))
        .route("/suites/{name}/remove", post(file_list::remove))
        .layer(Extension(FileKind::Suite))
}
