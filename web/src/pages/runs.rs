//! The list of runs at `/`: live ones on top, then newest first.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{LibraryEntry, RunSummary};
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Runs on one page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage<'a> {
    layout: Layout,
    runs: Vec<RunSummary>,
    /// The experiment to begin with, while there is no run.
    demo: Option<&'a LibraryEntry>,
    now: Timestamp,
    /// Whether newer runs than these exist.
    paged: bool,
    /// The last run shown, where older ones exist.
    older: Option<RunId>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Show runs older than this one.
    before: Option<String>,
}

/// `GET /`
pub(crate) async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let before = match &wanted.before {
        Some(text) => Some(web.controller.find_run(text).await?),
        None => None,
    };
    let mut runs = web.controller.runs(PAGE + 1, before).await?;
    let more = runs.len() > PAGE as usize;
    runs.truncate(PAGE as usize);
    let older = if more { runs.last().map(|run| run.id) } else { None };
    runs.sort_by_key(|run| run.state.is_over());
    let library = web.controller.library();
    let demo = library.iter().find(|entry| entry.name.contains("demo")).or(library.first());
    fill(&RunsPage {
        layout: web.layout.at("runs"),
        demo: demo.filter(|_| runs.is_empty() && before.is_none()),
        runs,
        now: Timestamp::now(),
        paged: before.is_some(),
        older,
    })
}
