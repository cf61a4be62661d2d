//! Starting a run at `/runs/new`: the library, the editor, and every problem of what was written.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use kennel_controller::{Caller, StartError};
use kennel_model::api::{LibraryEntry, StartRun};
use kennel_model::document::PlacedProblem;
use kennel_model::{RunId, ValidExperiment};
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

#[derive(Template)]
#[template(path = "new_run.html")]
struct NewRunPage<'a> {
    layout: Layout,
    library: &'a [LibraryEntry],
    /// Name of what is in the editor, for messages; a library entry's name where it came from there.
    file: String,
    source: String,
    outcome: Outcome,
}

/// What became of what was written.
enum Outcome {
    Untried,
    Valid(String),
    Invalid(Vec<PlacedProblem>),
    Refused(String),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Begin with this experiment of the library.
    from: Option<String>,
    /// Begin with this run's experiment.
    run: Option<String>,
}

/// `GET /runs/new`
pub(crate) async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let (file, source) = match (wanted.from, wanted.run) {
        (Some(name), _) => {
            let entry = web.controller.library().iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| Problem::Unusable {
                what: format!("The library holds no experiment named `{name}`."),
                next: "Choose one of those that the page for new runs lists.",
            })?;
            (name, entry.source.clone())
        }
        (None, Some(text)) => {
            let id = web.controller.find_run(&text).await?;
            let run = web.controller.run(id).await?;
            let run = run.ok_or_else(|| Problem::no_run(id))?;
            (run.summary.name, run.experiment)
        }
        (None, None) => (String::new(), String::new()),
    };
    show_editor(&web, StatusCode::OK, file, source, Outcome::Untried)
}

/// What the editor's form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Written {
    experiment: String,
    #[serde(default)]
    file: String,
    action: Action,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Validate,
    Start,
}

/// `POST /runs/new`: starts the run and goes to its page, or shows the editor again with what is wrong.
pub(crate) async fn submit(
    State(web): State<Web>,
    caller: Caller,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    // Forms send lines with CR LF; the file as written has LF.
    let source = written.experiment.replace("\r\n", "\n");
    let file = Some(written.file.clone()).filter(|file| !file.is_empty()).unwrap_or_else(|| "experiment".to_owned());
    let request = StartRun { experiment: source.clone(), file: Some(file), raw_log: None };
    let (status, outcome) = match written.action {
        Action::Validate => match web.controller.validate(&request).await {
            Ok(valid) => (StatusCode::OK, Outcome::Valid(summary(&valid))),
            Err(problems) => (StatusCode::UNPROCESSABLE_ENTITY, Outcome::Invalid(problems.problems)),
        },
        Action::Start => match web.controller.start_run_as(RunId::new(), request, &caller.name, 0).await {
            Ok(id) => {
                web.controller.record(&caller, "start run", &format!("run {id}"), "").await?;
                return Ok(Redirect::to(&format!("/runs/{id}")).into_response());
            }
            Err(StartError::Invalid(problems)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Outcome::Invalid(problems.problems))
            }
            Err(error @ StartError::Closing) => (StatusCode::SERVICE_UNAVAILABLE, Outcome::Refused(error.to_string())),
            Err(StartError::Store(error)) => return Err(error.into()),
        },
    };
    show_editor(&web, status, written.file, source, outcome)
}

fn show_editor(
    web: &Web,
    status: StatusCode,
    file: String,
    source: String,
    outcome: Outcome,
) -> Result<Response, Problem> {
    let library = web.controller.library();
    let page = fill(&NewRunPage { layout: web.layout.at("new"), library, file, source, outcome })?;
    Ok((status, page).into_response())
}

/// What would happen, in a sentence.
fn summary(valid: &ValidExperiment) -> String {
    let experiment = valid.experiment();
    let length = notation::duration(&experiment.load.duration().as_secs_f64());
    let load = match experiment.load.peak_rate() {
        Some(peak) => format!("up to {peak}"),
        None => format!("{} users", experiment.load.users()),
    };
    let faults = match experiment.faults.len() {
        0 => "no fault".to_owned(),
        1 => "1 fault".to_owned(),
        many => format!("{many} faults"),
    };
    let objectives = match experiment.objectives.len() {
        0 => "no objective".to_owned(),
        1 => "1 objective".to_owned(),
        many => format!("{many} objectives"),
    };
    format!(
        "“{}” would run for {length} at {load} against {}, with {faults} and {objectives}.",
        experiment.name,
        valid.target().name
    )
}
