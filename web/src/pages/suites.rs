//! Suites at `/suites`: the list, and a suite's own page, from which it is run.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use jiff::Timestamp;
use kennel_controller::{Caller, StartSuiteError};
use kennel_model::api::{PlannedView, StartSuite, SuiteDetail, SuiteOrigin, SuiteRunSummary, SuiteSummary};
use kennel_model::document::PlacedProblem;
use kennel_model::suite::{Parameter, ParameterKind};
use serde::Deserialize;

use super::file_place::encoded;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/suites", get(list)).route("/suites/{name}", get(show)).route("/suites/{name}/run", post(run))
}

/// Suites on one page of the list.
const PAGE: usize = 50;

/// What of the list is shown.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    q: String,
    #[serde(default)]
    label: String,
    /// Verdict of the last run; `none` for suites that never ran.
    #[serde(default)]
    last: String,
    #[serde(default)]
    page: usize,
}

#[derive(Template)]
#[template(path = "suites.html")]
struct SuitesPage {
    layout: Layout,
    wanted: Wanted,
    suites: Vec<SuiteSummary>,
    /// When those that are scheduled run next.
    next: BTreeMap<String, PlannedView>,
    /// Every label in use, for the filter.
    labels: Vec<String>,
    /// Whether there is any suite at all.
    is_empty: bool,
    total: usize,
    now: Timestamp,
    newer: String,
    older: String,
}

/// `GET /suites`
async fn list(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let all = web.controller.suites_in_brief().await?;
    let is_empty = all.is_empty();
    let mut labels: Vec<String> = all.iter().flat_map(|suite| suite.labels.clone()).collect();
    labels.sort();
    labels.dedup();
    let text = wanted.q.trim().to_lowercase();
    let fits = |suite: &SuiteSummary| {
        let last = suite.last_runs.iter().find_map(|run| run.verdict).map_or("none", kennel_model::Verdict::word);
        (text.is_empty()
            || suite.name.to_lowercase().contains(&text)
            || suite.description.to_lowercase().contains(&text))
            && (wanted.label.is_empty() || suite.labels.contains(&wanted.label))
            && (wanted.last.is_empty() || wanted.last == last)
    };
    let mut suites: Vec<SuiteSummary> = all.into_iter().filter(fits).collect();
    let total = suites.len();
    let page = wanted.page.min(total / PAGE);
    suites = suites.into_iter().skip(page * PAGE).take(PAGE).collect();
    web.controller.add_last_runs(&mut suites).await?;
    let next = web.controller.next_of_suites(&suites.iter().map(|suite| suite.name.as_str()).collect()).await?;
    let at = |page: usize| {
        let (q, label, last) = (encoded(&wanted.q), encoded(&wanted.label), encoded(&wanted.last));
        format!("/suites?q={q}&label={label}&last={last}&page={page}")
    };
    fill(&SuitesPage {
        layout: web.layout.at("suites"),
        newer: if page > 0 { at(page - 1) } else { String::new() },
        older: if (page + 1) * PAGE < total { at(page + 1) } else { String::new() },
        wanted,
        suites,
        next,
        labels,
        is_empty,
        total,
        now: Timestamp::now(),
    })
}

impl SuitesPage {
    fn href(&self, suite: &SuiteSummary) -> String {
        format!("/suites/{}", encoded(&suite.name))
    }

    /// The last runs, oldest first, as a picture and in words.
    fn strip<'a>(&self, suite: &'a SuiteSummary) -> Vec<&'a SuiteRunSummary> {
        suite.last_runs.iter().rev().collect()
    }

    fn strip_words(&self, suite: &SuiteSummary) -> String {
        notation::strip_words(&suite.last_runs)
    }
}

/// What a suite's page opens with.
#[derive(Debug, Deserialize)]
struct Opened {
    /// Set when its form to run it is to be open.
    start: Option<String>,
}

/// A parameter's field.
struct Field {
    parameter: Parameter,
    value: String,
    error: String,
}

#[derive(Template)]
#[template(path = "suite.html")]
struct SuitePage {
    layout: Layout,
    suite: SuiteSummary,
    detail: SuiteDetail,
    fields: Vec<Field>,
    /// Labels as they were typed.
    labels: String,
    /// What is wrong, beside what the fields tell.
    refused: String,
    problems: Vec<PlacedProblem>,
    now: Timestamp,
    is_open: bool,
}

