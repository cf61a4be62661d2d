//! All rows that the audit looks at, read from the stores in one go.

use std::collections::{BTreeSet, HashMap};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row};

use super::cache::{self, Cached};
use super::coupons::{self, CouponRow};
use super::events::{self, Events};
use super::locks::{self, LockHistory};
use super::money::Money;
use super::stock::{self, Stock};
use super::told::{self, Told};
use super::virtual_goods::{self, VirtualGoods};
use crate::bus::Bus;
use crate::config::now_ms;
use crate::kv::Purpose;
use crate::kv::client::KvClients;
use crate::orders::Line;
use crate::roles::{eps, ers, ledger, rev, vgo};
use crate::store::{Place, Places};

/// A task postponed after a failure is still on its way: pauses are shorter than this.
const SOON_MS: i64 = 5_000;

/// Task rows whose work is due, or failed and is about to be tried again. Timers of the future are
/// at rest.
macro_rules! on_its_way {
    () => {
        "FROM tasks WHERE due_at_ms <= $1 OR (attempts > 0 AND due_at_ms <= $2)"
    };
}

/// The rows of a system. A part that could not be read is the reason why.
pub(crate) struct Books {
    pub(crate) users: Result<UserDimension, String>,
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
#[derive(Debug, Clone)]
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
    pub(crate) settled_at_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) order_id: i64,
    pub(crate) version: i64,
    pub(crate) from: Option<i64>,
    pub(crate) to: i64,
    pub(crate) kind: String,
    pub(crate) at_ms: i64,
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
    pub(crate) amount_fen: i64,
    pub(crate) state: i64,
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
pub(crate) type LedgerLine = (String, String, i64);

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
    /// Reads everything. The user dimension comes first: it is the master, and whatever the other
    /// files have beyond it came later.
    ///
    /// What became of events, and what is cached, comes before it: no consumer and no cache may know of what is not
    /// there. `broker` is one that is not among the stores, `kv` the key-value servers of a system that runs.
    pub(crate) async fn read(stores: &Places, broker: Option<&Bus>, kv: Option<&KvClients>) -> Self {
        Self::read_as_of(stores, broker, kv, now_ms()).await
    }

    /// As [`Self::read`], with what was due at a moment.
    pub(crate) async fn read_as_of(
        stores: &Places,
        broker: Option<&Bus>,
        kv: Option<&KvClients>,
        as_of_ms: i64,
    ) -> Self {
        let caches = kv.map(|kv| kv.of(Purpose::Cache));
        let cached = cache::read(caches).await.map_err(|error| format!("the caches cannot be read: {error}"));
        let bus = events::read(stores, broker, as_of_ms).await;
        let bus = bus.map_err(|error| format!("events cannot be read: {error}"));
        let told = named_part(told::read(stores).await, "an outbox");
        let users = async {
            let mut all = UserDimension { read_at_ms: as_of_ms, ..UserDimension::default() };
            for group in 0..2 {
                read_users(&stores.of(&format!("st-u{group}")), group, &mut all).await?;
            }
            Ok(all)
        };
        let users = named_part(users.await, "the user dimension");
        let wallets = named_part(read_wallets(&stores.of("eus")).await, "the wallet store");
        let settlements = named_part(read_settlements(&stores.of(ledger::STORE)).await, "the settlement store");
        let requests = named_part(read_requests(&stores.of(rev::STORE)).await, "the store of refunds");
        let virtual_goods = named_part(virtual_goods::read(&stores.of(vgo::STORE)).await, "the store of virtual goods");
        let coupons = named_part(coupons::read(&stores.of(eps::STORE)).await, "the coupon store");
        let stock = named_part(stock::read(&stores.of(ers::STORE)).await, "the stock store");
        let merchants = async {
            let mut all = MerchantDimension::default();
            for group in 0..2 {
                read_merchants(&stores.of(&format!("st-r{group}")), group, &mut all).await?;
            }
            Ok(all)
        };
        let merchants = named_part(merchants.await, "the merchant dimension");
        let locks = locks::read(stores, kv).await;
        Self {
            users,
            merchants,
            wallets,
            settlements,
            requests,
            virtual_goods,
            coupons,
            stock,
            bus,
            told,
            locks,
            cached,
        }
    }

    /// What the money invariants need.
    pub(crate) fn money(&self) -> Result<Money<'_>, &str> {
        match (&self.wallets, &self.settlements) {
            (Ok(wallets), Ok(settled)) => Ok(Money { wallets, settled }),
            (Err(why), _) | (_, Err(why)) => Err(why),
        }
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

fn named_part<T>(result: Result<T, sqlx::Error>, part: &str) -> Result<T, String> {
    result.map_err(|error| format!("{part} cannot be read: {error}"))
}

