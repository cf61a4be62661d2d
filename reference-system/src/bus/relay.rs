//! The relay of the outbox: publishes what waits there, in its order, and marks it once the broker has it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Bus, Message};
use crate::orders::service::user_store;
use crate::rpc::{Budget, CallError, Caller, Directory};
use crate::store::outbox::Waiting;

/// The most rows in a round.
const ROUND: usize = 200;
/// How long the store may hold the question for rows; below its timeout.
const POLL_MS: u64 = 200;
const CALL: Duration = Duration::from_secs(2);
/// Pause after a round that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The relay of one group of the user dimension.
pub(crate) struct Relay {
    pub(crate) caller: Caller,
    pub(crate) directory: Arc<Directory>,
    pub(crate) bus: Bus,
    pub(crate) group: u16,
}

impl Relay {
    /// Runs until told to stop. A round cut short is done again, so that an event may be published twice.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let went_well = tokio::select! {
                went_well = self.round() => went_well,
                () = stop.cancelled() => return,
            };
            if !went_well {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    async fn round(&self) -> bool {
        let store = user_store(self.group);
        let path = format!("/outbox?limit={ROUND}&wait_ms={POLL_MS}");
        let rows: Vec<Waiting> = match self.caller.get(store, &path, &Budget::of(CALL)).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, "the outbox does not answer");
                return false;
            }
        };
        if rows.is_empty() {
            return true;
        }
        let messages: Vec<Message> = rows.iter().map(|row| row.message.clone()).collect();
        let confirm = self.directory.in_force().confirm;
        if let Err(error) = self.bus.publish(&messages, confirm).await {
            tracing::warn!(%error, events = rows.len(), confirm, "the broker did not take events");
            // Without confirmations nobody would know.
            if confirm {
                return false;
            }
        }
        let sent: Vec<i64> = rows.iter().map(|row| row.outbox_id).collect();
        let marked: Result<Value, CallError> =
            self.caller.post(store, "/outbox/mark", &json!({ "sent": sent }), &Budget::of(CALL)).await;
        marked.inspect_err(|error| tracing::warn!(%error, "published events are not marked")).is_ok()
    }
}
