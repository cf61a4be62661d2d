//! Order IDs: numbers from the counter store, in blocks of a thousand or one by one, and the ID that each becomes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::service::user_store;
use crate::ids::{IdLayout, OrderId, RestaurantId, SlotHash, Slots, UserId};
use crate::kv::Purpose;
use crate::kv::client::{KvClients, KvError};
use crate::rpc::{Budget, CallError, Caller, Failure};
use crate::store::sequence::{BLOCK, BlockClaim, BlockGrant};
use crate::switches::Generator;

/// When as many numbers of a block are used, the next one is fetched: 80 % are left at any time, which at 40 orders per
/// second is 20 s.
const REFILL_AFTER: i64 = BLOCK / 5;
/// The counter of blocks: where the last one ends.
const BLOCKS_KEY: &str = "order:blocks";
/// The counter of single numbers.
const NUMBER_KEY: &str = "order:number";
/// The epoch of single numbers in composed IDs. Nobody raises it.
const NO_EPOCH: i64 = 1;
/// How often a counter that is behind is moved on before an order gives up.
const ATTEMPTS: usize = 4;
/// Pause before a block that could not be fetched is asked for again.
const AGAIN: Duration = Duration::from_millis(100);
const FETCH_WITHIN: Duration = Duration::from_secs(1);
/// The user store that keeps which blocks are whose.
const KEEPER: u16 = 0;

/// Hands out order IDs.
pub(crate) struct OrderIds {
    caller: Caller,
    kv: KvClients,
    slot_hash: SlotHash,
    blocks: Mutex<Blocks>,
    low: Notify,
}

