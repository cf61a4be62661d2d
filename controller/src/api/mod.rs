//! The JSON API under `/api/v1`: one resource per file, its OpenAPI annotation beside its handler.

pub mod access;
mod annotations;
mod artifacts;
mod audit_log;
mod calendars;
mod compare;
mod files;
mod halt;
mod health;
mod imports;
mod library;
mod live;
mod notifications;
mod people;
mod problem;
mod queue;
mod runs;
mod schedules;
mod schema;
mod suite_runs;
mod suites;
mod tests;
mod tokens;
mod validate;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Controller;
use crate::people::{Entrance, guard};
use problem::{Refusal, problem};

/// Largest body that is read.
const BODY_LIMIT: usize = 1 << 20;

#[derive(OpenApi)]
#[openapi(info(title = "Kennel", description = "Chaos and load testing: runs, their measurements and verdicts"))]
struct Document;

/// What handlers share.
#[derive(Clone)]
struct ApiState {
    controller: Controller,
    document: Arc<utoipa::openapi::OpenApi>,
}

fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(runs::list, runs::start))
        .routes(routes!(runs::show))
        .routes(routes!(runs::series))
        .routes(routes!(live::live))
        .routes(routes!(halt::halt_run))
        .routes(routes!(halt::halt_all))
        .routes(routes!(validate::validate))
        .routes(routes!(compare::compare))
        .routes(routes!(library::library))
        .routes(routes!(schema::experiment_schema))
        .routes(routes!(schema::openapi_document))
        .routes(routes!(health::health))
        .merge(annotations::routes())
        .merge(artifacts::routes())
        .merge(audit_log::routes())
        .merge(calendars::routes())
        .merge(files::routes())
        .merge(imports::routes())
        .merge(notifications::routes())
        .merge(people::routes())
        .merge(queue::routes())
        .merge(schedules::routes())
        .merge(suite_runs::routes())
        .merge(suites::routes())
        .merge(tests::routes())
        .merge(tokens::routes())
        .fallback(no_such_route)
}

/// Everything under `/api/v1`, answered to hosts that are loopback and to no page of another site.
pub fn router(controller: Controller) -> Router {
    router_at(controller, Entrance::default())
}

/// As [`router`], as the entrance says.
pub fn router_at(controller: Controller, entrance: Entrance) -> Router {
    let access = access::Access::with(&[]);
    guard(unguarded(controller.clone()), &controller, Arc::new(entrance), access, Arc::new(|it| it.why.into_response()))
}

/// Everything under `/api/v1`, to be put behind the gate ([`guard`]) together with other pages.
pub fn unguarded(controller: Controller) -> Router {
    let described = OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", routes());
    let (router, document) = described.split_for_parts();
    router
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(ApiState { controller, document: Arc::new(document) })
}

/// An error answer with one sentence.
pub(crate) fn refuse(status: StatusCode, error: String) -> Response {
    problem(status, error).into_response()
}

/// The API's description.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", routes()).split_for_parts().1
}

async fn no_such_route(method: Method, uri: Uri) -> Refusal {
    problem(
        StatusCode::NOT_FOUND,
        format!("there is no {method} {}; /api/v1/openapi.json lists what there is", uri.path()),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    problem(StatusCode::METHOD_NOT_ALLOWED, format!("{} takes no {method}", uri.path()))
}
