//! P2: copies of the orders that were created before both sides were written, page by page behind a durable mark.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::mirror::hand_over;
use super::{OLD_STORE, Side};
use crate::rpc::{Budget, CallError, Caller};
use crate::store::copying::Position;
use crate::store::whole_order::{Guard, WholeOrder};

/// Orders of a page.
const PAGE: i64 = 100;
/// How long the old store may take to give one.
const CALL: std::time::Duration = std::time::Duration::from_secs(2);

/// How far it has come: durable, so that whoever is killed goes on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Orders that were created later were written to both sides from the beginning.
    pub(crate) created_until_ms: i64,
    /// How many there are to copy.
    pub(crate) total: i64,
    /// How many are copied.
    pub(crate) copied: i64,
    /// Behind which position to go on.
    pub(crate) after: Position,
    /// Whether all are copied.
    pub(crate) done: bool,
}

impl Progress {
    /// Before the first page.
    pub(crate) fn at_start(created_until_ms: i64, total: i64) -> Self {
        Self { created_until_ms, total, copied: 0, after: Position::START, done: false }
    }

    /// After some more copies.
    fn behind(self, copies: &[WholeOrder]) -> Self {
        match copies.last() {
            None => Self { done: true, ..self },
            Some(last) => Self { copied: self.copied + copies.len() as i64, after: position(last), ..self },
        }
    }
}

fn position(whole: &WholeOrder) -> Position {
    Position { shard: i64::from(whole.shard), order_id: whole.order.order_id.0 }
}

/// A page that was read, of which some orders are yet to be written.
#[derive(Default)]
pub(crate) struct Copying {
    /// Where it begins, and what is left of it.
    page: Option<(Position, VecDeque<WholeOrder>)>,
}

/// Why orders are not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stuck {
    #[error("the old store does not give orders: {0}")]
    Source(#[from] CallError),
    #[error("{store} takes no copies: {error}")]
    Target { store: &'static str, error: CallError },
}

impl Copying {
    /// Copies at most so many orders behind the mark. Gives the mark behind them.
    pub(crate) async fn copy(
        &mut self,
        caller: &Caller,
        progress: Progress,
        most: usize,
        guard: Guard,
    ) -> Result<Progress, Stuck> {
        let mut page = match self.page.take() {
            Some((after, page)) if after == progress.after && !page.is_empty() => page,
            _ => {
                let Progress { created_until_ms, after: Position { shard, order_id }, .. } = progress;
                let path = format!(
                    "/migration/older?created_until_ms={created_until_ms}&shard={shard}&order_id={order_id}&limit={PAGE}"
                );
                caller.get(OLD_STORE, &path, &Budget::of(CALL)).await?
            }
        };
        let copies: Vec<WholeOrder> = page.iter().take(most).cloned().collect();
        for (store, (_, taken)) in hand_over(caller, Side::New, copies.clone(), guard).await {
            match taken {
                Ok(taken) => {
                    for order in taken.refused {
                        tracing::warn!(%order, "its request made another order on the new side; it is not copied");
                    }
                }
                Err(error) => {
                    // What was read is written, once there is somebody to take it.
                    self.page = Some((progress.after, page));
                    return Err(Stuck::Target { store, error });
                }
            }
        }
        let behind = progress.behind(&copies);
        page.drain(..copies.len());
        self.page = Some((behind.after, page));
        Ok(behind)
    }
}
