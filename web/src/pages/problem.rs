//! The page for what went wrong: what it was, and what to do next.

use std::fmt;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use kennel_controller::people::{PeopleError, Refused, Why, loggable};
use kennel_controller::{FileError, FindError, HaltError, StoreError};
use kennel_model::RunId;

use crate::layout::Layout;

/// Why a page cannot be shown.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Problem {
    /// Nothing is at this address.
    #[error("There is nothing at this address.")]
    NoSuchPage,
    /// The address exists, but not for this method.
    #[error("This address cannot be opened this way.")]
    WrongMethod,
    /// No run is meant, or more than one.
    #[error("{what}")]
    NoSuchRun {
        /// What was asked for and what would do.
        what: String,
        /// Runs that may have been meant.
        matches: Vec<RunId>,
    },
    /// No file of this name is kept.
    #[error("{what}")]
    NoSuchFile {
        /// What was asked for.
        what: String,
    },
    /// What is meant is not there.
    #[error("{what}")]
    Missing {
        /// What was asked for.
        what: String,
        /// Where to look.
        next: &'static str,
    },
    /// What was asked for makes no sense.
    #[error("{what}")]
    Unusable {
        /// What is wrong with it.
        what: String,
        /// What to do instead.
        next: &'static str,
    },
    /// The visitor may not.
    #[error("{what}")]
    NotAllowed {
        /// What, and why not.
        what: String,
        /// Status of the answer.
        status: StatusCode,
    },
    /// Kennel itself failed.
    #[error("{what}")]
    Broken {
        /// How.
        what: String,
    },
}

impl Problem {
    /// There is no such run.
    pub(crate) fn no_run(id: impl fmt::Display) -> Self {
        Self::NoSuchRun { what: format!("There is no run {id}."), matches: Vec::new() }
    }

    /// The answer's status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPage | Self::NoSuchRun { .. } | Self::NoSuchFile { .. } | Self::Missing { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unusable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotAllowed { status, .. } => *status,
            Self::Broken { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NoSuchPage => "Page not found",
            Self::WrongMethod => "Not possible here",
            Self::NoSuchRun { .. } => "Run not found",
            Self::NoSuchFile { .. } => "File not found",
            Self::Missing { .. } => "Not found",
            Self::Unusable { .. } => "That does not work",
            Self::NotAllowed { status: StatusCode::GONE, .. } => "No longer there",
            Self::NotAllowed { .. } => "Not allowed",
            Self::Broken { .. } => "Kennel failed",
        }
    }

    fn next(&self) -> &'static str {
        match self {
            Self::NoSuchPage | Self::WrongMethod => "Check the address, or go on from the list of runs.",
            Self::NoSuchRun { .. } => "It may lie in another data directory. All runs of this one are in the list.",
            Self::NoSuchFile { .. } => "It may have been renamed or removed: the list also shows what was removed.",
            Self::Missing { next, .. } | Self::Unusable { next, .. } => next,
            Self::NotAllowed { status: StatusCode::GONE, .. } => "Whoever has a password already can log in with it.",
            Self::NotAllowed { .. } => "Go back to where you came from, or on from the list of runs.",
            Self::Broken { .. } => {
                "Load the page again. If it fails again, look at what Kennel logged, and whether its disk is full."
            }
        }
    }
}

impl From<PathRejection> for Problem {
    /// An address that is no text names nothing.
    fn from(_: PathRejection) -> Self {
        Self::NoSuchPage
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Broken { what: error.to_string() }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let what = format!("{error}.");
        match error {
            FileError::NotFound { .. } => Self::NoSuchFile { what },
            FileError::Store(error) => error.into(),
            FileError::Conflict { .. } | FileError::Taken { .. } => {
                Self::Unusable { what, next: "Load the page again and look at what is there now." }
            }
            _ => Self::Unusable { what, next: "Open the file in the editor and mend it there." },
        }
    }
}

impl From<PeopleError> for Problem {
    fn from(error: PeopleError) -> Self {
        let (status, what) = (error.status(), sentence(&error.to_string()));
        if status.is_server_error() { Self::Broken { what } } else { Self::NotAllowed { what, status } }
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        let what = error.to_string();
        match error {
            FindError::NotFound { .. } => Self::NoSuchRun { what, matches: Vec::new() },
            FindError::Ambiguous { matches, .. } => Self::NoSuchRun { what, matches },
            FindError::Store(error) => error.into(),
        }
    }
}

impl From<HaltError> for Problem {
    fn from(error: HaltError) -> Self {
        let what = error.to_string();
        match error {
            HaltError::NotFound { .. } => Self::NoSuchRun { what, matches: Vec::new() },
            HaltError::AlreadyOver { .. } => Self::Unusable { what, next: "Nothing is left to halt." },
            HaltError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    /// Leaves the page to [`render`], which knows the layout.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    layout: Layout,
    status: u16,
    title: &'static str,
    what: String,
    next: &'static str,
    matches: Vec<RunId>,
}

/// Middleware that turns a handler's [`Problem`] into its page.
pub(crate) async fn render(State(layout): State<Layout>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>() else {
        return response;
    };
    if problem.status().is_server_error() {
        tracing::error!(path = loggable(&path), error = %problem, "a page could not be shown");
    }
    let mut shown = page(layout.at(""), problem);
    if let Some(allowed) = response.headers().get(header::ALLOW) {
        let allowed: HeaderValue = allowed.clone();
        shown.headers_mut().insert(header::ALLOW, allowed);
    }
    shown
}

fn page(layout: Layout, problem: &Problem) -> Response {
    let page = ProblemPage {
        layout,
        status: problem.status().as_u16(),
        title: problem.title(),
        what: problem.to_string(),
        next: problem.next(),
        matches: if let Problem::NoSuchRun { matches, .. } = problem { matches.clone() } else { Vec::new() },
    };
    (problem.status(), Html(page.render().unwrap_or_else(|error| error.to_string()))).into_response()
}

/// Answers to somebody whom the gate does not let in: with the login page, or by saying why.
pub(crate) fn turn_away(layout: &Layout, refused: Refused) -> Response {
    let Refused { why, visit, safe, target } = refused;
    if why == Why::NotLoggedIn {
        // What was sent with a form cannot be sent again after the login.
        let next = if safe { target } else { "/".to_owned() };
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        return Redirect::to(&format!("/login?next={next}")).into_response();
    }
    let problem = match why {
        Why::Method { .. } => Problem::WrongMethod,
        why if why.status().is_server_error() => Problem::Broken { what: why.to_string() },
        why => Problem::NotAllowed { status: why.status(), what: sentence(&why.to_string()) },
    };
    page(layout.seen_by(&visit), &problem)
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

/// Answers for addresses that no page has.
pub(crate) async fn no_such_page() -> Problem {
    Problem::NoSuchPage
}

/// Answers for pages that are asked with a method they do not know.
pub(crate) async fn wrong_method() -> Problem {
    Problem::WrongMethod
}
