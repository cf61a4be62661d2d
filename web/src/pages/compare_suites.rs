//! Two runs of suites side by side, test by test: what `/compare` shows when both ids are of suites' runs.

use askama::Template;
use axum::response::Html;
use kennel_model::api::{SuiteComparison, TestChange, TestDifference};

use crate::layout::{Layout, origin};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

#[derive(Template)]
#[template(path = "compare_suites.html")]
struct ComparePage<'a> {
    layout: Layout,
    view: &'a SuiteComparison,
    /// Tests that changed, by how; the worst first.
    groups: Vec<(TestChange, &'a [TestDifference])>,
    command: String,
}

/// The page.
pub(crate) fn show(web: &Web, view: &SuiteComparison) -> Result<Html<String>, Problem> {
    fill(&ComparePage {
        layout: web.layout.at("suites"),
        groups: view.tests.chunk_by(|a, b| a.change == b.change).map(|tests| (tests[0].change, tests)).collect(),
        command: format!("curl -s '{}/api/v1/compare/suite-runs?a={}&b={}'", origin(), view.a.id, view.b.id),
        view,
    })
}

/// What a change is called on the page.
fn title(change: &TestChange) -> &'static str {
    match change {
        TestChange::NewlyFailing => "Newly failing",
        TestChange::Fixed => "Fixed",
        TestChange::StillFailing => "Still failing",
        TestChange::Slower => "Slower",
        TestChange::Faster => "Faster",
        TestChange::Added => "Added",
        TestChange::Removed => "Removed",
        TestChange::Other => "Otherwise",
        TestChange::Same => "The same",
    }
}

/// Whether a change is good or bad, as a class and a sign.
fn tone(change: &TestChange) -> (&'static str, &'static str) {
    match change {
        TestChange::NewlyFailing | TestChange::StillFailing => ("bad-text", "✕"),
        TestChange::Slower => ("worse", "▲"),
        TestChange::Fixed => ("better", "✓"),
        TestChange::Faster => ("better", "▼"),
        TestChange::Added => ("muted", "+"),
        TestChange::Removed => ("muted", "−"),
        TestChange::Other | TestChange::Same => ("muted", "="),
    }
}