/// When an order changed last; `None` if there is none, or nobody can tell.
pub(crate) async fn last_change(stores: &Places) -> Option<i64> {
    let mut last = None;
    for group in 0..2 {
        let changed = async {
            let mut file = stores.of(&format!("st-u{group}")).reader().await?;
            let changed: Option<i64> =
                sqlx::query_scalar("SELECT max(updated_at_ms) FROM orders").fetch_one(&mut file).await?;
            file.close().await?;
            Ok::<_, sqlx::Error>(changed)
        };
        last = last.max(changed.await.ok()?);
    }
    last
}

/// What keeps the system of these stores from being at rest.
pub(crate) async fn pending(stores: &Places, broker: Option<&Bus>) -> Result<Pending, String> {
    let mut all = Pending::default();
    for group in 0..2 {
        let found = async {
            let mut file = stores.of(&format!("st-u{group}")).reader().await?;
            let found = read_pending(&mut file, now_ms()).await?;
            file.close().await?;
            Ok(found)
        };
        let found = named_part(found.await, "the user dimension")?;
        all.tasks += found.tasks;
        all.between += found.between;
    }
    let behind = async {
        let mut file = stores.of(rev::STORE).reader().await?;
        let behind: i64 =
            sqlx::query_scalar("SELECT count(*) FROM requests WHERE mirrored = 0").fetch_one(&mut file).await?;
        file.close().await?;
        Ok(behind)
    };
    all.between += named_part(behind.await, "the store of refunds")?;
    let goods = named_part(virtual_goods::read(&stores.of(vgo::STORE)).await, "the store of virtual goods")?;
    all.between += goods.under_way() as i64;
    all.events += named_part(told::waiting(stores).await, "an outbox")?;
    all.events += events::under_way(stores, broker).await.map_err(|error| format!("events cannot be read: {error}"))?;
    Ok(all)
}

async fn read_pending(file: &mut AnyConnection, at_ms: i64) -> Result<Pending, sqlx::Error> {
    let tasks = sqlx::query_scalar(concat!("SELECT count(*) ", on_its_way!()))
        .bind(at_ms)
        .bind(at_ms + SOON_MS)
        .fetch_one(&mut *file)
        .await?;
    let between =
        sqlx::query_scalar("SELECT count(*) FROM orders WHERE status IN (-3, -2)").fetch_one(&mut *file).await?;
    Ok(Pending { tasks, between, events: 0 })
}

macro_rules! order_columns {
    () => {
        "SELECT shard, order_id, user_id, restaurant_id, req_id, status, version, refund_status, \
         delivery_status, items_fen, delivery_fee_fen, discount_fen, total_fen, coupon_id, day, \
         number, updated_at_ms, lines, settled_at_ms, revision, created_at_ms FROM orders"
    };
}

