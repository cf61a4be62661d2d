//! What waits: read, watch, cancel, move to the front.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use kennel_model::RunId;
use kennel_model::api::{ApiProblem, QueueEntry, QueueView};
use tokio_stream::wrappers::BroadcastStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Path, Refusal, problem};
use crate::{Caller, Happening, QueueError};

/// Changes that come faster than this are told together.
const PAUSE: Duration = Duration::from_millis(200);

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(live))
        .routes(routes!(show, cancel))
        .routes(routes!(front))
}

/// List what waits, in the order in which it goes, and what it waits for
#[utoipa::path(get, path = "/queue", tag = "queue", responses((status = 200, body = QueueView)))]
async fn list(State(state): State<ApiState>) -> Json<QueueView> {
    Json(state.controller.queue())
}

/// Watch the queue
///
/// Server-sent events whose data is the whole queue, one at the beginning and one after each change. The stream does
/// not end by itself.
#[utoipa::path(
    get, path = "/queue/live", tag = "queue",
    responses((status = 200, content_type = "text/event-stream", body = QueueView))
)]
async fn live(State(state): State<ApiState>) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let changes = BroadcastStream::new(state.controller.happenings());
    // A listener that missed some has missed a change, perhaps of the queue.
    let changes =
        changes.filter(|event| std::future::ready(!matches!(event, Ok(other) if *other != Happening::QueueChanged)));
    let views = futures::stream::unfold((changes.boxed(), true), move |(mut changes, first)| {
        let controller = state.controller.clone();
        async move {
            if !first {
                let _changed = changes.next().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Some((controller.queue(), (changes, false)))
        }
    });
    let events = views.filter_map(|view| std::future::ready(Event::default().json_data(view).ok().map(Ok)));
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Read why one run waits
#[utoipa::path(
    get, path = "/queue/{id}", tag = "queue",
    params(("id" = String, Path, description = "Id of the run")),
    responses((status = 200, body = QueueEntry), (status = 404, body = ApiProblem))
)]
async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<QueueEntry>, Refusal> {
    let run = run(&id)?;
    let waiting = state.controller.queue().waiting;
    let entry = waiting.into_iter().find(|entry| entry.id == run);
    entry.map(Json).ok_or_else(|| QueueError::NotWaiting { run }.into())
}

/// Cancel a run that waits
#[utoipa::path(
    delete, path = "/queue/{id}", tag = "queue",
    params(("id" = String, Path, description = "Id of the run")),
    responses((status = 204), (status = 404, body = ApiProblem))
)]
async fn cancel(State(state): State<ApiState>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    state.controller.cancel_queued(run(&id)?, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Move a run that waits before all others
#[utoipa::path(
    post, path = "/queue/{id}/front", tag = "queue",
    params(("id" = String, Path, description = "Id of the run")),
    responses((status = 204), (status = 404, body = ApiProblem), (status = 409, body = ApiProblem))
)]
async fn front(State(state): State<ApiState>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    state.controller.move_to_front(run(&id)?, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn run(id: &str) -> Result<RunId, Refusal> {
    id.parse().map_err(|_| {
        problem(
            StatusCode::NOT_FOUND,
            format!("`{id}` is no run's id; GET /api/v1/queue lists what waits with its ids"),
        )
    })
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::NotWaiting { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            QueueError::AlreadyFirst { .. } => problem(StatusCode::CONFLICT, error.to_string()),
            QueueError::Store(error) => error.into(),
        }
    }
}
