//! What a suite's run left behind and what people wrote about it at `/suite-runs/{id}/artifacts`. Notes and labels of
//! experiments' runs are posted here too.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use kennel_controller::{Caller, NoteError};
use kennel_model::RunId;
use kennel_model::api::{Annotations, ArtifactView, SuiteRunSummary};
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
    let run = web.controller.suite_run_summary(id).await?.ok_or_else(|| Problem::no_run(id))?;
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

fn parsed(id: Result<Path<String>, PathRejection>) -> Result<RunId, Problem> {
    let Path(text) = id?;
    text.parse().map_err(|_| Problem::no_run(&text))
}

fn problem_of(error: NoteError) -> Problem {
    match error {
        NoteError::NotFound { id, .. } => Problem::no_run(id),
        NoteError::Field { .. } => Problem::Unusable { what: error.to_string(), next: "Go back and mend it." },
        NoteError::Store(error) => error.into(),
    }
}
