//! Tests: the list at `/tests`, muted ones at `/muted`, one with its history at `/tests/{id}`, and what it did in one
//! run at `/suite-runs/{run}/tests/{id}`.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use jiff::Timestamp;
use kennel_controller::{Caller, JoinError, MuteError, NoteError};
use kennel_model::RunId;
use kennel_model::api::{
    JoinRequest, MuteRequest, Outcome, SuiteRunSummary, TestFilter, TestHistory, TestOrder, TestResultDetail,
    TestStanding,
};
use serde::Deserialize;

use crate::address::with_choices;
use crate::bars::Bars;
use crate::form_errors::FormErrors;
use crate::layout::{Layout, origin};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Tests on one page.
const PAGE: u32 = 50;
/// Results on a test's page.
const RESULTS: u32 = 50;
/// Tests offered as earlier names.
const OFFERED: u32 = 200;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/tests", get(list))
        .route("/muted", get(muted))
        .route("/tests/{id}", get(show))
        .route("/tests/{id}/mute", post(mute))
        .route("/tests/{id}/unmute", post(unmute))
        .route("/tests/{id}/join", post(join))
        .route("/tests/{id}/notes", post(note))
        .route("/suite-runs/{run}/tests/{id}", get(attempt))
}

#[derive(Template)]
#[template(path = "tests.html")]
struct TestsPage {
    layout: Layout,
    tab: &'static str,
    tests: Vec<TestStanding>,
    total: u32,
    suites: Vec<String>,
    wanted: Wanted,
    outcomes: &'static [Outcome],
    orders: &'static [TestOrder],
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
    outcome: String,
    failing: bool,
    flaky: bool,
    fingerprint: String,
    order: String,
    offset: u32,
}

impl Wanted {
    fn address(&self, path: &str, offset: u32) -> String {
        let flag = |is: bool| if is { "true" } else { "" };
        let offset = if offset == 0 { String::new() } else { offset.to_string() };
        with_choices(
            path,
            &[
                ("suite", &self.suite),
                ("text", &self.text),
                ("label", &self.label),
                ("outcome", &self.outcome),
                ("failing", flag(self.failing)),
                ("flaky", flag(self.flaky)),
                ("fingerprint", &self.fingerprint),
                ("order", &self.order),
                ("offset", &offset),
            ],
        )
    }

    fn filter(&self) -> TestFilter {
        let said = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        TestFilter {
            suite: said(&self.suite),
            text: said(&self.text),
            label: said(&self.label),
            // A word that is none wants any, as the form says with an empty one.
            outcome: self.outcome.parse().ok(),
            failing: self.failing,
            flaky: self.flaky,
            fingerprint: said(&self.fingerprint),
            order: self.order.parse().unwrap_or_default(),
            limit: PAGE,
            offset: self.offset,
            ..TestFilter::default()
        }
    }

    fn is_narrowed(&self) -> bool {
        *self != Self::default()
    }
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Self) -> bool {
        self.address("", 0) == other.address("", 0)
    }
}

/// `GET /tests`
async fn list(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let (tests, total) = web.controller.tests(&wanted.filter()).await?;
    let next = wanted.offset.saturating_add(PAGE);
    fill(&TestsPage {
        layout: web.layout.at("failing"),
        tab: if wanted.flaky { "flaky" } else { "tests" },
        tests,
        total,
        suites: web.controller.suites_with_tests().await?,
        outcomes: Outcome::ALL,
        orders: TestOrder::ALL,
        now: Timestamp::now(),
        newer: if wanted.offset == 0 {
            String::new()
        } else {
            wanted.address("/tests", wanted.offset.saturating_sub(PAGE))
        },
        older: if total > next { wanted.address("/tests", next) } else { String::new() },
        command: format!("curl -s '{}{}'", origin(), wanted.address("/api/v1/tests", wanted.offset)),
        wanted,
    })
}

#[derive(Template)]
#[template(path = "muted.html")]
struct MutedPage {
    layout: Layout,
    tab: &'static str,
    tests: Vec<TestStanding>,
    total: u32,
    command: String,
}

/// `GET /muted`
async fn muted(State(web): State<Web>) -> Result<Html<String>, Problem> {
    let filter = TestFilter { muted: Some(true), order: TestOrder::Expiry, limit: 500, ..TestFilter::default() };
    let (tests, total) = web.controller.tests(&filter).await?;
    fill(&MutedPage {
        layout: web.layout.at("failing"),
        tab: "muted",
        tests,
        total,
        command: format!("curl -s '{}/api/v1/tests?muted=true&order=expiry'", origin()),
    })
}

#[derive(Template)]
#[template(path = "test.html")]
struct TestPage {
    layout: Layout,
    history: TestHistory,
    bars: Bars,
    /// Results older than those shown.
    older: String,
    /// Tests of the suite that may be this one under an earlier name.
    earlier: Vec<TestStanding>,
    form: MuteForm,
    mute_errors: FormErrors,
    note: String,
    note_error: String,
    join_error: String,
    command: String,
}

/// The form that mutes a test, as it was filled in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct MuteForm {
    reason: String,
    owner: String,
    expires: String,
}

#[derive(Debug, Default, Deserialize)]
struct Before {
    before: Option<RunId>,
}

