//! What fails at `/failing`: what broke since the last green, grouped by what the failures have in common.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Html;
use axum::routing::get;
use jiff::Timestamp;
use kennel_controller::since;
use kennel_model::api::{FailingView, TestFilter};
use serde::Deserialize;

use crate::address::with_choices;
use crate::layout::{Layout, origin};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Groups on one page.
const PAGE: u32 = 20;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/failing", get(show))
}

#[derive(Template)]
#[template(path = "failing.html")]
struct FailingPage {
    layout: Layout,
    view: FailingView,
    suites: Vec<String>,
    wanted: Wanted,
    /// What is wrong with the beginning that was asked for.
    since_error: String,
    now: Timestamp,
    newer: String,
    older: String,
    command: String,
}

/// What is asked for, as it stands in the address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    suite: String,
    text: String,
    label: String,
    since: String,
    /// `only`, `with`, or neither: without those that are muted.
    muted: String,
    fingerprint: String,
    offset: u32,
}

impl Wanted {
    fn address(&self, path: &str, offset: u32) -> String {
        let offset = if offset == 0 { String::new() } else { offset.to_string() };
        with_choices(
            path,
            &[
                ("suite", &self.suite),
                ("text", &self.text),
                ("label", &self.label),
                ("since", &self.since),
                ("muted", &self.muted),
                ("fingerprint", &self.fingerprint),
                ("offset", &offset),
            ],
        )
    }

    fn is_narrowed(&self) -> bool {
        [&self.suite, &self.text, &self.label, &self.since, &self.fingerprint].iter().any(|word| !word.is_empty())
    }
}

/// `GET /failing`
async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let said = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let (first, since_error) = match said(&wanted.since).map(|text| since(&text)) {
        None => (None, String::new()),
        Some(Ok(run)) => (Some(run), String::new()),
        Some(Err(why)) => (None, why),
    };
    let muted = match wanted.muted.as_str() {
        "only" => Some(true),
        "with" => None,
        _ => Some(false),
    };
    let filter = TestFilter {
        suite: said(&wanted.suite),
        text: said(&wanted.text),
        label: said(&wanted.label),
        fingerprint: said(&wanted.fingerprint),
        since: first,
        muted,
        limit: PAGE,
        offset: wanted.offset,
        ..TestFilter::default()
    };
    let view = web.controller.failing(&filter).await?;
    let next = wanted.offset.saturating_add(PAGE);
    let api = match muted {
        Some(muted) => format!("{}/api/v1/failing?muted={muted}", origin()),
        None => format!("{}/api/v1/failing", origin()),
    };
    fill(&FailingPage {
        layout: web.layout.at("failing"),
        suites: web.controller.suites_with_tests().await?,
        since_error,
        now: Timestamp::now(),
        newer: if wanted.offset == 0 {
            String::new()
        } else {
            wanted.address("/failing", wanted.offset.saturating_sub(PAGE))
        },
        older: if view.total_groups > next { wanted.address("/failing", next) } else { String::new() },
        command: format!("curl -s '{api}'"),
        wanted,
        view,
    })
}
