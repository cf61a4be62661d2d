//! The list of runs at `/`: live ones on top, then newest first.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use jiff::Timestamp;
use kennel_controller::RunFilter;
use kennel_model::Verdict;
use kennel_model::api::{LibraryEntry, RunSummary};
use serde::Deserialize;

use crate::address::with_choices;
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
    /// Address of the next page, where older runs exist.
    older: String,
    /// Address of the first page, unless this is it.
    newest: String,
    /// What is searched for.
    name: String,
    /// What the runs shown came to, if only some are.
    verdict: Option<Verdict>,
    verdicts: &'static [Verdict],
    /// The label that the runs shown carry, and what their reasons or notes hold.
    label: String,
    text: String,
}

impl RunsPage<'_> {
    /// Whether only some runs are wanted.
    fn is_filtered(&self) -> bool {
        !self.name.is_empty() || self.verdict.is_some() || !self.label.is_empty() || !self.text.is_empty()
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Show runs older than this one.
    before: Option<String>,
    /// Show runs whose experiment or target has this in its name.
    #[serde(default)]
    name: String,
    /// Show runs that came to this.
    #[serde(default)]
    verdict: String,
    /// Show runs that carry this label.
    #[serde(default)]
    label: String,
    /// Show runs with this in their reasons or notes.
    #[serde(default)]
    text: String,
}

/// `GET /`
pub(crate) async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let before = match &wanted.before {
        Some(text) => Some(web.controller.find_run(text).await?),
        None => None,
    };
    let name = wanted.name.trim().to_owned();
    // A word that is no verdict wants any, as the form says with an empty one.
    let verdict: Option<Verdict> = wanted.verdict.parse().ok();
    let (label, text) = (wanted.label.trim().to_owned(), wanted.text.trim().to_owned());
    let filter = RunFilter { before, name: name.clone(), verdict, label: label.clone(), text: text.clone() };
    let mut runs = web.controller.runs_where(PAGE + 1, &filter).await?;
    let more = runs.len() > PAGE as usize;
    runs.truncate(PAGE as usize);
    let older = runs.last().filter(|_| more).map_or_else(String::new, |run| {
        let verdict = verdict.map_or("", Verdict::word);
        with_choices(
            "/",
            &[
                ("before", &run.id.to_string()),
                ("name", &name),
                ("verdict", verdict),
                ("label", &label),
                ("text", &text),
            ],
        )
    });
    runs.sort_by_key(|run| run.state.is_over());
    let library = web.controller.library();
    let demo = library.iter().find(|entry| entry.name.contains("demo")).or(library.first());
    fill(&RunsPage {
        layout: web.layout.at("runs"),
        demo: demo.filter(|_| runs.is_empty() && filter == RunFilter::default()),
        runs,
        now: Timestamp::now(),
        paged: before.is_some(),
        older,
        newest: if before.is_some() {
            with_choices(
                "/",
                &[("name", &name), ("verdict", verdict.map_or("", Verdict::word)), ("label", &label), ("text", &text)],
            )
        } else {
            String::new()
        },
        name,
        verdict,
        verdicts: Verdict::ALL,
        label,
        text,
    })
}