async fn page(web: &Web, id: i64, before: Option<RunId>) -> Result<TestPage, Problem> {
    let history = web.controller.test(id, RESULTS, before).await?.ok_or_else(|| no_test(id))?;
    let test = &history.standing.test;
    // One that is named alike stands first among those that may have been renamed.
    let same_suite = TestFilter { suite: Some(test.suite.clone()), limit: OFFERED, ..TestFilter::default() };
    let (mut earlier, _) = web.controller.tests(&same_suite).await?;
    earlier.retain(|other| other.test.id != test.id && other.last_run < history.standing.last_run);
    let older = match history.results.last() {
        Some(last) if history.results.len() == RESULTS as usize => {
            format!("/tests/{id}?before={}#results", last.suite_run)
        }
        _ => String::new(),
    };
    Ok(TestPage {
        layout: web.layout.at("failing"),
        bars: Bars::of_test(&history),
        older,
        earlier,
        form: MuteForm { expires: "14d".to_owned(), ..MuteForm::default() },
        mute_errors: FormErrors::default(),
        note: String::new(),
        note_error: String::new(),
        join_error: String::new(),
        command: commands(&origin(), history.standing.test.id),
        history,
    })
}

/// What the page's forms do, as commands.
fn commands(origin: &str, id: i64) -> String {
    let test = format!("{origin}/api/v1/tests/{id}");
    let json = "-H 'content-type: application/json'";
    format!(
        "# the test with its history\ncurl -s {test}\n\
         # mute it for two weeks, and end the mute\ncurl -X PUT {test}/mute {json} -d '{{\"reason\": \"issue 7\", \"expires\": \"14d\"}}'\n\
         curl -X DELETE {test}/mute\n\
         # join it with test 7, its earlier name\ncurl -X POST {test}/join {json} -d '{{\"earlier\": 7}}'"
    )
}

/// `GET /tests/{id}`
async fn show(
    State(web): State<Web>,
    id: Result<Path<i64>, PathRejection>,
    Query(wanted): Query<Before>,
) -> Result<Html<String>, Problem> {
    let Path(id) = id?;
    fill(&page(&web, id, wanted.before).await?)
}

/// `POST /tests/{id}/mute`
async fn mute(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
    Form(form): Form<MuteForm>,
) -> Result<Response, Problem> {
    let Path(id) = id?;
    let request =
        MuteRequest { reason: form.reason.clone(), owner: Some(form.owner.clone()), expires: form.expires.clone() };
    match web.controller.mute(&caller, id, &request).await {
        Ok(_) => Ok(Redirect::to(&format!("/tests/{id}")).into_response()),
        Err(MuteError::Field { field, why }) => {
            let page =
                TestPage { form, mute_errors: FormErrors::from_iter([(field, why)]), ..page(&web, id, None).await? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
        Err(MuteError::NoSuchTest { .. }) => Err(no_test(id)),
        Err(MuteError::Store(error)) => Err(error.into()),
    }
}

/// `POST /tests/{id}/unmute`
async fn unmute(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Redirect, Problem> {
    let Path(id) = id?;
    web.controller.unmute(&caller, id).await?;
    Ok(Redirect::to(&format!("/tests/{id}")))
}

#[derive(Debug, Deserialize)]
struct JoinForm {
    earlier: i64,
}

/// `POST /tests/{id}/join`
async fn join(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
    Form(form): Form<JoinForm>,
) -> Result<Response, Problem> {
    let Path(id) = id?;
    match web.controller.join_tests(&caller, id, &JoinRequest { earlier: form.earlier }).await {
        Ok(()) => Ok(Redirect::to(&format!("/tests/{id}")).into_response()),
        Err(JoinError::Store(error)) => Err(error.into()),
        Err(error) => {
            let page = TestPage { join_error: error.to_string(), ..page(&web, id, None).await? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
    }
}

#[derive(Debug, Deserialize)]
struct NoteForm {
    text: String,
}

/// `POST /tests/{id}/notes`
async fn note(
    State(web): State<Web>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
    Form(form): Form<NoteForm>,
) -> Result<Response, Problem> {
    let Path(id) = id?;
    match web.controller.add_test_note(&caller, id, &form.text).await {
        Ok(_) => Ok(Redirect::to(&format!("/tests/{id}#notes")).into_response()),
        Err(NoteError::Field { why, .. }) => {
            let page = TestPage { note: form.text, note_error: why, ..page(&web, id, None).await? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
        Err(NoteError::NotFound { .. }) => Err(no_test(id)),
        Err(NoteError::Store(error)) => Err(error.into()),
    }
}

#[derive(Template)]
#[template(path = "attempt.html")]
struct AttemptPage {
    layout: Layout,
    test: TestStanding,
    run: SuiteRunSummary,
    attempts: Vec<TestResultDetail>,
    command: String,
}

/// `GET /suite-runs/{run}/tests/{id}`
async fn attempt(
    State(web): State<Web>,
    path: Result<Path<(String, i64)>, PathRejection>,
) -> Result<Html<String>, Problem> {
    let Path((run, id)) = path?;
    let missing = || Problem::Missing {
        what: format!("Run {run} has no test {id}."),
        next: "The test may have been joined with another, or never ran there.",
    };
    let run: RunId = run.parse().map_err(|_| missing())?;
    let run = web.controller.suite_run_summary(run).await?.ok_or_else(missing)?;
    let test = web.controller.test(id, 1, None).await?.ok_or_else(missing)?.standing;
    let attempts = web.controller.attempts(run.id, test.test.id).await?;
    if attempts.is_empty() {
        return Err(missing());
    }
    fill(&AttemptPage {
        layout: web.layout.at("suites"),
        command: format!("curl -s {}/api/v1/suite-runs/{}/tests/{}", origin(), run.id, test.test.id),
        test,
        run,
        attempts,
    })
}

fn no_test(id: i64) -> Problem {
    Problem::Missing { what: format!("There is no test {id}."), next: "Look for it in the list of all tests." }
}
