//! A suite over its runs at `/suites/{name}/results`: tests × runs, duration and pass trends.

use askama::Template;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::response::Html;
use axum::routing::get;
use kennel_model::api::{MatrixView, TestFilter};
use serde::Deserialize;

use crate::address::with_choices;
use crate::bars::Bars;
use crate::layout::{Layout, origin};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Tests and runs on one page.
const TESTS: u32 = 50;
const RUNS: u32 = 30;
/// Runs in a trend.
const TREND: u32 = 60;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/suites/{name}/results", get(show))
}

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    layout: Layout,
    view: MatrixView,
    wanted: Wanted,
    outcomes: Bars,
    durations: Bars,
    /// Addresses of the parts around this one, empty where there is none.
    up: String,
    down: String,
    newer: String,
    older: String,
    command: String,
}

/// What is asked for, as it stands in the address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    text: String,
    failing: bool,
    flaky: bool,
    offset: u32,
    skip: u32,
}

impl Wanted {
    fn address(&self, path: &str, offset: u32, skip: u32) -> String {
        let flag = |is: bool| if is { "true" } else { "" };
        let number = |number: u32| if number == 0 { String::new() } else { number.to_string() };
        with_choices(
            path,
            &[
                ("text", &self.text),
                ("failing", flag(self.failing)),
                ("flaky", flag(self.flaky)),
                ("offset", &number(offset)),
                ("skip", &number(skip)),
            ],
        )
    }
}

/// `GET /suites/{name}/results`
async fn show(
    State(web): State<Web>,
    name: Result<Path<String>, PathRejection>,
    Query(wanted): Query<Wanted>,
) -> Result<Html<String>, Problem> {
    let Path(name) = name?;
    let filter = TestFilter {
        text: Some(wanted.text.trim().to_owned()).filter(|text| !text.is_empty()),
        failing: wanted.failing,
        flaky: wanted.flaky,
        limit: TESTS,
        offset: wanted.offset,
        ..TestFilter::default()
    };
    let view = web.controller.matrix(&name, &filter, RUNS, wanted.skip).await?;
    let trend = web.controller.trend(&name, TREND).await?;
    let path = format!("/suites/{}/results", with_choices("", &[("", &name)]).trim_start_matches("?="));
    // `+` is a blank in a query, not in a path.
    let path = path.replace('+', "%20");
    let (offset, skip) = (wanted.offset, wanted.skip);
    let part = |is: bool, offset: u32, skip: u32| if is { wanted.address(&path, offset, skip) } else { String::new() };
    fill(&HistoryPage {
        layout: web.layout.at("suites"),
        up: part(offset > 0, offset.saturating_sub(TESTS), skip),
        down: part(view.total_tests > offset.saturating_add(TESTS), offset.saturating_add(TESTS), skip),
        newer: part(skip > 0, offset, skip.saturating_sub(RUNS)),
        older: part(view.total_runs > skip.saturating_add(RUNS), offset, skip.saturating_add(RUNS)),
        outcomes: Bars::of_outcomes(&trend),
        durations: Bars::of_durations(&trend),
        command: format!(
            "curl -s '{0}/api/v1{1}/matrix'\ncurl -s '{0}/api/v1{1}/trend'",
            origin(),
            path.trim_end_matches("/results")
        ),
        wanted,
        view,
    })
}
