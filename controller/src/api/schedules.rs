//! Schedules and their occurrences.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kennel_model::api::{
    ApiProblem, CronPreview, Due, OccurrenceView, Pause, PlannedView, ScheduleDraft, ScheduleView, Started,
};
use kennel_model::document::PlacedProblem;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use crate::{Caller, ScheduleError};

/// Occurrences in a list unless asked otherwise.
const PAGE: u32 = 100;
/// Most occurrences in a list.
const LONGEST_PAGE: u32 = 1_000;
/// Occurrences ahead unless asked otherwise.
const AHEAD: u32 = 5;
/// Most occurrences ahead.
const MOST_AHEAD: u32 = 100;
/// How long a stretch is unless said otherwise.
const STRETCH: SignedDuration = SignedDuration::from_hours(24 * 31);
/// Longest stretch.
const LONGEST_STRETCH: SignedDuration = SignedDuration::from_hours(24 * 366);

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, change, remove))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(run))
        .routes(routes!(occurrences))
        .routes(routes!(next))
        .routes(routes!(preview))
        .routes(routes!(plan))
        .routes(routes!(outcomes))
}

impl From<ScheduleError> for Refusal {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Invalid(problems) => {
                let placed = problems.into_iter();
                let placed = placed.map(|found| PlacedProblem::of_field(found.field, found.message, found.expected));
                Self::unprocessable("what was sent cannot be kept as it is", placed.collect())
            }
            ScheduleError::NotFound { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            ScheduleError::NameTaken { .. } | ScheduleError::InUse { .. } | ScheduleError::NotStarted { .. } => {
                problem(StatusCode::CONFLICT, error.to_string())
            }
            ScheduleError::Closing => problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            ScheduleError::Store(error) => error.into(),
        }
    }
}

/// A stretch of time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Stretch {
    /// Its beginning: `2026-12-01T00:00:00Z`.
    from: Option<String>,
    /// Its end.
    to: Option<String>,
    /// Most entries, up to 1000, where the list can be longer; 100 unless given.
    limit: Option<u32>,
}

impl Stretch {
    /// From now on unless said otherwise.
    pub(super) fn ahead(&self) -> Result<(Timestamp, Timestamp), Refusal> {
        let from = moment("from", self.from.as_deref())?.unwrap_or_else(Timestamp::now);
        let to = moment("to", self.to.as_deref())?;
        bounded(from, to.unwrap_or_else(|| from.checked_add(STRETCH).unwrap_or(Timestamp::MAX)))
    }

    /// Up to now unless said otherwise.
    fn behind(&self) -> Result<(Timestamp, Timestamp), Refusal> {
        let to = moment("to", self.to.as_deref())?.unwrap_or_else(Timestamp::now);
        let from = moment("from", self.from.as_deref())?;
        bounded(from.unwrap_or_else(|| to.checked_sub(STRETCH).unwrap_or(Timestamp::MIN)), to)
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).min(LONGEST_PAGE)
    }
}

fn moment(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Refusal> {
    let unread = |text: &str| {
        let error = format!("`{field}` is `{text}`; expected a moment with its offset, such as 2026-12-01T00:00:00Z");
        problem(StatusCode::UNPROCESSABLE_ENTITY, error)
    };
    text.map(|text| text.parse().map_err(|_| unread(text))).transpose()
}

fn bounded(from: Timestamp, to: Timestamp) -> Result<(Timestamp, Timestamp), Refusal> {
    if from > to || to.duration_since(from) > LONGEST_STRETCH {
        let error = "`to` has to come after `from`, by no more than 366 days";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    Ok((from, to))
}

/// List schedules, by name
#[utoipa::path(get, path = "/schedules", tag = "schedules", responses((status = 200, body = Vec<ScheduleView>)))]
pub(super) async fn list(State(state): State<ApiState>) -> Result<Json<Vec<ScheduleView>>, Refusal> {
    Ok(Json(state.controller.schedules().await?))
}

/// Make a schedule
#[utoipa::path(
    post, path = "/schedules", tag = "schedules", request_body = ScheduleDraft,
    responses(
        (status = 201, body = ScheduleView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 409, description = "Another schedule has the name", body = ApiProblem),
        (status = 422, description = "The schedule or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    Body(draft): Body<ScheduleDraft>,
) -> Result<(StatusCode, Json<ScheduleView>), Refusal> {
    let id = state.controller.save_schedule(None, draft, &caller).await?;
    Ok((StatusCode::CREATED, Json(read(&state, &id.to_string()).await?)))
}

/// Read a schedule
#[utoipa::path(
    get, path = "/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ScheduleView), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<ScheduleView>, Refusal> {
    Ok(Json(read(&state, &id).await?))
}

/// Change a schedule
#[utoipa::path(
    put, path = "/schedules/{id}", tag = "schedules", request_body = ScheduleDraft,
    params(("id" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = ScheduleView),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "Another schedule has the name", body = ApiProblem),
        (status = 422, description = "The schedule or the body is not valid", body = ApiProblem),
    )
)]
pub(super) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Body(draft): Body<ScheduleDraft>,
) -> Result<Json<ScheduleView>, Refusal> {
    let id = read(&state, &id).await?.id;
    state.controller.save_schedule(Some(id), draft, &caller).await?;
    Ok(Json(read(&state, &id.to_string()).await?))
}