/// Why there is no number for an order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoNumber {
    #[error("there is no number for the order: {0}")]
    Counter(#[from] KvError),
    #[error("there is no number for the order: {0}")]
    Keeper(#[from] CallError),
    #[error("there is no number for the order: its counter is behind and others move it, too")]
    Behind,
}

impl From<NoNumber> for Failure {
    fn from(error: NoNumber) -> Self {
        Self::unavailable("no_order_number", error.to_string())
    }
}

/// One block in use and one in reserve.
#[derive(Debug, Default)]
struct Blocks {
    current: Block,
    spare: Option<Block>,
}

#[derive(Debug, Default)]
struct Block {
    epoch: i64,
    numbers: Range<i64>,
}

impl Blocks {
    /// The next number with its epoch.
    fn next(&mut self) -> Option<(i64, i64)> {
        if self.current.numbers.is_empty() {
            self.current = self.spare.take()?;
        }
        Some((self.current.epoch, self.current.numbers.next()?))
    }

    fn put(&mut self, block: Block) {
        if self.current.numbers.is_empty() {
            self.current = block;
        } else {
            self.spare = Some(block);
        }
    }

    fn is_empty(&self) -> bool {
        self.current.numbers.is_empty() && self.spare.is_none()
    }

    fn wants_another(&self) -> bool {
        let left = self.current.numbers.end - self.current.numbers.start;
        self.spare.is_none() && left <= BLOCK - REFILL_AFTER
    }
}

impl OrderIds {
    pub(crate) fn new(caller: Caller, kv: KvClients, slot_hash: SlotHash) -> Arc<Self> {
        Arc::new(Self { caller, kv, slot_hash, blocks: Mutex::default(), low: Notify::new() })
    }

    /// The next order ID for this user and restaurant.
    pub(crate) async fn take(
        &self,
        user_id: UserId,
        restaurant_id: RestaurantId,
        budget: &Budget,
    ) -> Result<OrderId, NoNumber> {
        let in_force = self.caller.in_force();
        let (epoch, number) = match in_force.generator {
            Generator::Block => self.next_of_block(budget).await?,
            Generator::Incr => (0, self.kv.of(Purpose::Id).add(NUMBER_KEY, 1).await?),
        };
        Ok(match in_force.id_layout {
            IdLayout::Bare => OrderId::bare(epoch, number),
            IdLayout::Composed => {
                let slots =
                    Slots { user: self.slot_hash.slot(user_id.0), merchant: self.slot_hash.slot(restaurant_id.0) };
                OrderId::compose(epoch.max(NO_EPOCH), number, slots)
            }
        })
    }

    async fn next_of_block(&self, budget: &Budget) -> Result<(i64, i64), NoNumber> {
        let mut blocks = self.blocks.lock().await;
        loop {
            if let Some(number) = blocks.next() {
                if blocks.wants_another() {
                    self.low.notify_one();
                }
                return Ok(number);
            }
            // Whoever comes now waits for this block.
            let block = self.fetch(budget).await?;
            blocks.put(block);
        }
    }

    /// A block that nobody else has: from the counter store, and put down durably as taken.
    async fn fetch(&self, budget: &Budget) -> Result<Block, NoNumber> {
        let kv = self.kv.of(Purpose::Id);
        for _ in 0..ATTEMPTS {
            let (life, last) = kv.add_in_life(BLOCKS_KEY, BLOCK).await?;
            let first = last - BLOCK + 1;
            let claim = BlockClaim { life, first };
            match self.caller.post(user_store(KEEPER), "/blocks", &claim, budget).await? {
                BlockGrant::Granted { epoch } => return Ok(Block { epoch, numbers: first..first + BLOCK }),
                BlockGrant::Behind { next } => {
                    tracing::info!(last, next, "the counter of order numbers is moved on");
                    kv.add(BLOCKS_KEY, next - 1 - last).await?;
                }
            }
        }
        Err(NoNumber::Behind)
    }

    /// Fetches blocks before they are needed.
    pub(crate) async fn keep_filled(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let waits = {
                let blocks = self.blocks.lock().await;
                !blocks.is_empty() && !blocks.wants_another()
            };
            if waits {
                tokio::select! {
                    () = self.low.notified() => {}
                    () = stop.cancelled() => return,
                }
                continue;
            }
            match self.fetch(&Budget::of(FETCH_WITHIN)).await {
                Ok(block) => self.blocks.lock().await.put(block),
                Err(error) => {
                    tracing::warn!(%error, "no further block of order numbers");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Waits until there is a block.
    pub(crate) async fn filled(&self) {
        while self.blocks.lock().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is in store, for `/debug/state`.
    pub(crate) fn describe(&self) -> serde_json::Value {
        // Whoever holds the blocks is fetching one.
        let Ok(blocks) = self.blocks.try_lock() else { return serde_json::json!({ "fetching": true }) };
        let left = |block: &Block| block.numbers.end - block.numbers.start;
        serde_json::json!({
            "epoch": blocks.current.epoch,
            "left": left(&blocks.current) + blocks.spare.as_ref().map_or(0, left),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: i64) -> Block {
        Block { epoch: 2, numbers: n * BLOCK + 1..(n + 1) * BLOCK + 1 }
    }

    #[test]
    fn an_outage_may_begin_at_any_moment_and_eight_hundred_numbers_are_left() {
        let left = |blocks: &Blocks| {
            let of = |block: &Block| block.numbers.end - block.numbers.start;
            of(&blocks.current) + blocks.spare.as_ref().map_or(0, of)
        };
        let mut blocks = Blocks::default();
        blocks.put(block(0));
        let (mut fetched, mut last) = (1, 0);
        for _ in 0..5_000 {
            assert!(left(&blocks) >= BLOCK - REFILL_AFTER, "{blocks:?}");
            let (_, number) = blocks.next().unwrap();
            assert_eq!(number, last + 1);
            last = number;
            if blocks.wants_another() {
                blocks.put(block(fetched));
                fetched += 1;
            }
        }
        assert!(!blocks.wants_another());
        let rest = left(&blocks);
        let more = std::iter::from_fn(|| blocks.next()).count();
        assert_eq!(i64::try_from(more).unwrap(), rest);
        assert!(blocks.is_empty() && blocks.wants_another());
    }
}
