//! The message service: one message per event and recipient, and messages on request.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;

use crate::bus::event::Event;
use crate::bus::subscription::inbox;
use crate::bus::{Message, dead_letters, topology};
use crate::config::now_ms;
use crate::extract::{Ask, Body};
use crate::frame::{Frame, RoleError};
use crate::orders::event::OrderEvent;
use crate::rpc::{Budget, Failure};
use crate::store::outbox::{inbox_table, note_in_inbox};
use crate::store::{Store, StoreError};

/// Repeatable. Nothing but the inbox keeps a message from being sent twice.
const SCHEMA: &str = concat!(
    inbox_table!(),
    "
CREATE TABLE IF NOT EXISTS messages (
  message_id IDENTITY, event_id TEXT NOT NULL, recipient TEXT NOT NULL, body TEXT NOT NULL, at_ms BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_recipient ON messages (recipient, message_id);
"
);

/// The store's name.
pub(crate) const STORE: &str = "sms";
/// The name in the inbox of what came as an event.
pub(crate) const CONSUMER: &str = "sms";
/// The name in the inbox of what came as a request.
const REQUESTS: &str = "send";
/// The longest text and recipient.
const LONGEST: usize = 500;

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let store = frame.open_store(STORE, SCHEMA).await?;
    let subscription = frame.subscription(topology::SMS, CONSUMER, &store, Arc::new(send_for_event));
    let (bus, counts) = (subscription.bus.clone(), Arc::clone(&subscription.counts));
    let routes = Router::new().route("/send", post(send)).route("/messages", get(messages)).with_state(store.clone());
    let routes = routes.merge(dead_letters::routes(bus.clone(), topology::SMS)).merge(inbox(store, CONSUMER));
    let prepare = async {
        frame.wait_for_bus(&bus).await;
        frame.tracker.spawn(subscription.run(frame.stop.clone()));
    };
    frame.serve(routes, Box::new(move || counts.describe()), prepare).await
}

/// Who is told of an event.
pub(crate) fn recipients(event: &OrderEvent) -> Vec<String> {
    let mut recipients = vec![format!("user:{}", event.user_id)];
    if event.kind == "cancelled" {
        recipients.push(format!("restaurant:{}", event.restaurant_id));
    }
    recipients
}

fn send_for_event(connection: &mut AnyConnection, event: Event, _: Message) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let event_id = event.id();
        let Event::Order(event) = event else { return Ok(()) };
        for recipient in recipients(&event) {
            let text = format!("Order {} is {}", event.order_id, event.kind);
            write(connection, &event_id, &recipient, &text).await?;
        }
        Ok(())
    })
}

async fn write(connection: &mut AnyConnection, event_id: &str, recipient: &str, text: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO messages (event_id, recipient, body, at_ms) VALUES ($1, $2, $3, $4)")
        .bind(event_id)
        .bind(recipient)
        .bind(text)
        .bind(now_ms())
        .execute(connection)
        .await?;
    Ok(())
}

/// A message to be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) recipient: String,
    pub(crate) text: String,
}

/// Sends a message once for each request key.
async fn send(
    State(store): State<Store>,
    budget: Budget,
    Body(request): Body<Request>,
) -> Result<Json<Value>, Failure> {
    let Some(key) = budget.request_id().filter(|key| (1..=LONGEST).contains(&key.len())).map(str::to_owned) else {
        return Err(Failure::invalid(format!("the header x-req-id (1 to {LONGEST} characters) is required")));
    };
    let fits = |text: &str| (1..=LONGEST).contains(&text.len());
    if !fits(&request.recipient) || !fits(&request.text) {
        return Err(Failure::invalid(format!("recipient and text have 1 to {LONGEST} bytes")));
    }
    let sent = store
        .write(move |connection| {
            Box::pin(async move {
                let is_new = note_in_inbox(connection, &key, REQUESTS).await?;
                if is_new {
                    write(connection, "", &request.recipient, &request.text).await?;
                }
                Ok(is_new)
            })
        })
        .await?;
    Ok(Json(json!({ "sent": sent })))
}

#[derive(Deserialize)]
struct To {
    recipient: String,
}

/// What somebody was sent, the oldest of the last hundred first.
async fn messages(State(store): State<Store>, Ask(To { recipient }): Ask<To>) -> Result<Json<Vec<String>>, Failure> {
    if recipient.contains('\0') {
        return Err(Failure::invalid("a recipient is text without zeros"));
    }
    let mut sent: Vec<String> =
        sqlx::query_scalar("SELECT body FROM messages WHERE recipient = $1 ORDER BY message_id DESC LIMIT 100")
            .bind(recipient)
            .fetch_all(store.readers())
            .await
            .map_err(StoreError::from)?;
    sent.reverse();
    Ok(Json(sent))
}
