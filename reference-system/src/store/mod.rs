//! A store: one database with one writer and a few readers.
//!
//! Concurrent writes are committed in groups: the writer takes all that wait, applies them in one
//! transaction, and answers them after its commit. So a write costs a share of a commit, and no
//! write is answered before it is durable.

#[cfg(test)]
mod contract;
pub(crate) mod copying;
pub(crate) mod lock_writes;
pub(crate) mod log;
pub(crate) mod merchant_dimension;
pub(crate) mod migration_tables;
pub(crate) mod order_mapping;
pub(crate) mod outbox;
mod place;
mod placeholders;
pub(crate) mod sequence;
pub(crate) mod slips;
pub(crate) mod stock;
pub(crate) mod tasks;
pub(crate) mod user_dimension;
pub(crate) mod whole_order;

pub(crate) use place::{Place, Places};

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{AnyConnection, AnyPool, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// The most writes that share one commit.
const GROUP_COMMIT: usize = 64;
/// Pause between two attempts to reach a server that went away.
const RECONNECT: Duration = Duration::from_millis(100);
/// Writes that may wait before writers are held back.
const WAITING_WRITES: usize = 1_024;

/// Why a store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refused.
    #[error("the store failed: {0}")]
    Sql(#[source] Arc<sqlx::Error>),
    /// A row does not make sense.
    #[error("the store holds a row that cannot be read: {0}")]
    Row(String),
    /// The store is stopping.
    #[error("the store is stopping")]
    Stopping,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(Arc::new(error))
    }
}

type Deliver = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Runs in the transaction, or learns that there is none.
type Write = Box<dyn for<'c> FnOnce(Result<&'c mut AnyConnection, StoreError>) -> BoxFuture<'c, Applied> + Send>;

/// A write after it ran: whether the group may commit, and how to answer once it has.
struct Applied {
    failure: Option<StoreError>,
    deliver: Deliver,
}

/// An open store.
#[derive(Clone)]
pub(crate) struct Store {
    writes: mpsc::Sender<Write>,
    readers: AnyPool,
}

impl Store {
    /// Opens or creates the store and applies `schema`, which must be repeatable.
    pub(crate) async fn open(place: &Place, schema: &str, tracker: &TaskTracker) -> Result<Self, StoreError> {
        place.prepare(schema).await?;
        let writer = place.writer().await?;
        let readers = place.readers()?;
        let (writes, waiting) = mpsc::channel(WAITING_WRITES);
        tracker.spawn(commit_in_groups(place.clone(), writer, waiting));
        Ok(Self { writes, readers })
    }

    /// Where reads go.
    pub(crate) fn readers(&self) -> &AnyPool {
        &self.readers
    }

    /// Runs `work` in the writer's next transaction and answers after its commit.
    ///
    /// `work` must check before it writes: an SQL error fails the whole group.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            Box::pin(async move {
                // Whoever gave up while the store was away was told that it failed.
                if answer.is_closed() {
                    return Applied { failure: None, deliver: Box::new(|_| {}) };
                }
                let result = match connection {
                    Ok(connection) => work(connection).await,
                    Err(error) => Err(error),
                };
                let failure = result.as_ref().err().cloned();
                let deliver: Deliver = Box::new(move |committed| {
                    // The caller may have gone; its write stands all the same.
                    let _ = answer.send(committed.and(result));
                });
                Applied { failure, deliver }
            })
        });
        self.writes.send(write).await.map_err(|_| StoreError::Stopping)?;
        answered.await.map_err(|_| StoreError::Stopping)?
    }
}

async fn commit_in_groups(place: Place, mut connection: AnyConnection, mut waiting: mpsc::Receiver<Write>) {
    let mut group = Vec::with_capacity(GROUP_COMMIT);
    while waiting.recv_many(&mut group, GROUP_COMMIT).await > 0 {
        let mut applied = Vec::with_capacity(group.len());
        let mut lost = false;
        let begun = execute(&mut connection, place.begin()).await;
        let mut outcome = begun.clone();
        for write in group.drain(..) {
            // Without a transaction each statement would stand for itself.
            let within = match &begun {
                Ok(()) => Ok(&mut connection),
                Err(error) => Err(error.clone()),
            };
            let done = write(within).await;
            if let (Ok(()), Some(failure)) = (&outcome, &done.failure) {
                outcome = Err(failure.clone());
            }
            applied.push(done.deliver);
        }
        if outcome.is_ok() {
            outcome = execute(&mut connection, "COMMIT").await;
        }
        if let Err(error) = &outcome {
            tracing::error!(%error, writes = applied.len(), "a group of writes was rolled back");
            // Fails when no transaction is open, which is what we want.
            let _ = execute(&mut connection, "ROLLBACK").await;
            if connection.ping().await.is_err() {
                lost = true;
            }
        }
        for deliver in applied {
            deliver(outcome.clone());
        }
        if lost {
            connection = again(&place).await;
        }
    }
    // Folds the write-ahead log into the file.
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the store did not close cleanly");
    }
}

/// A new connection to a server that went away, as soon as it is back.
async fn again(place: &Place) -> AnyConnection {
    loop {
        match place.writer().await {
            Ok(connection) => return connection,
            Err(error) => tracing::warn!(%error, "the store is away"),
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn execute(connection: &mut AnyConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(())
}
