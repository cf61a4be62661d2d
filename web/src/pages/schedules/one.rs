//! One schedule with what became of its occurrences, and what can be done with it.

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use jiff::{Timestamp, ToSpan as _};
use kennel_controller::Caller;
use kennel_model::api::{CronPreview, OccurrenceView, Pause, ScheduleView};
use serde::Deserialize;

use super::{broken, class, glyph, link, word};
use crate::Web;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// How far back occurrences are shown, in days.
const BACK_DAYS: i64 = 92;
/// Most occurrences that are shown.
const MOST: u32 = 200;

#[derive(Template)]
#[template(path = "schedules/one.html")]
struct SchedulePage {
    layout: Layout,
    schedule: ScheduleView,
    preview: Option<CronPreview>,
    occurrences: Vec<OccurrenceView>,
}

/// The schedule of this id or name.
pub(super) async fn find(web: &Web, id: &str) -> Result<ScheduleView, Problem> {
    web.controller.schedule(id).await?.ok_or(Problem::NoSuchPage)
}

/// `GET /schedules/{id}`
pub(super) async fn show(State(web): State<Web>, Path(id): Path<String>) -> Result<Html<String>, Problem> {
    let schedule = find(&web, &id).await?;
    let now = Timestamp::now();
    let from = now.checked_sub((BACK_DAYS * 24).hours()).unwrap_or(Timestamp::MIN);
    let to = now.checked_add(1.minute()).unwrap_or(now);
    let mut occurrences = web.controller.occurrences(Some(schedule.id), from, to, MOST).await?;
    occurrences.sort_by(|a, b| b.due_at.cmp(&a.due_at));
    let preview = web.controller.preview_cron(&schedule.draft.cron, &schedule.draft.zone).ok();
    fill(&SchedulePage { layout: web.layout.at("schedules"), schedule, preview, occurrences })
}

#[derive(Debug, Deserialize)]
pub(super) struct PauseForm {
    /// A day until whose beginning (UTC) it is paused; empty for as long as nobody resumes it.
    #[serde(default)]
    until: String,
}

/// `POST /schedules/{id}/pause`
pub(super) async fn pause(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<String>,
    Form(form): Form<PauseForm>,
) -> Result<Response, Problem> {
    let schedule = find(&web, &id).await?;
    let zone = jiff::tz::TimeZone::get(&schedule.draft.zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let until = match form.until.trim() {
        "" => None,
        day => {
            let begins = day.parse::<jiff::civil::Date>().ok().and_then(|day| day.to_zoned(zone).ok());
            let begins = begins.ok_or_else(|| Problem::Unusable {
                what: format!("`{day}` is no day."),
                next: "Go back and give a day such as 2026-12-31, or leave it empty.",
            })?;
            Some(begins.timestamp().to_string())
        }
    };
    web.controller.pause_schedule(schedule.id, Pause { until }, &caller).await.map_err(broken)?;
    Ok(Redirect::to(&format!("/schedules/{}", schedule.id)).into_response())
}

/// `POST /schedules/{id}/resume`
pub(super) async fn resume(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let schedule = find(&web, &id).await?;
    web.controller.resume_schedule(schedule.id, &caller).await.map_err(broken)?;
    Ok(Redirect::to(&format!("/schedules/{}", schedule.id)).into_response())
}

/// `POST /schedules/{id}/run`
pub(super) async fn run(State(web): State<Web>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let schedule = find(&web, &id).await?;
    let run = web.controller.run_schedule_now(schedule.id, &caller).await.map_err(broken)?;
    let page = match schedule.draft.kind {
        kennel_model::api::QueueKind::Suite => format!("/suite-runs/{run}"),
        kennel_model::api::QueueKind::Experiment => format!("/runs/{run}"),
    };
    Ok(Redirect::to(&page).into_response())
}

/// `POST /schedules/{id}/remove`
pub(super) async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let schedule = find(&web, &id).await?;
    web.controller.remove_schedule(schedule.id, &caller).await.map_err(broken)?;
    Ok(Redirect::to("/schedules").into_response())
}
