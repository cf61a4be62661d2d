//! Importing results at `/import`: drop a file, or choose one.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Multipart, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use kennel_controller::{Caller, ImportError, ImportRequest, Upload};
use serde::Deserialize;

use crate::Web;
use crate::form_errors::FormErrors;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// Longest text field of the form, in bytes.
const LONGEST_FIELD: usize = 10_000;

/// The routes of these pages. They take files, so the limit for forms must not lie around them: uploads have one of
/// their own.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/import", get(show).post(submit)).layer(DefaultBodyLimit::disable())
}

#[derive(Template)]
#[template(path = "import.html")]
struct ImportPage {
    layout: Layout,
    suites: Vec<String>,
    suite: String,
    labels: String,
    errors: FormErrors,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    suite: String,
}

/// `GET /import`
async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    fill(&ImportPage {
        layout: web.layout.at("suites"),
        suites: web.controller.suites_with_tests().await?,
        suite: wanted.suite,
        labels: String::new(),
        errors: FormErrors::default(),
    })
}

/// `POST /import`
async fn submit(State(web): State<Web>, caller: Caller, form: Multipart) -> Result<Response, Problem> {
    let mut request = ImportRequest::default();
    let outcome = match receive(&web, form, &mut request).await {
        Ok(None) => Err(("file", "Choose a file: JUnit XML, Robot output.xml or output.json.".to_owned())),
        Ok(Some(mut upload)) => match upload.finish().await {
            Ok(path) => web.controller.import_file(&caller, &request, path).await.map_err(told),
            Err(error) => Err(told(error)),
        },
        Err(wrong) => Err(wrong),
    };
    match outcome {
        Ok(imported) => Ok(Redirect::to(&format!("/suite-runs/{}", imported.run.id)).into_response()),
        Err(("store", what)) => Err(Problem::Broken { what }),
        Err(error) => {
            let page = ImportPage {
                layout: web.layout.at("suites"),
                suites: web.controller.suites_with_tests().await?,
                suite: request.suite,
                labels: request.labels.join(", "),
                errors: FormErrors::from_iter([error]),
            };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
    }
}

/// Takes the form in; its fields stand before its file.
async fn receive(
    web: &Web,
    mut form: Multipart,
    request: &mut ImportRequest,
) -> Result<Option<Upload>, (&'static str, String)> {
    let broken = |error: axum::extract::multipart::MultipartError| ("file", format!("The upload broke off: {error}"));
    let mut found = None;
    while let Some(mut part) = form.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if name == "file" {
            let file = part.file_name().unwrap_or_default().to_owned();
            if file.is_empty() {
                continue;
            }
            request.file = file;
            let mut upload = Upload::new(&web.controller).await.map_err(told)?;
            while let Some(bytes) = part.chunk().await.map_err(broken)? {
                upload.write(&bytes).await.map_err(told)?;
            }
            found = Some(upload);
            continue;
        }
        let mut text = Vec::new();
        while let Some(bytes) = part.chunk().await.map_err(broken)? {
            if text.len() + bytes.len() > LONGEST_FIELD {
                return Err(("suite", "A field of the form is too long.".to_owned()));
            }
            text.extend_from_slice(&bytes);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        match name.as_str() {
            "suite" => request.suite = text,
            "labels" => request.labels = text.split(',').map(str::to_owned).collect(),
            _ => {}
        }
    }
    Ok(found)
}

/// An error beside the field that it belongs to.
fn told(error: ImportError) -> (&'static str, String) {
    match error {
        ImportError::Field { field, why } => (field, why),
        ImportError::Store(error) => ("store", error.to_string()),
        other => ("file", other.to_string()),
    }
}
