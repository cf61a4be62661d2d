//! All rows that the audit looks at. Reading them from the stores is next door.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::cache::Cached;
use super::coupons::CouponRow;
use super::events::Events;
use super::locks::LockHistory;
use super::migration::Sides;
use super::money::Money;
use super::online::Firsts;
use super::registry::Looks;
use super::stock::Stock;
use super::told::Told;
use super::virtual_goods::VirtualGoods;

/// The rows of a system. A part that could not be read is the reason why.
pub(crate) struct Books {
    pub(crate) users: Result<UserDimension, String>,
    /// In a system with an old order table.
    pub(crate) sides: Result<Option<Sides>, String>,
    pub(crate) merchants: Result<MerchantDimension, String>,
    pub(crate) wallets: Result<Wallets, String>,
    pub(crate) settlements: Result<SettlementBook, String>,
    pub(crate) requests: Result<Vec<RequestRow>, String>,
    pub(crate) virtual_goods: Result<VirtualGoods, String>,
    pub(crate) coupons: Result<Vec<CouponRow>, String>,
    pub(crate) stock: Result<Stock, String>,
    pub(crate) bus: Result<Events, String>,
    pub(crate) locks: Result<LockHistory, String>,
    pub(crate) told: Result<Told, String>,
    pub(crate) cached: Result<Cached, String>,
    pub(crate) charges: Result<Vec<ChargeRow>, String>,
    /// What the auditor saw while the system ran.
    pub(crate) watched: Result<Watched, String>,
}

/// What the auditor saw while the system ran.
#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) looks: Looks,
    pub(super) firsts: Firsts,
}

/// A charge as the payment service knows it.
#[derive(Debug, Clone)]
pub(crate) struct ChargeRow {
    pub(crate) payment_id: String,
    pub(crate) order_id: i64,
    /// Whether the order service has acknowledged its callback.
    pub(crate) heard: bool,
    pub(crate) succeeded: bool,
}

#[derive(Default)]
pub(crate) struct UserDimension {
    pub(crate) orders: Vec<OrderRow>,
    pub(crate) events: Vec<EventRow>,
    pub(crate) payments: Vec<MoneyRow>,
    pub(crate) refunds: Vec<RefundRow>,
    /// Orders with task rows that are due: what they imply is still on its way.
    pub(crate) in_motion: BTreeSet<i64>,
    pub(crate) pending: Pending,
    /// Whose orders with bare IDs are, by the mapping tables.
    pub(crate) users_of: HashMap<i64, Mapped>,
    pub(crate) restaurants_of: HashMap<i64, Mapped>,
    /// What has been due for too long.
    pub(crate) waiting: Vec<String>,
    /// When reading began, in milliseconds since 1970.
    pub(crate) read_at_ms: i64,
}

/// What keeps a system from being at rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Task rows that are due.
    pub(crate) tasks: i64,
    /// Orders that wait for another service (paying, paid), and refunds that an order does not know yet.
    pub(crate) between: i64,
    /// Events that wait in outboxes and queues, and timers that are due.
    pub(crate) events: i64,
}

impl Pending {
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

#[derive(Default)]
pub(crate) struct MerchantDimension {
    pub(crate) orders: Vec<OrderRow>,
    pub(crate) slips: Vec<SlipRow>,
}

/// A number that a kitchen gave away.
#[derive(Debug, Clone)]
pub(crate) struct SlipRow {
    pub(crate) restaurant_id: i64,
    pub(crate) day: i64,
    pub(crate) number: i64,
}

/// What a mapping table says of an order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapped {
    /// Which group's file says so.
    pub(crate) group: u16,
    /// The user or the restaurant.
    pub(crate) key: i64,
}

