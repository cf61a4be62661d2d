//! Calendars at `/calendars`: blackouts and holidays, their form, and the switch that freezes every schedule.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use kennel_controller::{Caller, ScheduleError};
use kennel_model::api::{
    CalendarDraft, CalendarView, CalendarWindow, Day, FieldProblem, FreezeDraft, FreezeState, WindowRule,
};
use serde::Deserialize;

use crate::Web;
use crate::form_errors::FormErrors;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::pages::schedules::broken;

/// Empty rows that the form offers beside the windows there are.
const EMPTY_ROWS: usize = 3;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/calendars", get(show))
        .route("/calendars/new", get(new).post(create))
        .route("/calendars/freeze", post(freeze))
        .route("/calendars/thaw", post(thaw))
        .route("/calendars/{name}", get(edit).post(change))
        .route("/calendars/{name}/remove", post(remove))
}

#[derive(Template)]
#[template(path = "schedules/calendars.html")]
struct CalendarsPage {
    layout: Layout,
    calendars: Vec<CalendarView>,
    freeze: FreezeState,
}

/// `GET /calendars`
async fn show(State(web): State<Web>) -> Result<Response, Problem> {
    let calendars = web.controller.calendars().await?;
    let freeze = web.controller.freeze_state().await?;
    let page = CalendarsPage { layout: web.layout.at("schedules"), calendars, freeze };
    Ok(fill(&page)?.into_response())
}

/// Which of the tabs these pages are.
fn tab() -> &'static str {
    "calendars"
}

/// A window in a few words.
fn described(window: &CalendarWindow) -> String {
    match &window.when {
        WindowRule::Once { from, to } => format!("from {} to {}", from.replace('T', " "), to.replace('T', " ")),
        WindowRule::Weekly { days, from, to } => {
            let days: Vec<&str> = days.iter().map(|day| day.word()).collect();
            format!("every {} from {from} to {to}", days.join(", "))
        }
        WindowRule::Cron { cron, minutes } => format!("{minutes} min from each `{cron}`"),
        WindowRule::Date { date } => format!("all day on {date}"),
        WindowRule::Yearly { day } => format!("all day on {day} each year"),
    }
}

#[derive(Template)]
#[template(path = "schedules/calendar.html")]
struct CalendarPage {
    layout: Layout,
    /// Its name as it is kept; absent for a new one.
    known: Option<CalendarView>,
    written: Written,
    errors: FormErrors,
}

impl CalendarPage {
    /// What is wrong, but with no field of the form.
    fn elsewhere(&self) -> Vec<String> {
        self.errors.elsewhere(|field| matches!(field, "name" | "zone") || field.starts_with("windows["))
    }

    /// What is wrong with a row.
    fn wrong(&self, at: &usize) -> Vec<String> {
        self.errors.within(&format!("windows[{at}]."))
    }
}

/// What the form holds.
#[derive(Debug, Clone, Default)]
struct Written {
    name: String,
    description: String,
    zone: String,
    everywhere: bool,
    rows: Vec<Row>,
}

/// One window as the form holds it. Which fields count hangs on the kind.
#[derive(Debug, Clone, Default)]
struct Row {
    name: String,
    kind: String,
    days: Vec<String>,
    from: String,
    to: String,
    cron: String,
    minutes: String,
    date: String,
}

impl Row {
    fn is_empty(&self) -> bool {
        self.name.trim().is_empty()
            && [&self.from, &self.to, &self.cron, &self.date].iter().all(|field| field.trim().is_empty())
            && self.days.is_empty()
    }

    fn has(&self, day: &Day) -> bool {
        self.days.iter().any(|name| name == day.word())
    }

    fn window(&self) -> CalendarWindow {
        let text = |text: &String| text.trim().to_owned();
        let when = match self.kind.as_str() {
            "weekly" => WindowRule::Weekly {
                days: self.days.iter().filter_map(|day| day.parse().ok()).collect(),
                from: text(&self.from),
                to: text(&self.to),
            },
            "cron" => WindowRule::Cron {
                cron: text(&self.cron),
                // What is no number is told as out of bounds.
                minutes: self.minutes.trim().parse().unwrap_or_default(),
            },
            "date" => WindowRule::Date { date: text(&self.date) },
            "yearly" => WindowRule::Yearly { day: text(&self.date) },
            _ => WindowRule::Once { from: text(&self.from).replace(' ', "T"), to: text(&self.to).replace(' ', "T") },
        };
        CalendarWindow { name: text(&self.name), when }
    }

    fn of(window: &CalendarWindow) -> Self {
        let mut row = Self { name: window.name.clone(), ..Self::default() };
        match &window.when {
            WindowRule::Once { from, to } => {
                (row.kind, row.from, row.to) = ("once".to_owned(), from.clone(), to.clone());
            }
            WindowRule::Weekly { days, from, to } => {
                row.days = days.iter().map(|day| day.word().to_owned()).collect();
                (row.kind, row.from, row.to) = ("weekly".to_owned(), from.clone(), to.clone());
            }
            WindowRule::Cron { cron, minutes } => {
                (row.kind, row.cron, row.minutes) = ("cron".to_owned(), cron.clone(), minutes.to_string());
            }
            WindowRule::Date { date } => (row.kind, row.date) = ("date".to_owned(), date.clone()),
            WindowRule::Yearly { day } => (row.kind, row.date) = ("yearly".to_owned(), day.clone()),
        }
        row
    }
}

impl Written {
    fn from_draft(draft: &CalendarDraft) -> Self {
        Self {
            name: draft.name.clone(),
            description: draft.description.clone(),
            zone: draft.zone.clone(),
            everywhere: draft.everywhere,
            rows: draft.windows.iter().map(Row::of).collect(),
        }
    }

