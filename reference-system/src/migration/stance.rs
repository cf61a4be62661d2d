//! What a store knows of a migration, durably: the phase, and whether it is fenced, which means that nobody decides
//! while the other side takes over.
//!
//! A stance changes in the one transaction after the other in which a store writes. So when it has changed, no write of
//! the earlier stance is under way any more: this is what makes a cut-over safe, whatever callers believe.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Phase, Side};
use crate::store::{Store, StoreError, migration_tables as tables};

/// Its row.
const NAME: &str = "stance";

/// What a store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stance {
    /// How far the migration has come.
    pub(crate) phase: Phase,
    /// Decides nothing: the other side is about to.
    pub(crate) fenced: bool,
}

impl Stance {
    /// Whether a store of this side decides about orders.
    pub(crate) fn decides(self, side: Side) -> bool {
        !self.fenced && self.phase.decider() == side
    }
}

/// A store's stance, in memory and in the store.
#[derive(Clone)]
pub(crate) struct Kept {
    side: Side,
    now: Arc<Mutex<Stance>>,
}

impl Kept {
    /// Reads what an earlier life kept; a store that never heard of a migration is at its beginning.
    pub(crate) async fn load(store: &Store, side: Side) -> Result<Self, StoreError> {
        let kept = tables::read(store.readers(), NAME).await?;
        let now = match kept {
            Some(text) => serde_json::from_str(&text).map_err(|error| StoreError::Row(error.to_string()))?,
            None => Stance { phase: Phase::P0, fenced: false },
        };
        Ok(Self { side, now: Arc::new(Mutex::new(now)) })
    }

    /// The stance now.
    pub(crate) fn get(&self) -> Stance {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this store decides about orders now.
    pub(crate) fn decides(&self) -> bool {
        self.get().decides(self.side)
    }

    /// Whether this store decides, and writes what it decides to the other side.
    pub(crate) fn writes_both(&self) -> bool {
        self.decides() && self.get().phase.writes_both()
    }

    /// Changes the stance. Once this is answered, no write of the earlier one is under way.
    pub(crate) async fn set(&self, store: &Store, to: Stance) -> Result<(), StoreError> {
        let text = serde_json::to_string(&to).map_err(|error| StoreError::Row(error.to_string()))?;
        let now = Arc::clone(&self.now);
        store
            .write(move |connection| {
                Box::pin(async move {
                    tables::write(connection, NAME, &text).await?;
                    // Here, and not after the commit: the writes behind this one in its group must know.
                    *now.lock().unwrap_or_else(PoisonError::into_inner) = to;
                    Ok(())
                })
            })
            .await
    }
}
