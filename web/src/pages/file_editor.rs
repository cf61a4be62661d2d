//! The editor of an experiment, a target or a suite: a form beside the YAML text, saved as a new version.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use kennel_controller::{Caller, FileError, StartError, StartSuiteError};
use kennel_model::api::{FileDiff, FileKind, FileVersion, SaveFile, StartRun, StartSuite};
use kennel_model::document::PlacedProblem;
use kennel_model::naming;
use serde::Deserialize;

use crate::file_starts::Start;
use crate::layout::Layout;
use crate::pages::file_history::{Shown, folded};
use crate::pages::file_place::{Place, encoded};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, file_starts, notation};

#[derive(Template)]
#[template(path = "file_editor.html")]
struct EditorPage {
    layout: Layout,
    place: Place,
    /// The name under which the file is kept; `None` for one that is not kept yet.
    name: Option<String>,
    /// The version that is edited; 0 for a new file.
    version: u32,
    source: String,
    message: String,
    outcome: Outcome,
    /// What a new file may begin with.
    starts: Vec<Start>,
}

impl EditorPage {
    fn heading(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("New {}", self.place.kind),
        }
    }

    /// Whether nothing is lost when the page is left: the text is what is kept, or nobody has written it yet.
    fn is_saved(&self) -> bool {
        matches!(self.outcome, Outcome::Open | Outcome::Saved(_))
    }

    /// Where the form goes.
    fn action(&self) -> String {
        match &self.name {
            Some(name) => format!("{}/edit", self.place.of(name)),
            None => format!("{}/new", self.place.base),
        }
    }

    /// The same as a call of the API.
    fn command(&self) -> String {
        let name = self.name.as_deref().map_or_else(|| "NAME".to_owned(), encoded);
        format!(
            "jq -n --rawfile source FILE.yaml '{{source: $source, expected: {}}}' |\n  curl -X PUT -H 'content-type: application/json' --data @- \\\n  http://HOST/api/v1/files/{}/{name}",
            self.version, self.place.kind
        )
    }
}

/// What became of what was written.
enum Outcome {
    /// Nothing was asked yet.
    Open,
    /// It was written elsewhere and is not saved.
    Written,
    /// It was saved as this version.
    Saved(u32),
    /// It is valid.
    Valid,
    Invalid(Vec<PlacedProblem>),
    Conflict(Box<Conflict>),
    Refused(String),
}

/// Two texts of one file.
struct Conflict {
    theirs: FileVersion,
    diff: FileDiff,
    rows: Vec<Shown>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Begin with this template.
    template: Option<String>,
    /// Begin with this run's experiment.
    run: Option<String>,
    /// Begin with a copy of this file.
    copy: Option<String>,
}

/// `GET /experiments/new`
pub(crate) async fn begin(
    State(web): State<Web>,
    Extension(kind): Extension<FileKind>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let source = match (wanted.template, wanted.run, wanted.copy) {
        (Some(name), ..) => file_starts::template(&web.controller, kind, &name).ok_or_else(|| Problem::Unusable {
            what: format!("There is no template named `{name}`."),
            next: "Choose one of those that the list shows.",
        })?,
        (None, Some(run), _) if kind == FileKind::Experiment => {
            let id = web.controller.find_run(&run).await?;
            let run = web.controller.run(id).await?;
            let missing = || Problem::no_run(id);
            run.ok_or_else(missing)?.experiment
        }
        (None, _, Some(name)) => {
            let file = web.controller.file(kind, &name).await?;
            naming::renamed(&file.source, &format!("{name} copy")).unwrap_or(file.source)
        }
        _ => file_starts::blank(&web.controller, kind).await?,
    };
    show(
        StatusCode::OK,
        EditorPage {
            layout: web.layout.at(Place::of_kind(kind).menu),
            place: Place::of_kind(kind),
            name: None,
            version: 0,
            source,
            message: String::new(),
            outcome: Outcome::Open,
            starts: file_starts::templates(&web.controller, kind),
        },
    )
}

#[derive(Debug, Deserialize)]
pub(crate) struct Opened {
    /// It was just saved as this version.
    saved: Option<u32>,
}

/// `GET /experiments/{name}/edit`
pub(crate) async fn edit(
    State(web): State<Web>,
    Extension(kind): Extension<FileKind>,
    Path(name): Path<String>,
    Query(opened): Query<Opened>,
) -> Result<Response, Problem> {
    let file = web.controller.file(kind, &name).await?;
    let outcome = match opened.saved {
        Some(version) if version == file.version => Outcome::Saved(version),
        _ => Outcome::Open,
    };
    show(
        StatusCode::OK,
        EditorPage {
            layout: web.layout.at(Place::of_kind(kind).menu),
            place: Place::of_kind(kind),
            name: Some(file.name),
            version: file.version,
            source: file.source,
            message: String::new(),
            outcome,
            starts: Vec::new(),
        },
    )
}

/// What the editor's form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Written {
    #[serde(alias = "experiment")]
    source: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    expected: u32,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// Show the editor with this text.
    Open,
    /// Tell what is wrong with it.
    Check,
    Save,
    /// Save and run it now.
    Run,
    /// Save and go on to the schedules.
    Schedule,
}

/// `POST /experiments/new`
pub(crate) async fn create(
    State(web): State<Web>,
    caller: Caller,
    Extension(kind): Extension<FileKind>,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    submit(&web, &caller, kind, None, written).await
}

