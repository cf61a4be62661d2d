//! The browser's face of Kennel: pages, live charts and static assets.
//!
//! A request passes [`headers`] and the controller's gate, which looks up in [`access`] who may use a page; then one of the [`pages`] asks the controller and fills its template, writing every
//! number and moment by [`notation`]. Scripts, styles and the chart library come from [`assets`]. Scripts ask the same
//! JSON API as everybody else; it is merged in here.

pub mod access;
mod address;
mod assets;
mod bars;
mod file_starts;
mod form_errors;
mod headers;
mod layout;
mod notation;
mod pages;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use kennel_controller::Controller;
use kennel_controller::api;
use kennel_controller::people::{Entrance, Refuse, guard};
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;

use crate::layout::Layout;

/// Largest form that is read: far above any experiment written by hand.
const FORM_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// What pages work with.
#[derive(Clone)]
struct Web {
    controller: Controller,
    layout: Layout,
}

/// Pages at `/`, assets under `/static`, the JSON API under `/api/v1`; for hosts that are loopback.
pub fn router(controller: Controller) -> Router {
    router_at(controller, Entrance::default())
}

/// As [`router`], reached and guarded as the entrance says.
pub fn router_at(controller: Controller, entrance: Entrance) -> Router {
    let layout = Layout::new(assets::digest());
    let web = Web { controller: controller.clone(), layout: layout.clone() };
    let site = site()
        .with_state(web)
        .merge(api::unguarded(controller.clone()))
        .fallback(pages::problem::no_such_page)
        .layer(from_fn_with_state(layout.clone(), pages::problem::render))
        .layer(from_fn(layout::visit));
    let refuse: Refuse = Arc::new(move |refused| pages::problem::turn_away(&layout, refused));
    let access = api::access::Access::with(access::TABLE);
    guard(site, &controller, Arc::new(entrance), access, refuse).layer(from_fn(headers::secure))
}

/// Every page and asset; `access` says who may use each.
fn site() -> Router<Web> {
    Router::new()
        .route("/", get(pages::runs::show))
        .route("/runs/new", get(pages::new_run::show).post(pages::new_run::submit))
        .route("/runs/{id}", get(pages::run::show))
        .route("/runs/{id}/halt", post(pages::run::halt))
        .route("/compare", get(pages::compare::show))
        .merge(pages::account::routes())
        .merge(pages::artifacts::routes())
        .merge(pages::audit_log::routes())
        .merge(pages::calendars::routes())
        .merge(pages::experiments::routes())
        .merge(pages::failing::routes())
        .merge(pages::history::routes())
        .merge(pages::invitation::routes())
        .merge(pages::login::routes())
        .merge(pages::notifications::routes())
        .merge(pages::people::routes())
        .merge(pages::queue::routes())
        .merge(pages::schedules::routes())
        .merge(pages::settings::routes())
        .merge(pages::setup::routes())
        .merge(pages::sign_on::routes())
        .merge(pages::storage::routes())
        .merge(pages::suite_editor::routes())
        .merge(pages::suite_runs::routes())
        .merge(pages::suites::routes())
        .merge(pages::targets::routes())
        .merge(pages::tests::routes())
        .merge(pages::tokens::routes())
        .route("/static/{digest}/{*path}", get(assets::serve))
        .route("/favicon.ico", get(assets::favicon))
        .method_not_allowed_fallback(pages::problem::wrong_method)
        .layer(RequestBodyLimitLayer::new(FORM_LIMIT_BYTES))
        .layer(CompressionLayer::new())
        // Not below the limit for forms: it takes files of results.
        .merge(pages::imports::routes().method_not_allowed_fallback(pages::problem::wrong_method))
}
