//! The clock by which schedules go: the machine's, or one that is set by hand.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

/// Tells the time. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Where it is set by hand; the machine's clock otherwise.
    hands: Option<Arc<Hands>>,
}

#[derive(Debug)]
struct Hands {
    now: Mutex<Timestamp>,
    moved: Notify,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands until it is set.
    #[must_use]
    pub fn standing_at(now: Timestamp) -> Self {
        Self { hands: Some(Arc::new(Hands { now: Mutex::new(now), moved: Notify::new() })) }
    }

    /// Sets a clock that stands; the machine's clock stays as it is.
    pub fn set(&self, now: Timestamp) {
        if let Some(hands) = &self.hands {
            *hands.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
            hands.moved.notify_one();
        }
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.hands {
            Some(hands) => *hands.now.lock().unwrap_or_else(PoisonError::into_inner),
            None => Timestamp::now(),
        }
    }

    /// Resolves when it was set; never for the machine's.
    pub(crate) async fn moved(&self) {
        match &self.hands {
            Some(hands) => hands.moved.notified().await,
            None => std::future::pending().await,
        }
    }
}