    /// Fields of rows are called `row.NUMBER.FIELD`.
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut written = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "name" => written.name = value,
                "description" => written.description = value,
                "zone" => written.zone = value,
                "everywhere" => written.everywhere = true,
                other => written.take(other, value),
            }
        }
        written.rows.retain(|row| !row.is_empty());
        written
    }

    fn take(&mut self, name: &str, value: String) {
        let mut parts = name.splitn(3, '.');
        let (Some("row"), Some(number), Some(field)) = (parts.next(), parts.next(), parts.next()) else { return };
        let Some(at) = number.parse::<usize>().ok().filter(|at| *at < 600) else { return };
        if self.rows.len() <= at {
            self.rows.resize(at + 1, Row::default());
        }
        let row = &mut self.rows[at];
        match field {
            "name" => row.name = value,
            "kind" => row.kind = value,
            "day" => row.days.push(value),
            "from" => row.from = value,
            "to" => row.to = value,
            "cron" => row.cron = value,
            "minutes" => row.minutes = value,
            "date" => row.date = value,
            _ => {}
        }
    }

    fn draft(&self) -> CalendarDraft {
        CalendarDraft {
            name: self.name.trim().to_owned(),
            description: self.description.trim().to_owned(),
            zone: if self.zone.trim().is_empty() { "UTC".to_owned() } else { self.zone.trim().to_owned() },
            everywhere: self.everywhere,
            windows: self.rows.iter().map(Row::window).collect(),
        }
    }
}

async fn find(web: &Web, name: &str) -> Result<CalendarView, Problem> {
    let calendars = web.controller.calendars().await?;
    calendars.into_iter().find(|calendar| calendar.draft.name == name).ok_or(Problem::NoSuchPage)
}

/// `GET /calendars/new`
async fn new(State(web): State<Web>) -> Result<Response, Problem> {
    page(&web, StatusCode::OK, None, Written::default(), FormErrors::default())
}

/// `GET /calendars/{name}`
async fn edit(State(web): State<Web>, Path(name): Path<String>) -> Result<Response, Problem> {
    let known = find(&web, &name).await?;
    let written = Written::from_draft(&known.draft);
    page(&web, StatusCode::OK, Some(known), written, FormErrors::default())
}

/// `POST /calendars/new`
async fn create(
    State(web): State<Web>,
    caller: Caller,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    save(&web, &caller, None, Written::of(pairs)).await
}

/// `POST /calendars/{name}`
async fn change(
    State(web): State<Web>,
    caller: Caller,
    Path(name): Path<String>,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let known = find(&web, &name).await?;
    save(&web, &caller, Some(known), Written::of(pairs)).await
}

async fn save(web: &Web, caller: &Caller, known: Option<CalendarView>, written: Written) -> Result<Response, Problem> {
    let old = known.as_ref().map(|known| known.draft.name.clone());
    let problems = match web.controller.save_calendar(old.as_deref(), written.draft(), caller).await {
        Ok(()) => return Ok(Redirect::to("/calendars").into_response()),
        Err(ScheduleError::Invalid(problems)) => problems,
        Err(ScheduleError::NameTaken { name, .. }) => vec![FieldProblem {
            field: "name".to_owned(),
            message: format!("another calendar is called `{name}`"),
            expected: "another name".to_owned(),
        }],
        Err(error) => return Err(broken(error)),
    };
    page(web, StatusCode::UNPROCESSABLE_ENTITY, known, written, problems.into())
}

fn page(
    web: &Web,
    status: StatusCode,
    known: Option<CalendarView>,
    mut written: Written,
    errors: FormErrors,
) -> Result<Response, Problem> {
    let rows = written.rows.len() + EMPTY_ROWS;
    written.rows.resize(rows, Row { kind: "date".to_owned(), ..Row::default() });
    let page = CalendarPage { layout: web.layout.at("schedules"), known, written, errors };
    Ok((status, fill(&page)?).into_response())
}

/// `POST /calendars/{name}/remove`
async fn remove(State(web): State<Web>, caller: Caller, Path(name): Path<String>) -> Result<Response, Problem> {
    web.controller.remove_calendar(&name, &caller).await.map_err(broken)?;
    Ok(Redirect::to("/calendars").into_response())
}

#[derive(Debug, Deserialize)]
struct FreezeForm {
    #[serde(default)]
    reason: String,
    /// `2026-12-31T08:00`, UTC; empty for as long as nobody lifts it.
    #[serde(default)]
    until: String,
}

/// `POST /calendars/freeze`
async fn freeze(State(web): State<Web>, caller: Caller, Form(form): Form<FreezeForm>) -> Result<Response, Problem> {
    let until = match form.until.trim() {
        "" => None,
        text => {
            let read = text.parse::<jiff::civil::DateTime>().ok();
            let at =
                read.and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok()).ok_or_else(|| Problem::Unusable {
                    what: format!("`{text}` is no moment."),
                    next: "Go back and give one such as 2026-12-31T08:00 (UTC), or leave it empty.",
                })?;
            Some(at.timestamp().to_string())
        }
    };
    web.controller.freeze(FreezeDraft { reason: form.reason, until }, &caller).await.map_err(broken)?;
    Ok(Redirect::to("/calendars").into_response())
}

/// `POST /calendars/thaw`
async fn thaw(State(web): State<Web>, caller: Caller) -> Result<Response, Problem> {
    web.controller.thaw(&caller).await.map_err(broken)?;
    Ok(Redirect::to("/calendars").into_response())
}
