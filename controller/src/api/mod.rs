//! The JSON API under `/api/v1`: one resource per file, its OpenAPI annotation beside its handler.

mod guard;
mod problem;

use std::net::SocketAddr;

use axum::Router;

pub use guard::guard_local;

use crate::Controller;

/// Everything under `/api/v1`, for hosts that are loopback.
pub fn router(controller: Controller) -> Router {
    router_bound(controller, None)
}

/// As [`router`], also reachable under the address it is bound to.
pub fn router_bound(_controller: Controller, bound: Option<SocketAddr>) -> Router {
    guard_local(Router::new(), bound)
}
