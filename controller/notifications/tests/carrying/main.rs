//! Deliveries over real sockets: receivers of webhooks that verify, refuse, redirect and never stop talking, and mail
//! servers that take mail in the clear, encrypted, or not at all.

#![allow(clippy::unwrap_used, reason = "what a test arranges must work; anything else fails it")]

mod mail_server;
mod mailing;
mod posting;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;

use kennel_model::api::{NotificationEvent, NotificationSubject};
use kennel_notifications::address::Resolve;
use kennel_notifications::courier::{Attempt, Courier, Parcel};
use kennel_notifications::destination::Destination;
use kennel_notifications::message::Message;

/// Something to tell.
fn message() -> Message {
    Message {
        event: NotificationEvent::FirstFailure,
        at: "2026-01-02T03:04:05.000Z".to_owned(),
        subject_kind: NotificationSubject::Suite,
        subject: "nightly".to_owned(),
        branch: String::new(),
        run: None,
        verdict: None,
        title: "nightly failed: größer als erwartet".to_owned(),
        sentences: vec!["3 of 4 tests passed.".to_owned(), ".".to_owned()],
        sections: Vec::new(),
        link: None,
    }
}

/// A resolver that knows one address for every name.
fn every_name_is(address: SocketAddr) -> Resolve {
    Arc::new(move |_, _| Box::pin(async move { Ok(vec![address]) }))
}

/// Renders the message for a destination and makes one attempt.
async fn deliver(courier: &Courier, destination: &Destination, allow_private_addresses: bool) -> Attempt {
    let body = destination.render(&message(), "0198-1", None).unwrap();
    let now = jiff::Timestamp::now();
    courier.deliver(Parcel { id: "0198-1", destination, allow_private_addresses, body: &body, now }).await
}
