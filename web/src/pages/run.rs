//! One run at `/runs/{id}`, live or over: verdict, charts, tables, and the button that halts it.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use kennel_controller::{Caller, HaltError};
use kennel_model::RunId;
use kennel_model::api::{Annotations, RequestRow, RunDetail, RunSummary};
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Runs looked through for earlier ones of the same experiment.
const LOOKED_THROUGH: u32 = 500;
/// Runs in the strip of the last ones.
const HISTORY: usize = 20;

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage<'a> {
    layout: Layout,
    run: &'a RunSummary,
    detail: &'a RunDetail,
    live: bool,
    halting: bool,
    /// Request names but `all`.
    names: Vec<&'a str>,
    groups: Vec<RequestGroup<'a>>,
    /// Other runs of the same experiment that began before this one, newest first.
    earlier: Vec<&'a RunSummary>,
    /// The last runs of the same experiment, this one among them.
    history: Vec<&'a RunSummary>,
    annotations: Annotations,
    /// Where labels and notes are posted.
    base: String,
}

/// One request name's rows: the whole run, then each phase.
struct RequestGroup<'a> {
    name: &'a str,
    rows: Vec<&'a RequestRow>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Set after the halt button was pressed without script.
    halting: Option<String>,
}

/// `GET /runs/{id}`
pub(crate) async fn show(
    State(web): State<Web>,
    text: Result<Path<String>, PathRejection>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let Path(text) = text?;
    let Ok(id) = text.parse::<RunId>() else {
        let id = web.controller.find_run(&text).await?;
        return Ok(Redirect::to(&format!("/runs/{id}")).into_response());
    };
    let detail = web.controller.run(id).await?;
    let detail = detail.ok_or_else(|| Problem::no_run(id))?;
    let run = &detail.summary;
    let runs = web.controller.runs(LOOKED_THROUGH, None).await?;
    let same = || runs.iter().filter(|other| other.name == run.name);
    let live = !run.state.is_over();
    let groups = grouped(&detail.requests);
    let page = RunPage {
        layout: web.layout.at(""),
        run,
        live,
        halting: live && wanted.halting.is_some(),
        names: groups.iter().map(|group| group.name).filter(|name| *name != "all").collect(),
        groups,
        earlier: same().filter(|other| other.id < id).take(100).collect(),
        history: same().take(HISTORY).collect(),
        annotations: web.controller.annotations(id).await?.unwrap_or_default(),
        base: format!("/runs/{id}"),
        detail: &detail,
    };
    Ok(fill(&page)?.into_response())
}

/// `POST /runs/{id}/halt`: back to the run's page, where one sees it end.
pub(crate) async fn halt(
    State(web): State<Web>,
    caller: Caller,
    text: Result<Path<String>, PathRejection>,
) -> Result<Redirect, Problem> {
    let Path(text) = text?;
    let id = web.controller.find_run(&text).await?;
    match web.controller.halt(id).await {
        Ok(()) => {
            web.controller.record(&caller, "halt run", &format!("run {id}"), "").await?;
            Ok(Redirect::to(&format!("/runs/{id}?halting=1")))
        }
        Err(HaltError::AlreadyOver { .. }) => Ok(Redirect::to(&format!("/runs/{id}"))),
        Err(error) => Err(error.into()),
    }
}

/// Rows by request name, `all` first; within a name the whole run first, then phases in order.
fn grouped(rows: &[RequestRow]) -> Vec<RequestGroup<'_>> {
    let mut ordered: Vec<&RequestRow> = rows.iter().collect();
    ordered.sort_by(|a, b| (a.request != "all", &a.request, a.phase).cmp(&(b.request != "all", &b.request, b.phase)));
    ordered
        .chunk_by(|a, b| a.request == b.request)
        .map(|rows| RequestGroup { name: &rows[0].request, rows: rows.to_vec() })
        .collect()
}
