//! The live stream of a run, as server-sent events.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use kennel_model::api::{ApiProblem, LiveEvent};

use super::ApiState;
use super::problem::{Path, Refusal};
use super::runs::gone;

/// Watch a run
///
/// Server-sent events whose data is a JSON object with `event`. The first tells the run as it is; the stream ends when
/// the run is over.
#[utoipa::path(
    get, path = "/runs/{id}/live", tag = "runs",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses((status = 200, content_type = "text/event-stream", body = LiveEvent), (status = 404, body = ApiProblem))
)]
pub(super) async fn live(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Refusal> {
    let run = state.controller.find_run(&id).await?;
    // Watched before it is read, so that no change falls between the two.
    let events = state.controller.live(run);
    let now = state.controller.summary(run).await?.ok_or_else(|| gone(&id))?;
    let events = futures::stream::once(std::future::ready(LiveEvent::State { run: now })).chain(events);
    let events = events.filter_map(|event| {
        let event =
            Event::default().json_data(event).inspect_err(|error| tracing::error!(%error, "a live event is lost"));
        std::future::ready(event.ok().map(Ok))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
