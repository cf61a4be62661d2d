//! Targets at `/targets`: those that Kennel keeps, and those that are declared elsewhere.

use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use kennel_model::api::FileKind;

use crate::Web;
use crate::pages::file_list::Filter;
use crate::pages::problem::Problem;
use crate::pages::{file_editor, file_history, file_list};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/targets", get(list))
        .route("/targets/new", get(file_editor::begin).post(file_editor::create))
        .route("/targets/upload", post(file_list::upload))
        .route("/targets/{name}/edit", get(file_editor::edit).post(file_editor::save))
        .route("/targets/{name}/history", get(file_history::show))
        .route("/targets/{name}/restore", post(file_history::restore))
        .route("/targets/{name}/remove", post(file_list::remove))
        .layer(Extension(FileKind::Target))
}

/// `GET /targets`
async fn list(State(web): State<Web>, Query(filter): Query<Filter>) -> Result<Response, Problem> {
    file_list::page(&web, FileKind::Target, filter).await
}
