//! Order numbers: blocks of the durable sequence, one in use and one in reserve.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::service::user_store;
use crate::ids::RestaurantId;
use crate::ids::{OrderId, SlotHash, UserId};
use crate::rpc::{Budget, CallError, Caller};
use crate::store::user_dimension::SequenceBlock;

/// Numbers in a block.
const BLOCK: i64 = 1_000;
/// When fewer are left, the next block is fetched.
const REFILL_BELOW: i64 = BLOCK / 5;

/// Hands out order IDs without a call for each: with two blocks at hand the counter store may be
/// away for a while and nobody notices.
pub(crate) struct Sequence {
    caller: Caller,
    slot_hash: SlotHash,
    blocks: Mutex<Blocks>,
    low: Notify,
}

#[derive(Default)]
struct Blocks {
    current: Block,
    spare: Option<Block>,
}

#[derive(Default)]
struct Block {
    epoch: i64,
    numbers: Range<i64>,
}

impl From<SequenceBlock> for Block {
    fn from(block: SequenceBlock) -> Self {
        Self { epoch: block.epoch, numbers: block.first..block.first + block.count }
    }
}

impl Sequence {
    pub(crate) fn new(caller: Caller, slot_hash: SlotHash) -> Arc<Self> {
        Arc::new(Self { caller, slot_hash, blocks: Mutex::default(), low: Notify::new() })
    }

    async fn fetch(&self, budget: &Budget) -> Result<Block, CallError> {
        let block: SequenceBlock =
            self.caller.post(user_store(0), "/sequence", &json!({ "count": BLOCK }), budget).await?;
        Ok(block.into())
    }

    /// The next order ID for this user and restaurant.
    pub(crate) async fn take(
        &self,
        user_id: UserId,
        restaurant_id: RestaurantId,
        budget: &Budget,
    ) -> Result<OrderId, CallError> {
        let mut blocks = self.blocks.lock().await;
        let number = match blocks.current.numbers.next() {
            Some(number) => number,
            None => {
                blocks.current = match blocks.spare.take() {
                    Some(spare) => spare,
                    None => self.fetch(budget).await?,
                };
                blocks.current.numbers.next().unwrap_or_default()
            }
        };
        let left = blocks.current.numbers.end - blocks.current.numbers.start;
        if left < REFILL_BELOW && blocks.spare.is_none() {
            self.low.notify_one();
        }
        Ok(OrderId::compose(
            blocks.current.epoch,
            number,
            self.slot_hash.slot(user_id.0),
            self.slot_hash.slot(restaurant_id.0),
        ))
    }

    /// Fetches the spare block whenever the current one runs low.
    pub(crate) async fn keep_filled(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.low.notified() => {}
                () = stop.cancelled() => return,
            }
            if self.blocks.lock().await.spare.is_some() {
                continue;
            }
            match self.fetch(&Budget::of(Duration::from_secs(1))).await {
                Ok(block) => self.blocks.lock().await.spare = Some(block),
                // The next order asks again.
                Err(error) => tracing::warn!(%error, "no spare block of order numbers"),
            }
        }
    }
}