/// An order row of either dimension, as far as the invariants need it.
#[derive(Debug, Clone, Default)]
pub(crate) struct OrderRow {
    /// Which group's file it lies in.
    pub(crate) group: u16,
    /// Which shard it lies in.
    pub(crate) shard: i64,
    pub(crate) order_id: i64,
    pub(crate) user_id: i64,
    pub(crate) restaurant_id: i64,
    pub(crate) req_id: String,
    pub(crate) status: i64,
    pub(crate) version: i64,
    pub(crate) revision: i64,
    pub(crate) refund_status: i64,
    pub(crate) delivery_status: i64,
    pub(crate) items_fen: i64,
    pub(crate) delivery_fee_fen: i64,
    pub(crate) discount_fen: i64,
    pub(crate) total_fen: i64,
    pub(crate) coupon_id: Option<i64>,
    pub(crate) day: Option<i64>,
    pub(crate) number: Option<i64>,
    pub(crate) created_at_ms: i64,
    pub(crate) updated_at_ms: i64,
    /// How many dishes its lines add up to.
    pub(crate) portions: i64,
    /// What its lines cost.
    pub(crate) lines_fen: i64,
    pub(crate) settled_at_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) order_id: i64,
    pub(crate) version: i64,
    pub(crate) from: Option<i64>,
    pub(crate) to: i64,
    pub(crate) kind: Arc<str>,
    pub(crate) at_ms: i64,
    /// Of a creation: the quote that it was made under, and its total.
    pub(crate) quote: Option<(u64, i64)>,
}

#[derive(Debug, Clone)]
pub(crate) struct MoneyRow {
    pub(crate) payment_id: String,
    pub(crate) order_id: i64,
    pub(crate) amount_fen: i64,
    pub(crate) state: i64,
}

/// A refund as the reverse flow knows it.
#[derive(Debug, Clone)]
pub(crate) struct RequestRow {
    pub(crate) refund_no: i64,
    pub(crate) order_id: i64,
    pub(crate) req_id: String,
    pub(crate) amount_fen: i64,
    pub(crate) state: i64,
    /// It has been, or is, in arbitration.
    pub(crate) arbitrated: bool,
    pub(crate) mirrored: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct RefundRow {
    pub(crate) payment_id: String,
    pub(crate) order_id: i64,
    pub(crate) amount_fen: i64,
    /// [`crate::orders::change::RefundSource`].
    pub(crate) source: i64,
    pub(crate) state: i64,
}

/// (transaction, account, amount).
pub(crate) type LedgerLine = (Arc<str>, Arc<str>, i64);

/// The settlement service's book.
#[derive(Default)]
pub(crate) struct SettlementBook {
    pub(crate) settlements: Vec<SettlementRow>,
    pub(crate) ledger: Vec<LedgerLine>,
}

#[derive(Debug, Clone)]
pub(crate) struct SettlementRow {
    pub(crate) order_id: i64,
    pub(crate) restaurant_id: i64,
    pub(crate) gross_fen: i64,
    /// Merchant, fee and rider together.
    pub(crate) shares_fen: i64,
}

#[derive(Default)]
pub(crate) struct Wallets {
    /// (user, balance).
    pub(crate) balances: Vec<(i64, i64)>,
    pub(crate) ledger: Vec<LedgerLine>,
}

impl Books {
    /// What the money invariants need.
    pub(crate) fn money(&self) -> Result<Money<'_>, &str> {
        match (&self.wallets, &self.settlements) {
            (Ok(wallets), Ok(settled)) => Ok(Money { wallets, settled }),
            (Err(why), _) | (_, Err(why)) => Err(why),
        }
    }

    /// Why nobody can say whether the system is at rest.
    pub(crate) fn rest_is_unknown(&self) -> Option<&str> {
        [
            self.users.as_ref().err(),
            self.requests.as_ref().err(),
            self.virtual_goods.as_ref().err(),
            self.bus.as_ref().err(),
            self.told.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .next()
        .map(String::as_str)
    }

    /// Whether nothing was on its way when the books were read.
    pub(crate) fn is_quiet(&self) -> bool {
        let mirrored = self.requests.as_ref().is_ok_and(|requests| requests.iter().all(|request| request.mirrored));
        let delivered = self.virtual_goods.as_ref().is_ok_and(|goods| goods.under_way() == 0);
        let arrived = self.bus.as_ref().is_ok_and(|bus| bus.queued == 0 && bus.due == 0);
        let sent = self.told.as_ref().is_ok_and(|told| told.waiting == 0);
        mirrored && delivered && sent && arrived && self.users.as_ref().is_ok_and(|users| users.pending.is_none())
    }
}
