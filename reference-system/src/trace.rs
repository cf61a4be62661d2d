//! Traces: one ID that goes with a request through every hop, into each process's log and back to the client.
//!
//! A trace that the client names (`x-trace`) is logged at each hop, and wherever an event that it caused is taken; one that the
//! gateway gives is logged where a hop fails. `system logs --trace ID` puts the lines of all processes in order.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use axum::response::Response;
use http::{HeaderValue, StatusCode};
use tracing::Span;

use crate::bus::event::{Cause, Event};
use crate::rpc::Budget;
use crate::rpc::budget::TRACE;

/// How the gateway's own trace IDs begin.
const GIVEN: &str = "gw-";

/// The trace of one request at one hop.
pub(crate) struct Trace {
    id: Option<HeaderValue>,
    /// The client wants to see each hop.
    wanted: bool,
}

/// Whether a client has named the trace, and so wants to see where it goes.
fn is_wanted(id: &[u8]) -> bool {
    !id.starts_with(GIVEN.as_bytes())
}

/// An event that was caused by a traced request and has arrived where it has an effect.
pub(crate) struct Arrival {
    cause: Cause,
    event: String,
}

impl Arrival {
    /// Of an event whose trace somebody wants to see.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let cause = event.cause();
        let wanted = cause.trace.as_ref().is_some_and(|id| is_wanted(id.as_bytes()));
        wanted.then(|| Self { cause: cause.clone(), event: event.id() })
    }

    /// Logs that a consumer has taken it.
    pub(crate) fn tell(&self, queue: &str) {
        let Cause { req_id, tag, trace } = &self.cause;
        tracing::info!(trace, req_id, tag, queue, event = self.event, "event taken");
    }
}

impl Trace {
    /// The trace that came with a request; at the first hop each request has one.
    pub(crate) fn of(budget: &mut Budget, first_hop: bool) -> Self {
        if first_hop && budget.trace().is_none() {
            // Its keys are random, and others for each.
            let id = format!("{GIVEN}{:016x}", RandomState::new().hash_one(()));
            budget.set_trace(HeaderValue::try_from(id).ok());
        }
        let id = budget.trace().cloned();
        let wanted = id.as_ref().is_some_and(|id| is_wanted(id.as_bytes()));
        Self { id, wanted }
    }

    fn text(&self) -> &str {
        self.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("none")
    }

    /// What everything that is logged during the request stands in.
    pub(crate) fn span(&self, budget: &Budget, route: &str) -> Span {
        if self.id.is_none() {
            return Span::none();
        }
        tracing::info_span!("request", trace = self.text(), req_id = budget.request_id(), tag = budget.tag(), route)
    }

    /// Logs the hop, if somebody wants to know or it failed. `left` is the time that it came with.
    pub(crate) fn tell(&self, route: &str, status: StatusCode, took: Duration, left: Duration) {
        let (status, took_us, left_ms) = (status.as_u16(), took.as_micros() as u64, left.as_millis() as u64);
        if status >= 500 {
            tracing::warn!(trace = self.text(), route, status, took_us, left_ms, "hop failed");
        } else if self.wanted {
            tracing::info!(trace = self.text(), route, status, took_us, left_ms, "hop");
        }
    }

    /// Tells the caller.
    pub(crate) fn answer(self, response: &mut Response) {
        if let Some(id) = self.id {
            response.headers_mut().insert(TRACE, id);
        }
    }
}
