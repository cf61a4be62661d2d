//! Streams that go on and on: each ends as soon as whoever opened it may see it no longer.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use futures::StreamExt as _;
use tower_sessions::Session;

use super::gate::{Gate, Visit, Why, allowed, bearer};
use crate::Caller;
use crate::api::access::Need;

/// Beside every change, it is looked this often: sessions and tokens also end by themselves.
const LOOKED_EVERY: Duration = Duration::from_secs(60);

/// What shows who opened a stream.
pub(super) struct Proof {
    token: Option<String>,
    session: Option<Session>,
}

impl Proof {
    pub(super) fn of(headers: &HeaderMap, session: Option<&Session>) -> Self {
        Self { token: bearer(headers).map(str::to_owned), session: session.cloned() }
    }
}

/// Gives an answer back that, if it is a stream, ends with the right to see it.
pub(super) fn while_allowed(gate: Gate, proof: Proof, need: Result<Need, Why>, response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) || need == Ok(Need::Anyone) {
        return response;
    }
    let mut changes = gate.controller.inner.people.watch_rights();
    let ended = async move {
        loop {
            let visit = gate.still(&proof).await;
            if visit.is_none_or(|visit| allowed(need.clone(), &visit, &Method::GET).is_err()) {
                return;
            }
            if let Ok(Err(_)) = tokio::time::timeout(LOOKED_EVERY, changes.changed()).await {
                return;
            }
        }
    };
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, Body::from_stream(body.into_data_stream().take_until(Box::pin(ended))))
}

impl Gate {
    /// Who that is by now, if anybody. This is no use of the session: a page that is left open does not prolong it.
    async fn still(&self, proof: &Proof) -> Option<Visit> {
        if let Some(token) = &proof.token {
            return self.by_token(token).await.ok();
        }
        if self.controller.is_open() {
            return Some(Visit::local(true));
        }
        let digest = super::browser::digest(&proof.session.as_ref()?.id()?);
        let session = self.controller.inner.store.session(&digest).await.ok()??;
        let account = self.controller.account(&session.account?).await.ok()?;
        (!account.disabled).then(|| Visit::of(Caller { name: account.name, role: account.role }))
    }
}
