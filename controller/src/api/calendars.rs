//! Calendars and the freeze: blackouts, holidays, and when nothing may run at all.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{ApiProblem, CalendarDraft, CalendarView, FreezeDraft, FreezeState, WindowView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal};
use super::schedules::Stretch;
use crate::{Caller, ScheduleError};

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, change, remove))
        .routes(routes!(windows))
        .routes(routes!(freeze_state, freeze, thaw))
}

/// List calendars
#[utoipa::path(get, path = "/calendars", tag = "schedules", responses((status = 200, body = Vec<CalendarView>)))]
pub(super) async fn list(State(state): State<ApiState>) -> Result<Json<Vec<CalendarView>>, Refusal> {
    Ok(Json(state.controller.calendars().await?))
}

/// Make a calendar
#[utoipa::path(
    post, path = "/calendars", tag = "schedules", request_body = CalendarDraft,
    responses(
        (status = 201, body = CalendarView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 409, description = "Another calendar has the name", body = ApiProblem),
        (status = 422, description = "The calendar or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    Body(draft): Body<CalendarDraft>,
) -> Result<(StatusCode, Json<CalendarView>), Refusal> {
    let name = draft.name.trim().to_owned();
    state.controller.save_calendar(None, draft, &caller).await?;
    Ok((StatusCode::CREATED, Json(read(&state, &name).await?)))
}

/// Read a calendar
#[utoipa::path(
    get, path = "/calendars/{name}", tag = "schedules", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = CalendarView), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<CalendarView>, Refusal> {
    Ok(Json(read(&state, &name).await?))
}

/// Change a calendar
#[utoipa::path(
    put, path = "/calendars/{name}", tag = "schedules", request_body = CalendarDraft,
    params(("name" = String, Path, description = "Its name until now")),
    responses(
        (status = 200, body = CalendarView),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "Another calendar has the name, or schedules use it under the old one", body = ApiProblem),
        (status = 422, description = "The calendar or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Body(draft): Body<CalendarDraft>,
) -> Result<Json<CalendarView>, Refusal> {
    let new = draft.name.trim().to_owned();
    state.controller.save_calendar(Some(&name), draft, &caller).await?;
    Ok(Json(read(&state, &new).await?))
}

/// Remove a calendar
#[utoipa::path(
    delete, path = "/calendars/{name}", tag = "schedules", params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 204),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "Schedules use it", body = ApiProblem),
    )
)]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    state.controller.remove_calendar(&name, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List what the windows of all calendars cover, in order: 31 days from now unless told otherwise
#[utoipa::path(
    get, path = "/calendar-windows", tag = "schedules", params(Stretch),
    responses((status = 200, body = Vec<WindowView>), (status = 400, body = ApiProblem), (status = 422, body = ApiProblem))
)]
pub(super) async fn windows(
    State(state): State<ApiState>,
    Query(stretch): Query<Stretch>,
) -> Result<Json<Vec<WindowView>>, Refusal> {
    let (from, to) = stretch.ahead()?;
    Ok(Json(state.controller.calendar_windows(from, to).await?))
}

/// Read whether schedules are frozen
#[utoipa::path(get, path = "/freeze", tag = "schedules", responses((status = 200, body = FreezeState)))]
pub(super) async fn freeze_state(State(state): State<ApiState>) -> Result<Json<FreezeState>, Refusal> {
    Ok(Json(state.controller.freeze_state().await?))
}

/// Freeze: no schedule starts anything
#[utoipa::path(
    put, path = "/freeze", tag = "schedules", request_body = FreezeDraft,
    responses(
        (status = 200, body = FreezeState),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 422, description = "There is no reason, or the end is over already", body = ApiProblem),
    )
)]
pub(super) async fn freeze(
    State(state): State<ApiState>,
    caller: Caller,
    Body(draft): Body<FreezeDraft>,
) -> Result<Json<FreezeState>, Refusal> {
    state.controller.freeze(draft, &caller).await?;
    Ok(Json(state.controller.freeze_state().await?))
}

/// End the freeze
#[utoipa::path(delete, path = "/freeze", tag = "schedules", responses((status = 204)))]
pub(super) async fn thaw(State(state): State<ApiState>, caller: Caller) -> Result<StatusCode, Refusal> {
    state.controller.thaw(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read(state: &ApiState, name: &str) -> Result<CalendarView, Refusal> {
    let found = state.controller.calendar(name).await?;
    found.ok_or_else(|| ScheduleError::NotFound { what: "calendar", name: name.to_owned() }.into())
}
