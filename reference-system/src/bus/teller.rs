//! Telling the bus what a write changes: with it in one transaction, and published by whom the switch `bus.emit` says.

use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::AnyConnection;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Bus;
use super::event::Cause;
use crate::rpc::{Budget, Directory, Failure};
use crate::store::outbox::Telling;
use crate::store::{Store, StoreError};
use crate::switches::Emit;

/// What a role writes by that has something to tell.
pub(crate) struct Teller {
    bus: Bus,
    directory: Arc<Directory>,
    /// Owns the publications that nobody waits for.
    tracker: TaskTracker,
    /// Moves with each write.
    written: watch::Sender<()>,
}

impl Teller {
    pub(crate) fn new(bus: Bus, directory: Arc<Directory>, tracker: TaskTracker) -> Self {
        Self { bus, directory, tracker, written: watch::Sender::new(()) }
    }

    /// Moves with each write: there may be something to do, or to tell.
    pub(crate) fn written(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    /// Runs `work` in a transaction, with what it notes for the bus; whatever the writer itself has to publish is
    /// published after the commit.
    ///
    /// # Errors
    ///
    /// The store's; with `bus.emit = inline_sync` also that the change stands and nobody was told.
    pub(crate) async fn write<T, F>(&self, store: &Store, budget: &Budget, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection, &'c mut Telling) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let trace = budget.trace().and_then(|id| id.to_str().ok());
        let cause = Cause { req_id: text(budget.request_id()), tag: text(budget.tag()), trace: text(trace) };
        let mut telling = Telling { emit: self.directory.in_force().emit, cause, inline: Vec::new() };
        let (done, told) = store
            .write(move |connection| {
                Box::pin(async move {
                    let done = work(connection, &mut telling).await?;
                    Ok((done, telling))
                })
            })
            .await?;
        self.written.send_replace(());
        self.publish(told).await?;
        Ok(done)
    }

    async fn publish(&self, told: Telling) -> Result<(), Failure> {
        if told.inline.is_empty() {
            return Ok(());
        }
        let (bus, messages) = (self.bus.clone(), told.inline);
        let publish = async move { bus.publish(&messages, true).await };
        if told.emit == Emit::InlineSync {
            return publish.await.map_err(|error| Failure::unavailable("bus_away", error.to_string()));
        }
        self.tracker.spawn(async move {
            if let Err(error) = publish.await {
                tracing::warn!(%error, "events are lost");
            }
        });
        Ok(())
    }
}
