//! The form of a schedule: what runs, when, and what happens when that does not fit.

use std::collections::BTreeMap;

use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use kennel_controller::{Caller, ScheduleError};
use kennel_model::api::{
    CalendarMode, CalendarUse, CalendarView, CronPreview, FieldProblem, FileKind, MissedPolicy, OverlapPolicy,
    QueueKind, ScheduleDraft, ScheduleId, ScheduleView,
};
use serde::Deserialize;

use super::{broken, one};
use crate::Web;
use crate::form_errors::FormErrors;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// What most people want, for the buttons above the expression.
const PRESETS: [(&str, &str); 6] = [
    ("Nightly", "30 2 * * *"),
    ("Weekday mornings", "0 7 * * MON-FRI"),
    ("Weekly", "0 4 * * SUN"),
    ("Monthly", "0 4 1 * *"),
    ("Hourly", "0 * * * *"),
    ("Every 15 minutes", "*/15 * * * *"),
];
/// Fields that show what is wrong with them.
const FIELDS: [&str; 7] = ["name", "subject", "cron", "zone", "catch_up_limit", "priority", "parameters"];

#[derive(Template)]
#[template(path = "schedules/form.html")]
struct FormPage {
    layout: Layout,
    known: Option<ScheduleView>,
    written: Written,
    errors: FormErrors,
    preview: Option<CronPreview>,
    suites: Vec<String>,
    experiments: Vec<String>,
    calendars: Vec<CalendarView>,
}

impl FormPage {
    fn action(&self) -> String {
        self.known.as_ref().map_or_else(|| "/schedules/new".to_owned(), |known| format!("/schedules/{}/edit", known.id))
    }

    /// What is wrong, but with no field of the form.
    fn elsewhere(&self) -> Vec<String> {
        self.errors.elsewhere(|field| FIELDS.contains(&field))
    }

    /// The same by the API.
    fn command(&self) -> String {
        let (method, path) = match &self.known {
            Some(known) => ("PUT", format!("/{}", known.id)),
            None => ("POST", String::new()),
        };
        let subject = self.written.subject.split_once(':').map_or("smoke", |(_, name)| name);
        format!(
            "curl -X {method} {}/api/v1/schedules{path} -H 'content-type: application/json' \\\n  -d '{{\"name\": \"nightly\", \"kind\": \"suite\", \"subject\": \"{}\", \"cron\": \"{}\", \"zone\": \"{}\"}}'",
            self.layout.origin(),
            subject.replace(['\'', '"', '\\'], ""),
            self.written.cron.replace(['\'', '"', '\\'], ""),
            self.written.zone.replace(['\'', '"', '\\'], ""),
        )
    }
}

/// What the form holds.
#[derive(Debug, Clone, Default)]
struct Written {
    name: String,
    /// `suite:NAME` or `experiment:NAME`.
    subject: String,
    cron: String,
    zone: String,
    /// One `name=value` a line.
    parameters: String,
    missed: String,
    catch_up_limit: String,
    overlap: String,
    priority: String,
    /// Calendars that mean something to it.
    calendars: BTreeMap<String, String>,
    /// Set when a preset was chosen instead of saving.
    preset: Option<String>,
}

impl Written {
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut written = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "name" => written.name = value,
                "subject" => written.subject = value,
                "cron" => written.cron = value,
                "zone" => written.zone = value,
                "parameters" => written.parameters = value.replace("\r\n", "\n"),
                "missed" => written.missed = value,
                "catch_up_limit" => written.catch_up_limit = value,
                "overlap" => written.overlap = value,
                "priority" => written.priority = value,
                "preset" => written.preset = Some(value),
                other => {
                    if let Some(calendar) = other.strip_prefix("calendar:")
                        && !value.is_empty()
                    {
                        written.calendars.insert(calendar.to_owned(), value);
                    }
                }
            }
        }
        written
    }

    /// A schedule as the form shows it.
    fn from_draft(draft: &ScheduleDraft) -> Self {
        let parameters = draft.parameters.iter().map(|(name, value)| format!("{name}={value}\n"));
        Self {
            name: draft.name.clone(),
            subject: format!("{}:{}", draft.kind, draft.subject),
            cron: draft.cron.clone(),
            zone: draft.zone.clone(),
            parameters: parameters.collect(),
            missed: draft.missed.to_string(),
            catch_up_limit: draft.catch_up_limit.to_string(),
            overlap: draft.overlap.to_string(),
            priority: draft.priority.to_string(),
            calendars: draft.calendars.iter().map(|u| (u.calendar.clone(), u.mode.to_string())).collect(),
            preset: None,
        }
    }

    /// The schedule that the form means, with what cannot be read.
    fn draft(&self) -> (ScheduleDraft, Vec<FieldProblem>) {
        let mut problems = Vec::new();
        let mut wrong = |field: &str, message: String, expected: &str| {
            problems.push(FieldProblem { field: field.to_owned(), message, expected: expected.to_owned() });
        };
        let (kind, subject) = match self.subject.split_once(':') {
            Some(("experiment", name)) => (QueueKind::Experiment, name),
            Some((_, name)) => (QueueKind::Suite, name),
            None => (QueueKind::Suite, ""),
        };
        let mut draft = ScheduleDraft::new(
            self.name.trim().to_owned(),
            kind,
            subject.to_owned(),
            self.cron.trim().to_owned(),
            self.zone.trim().to_owned(),
        );
        for line in self.parameters.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once('=') {
                Some((name, value)) => {
                    draft.parameters.insert(name.trim().to_owned(), value.trim().to_owned());
                }
                None => wrong("parameters", format!("`{line}` has no `=`"), "one `name=value` a line"),
            }
        }
        draft.missed = self.missed.parse().unwrap_or(MissedPolicy::Skip);
        draft.overlap = self.overlap.parse().unwrap_or(OverlapPolicy::Forbid);
        match self.catch_up_limit.trim() {
            "" => {}
            text => match text.parse() {
                Ok(limit) => draft.catch_up_limit = limit,
                Err(_) => wrong("catch_up_limit", format!("`{text}` is no number"), "1 to 50"),
            },
        }
        match self.priority.trim() {
            "" => {}
            text => match text.parse() {
                Ok(priority) => draft.priority = priority,
                Err(_) => wrong("priority", format!("`{text}` is no whole number"), "-100 to 100"),
            },
        }
        let uses = self.calendars.iter().filter_map(|(calendar, mode)| {
            Some(CalendarUse { calendar: calendar.clone(), mode: mode.parse::<CalendarMode>().ok()? })
        });
        draft.calendars = uses.collect();
        (draft, problems)
    }

    /// What a calendar means to the schedule: empty for nothing.
    fn mode(&self, calendar: &str) -> &str {
        self.calendars.get(calendar).map_or("", String::as_str)
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    suite: Option<String>,
    experiment: Option<String>,
}

