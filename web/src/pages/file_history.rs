//! The versions of a file: who saved which and why, what changed between two, and bringing one back.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use kennel_controller::{Caller, FileError};
use kennel_model::api::{DiffRow, FileDiff, FileKind, FileSummary, LineChange, RestoreFile};
use kennel_model::document::PlacedProblem;
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::file_place::{Place, encoded};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Unchanged lines that are shown around a change.
const CONTEXT: usize = 3;

#[derive(Template)]
#[template(path = "file_history.html")]
struct HistoryPage {
    layout: Layout,
    place: Place,
    name: String,
    /// The current version; `None` when the file is removed.
    current: Option<u32>,
    versions: Vec<FileSummary>,
    diff: FileDiff,
    rows: Vec<Shown>,
    /// Why a version could not be brought back.
    problems: Vec<PlacedProblem>,
}

impl HistoryPage {
    fn is_current(&self, version: &FileSummary) -> bool {
        self.current == Some(version.version)
    }

    #[expect(clippy::unused_self, reason = "templates reach it through the page")]
    fn title(&self, version: &u32) -> String {
        if *version == 0 { "Nothing".to_owned() } else { format!("Version {version}") }
    }

    /// The same as a call of the API.
    fn command(&self) -> String {
        let (kind, name) = (self.place.kind, encoded(&self.name));
        format!("curl 'http://HOST/api/v1/files/{kind}/{name}/diff?from={}&to={}'", self.diff.from, self.diff.to)
    }
}

/// A row of a difference, or the unchanged lines that are left out.
pub(crate) enum Shown {
    Row(DiffRow),
    Gap(usize),
}

/// The rows of a difference with only a few unchanged lines around each change, unless `all` are wanted.
pub(crate) fn folded(rows: &[DiffRow], all: bool) -> Vec<Shown> {
    let near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(rows.len());
        all || rows[around].iter().any(|row| row.change != LineChange::Same)
    };
    let mut shown = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        match (near(at), shown.last_mut()) {
            (true, _) => shown.push(Shown::Row(row.clone())),
            (false, Some(Shown::Gap(lines))) => *lines += 1,
            (false, _) => shown.push(Shown::Gap(1)),
        }
    }
    shown
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Pair {
    from: Option<u32>,
    to: Option<u32>,
    /// Show every line.
    #[serde(default)]
    all: bool,
}

/// `GET /experiments/{name}/history`
pub(crate) async fn show(
    State(web): State<Web>,
    Extension(kind): Extension<FileKind>,
    Path(name): Path<String>,
    Query(pair): Query<Pair>,
) -> Result<Response, Problem> {
    page(&web, StatusCode::OK, kind, name, pair, Vec::new()).await
}

async fn page(
    web: &Web,
    status: StatusCode,
    kind: FileKind,
    name: String,
    pair: Pair,
    problems: Vec<PlacedProblem>,
) -> Result<Response, Problem> {
    let place = Place::of_kind(kind);
    let versions = web.controller.file_versions(kind, &name).await?;
    let current = match web.controller.file(kind, &name).await {
        Ok(file) => Some(file.version),
        Err(FileError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let to = pair.to.unwrap_or_else(|| versions.first().map_or(0, |last| last.version));
    let from = pair.from.unwrap_or_else(|| to.saturating_sub(1));
    let diff = web.controller.file_diff(kind, &name, from, to).await?;
    let rows = folded(&diff.rows, pair.all);
    let page = HistoryPage { layout: web.layout.at(place.menu), place, name, current, versions, diff, rows, problems };
    Ok((status, fill(&page)?).into_response())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Restoring {
    version: Option<u32>,
}

/// `POST /experiments/{name}/restore`
pub(crate) async fn restore(
    State(web): State<Web>,
    caller: Caller,
    Extension(kind): Extension<FileKind>,
    Path(name): Path<String>,
    Form(form): Form<Restoring>,
) -> Result<Response, Problem> {
    let request = RestoreFile { version: form.version, message: String::new() };
    match web.controller.restore_file(&caller, kind, &name, request).await {
        Ok(saved) => {
            let address = format!("{}/edit?saved={}", Place::of_kind(kind).of(&saved.name), saved.version);
            Ok(Redirect::to(&address).into_response())
        }
        Err(FileError::Invalid(problems)) => {
            page(&web, StatusCode::UNPROCESSABLE_ENTITY, kind, name, Pair::default(), problems.problems).await
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_far_from_every_change_are_left_out() {
        let row = |change| DiffRow { change, left: None, right: None };
        let mut rows: Vec<DiffRow> = (0..20).map(|_| row(LineChange::Same)).collect();
        rows[10] = row(LineChange::Changed);
        let shape = |all| -> Vec<usize> {
            folded(&rows, all).iter().map(|shown| if let Shown::Gap(lines) = shown { *lines } else { 0 }).collect()
        };
        assert_eq!(shape(false), [7, 0, 0, 0, 0, 0, 0, 0, 6]);
        assert_eq!(shape(true), [0; 20]);
    }
}