fn order_row(row: &AnyRow, group: u16) -> Result<OrderRow, sqlx::Error> {
    let lines: Vec<Line> = serde_json::from_str(row.try_get(17)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(OrderRow {
        group,
        shard: row.try_get(0)?,
        order_id: row.try_get(1)?,
        user_id: row.try_get(2)?,
        restaurant_id: row.try_get(3)?,
        req_id: row.try_get(4)?,
        status: row.try_get(5)?,
        version: row.try_get(6)?,
        revision: row.try_get(19)?,
        refund_status: row.try_get(7)?,
        delivery_status: row.try_get(8)?,
        items_fen: row.try_get(9)?,
        delivery_fee_fen: row.try_get(10)?,
        discount_fen: row.try_get(11)?,
        total_fen: row.try_get(12)?,
        coupon_id: row.try_get(13)?,
        day: row.try_get(14)?,
        number: row.try_get(15)?,
        created_at_ms: row.try_get(20)?,
        updated_at_ms: row.try_get(16)?,
        settled_at_ms: row.try_get(18)?,
        portions: lines.iter().map(|line| line.quantity).sum(),
    })
}

async fn read_users(store: &Place, group: u16, all: &mut UserDimension) -> Result<(), sqlx::Error> {
    let mut file = store.reader().await?;
    // One transaction, one snapshot.
    let mut snapshot = file.begin().await?;
    let pending = read_pending(&mut snapshot, all.read_at_ms).await?;
    all.pending.tasks += pending.tasks;
    all.pending.between += pending.between;
    for row in sqlx::query(order_columns!()).fetch_all(&mut *snapshot).await? {
        all.orders.push(order_row(&row, group)?);
    }
    let events = sqlx::query("SELECT order_id, version, from_status, to_status, kind, at_ms FROM events")
        .fetch_all(&mut *snapshot)
        .await?;
    for row in events {
        all.events.push(EventRow {
            order_id: row.try_get(0)?,
            version: row.try_get(1)?,
            from: row.try_get(2)?,
            to: row.try_get(3)?,
            kind: row.try_get(4)?,
            at_ms: row.try_get(5)?,
        });
    }
    let payments = sqlx::query("SELECT payment_id, order_id, amount_fen, state FROM payments");
    for row in payments.fetch_all(&mut *snapshot).await? {
        all.payments.push(money_row(&row)?);
    }
    let refunds = sqlx::query("SELECT payment_id, order_id, amount_fen, state, source FROM refunds");
    for row in refunds.fetch_all(&mut *snapshot).await? {
        let MoneyRow { payment_id, order_id, amount_fen, state } = money_row(&row)?;
        all.refunds.push(RefundRow { payment_id, order_id, amount_fen, state, source: row.try_get(4)? });
    }
    let tables = [
        (&mut all.users_of, "SELECT order_id, user_id FROM order_users"),
        (&mut all.restaurants_of, "SELECT order_id, restaurant_id FROM order_restaurants"),
    ];
    for (mapped, query) in tables {
        for row in sqlx::query(query).fetch_all(&mut *snapshot).await? {
            mapped.insert(row.try_get(0)?, Mapped { group, key: row.try_get(1)? });
        }
    }
    let due: Vec<i64> = sqlx::query_scalar(concat!("SELECT DISTINCT order_id ", on_its_way!()))
        .bind(all.read_at_ms)
        .bind(all.read_at_ms + SOON_MS)
        .fetch_all(&mut *snapshot)
        .await?;
    all.in_motion.extend(due);
    snapshot.rollback().await?;
    file.close().await
}

fn money_row(row: &AnyRow) -> Result<MoneyRow, sqlx::Error> {
    Ok(MoneyRow {
        payment_id: row.try_get(0)?,
        order_id: row.try_get(1)?,
        amount_fen: row.try_get(2)?,
        state: row.try_get(3)?,
    })
}

async fn read_merchants(store: &Place, group: u16, all: &mut MerchantDimension) -> Result<(), sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    for row in sqlx::query(order_columns!()).fetch_all(&mut *snapshot).await? {
        all.orders.push(order_row(&row, group)?);
    }
    let slips = sqlx::query("SELECT restaurant_id, day, number FROM slips");
    for row in slips.fetch_all(&mut *snapshot).await? {
        all.slips.push(SlipRow { restaurant_id: row.try_get(0)?, day: row.try_get(1)?, number: row.try_get(2)? });
    }
    snapshot.rollback().await?;
    file.close().await
}

async fn read_wallets(store: &Place) -> Result<Wallets, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    let mut all = Wallets::default();
    let balances = sqlx::query("SELECT user_id, balance_fen FROM wallets");
    for row in balances.fetch_all(&mut *snapshot).await? {
        all.balances.push((row.try_get(0)?, row.try_get(1)?));
    }
    all.ledger = read_lines(&mut snapshot).await?;
    snapshot.rollback().await?;
    file.close().await?;
    Ok(all)
}

async fn read_lines(book: &mut AnyConnection) -> Result<Vec<LedgerLine>, sqlx::Error> {
    let lines = sqlx::query("SELECT txn, account, amount_fen FROM ledger").fetch_all(book).await?;
    lines.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

async fn read_settlements(store: &Place) -> Result<SettlementBook, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    let mut all = SettlementBook { ledger: read_lines(&mut snapshot).await?, ..SettlementBook::default() };
    let settlements =
        sqlx::query("SELECT order_id, restaurant_id, gross_fen, merchant_fen + fee_fen + rider_fen FROM settlements");
    for row in settlements.fetch_all(&mut *snapshot).await? {
        all.settlements.push(SettlementRow {
            order_id: row.try_get(0)?,
            restaurant_id: row.try_get(1)?,
            gross_fen: row.try_get(2)?,
            shares_fen: row.try_get(3)?,
        });
    }
    snapshot.rollback().await?;
    file.close().await?;
    Ok(all)
}

async fn read_requests(store: &Place) -> Result<Vec<RequestRow>, sqlx::Error> {
    let mut file = store.reader().await?;
    let query = sqlx::query("SELECT refund_no, order_id, amount_fen, state, mirrored FROM requests");
    let rows = query.fetch_all(&mut file).await?;
    file.close().await?;
    let request = |row: &AnyRow| {
        Ok(RequestRow {
            refund_no: row.try_get(0)?,
            order_id: row.try_get(1)?,
            amount_fen: row.try_get(2)?,
            state: row.try_get(3)?,
            mirrored: row.try_get::<i64, _>(4)? != 0,
        })
    };
    rows.iter().map(request).collect()
}
