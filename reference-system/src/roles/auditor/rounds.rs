//! The rounds of the audit while the system runs: one every five seconds, and what each invariant broke first is kept.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lookout::Lookout;
use crate::audit::{Finding, OnlineView, Rounds, Verdict};
use crate::config::now_ms;
use crate::store::{Store, StoreError};

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(5);

/// The rounds, and what they have found.
pub(super) struct KeptRounds {
    store: Store,
    view: Mutex<OnlineView>,
}

impl KeptRounds {
    pub(super) fn new(store: Store) -> Self {
        Self { store, view: Mutex::default() }
    }

    pub(super) fn view(&self) -> OnlineView {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, OnlineView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn keep_checking(
        self: Arc<Self>,
        mut rounds: Rounds,
        lookout: Arc<Lookout>,
        stop: CancellationToken,
    ) {
        let mut kept = BTreeSet::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
            let (began, at_ms) = (Instant::now(), now_ms());
            let [routing, balance] = rounds.next().await;
            let invariants = vec![routing, balance, lookout.found()];
            for finding in invariants.iter().filter(|finding| finding.verdict == Verdict::Invalid) {
                if kept.contains(&finding.id) {
                    continue;
                }
                match self.keep(finding.clone()).await {
                    Ok(()) => drop(kept.insert(finding.id.clone())),
                    Err(error) => tracing::error!(%error, "a first violation is not kept"),
                }
            }
            let mut view = self.lock();
            view.rounds += 1;
            view.at_ms = at_ms;
            view.busy_ms += began.elapsed().as_millis() as u64;
            view.invariants = invariants;
        }
    }

    async fn keep(&self, finding: Finding) -> Result<(), StoreError> {
        let example = finding.examples.first().cloned().unwrap_or_default();
        tracing::error!(invariant = finding.id, example, "an invariant is broken");
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO first_violations VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                        .bind(finding.id)
                        .bind(finding.first_seen_ms.unwrap_or_else(now_ms))
                        .bind(example)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}
