//! Lists of experiments and targets: what is kept, what to begin with, what was removed; carrying files in and out.

use askama::Template;
use axum::Extension;
use axum::Form;
use axum::extract::{Multipart, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use kennel_controller::{Caller, FileError};
use kennel_model::api::{FileKind, FileSummary, SaveFile};
use kennel_model::document::PlacedProblem;
use serde::Deserialize;

use crate::file_starts::{self, Start};
use crate::layout::Layout;
use crate::pages::file_place::Place;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

#[derive(Template)]
#[template(path = "file_list.html")]
struct ListPage {
    layout: Layout,
    place: Place,
    lead: &'static str,
    query: String,
    /// How many there are without the filter.
    all: usize,
    files: Vec<FileSummary>,
    starts: Vec<Start>,
    removed: Vec<FileSummary>,
    /// Known from elsewhere and not kept: targets of the data directory.
    others: Vec<String>,
    upload: Upload,
}

impl ListPage {
    /// The same as a call of the API.
    fn command(&self) -> String {
        format!("curl http://HOST/api/v1/files/{}", self.place.kind)
    }
}

/// What became of an upload.
enum Upload {
    None,
    Refused { file: String, why: String, problems: Vec<PlacedProblem> },
}

/// What to list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Filter {
    /// Names and descriptions that contain this.
    #[serde(default)]
    q: String,
}

/// A list's page.
pub(crate) async fn page(web: &Web, kind: FileKind, filter: Filter) -> Result<Response, Problem> {
    show(web, StatusCode::OK, kind, filter, Upload::None).await
}

async fn show(
    web: &Web,
    status: StatusCode,
    kind: FileKind,
    filter: Filter,
    upload: Upload,
) -> Result<Response, Problem> {
    let place = Place::of_kind(kind);
    let mut files = web.controller.files(kind).await?;
    let all = files.len();
    let others = match kind {
        FileKind::Target => {
            let known = web.controller.surroundings().await?.targets;
            let names = known.iter().filter_map(|target| target["name"].as_str());
            names.filter(|name| !files.iter().any(|file| file.name == *name)).map(ToOwned::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let wanted = filter.q.trim().to_lowercase();
    files
        .retain(|file| file.name.to_lowercase().contains(&wanted) || file.description.to_lowercase().contains(&wanted));
    let lead = match kind {
        FileKind::Experiment => {
            "Load, faults and what must hold, in one file. Run one now, or make it a step of a suite."
        }
        FileKind::Target => {
            "The systems that experiments and suites may reach: their hosts, services, links and limits."
        }
        FileKind::Suite => "Steps that run together.",
    };
    let page = ListPage {
        layout: web.layout.at(place.menu),
        place,
        lead,
        query: filter.q,
        all,
        files,
        starts: file_starts::templates(&web.controller, kind),
        removed: web.controller.removed_files(kind).await?,
        others,
        upload,
    };
    Ok((status, fill(&page)?).into_response())
}

/// `POST /experiments/upload`: a form with a `file`.
pub(crate) async fn upload(
    State(web): State<Web>,
    caller: Caller,
    Extension(kind): Extension<FileKind>,
    mut form: Multipart,
) -> Result<Response, Problem> {
    let broken = |error: axum::extract::multipart::MultipartError| Problem::Unusable {
        what: format!("The upload could not be read: {}.", error.body_text()),
        next: "Choose the file once more.",
    };
    let mut found = None;
    let mut replace = false;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name() {
            Some("file") => {
                let name = field.file_name().unwrap_or("file").to_owned();
                found = Some((name, field.bytes().await.map_err(broken)?));
            }
            Some("replace") => replace = true,
            _ => {}
        }
    }
    let refused = async |file: String, why: String, problems| {
        let upload = Upload::Refused { file, why, problems };
        show(&web, StatusCode::UNPROCESSABLE_ENTITY, kind, Filter::default(), upload).await
    };
    let Some((file, bytes)) = found.filter(|(_, bytes)| !bytes.is_empty()) else {
        return refused("nothing".to_owned(), "Choose a file first.".to_owned(), Vec::new()).await;
    };
    let Ok(source) = String::from_utf8(bytes.into()) else {
        return refused(file, "It is not text in UTF-8.".to_owned(), Vec::new()).await;
    };
    let source = source.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let expected = if replace { None } else { Some(0) };
    let request = SaveFile { source, message: format!("uploaded from {file}"), expected };
    match web.controller.save_file(&caller, kind, None, request).await {
        Ok(saved) => {
            let address = format!("{}/edit?saved={}", Place::of_kind(kind).of(&saved.name), saved.version);
            Ok(Redirect::to(&address).into_response())
        }
        Err(FileError::Invalid(problems)) => {
            refused(file, "It is not valid, so it was not saved.".to_owned(), problems.problems).await
        }
        Err(FileError::Store(error)) => Err(error.into()),
        Err(FileError::Conflict { name, .. }) => {
            let why =
                format!("`{name}` is there already. Tick “follow the file of that name” to save it as a new version.");
            refused(file, why, Vec::new()).await
        }
        Err(error) => refused(file, error.to_string(), Vec::new()).await,
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Removing {
    expected: Option<u32>,
}

/// `POST /experiments/{name}/remove`
pub(crate) async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Extension(kind): Extension<FileKind>,
    Path(name): Path<String>,
    Form(form): Form<Removing>,
) -> Result<Response, Problem> {
    web.controller.remove_file(&caller, kind, &name, form.expected).await?;
    Ok(Redirect::to(Place::of_kind(kind).base).into_response())
}
