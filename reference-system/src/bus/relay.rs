//! The relay of an outbox: publishes what waits there, in its order, and marks it once the broker has it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Bus, Message};
use crate::rpc::{Budget, Caller, Directory, Failure};
use crate::store::Store;
use crate::store::outbox::{self, Waiting};

/// The most rows in a round.
const ROUND: usize = 200;
/// How long a question for rows may be held.
const POLL: Duration = Duration::from_secs(1);
const CALL: Duration = Duration::from_secs(2);
/// Pause after a round: an event that follows another waits for more, since a round costs more than an event in it.
const APART: Duration = Duration::from_millis(20);
/// Pause after a round that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the rows are.
pub(crate) enum Outbox {
    /// With a role that owns a part of the user dimension.
    Of { caller: Caller, service: &'static str },
    /// In the role's own store, whose writes move `written`.
    Own { store: Store, written: watch::Receiver<()> },
}

impl Outbox {
    /// As soon as there is a row, after a while in any case.
    async fn next(&mut self) -> Result<Vec<Waiting>, Failure> {
        match self {
            Self::Of { caller, service } => {
                let path = format!("/outbox?limit={ROUND}&wait_ms={}", POLL.as_millis());
                Ok(caller.get(service, &path, &Budget::of_long_poll(CALL, POLL)).await?)
            }
            Self::Own { store, written } => {
                Ok(outbox::next_waiting(store, ROUND as i64, Instant::now() + POLL, written).await?)
            }
        }
    }

    async fn mark(&self, sent: Vec<i64>) -> Result<(), Failure> {
        match self {
            Self::Of { caller, service } => {
                let _: Value =
                    caller.post(service, "/outbox/mark", &json!({ "sent": sent }), &Budget::of(CALL)).await?;
            }
            Self::Own { store, .. } => {
                store.write(move |c| Box::pin(async move { outbox::mark(c, &sent).await })).await?;
            }
        }
        Ok(())
    }
}

/// The relay of one outbox.
pub(crate) struct Relay {
    pub(crate) outbox: Outbox,
    pub(crate) directory: Arc<Directory>,
    pub(crate) bus: Bus,
}

impl Relay {
    /// Runs until told to stop. A round cut short is done again, so that an event may be published twice.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = tokio::select! {
                went_well = self.round() => if went_well { APART } else { PAUSE },
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn round(&mut self) -> bool {
        let rows = match self.outbox.next().await {
            Ok(rows) => rows,
            Err(failure) => {
                tracing::debug!(error = failure.body.error, "the outbox does not answer");
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
        let marked = self.outbox.mark(rows.iter().map(|row| row.outbox_id).collect()).await;
        marked
            .inspect_err(|failure| tracing::warn!(error = failure.body.error, "published events are not marked"))
            .is_ok()
    }
}
