//! What a suite's run left behind and what people wrote about it at `/suite-runs/{id}/artifacts`; how long artifacts
//! stay at `/settings/storage`. Notes and labels of experiments' runs are posted here too.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use kennel_controller::{Caller, NoteError};
use kennel_model::api::{Annotations, ArtifactView, Retention, StorageView, SuiteRunSummary};
use kennel_model::{Role, RunId};
use serde::Deserialize;

use crate::layout::{Layout, origin};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/suite-runs/{id}/artifacts", get(show))
        .route("/suite-runs/{id}/pin", post(pin))
        .route("/suite-runs/{id}/notes", post(note_suite_run))
        .route("/suite-runs/{id}/labels", post(label_suite_run))
        .route("/runs/{id}/notes", post(note_run))
        .route("/runs/{id}/labels", post(label_run))
        .route("/settings/storage", get(storage).post(set_retention))
}

#[derive(Template)]
#[template(path = "artifacts.html")]
struct ArtifactsPage {
    layout: Layout,
    run: SuiteRunSummary,
    artifacts: Vec<ArtifactView>,
    annotations: Annotations,
    /// Where notes and labels are posted.
    base: String,
    annotation_error: String,
    command: String,
}

/// Whether a browser may show it: pictures and text.
fn is_shown(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || matches!(
            media_type,
            "image/png" | "image/jpeg" | "image/gif" | "image/webp" | "application/json" | "application/xml"
        )
}

async fn page(web: &Web, id: RunId) -> Result<ArtifactsPage, Problem> {
    let run = web.controller.suite_run_summary(id).await?.ok_or_else(|| no_run(&id.to_string()))?;
    Ok(ArtifactsPage {
        layout: web.layout.at("suites"),
        artifacts: web.controller.artifacts(id).await?,
        annotations: web.controller.annotations(id).await?.unwrap_or_default(),
        base: format!("/suite-runs/{id}"),
        annotation_error: String::new(),
        command: format!(
            "# list and download\ncurl -s {0}/api/v1/suite-runs/{id}/artifacts\ncurl -OJ {0}/api/v1/artifacts/ID\n# keep them whatever the retention says\ncurl -X PUT {0}/api/v1/annotations/{id}/pin",
            origin()
        ),
        run,
    })
}

