//! Schedules at `/schedules`: the list, one of them with its history, its form, and the month.

mod form;
mod month;
mod one;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Html;
use axum::routing::{get, post};
use jiff::Timestamp;
use kennel_controller::ScheduleError;
use kennel_model::api::{FreezeState, OccurrenceState, OccurrenceView, ScheduleView};
use serde::Deserialize;

use crate::Web;
use crate::layout::Layout;
use crate::notation;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/schedules", get(show))
        .route("/schedules/new", get(form::new).post(form::create))
        .route("/schedules/calendar", get(month::show))
        .route("/schedules/{id}", get(one::show))
        .route("/schedules/{id}/edit", get(form::edit).post(form::change))
        .route("/schedules/{id}/pause", post(one::pause))
        .route("/schedules/{id}/resume", post(one::resume))
        .route("/schedules/{id}/run", post(one::run))
        .route("/schedules/{id}/remove", post(one::remove))
}

/// Everything but what a form shows beside its fields.
pub(crate) fn broken(error: ScheduleError) -> Problem {
    let what = error.to_string();
    match error {
        ScheduleError::NotFound { .. } => Problem::NoSuchPage,
        ScheduleError::Store(error) => error.into(),
        ScheduleError::Invalid(_) | ScheduleError::NameTaken { .. } => {
            Problem::Unusable { what, next: "Go back and change it." }
        }
        ScheduleError::InUse { .. } => {
            Problem::Unusable { what, next: "Open each of them and leave the calendar out." }
        }
        ScheduleError::NotStarted { .. } => Problem::Unusable { what, next: "Mend what it runs, then try again." },
        ScheduleError::Closing => Problem::Unusable { what, next: "Try again when it is back." },
    }
}

/// Which of the tabs these pages are.
fn tab() -> &'static str {
    "list"
}

/// Class of a badge or mark for what became of an occurrence.
fn class(occurrence: &OccurrenceView) -> &'static str {
    match (occurrence.state, occurrence.verdict) {
        (OccurrenceState::Started, Some(verdict)) => verdict.word(),
        (OccurrenceState::Started | OccurrenceState::Starting, None) => "live",
        (OccurrenceState::Waiting, _) => "queued",
        (OccurrenceState::Skipped | OccurrenceState::Forbidden | OccurrenceState::Replaced, _) => "skipped",
        (OccurrenceState::Missed | OccurrenceState::Failed | OccurrenceState::Starting, _) => "error",
    }
}

/// A glyph for it, so that nothing hangs on colour alone.
fn glyph(occurrence: &OccurrenceView) -> &'static str {
    match (occurrence.state, occurrence.verdict) {
        (OccurrenceState::Started, Some(verdict)) => notation::verdict_glyph(&verdict),
        (OccurrenceState::Started | OccurrenceState::Starting, _) => "●",
        (OccurrenceState::Waiting, _) => "○",
        (OccurrenceState::Skipped | OccurrenceState::Forbidden | OccurrenceState::Replaced, _) => "–",
        (OccurrenceState::Missed | OccurrenceState::Failed, _) => "!",
    }
}

/// What became of an occurrence, in a word.
fn word(occurrence: &OccurrenceView) -> &'static str {
    match (occurrence.state, occurrence.verdict) {
        (OccurrenceState::Started, Some(verdict)) => verdict.word(),
        (state, _) => state.word(),
    }
}

/// Where an occurrence leads: its run, else its schedule.
fn link(occurrence: &OccurrenceView) -> String {
    match (occurrence.run, occurrence.kind) {
        (Some(run), kennel_model::api::QueueKind::Suite) => format!("/suite-runs/{run}"),
        (Some(run), kennel_model::api::QueueKind::Experiment) => format!("/runs/{run}"),
        (None, _) => format!("/schedules/{}", occurrence.schedule),
    }
}

#[derive(Template)]
#[template(path = "schedules/list.html")]
struct SchedulesPage {
    layout: Layout,
    schedules: Vec<ScheduleView>,
    /// How many there are without the filter.
    all: usize,
    q: String,
    freeze: FreezeState,
    now: Timestamp,
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Only those whose name or subject holds this.
    #[serde(default)]
    q: String,
}

/// `GET /schedules`
async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let mut schedules = web.controller.schedules().await?;
    let all = schedules.len();
    let text = wanted.q.trim().to_lowercase();
    schedules.retain(|schedule| {
        text.is_empty()
            || schedule.draft.name.to_lowercase().contains(&text)
            || schedule.draft.subject.to_lowercase().contains(&text)
    });
    let freeze = web.controller.freeze_state().await?;
    fill(&SchedulesPage {
        layout: web.layout.at("schedules"),
        schedules,
        all,
        q: wanted.q,
        freeze,
        now: Timestamp::now(),
    })
}
