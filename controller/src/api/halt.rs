//! Halting: one run, or everything.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{ApiProblem, HaltView};

use super::ApiState;
use super::problem::{Path, Refusal};
use crate::Caller;

/// Halt a run
///
/// Load is switched off and every fault reverted. The answer comes at once; the run is over when it is judged.
#[utoipa::path(
    post, path = "/runs/{id}/halt", tag = "halt",
    params(("id" = String, Path, description = "Id, its unique beginning or end, `last` or `last-1`")),
    responses(
        (status = 202, body = HaltView),
        (status = 404, body = ApiProblem),
        (status = 409, description = "The run is over", body = ApiProblem),
    )
)]
pub(super) async fn halt_run(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<HaltView>), Refusal> {
    let run = state.controller.find_run(&id).await?;
    state.controller.halt(run).await?;
    state.controller.record(&caller, "halt run", &format!("run {run}"), "").await?;
    Ok((StatusCode::ACCEPTED, Json(HaltView { halted: vec![run] })))
}

/// Halt every run
#[utoipa::path(post, path = "/halt", tag = "halt", responses((status = 202, body = HaltView)))]
pub(super) async fn halt_all(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<(StatusCode, Json<HaltView>), Refusal> {
    // Halted first: nothing, not even a log that cannot be written, stands before the red button.
    let halted = state.controller.halt_all().await;
    state.controller.record(&caller, "halt every run", "runs", &format!("{} halted", halted.len())).await?;
    Ok((StatusCode::ACCEPTED, Json(HaltView { halted })))
}