/// `GET /suite-runs/{id}/artifacts`
async fn show(State(web): State<Web>, id: Result<Path<String>, PathRejection>) -> Result<Html<String>, Problem> {
    fill(&page(&web, parsed(id)?).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PinForm {
    pinned: bool,
}

/// `POST /suite-runs/{id}/pin`
async fn pin(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    Form(form): Form<PinForm>,
) -> Result<Redirect, Problem> {
    let id = parsed(id)?;
    web.controller.pin(&caller, id, form.pinned).await.map_err(problem_of)?;
    Ok(Redirect::to(&format!("/suite-runs/{id}/artifacts")))
}

#[derive(Debug, Deserialize)]
struct TextForm {
    text: String,
}

/// `POST /suite-runs/{id}/notes`
async fn note_suite_run(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    Form(form): Form<TextForm>,
) -> Result<Redirect, Problem> {
    let id = parsed(id)?;
    web.controller.add_run_note(&caller, id, &form.text).await.map_err(problem_of)?;
    Ok(Redirect::to(&format!("/suite-runs/{id}/artifacts#notes")))
}

/// `POST /runs/{id}/notes`
async fn note_run(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    Form(form): Form<TextForm>,
) -> Result<Redirect, Problem> {
    let id = parsed(id)?;
    web.controller.add_run_note(&caller, id, &form.text).await.map_err(problem_of)?;
    Ok(Redirect::to(&format!("/runs/{id}#notes")))
}

#[derive(Debug, Deserialize)]
struct LabelsForm {
    labels: String,
}

impl LabelsForm {
    fn split(&self) -> Vec<String> {
        self.labels.split(',').map(str::to_owned).collect()
    }
}

/// `POST /suite-runs/{id}/labels`
async fn label_suite_run(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    Form(form): Form<LabelsForm>,
) -> Result<Response, Problem> {
    let id = parsed(id)?;
    match web.controller.set_run_labels(&caller, id, &form.split()).await {
        Ok(_) => Ok(Redirect::to(&format!("/suite-runs/{id}/artifacts#notes")).into_response()),
        Err(NoteError::Field { why, .. }) => {
            let page = ArtifactsPage { annotation_error: why, ..page(&web, id).await? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
        Err(error) => Err(problem_of(error)),
    }
}

/// `POST /runs/{id}/labels`
async fn label_run(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    Form(form): Form<LabelsForm>,
) -> Result<Redirect, Problem> {
    let id = parsed(id)?;
    web.controller.set_run_labels(&caller, id, &form.split()).await.map_err(problem_of)?;
    Ok(Redirect::to(&format!("/runs/{id}#notes")))
}

#[derive(Template)]
#[template(path = "storage.html")]
struct StoragePage {
    layout: Layout,
    storage: StorageView,
    days: String,
    gigabytes: String,
    /// The field that is wrong, and why.
    error: Option<(&'static str, String)>,
    saved: bool,
    command: String,
}

impl StoragePage {
    fn wrong(&self, field: &str) -> &str {
        self.error.as_ref().filter(|(wrong, _)| *wrong == field).map_or("", |(_, why)| why)
    }
}

async fn storage_page(web: &Web) -> Result<StoragePage, Problem> {
    let storage = web.controller.storage().await?;
    Ok(StoragePage {
        layout: web.layout.at("settings"),
        days: storage.retention.days.map(|days| days.to_string()).unwrap_or_default(),
        gigabytes: storage.retention.total_bytes.map(|bytes| (bytes as f64 / 1e9).to_string()).unwrap_or_default(),
        storage,
        error: None,
        saved: false,
        command: format!(
            "curl -X PUT {}/api/v1/storage -H 'content-type: application/json' -d '{{\"days\": 90, \"total_bytes\": 20000000000}}'",
            origin()
        ),
    })
}

/// `GET /settings/storage`
async fn storage(State(web): State<Web>) -> Result<Html<String>, Problem> {
    fill(&storage_page(&web).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RetentionForm {
    days: String,
    gigabytes: String,
}

impl RetentionForm {
    fn read(&self) -> Result<Retention, (&'static str, String)> {
        let days = match self.days.trim() {
            "" => None,
            text => Some(text.parse().ok().filter(|days| (1..=36_500).contains(days)).ok_or_else(|| {
                ("days", format!("`{text}` is no number of days; expected 1 to 36500, or nothing for ever"))
            })?),
        };
        let total_bytes = match self.gigabytes.trim() {
            "" => None,
            text => {
                let size: Option<f64> = text.parse().ok().filter(|size| (0.001..=1e6).contains(size));
                let why =
                    || ("gigabytes", format!("`{text}` is no size; expected 0.001 or more, or nothing for no limit"));
                Some((size.ok_or_else(why)? * 1e9) as u64)
            }
        };
        Ok(Retention { days, total_bytes })
    }
}

/// `POST /settings/storage`
async fn set_retention(
    State(web): State<Web>,
    caller: Caller,
    Form(form): Form<RetentionForm>,
) -> Result<Response, Problem> {
    match form.read() {
        Ok(retention) => {
            web.controller.set_retention(&caller, retention).await?;
            let page = StoragePage { saved: true, ..storage_page(&web).await? };
            Ok(fill(&page)?.into_response())
        }
        Err(error) => {
            let page = StoragePage {
                days: form.days,
                gigabytes: form.gigabytes,
                error: Some(error),
                ..storage_page(&web).await?
            };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
    }
}

fn parsed(id: Result<Path<String>, PathRejection>) -> Result<RunId, Problem> {
    let Path(text) = id?;
    text.parse().map_err(|_| no_run(&text))
}

fn no_run(text: &str) -> Problem {
    Problem::NoSuchRun { what: format!("There is no run {text}."), matches: Vec::new() }
}

fn problem_of(error: NoteError) -> Problem {
    match error {
        NoteError::NotFound { id, .. } => no_run(&id),
        NoteError::Field { .. } => Problem::Unusable { what: error.to_string(), next: "Go back and mend it." },
        NoteError::Store(error) => error.into(),
    }
}