/// Remove a schedule and what became of its occurrences; its runs stay
#[utoipa::path(
    delete, path = "/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "Its id or name")),
    responses((status = 204), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    state.controller.remove_schedule(read(&state, &id).await?.id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a schedule, until it is resumed or until a moment
#[utoipa::path(
    post, path = "/schedules/{id}/pause", tag = "schedules", request_body = Pause,
    params(("id" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = ScheduleView),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "The moment is over already or cannot be read", body = ApiProblem),
    )
)]
pub(super) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Body(pause): Body<Pause>,
) -> Result<Json<ScheduleView>, Refusal> {
    let id = read(&state, &id).await?.id;
    state.controller.pause_schedule(id, pause, &caller).await?;
    Ok(Json(read(&state, &id.to_string()).await?))
}

/// End the pause of a schedule
#[utoipa::path(
    post, path = "/schedules/{id}/resume", tag = "schedules", params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ScheduleView), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ScheduleView>, Refusal> {
    let id = read(&state, &id).await?.id;
    state.controller.resume_schedule(id, &caller).await?;
    Ok(Json(read(&state, &id.to_string()).await?))
}

/// Run what a schedule runs, now, whatever keeps the schedule itself from running
#[utoipa::path(
    post, path = "/schedules/{id}/run", tag = "schedules", params(("id" = String, Path, description = "Its id or name")),
    responses(
        (status = 201, body = Started),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "The run cannot be started", body = ApiProblem),
        (status = 503, description = "Kennel is shutting down", body = ApiProblem),
    )
)]
pub(super) async fn run(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Started>), Refusal> {
    let id = state.controller.run_schedule_now(read(&state, &id).await?.id, &caller).await?;
    Ok((StatusCode::CREATED, Json(Started { id })))
}

/// List what became of a schedule's occurrences, newest first: of the last 31 days unless told otherwise
#[utoipa::path(
    get, path = "/schedules/{id}/occurrences", tag = "schedules",
    params(("id" = String, Path, description = "Its id or name"), Stretch),
    responses(
        (status = 200, body = Vec<OccurrenceView>),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, body = ApiProblem),
    )
)]
pub(super) async fn occurrences(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(stretch): Query<Stretch>,
) -> Result<Json<Vec<OccurrenceView>>, Refusal> {
    let (from, to) = stretch.behind()?;
    let id = read(&state, &id).await?.id;
    Ok(Json(state.controller.occurrences(Some(id), from, to, stretch.limit()).await?))
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Count {
    /// How many, up to 100; 5 unless given.
    count: Option<u32>,
}

/// List when a schedule is next due, with what will keep it from running
#[utoipa::path(
    get, path = "/schedules/{id}/next", tag = "schedules",
    params(("id" = String, Path, description = "Its id or name"), Count),
    responses((status = 200, body = Vec<Due>), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn next(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(count): Query<Count>,
) -> Result<Json<Vec<Due>>, Refusal> {
    let id = read(&state, &id).await?.id;
    let count = count.count.unwrap_or(AHEAD).min(MOST_AHEAD);
    Ok(Json(state.controller.next_of(id, usize::try_from(count).unwrap_or_default()).await?))
}

/// A cron expression in a zone.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Expression {
    /// Five fields: minute, hour, day of the month, month, day of the week; or `@daily` and its like.
    cron: String,
    /// IANA time zone; UTC unless given.
    zone: Option<String>,
}

/// Tell what a cron expression in a zone comes to: in words, when next, and on days when clocks change
#[utoipa::path(
    get, path = "/schedule-preview", tag = "schedules", params(Expression),
    responses(
        (status = 200, body = CronPreview),
        (status = 400, body = ApiProblem),
        (status = 422, description = "The expression or the zone cannot be read", body = ApiProblem),
    )
)]
pub(super) async fn preview(
    State(state): State<ApiState>,
    Query(expression): Query<Expression>,
) -> Result<Json<CronPreview>, Refusal> {
    let zone = expression.zone.as_deref().unwrap_or("UTC");
    let preview = state.controller.preview_cron(&expression.cron, zone);
    Ok(Json(preview.map_err(|problem| ScheduleError::Invalid(vec![problem]))?))
}

/// List what will be due, with what will keep it from running: 31 days from now unless told otherwise
#[utoipa::path(
    get, path = "/schedule-plan", tag = "schedules", params(Stretch),
    responses((status = 200, body = Vec<PlannedView>), (status = 400, body = ApiProblem), (status = 422, body = ApiProblem))
)]
pub(super) async fn plan(
    State(state): State<ApiState>,
    Query(stretch): Query<Stretch>,
) -> Result<Json<Vec<PlannedView>>, Refusal> {
    let (from, to) = stretch.ahead()?;
    let mut planned = state.controller.planned(from, to).await?;
    planned.truncate(usize::try_from(stretch.limit()).unwrap_or(usize::MAX));
    Ok(Json(planned))
}

/// List what became of the occurrences of all schedules, newest first: of the last 31 days unless told otherwise
#[utoipa::path(
    get, path = "/schedule-occurrences", tag = "schedules", params(Stretch),
    responses((status = 200, body = Vec<OccurrenceView>), (status = 400, body = ApiProblem), (status = 422, body = ApiProblem))
)]
pub(super) async fn outcomes(
    State(state): State<ApiState>,
    Query(stretch): Query<Stretch>,
) -> Result<Json<Vec<OccurrenceView>>, Refusal> {
    let (from, to) = stretch.behind()?;
    Ok(Json(state.controller.occurrences(None, from, to, stretch.limit()).await?))
}

async fn read(state: &ApiState, id: &str) -> Result<ScheduleView, Refusal> {
    let found = state.controller.schedule(id).await?;
    found.ok_or_else(|| ScheduleError::NotFound { what: "schedule", name: id.to_owned() }.into())
}
