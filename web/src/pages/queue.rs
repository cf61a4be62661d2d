//! What waits at `/queue`: what runs, what is next, why it waits, and how to change that.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use kennel_controller::{Caller, QueueError};
use kennel_model::RunId;
use kennel_model::api::{QueueKind, QueueView};

use crate::Web;
use crate::layout::Layout;
use crate::notation;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/queue", get(show))
        .route("/queue/{run}/cancel", post(cancel))
        .route("/queue/{run}/front", post(front))
}

#[derive(Template)]
#[template(path = "schedules/queue.html")]
struct QueuePage {
    layout: Layout,
    queue: QueueView,
    now: Timestamp,
}

/// The page of a run.
fn href(kind: &QueueKind, run: &RunId) -> String {
    match kind {
        QueueKind::Suite => format!("/suite-runs/{run}"),
        QueueKind::Experiment => format!("/runs/{run}"),
    }
}

/// A length in seconds, where it is known.
fn length(seconds: &Option<f64>) -> String {
    seconds.as_ref().map_or_else(|| "unknown".to_owned(), notation::duration)
}

/// `GET /queue`
async fn show(State(web): State<Web>) -> Result<Html<String>, Problem> {
    let queue = web.controller.queue();
    fill(&QueuePage { layout: web.layout.at("queue"), queue, now: Timestamp::now() })
}

fn refused(error: QueueError) -> Problem {
    match error {
        QueueError::Store(error) => error.into(),
        other => Problem::Unusable { what: other.to_string(), next: "Look at the queue again: it has moved on." },
    }
}

fn id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|_| Problem::NoSuchPage)
}

/// `POST /queue/{run}/cancel`
async fn cancel(State(web): State<Web>, caller: Caller, Path(run): Path<String>) -> Result<Response, Problem> {
    web.controller.cancel_queued(id(&run)?, &caller).await.map_err(refused)?;
    Ok(Redirect::to("/queue").into_response())
}

/// `POST /queue/{run}/front`
async fn front(State(web): State<Web>, caller: Caller, Path(run): Path<String>) -> Result<Response, Problem> {
    web.controller.move_to_front(id(&run)?, &caller).await.map_err(refused)?;
    Ok(Redirect::to("/queue").into_response())
}