impl SuitePage {
    fn base(&self) -> String {
        format!("/suites/{}", encoded(&self.suite.name))
    }

    fn can_run(&self) -> bool {
        self.suite.origin != SuiteOrigin::Runs
    }

    fn command(&self) -> String {
        let set: BTreeMap<&str, &str> = self
            .fields
            .iter()
            .filter(|field| field.value != field.parameter.default)
            .map(|field| (field.parameter.name.as_str(), field.value.as_str()))
            .collect();
        let mut body = serde_json::json!({ "suite": self.suite.name });
        if !set.is_empty() {
            body["parameters"] = serde_json::json!(set);
        }
        let told = body.to_string().replace('\'', "'\\''");
        format!(
            "curl -X POST {}/api/v1/suite-runs \\\n  -H 'content-type: application/json' \\\n  -d '{told}'",
            self.layout.origin()
        )
    }
}

async fn detail(web: &Web, name: &str) -> Result<SuiteDetail, Problem> {
    let detail = web.controller.suite(name).await?;
    detail.ok_or_else(|| Problem::Missing {
        what: format!("There is no suite “{name}”."),
        next: "All suites that Kennel keeps, ships or has runs of are in the list of suites.",
    })
}

/// `GET /suites/{name}`
async fn show(
    State(web): State<Web>,
    name: Result<Path<String>, PathRejection>,
    Query(opened): Query<Opened>,
) -> Result<Response, Problem> {
    let Path(name) = name?;
    let detail = detail(&web, &name).await?;
    let fields = detail.parameters.iter().map(|parameter| Field {
        // Whoever changed a value last time will most likely want the same again.
        value: detail
            .last_values
            .get(&parameter.name)
            .filter(|value| parameter.refuses(value).is_none())
            .unwrap_or(&parameter.default)
            .clone(),
        parameter: parameter.clone(),
        error: String::new(),
    });
    let page = SuitePage {
        layout: web.layout.at("suites"),
        suite: detail.summary.clone(),
        fields: fields.collect(),
        labels: String::new(),
        refused: String::new(),
        problems: Vec::new(),
        now: Timestamp::now(),
        is_open: opened.start.is_some(),
        detail,
    };
    Ok(fill(&page)?.into_response())
}

/// `POST /suites/{name}/run`: starts a run and goes to its page, or shows the form again with what is wrong.
async fn run(
    State(web): State<Web>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
    Form(sent): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let Path(name) = name?;
    let detail = detail(&web, &name).await?;
    let given = |field: &str| sent.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone());
    let mut is_wrong = false;
    let fields: Vec<Field> = detail
        .parameters
        .iter()
        .map(|parameter| {
            let value = given(&format!("parameter.{}", parameter.name)).unwrap_or_else(|| parameter.default.clone());
            let error = parameter.refuses(&value).map(|(problem, expected)| format!("{problem}; expected {expected}"));
            is_wrong |= error.is_some();
            Field { parameter: parameter.clone(), value, error: error.unwrap_or_default() }
        })
        .collect();
    let labels = given("labels").unwrap_or_default();
    let request = StartSuite {
        suite: Some(name),
        parameters: fields.iter().map(|field| (field.parameter.name.clone(), field.value.clone())).collect(),
        labels: labels.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect(),
        ..StartSuite::default()
    };
    let (mut status, mut refused, mut problems) = (StatusCode::UNPROCESSABLE_ENTITY, String::new(), Vec::new());
    if !is_wrong {
        match web.controller.start_suite_by(&caller, request).await {
            Ok(id) => return Ok(Redirect::to(&format!("/suite-runs/{id}")).into_response()),
            Err(StartSuiteError::Store(error)) => return Err(error.into()),
            Err(StartSuiteError::Invalid(found)) => problems = found.problems,
            Err(error @ StartSuiteError::Closing) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                refused = error.to_string();
            }
            Err(error) => refused = error.to_string(),
        }
    }
    let page = SuitePage {
        layout: web.layout.at("suites"),
        suite: detail.summary.clone(),
        fields,
        labels,
        refused,
        problems,
        now: Timestamp::now(),
        is_open: true,
        detail,
    };
    Ok((status, fill(&page)?).into_response())
}