/// `GET /schedules/new`: nightly, unless somebody says otherwise.
pub(super) async fn new(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let (subject, name) = match (&wanted.suite, &wanted.experiment) {
        (Some(suite), _) => (format!("suite:{suite}"), format!("{suite}, nightly")),
        (None, Some(experiment)) => (format!("experiment:{experiment}"), format!("{experiment}, nightly")),
        (None, None) => (String::new(), String::new()),
    };
    let draft = ScheduleDraft::new(name, QueueKind::Suite, String::new(), "30 2 * * *".to_owned(), String::new());
    let written = Written { subject, ..Written::from_draft(&draft) };
    page(&web, StatusCode::OK, None, written, FormErrors::default()).await
}

/// `GET /schedules/{id}/edit`
pub(super) async fn edit(State(web): State<Web>, Path(id): Path<String>) -> Result<Response, Problem> {
    let known = one::find(&web, &id).await?;
    let written = Written::from_draft(&known.draft);
    page(&web, StatusCode::OK, Some(known), written, FormErrors::default()).await
}

/// `POST /schedules/new`
pub(super) async fn create(
    State(web): State<Web>,
    caller: Caller,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    save(&web, &caller, None, Written::of(pairs)).await
}

/// `POST /schedules/{id}/edit`
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<String>,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let known = one::find(&web, &id).await?;
    save(&web, &caller, Some(known), Written::of(pairs)).await
}

async fn save(
    web: &Web,
    caller: &Caller,
    known: Option<ScheduleView>,
    mut written: Written,
) -> Result<Response, Problem> {
    if written.zone.trim().is_empty() {
        "UTC".clone_into(&mut written.zone);
    }
    if let Some(preset) = written.preset.take() {
        written.cron = preset;
        return page(web, StatusCode::OK, known, written, FormErrors::default()).await;
    }
    let (draft, mut problems) = written.draft();
    if problems.is_empty() {
        let id: Option<ScheduleId> = known.as_ref().map(|known| known.id);
        match web.controller.save_schedule(id, draft, caller).await {
            Ok(id) => return Ok(Redirect::to(&format!("/schedules/{id}")).into_response()),
            Err(ScheduleError::Invalid(wrong)) => problems = wrong,
            Err(ScheduleError::NameTaken { name, .. }) => problems.push(FieldProblem {
                field: "name".to_owned(),
                message: format!("another schedule is called `{name}`"),
                expected: "another name".to_owned(),
            }),
            Err(error) => return Err(broken(error)),
        }
    }
    page(web, StatusCode::UNPROCESSABLE_ENTITY, known, written, problems.into()).await
}

async fn page(
    web: &Web,
    status: StatusCode,
    known: Option<ScheduleView>,
    written: Written,
    errors: FormErrors,
) -> Result<Response, Problem> {
    let zone = if written.zone.trim().is_empty() { "UTC" } else { written.zone.trim() };
    let preview = web.controller.preview_cron(&written.cron, zone).ok();
    let mut suites: Vec<String> = web.controller.suite_names().await?;
    let kept = web.controller.files(FileKind::Experiment).await?;
    let mut experiments: Vec<String> = kept.into_iter().map(|file| file.name).collect();
    experiments.extend(web.controller.library().iter().map(|entry| entry.name.clone()));
    for names in [&mut suites, &mut experiments] {
        names.sort();
        names.dedup();
    }
    // What is chosen is offered, even when it is gone.
    match written.subject.split_once(':') {
        Some(("suite", name)) if !suites.iter().any(|known| known == name) => suites.push(name.to_owned()),
        Some(("experiment", name)) if !experiments.iter().any(|known| known == name) => {
            experiments.push(name.to_owned())
        }
        _ => {}
    }
    let calendars = web.controller.calendars().await?;
    let page = fill(&FormPage {
        layout: web.layout.at("schedules"),
        known,
        written,
        errors,
        preview,
        suites,
        experiments,
        calendars,
    })?;
    Ok((status, page).into_response())
}
