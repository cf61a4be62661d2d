//! Experiments at `/experiments`: those that Kennel keeps, and templates to begin with.

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
        .route("/experiments", get(list))
        .route("/experiments/{name}/run", post(file_editor::run_now))
        .route("/experiments/new", get(file_editor::begin).post(file_editor::create))
        .route("/experiments/upload", post(file_list::upload))
        .route("/experiments/{name}/edit", get(file_editor::edit).post(file_editor::save))
        .route("/experiments/{name}/history", get(file_history::show))
        .route("/experiments/{name}/restore", post(file_history::restore))
        .route("/experiments/{name}/remove", post(file_list::remove))
        .layer(Extension(FileKind::Experiment))
}

/// `GET /experiments`
async fn list(State(web): State<Web>, Query(filter): Query<Filter>) -> Result<Response, Problem> {
    file_list::page(&web, FileKind::Experiment, filter).await
}