/// `POST /experiments/{name}/edit`
pub(crate) async fn save(
    State(web): State<Web>,
    caller: Caller,
    Extension(kind): Extension<FileKind>,
    Path(name): Path<String>,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    submit(&web, &caller, kind, Some(name), written).await
}

async fn submit(
    web: &Web,
    caller: &Caller,
    kind: FileKind,
    name: Option<String>,
    written: Written,
) -> Result<Response, Problem> {
    let place = Place::of_kind(kind);
    // Forms send lines with CR LF; the file as written has LF.
    let source = written.source.replace("\r\n", "\n");
    let mut page = EditorPage {
        layout: web.layout.at(place.menu),
        place,
        name,
        version: written.expected,
        source: source.clone(),
        message: written.message.clone(),
        outcome: Outcome::Open,
        starts: file_starts::templates(&web.controller, kind),
    };
    match written.action {
        Action::Open => {
            page.outcome = Outcome::Written;
            return show(StatusCode::OK, page);
        }
        Action::Check => {
            let label = page.heading();
            let (status, outcome) = match web.controller.check_file(kind, &label, &source).await {
                Ok(_) => (StatusCode::OK, Outcome::Valid),
                Err(problems) => (StatusCode::UNPROCESSABLE_ENTITY, Outcome::Invalid(problems.problems)),
            };
            page.outcome = outcome;
            return show(status, page);
        }
        Action::Save | Action::Run | Action::Schedule => {}
    }
    let request = SaveFile { source, message: written.message, expected: Some(written.expected) };
    let saved = match web.controller.save_file(caller, kind, page.name.as_deref(), request).await {
        Ok(saved) => saved,
        Err(error) => return refused(web, page, error).await,
    };
    match written.action {
        Action::Run => run(web, caller, kind, saved).await,
        Action::Schedule => {
            Ok(Redirect::to(&format!("/schedules/new?{kind}={}", encoded(&saved.name))).into_response())
        }
        _ => Ok(Redirect::to(&format!("{}/edit?saved={}", place.of(&saved.name), saved.version)).into_response()),
    }
}

/// Runs what was just saved and goes where it can be watched.
async fn run(web: &Web, caller: &Caller, kind: FileKind, saved: FileVersion) -> Result<Response, Problem> {
    match kind {
        FileKind::Experiment => start(web, caller, &saved.name, saved.source).await,
        FileKind::Suite => {
            let request = StartSuite { suite: Some(saved.name), ..StartSuite::default() };
            match web.controller.start_suite_by(caller, request).await {
                Ok(id) => Ok(Redirect::to(&format!("/suite-runs/{id}")).into_response()),
                Err(StartSuiteError::Store(error)) => Err(error.into()),
                Err(error) => Err(Problem::Unusable {
                    what: error.to_string(),
                    next: "It is saved. Open it in the editor and mend it there.",
                }),
            }
        }
        FileKind::Target => Err(Problem::Unusable {
            what: "A target cannot be run.".to_owned(),
            next: "Run an experiment or a suite on it.",
        }),
    }
}

/// `POST /experiments/{name}/run`
pub(crate) async fn run_now(
    State(web): State<Web>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let found = web.controller.experiment_file(&name).await?;
    start(&web, &caller, &name, found.source).await
}

async fn start(web: &Web, caller: &Caller, name: &str, source: String) -> Result<Response, Problem> {
    let request = StartRun { experiment: source, file: Some(name.to_owned()), raw_log: None };
    match web.controller.start_run(request).await {
        Ok(id) => {
            web.controller.record(caller, "experiment: run", name, &format!("run {id}")).await?;
            Ok(Redirect::to(&format!("/runs/{id}")).into_response())
        }
        Err(StartError::Store(error)) => Err(error.into()),
        Err(error) => Err(Problem::Unusable {
            what: error.to_string(),
            next: "Open the experiment in the editor and mend it there.",
        }),
    }
}

/// The editor again, with what was typed and why it was not saved.
async fn refused(web: &Web, mut page: EditorPage, error: FileError) -> Result<Response, Problem> {
    let sentence = error.to_string();
    let (status, outcome) = match error {
        FileError::Invalid(problems) => (StatusCode::UNPROCESSABLE_ENTITY, Outcome::Invalid(problems.problems)),
        FileError::Conflict { kind, current: Some(theirs), yours, .. } => {
            let (old, new) = ((theirs.version, theirs.source.clone()), (theirs.version + 1, yours));
            let diff = web.controller.text_diff(kind, &theirs.name, old, new).await?;
            // Saving again means to follow what was just shown.
            page.version = theirs.version;
            page.name = Some(theirs.name.clone());
            let rows = folded(&diff.rows, false);
            (StatusCode::CONFLICT, Outcome::Conflict(Box::new(Conflict { theirs: *theirs, diff, rows })))
        }
        FileError::Conflict { current: None, .. } => {
            page.version = 0;
            page.name = None;
            (StatusCode::CONFLICT, Outcome::Refused(sentence))
        }
        FileError::Taken { .. } | FileError::InHistory { .. } | FileError::UnderWay { .. } => {
            (StatusCode::CONFLICT, Outcome::Refused(sentence))
        }
        FileError::Name(_) | FileError::OtherName { .. } | FileError::NoPlainName { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, Outcome::Refused(sentence))
        }
        error @ (FileError::NotFound { .. } | FileError::Store(_)) => return Err(error.into()),
    };
    page.outcome = outcome;
    show(status, page)
}

fn show(status: StatusCode, page: EditorPage) -> Result<Response, Problem> {
    Ok((status, fill(&page)?).into_response())
}
