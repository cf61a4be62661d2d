//! Reads what the audit looks at, straight from the stores: a table at a time, row by row, each store in one snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Connection, Row};

use super::books::{
    Books, ChargeRow, EventRow, LedgerLine, Mapped, MerchantDimension, MoneyRow, OrderRow, Pending, RefundRow,
    RequestRow, SettlementBook, SettlementRow, SlipRow, UserDimension, Wallets, Watched,
};
use super::liveness::overdue;
use super::names::Names;
use super::{cache, coupons, events, locks, migration, online, registry, stock, told, virtual_goods};
use crate::bus::Bus;
use crate::config::now_ms;
use crate::ids::GROUPS;
use crate::kv::Purpose;
use crate::kv::client::KvClients;
use crate::orders::Line;
use crate::orders::change::TaskKind;
use crate::orders::event::event_id;
use crate::orders::service::user_store;
use crate::roles::eos_x::pauses_before;
use crate::roles::{auditor, eps, ers, eus, ledger, pay, rev, vgo};
use crate::store::{Place, Places};

/// A task postponed after a failure is still on its way: pauses are shorter than this.
const SOON_MS: i64 = 5_000;

/// How many rows are read at a stretch.
const YIELD_EVERY: u32 = 256;

/// Task rows whose work is due, or failed and is about to be tried again. Timers of the future are
/// at rest.
macro_rules! on_its_way {
    () => {
        "FROM tasks WHERE due_at_ms <= $1 OR (attempts > 0 AND due_at_ms <= $2)"
    };
}

impl Books {
    /// Reads everything. The user dimension comes before the other stores: it is the master, and whatever they have
    /// beyond it came later.
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
        let mut names = Names::default();
        let bus = events::read(stores, broker, as_of_ms, &mut names).await;
        let bus = bus.map_err(|error| format!("events cannot be read: {error}"));
        let told = named_part(told::read(stores, &mut names).await, "an outbox");
        let users = async {
            let mut all = UserDimension { read_at_ms: as_of_ms, ..UserDimension::default() };
            for store in migration::masters(stores).await? {
                read_users(stores, store, &mut all, &mut names).await?;
            }
            for group in 0..GROUPS {
                read_mapped(&stores.of(user_store(group)), group, &mut all).await?;
            }
            all.pending.tasks += migration::under_way(stores).await?;
            Ok(all)
        };
        let users = named_part(users.await, "the user dimension");
        let sides = named_part(migration::read(stores).await, "one side of the migration");
        let merchants = async {
            let mut all = MerchantDimension::default();
            for group in 0..2 {
                read_merchants(&stores.of(&format!("st-r{group}")), group, &mut all).await?;
            }
            Ok(all)
        };
        let places =
            [eus::STORE, ledger::STORE, rev::STORE, vgo::STORE, eps::STORE, ers::STORE, pay::STORE, auditor::STORE];
        let [wallets, settled, refunds, goods, bound, dishes, charges, watched] = places.map(|name| stores.of(name));
        // Each is on a thread of its own while it reads a file.
        let (wallets, settlements, requests, goods, coupons, stock, charges, watched, merchants) = tokio::join!(
            read_wallets(&wallets),
            read_settlements(&settled),
            read_requests(&refunds),
            virtual_goods::read(&goods),
            coupons::read(&bound),
            stock::read(&dishes),
            read_charges(&charges),
            read_watched(&watched),
            merchants,
        );
        Self {
            users,
            sides,
            merchants: named_part(merchants, "the merchant dimension"),
            wallets: named_part(wallets, "the wallet store"),
            settlements: named_part(settlements, "the settlement store"),
            requests: named_part(requests, "the store of refunds"),
            virtual_goods: named_part(goods, "the store of virtual goods"),
            coupons: named_part(coupons, "the coupon store"),
            stock: named_part(stock, "the stock store"),
            bus,
            told,
            cached,
            charges: named_part(charges, "the payment store"),
            watched: named_part(watched, "the auditor's store"),
            locks: locks::read(stores, kv).await,
        }
    }
}

fn named_part<T>(result: Result<T, sqlx::Error>, part: &str) -> Result<T, String> {
    result.map_err(|error| format!("{part} cannot be read: {error}"))
}

/// When an order changed last; `None` if there is none, or nobody can tell.
pub(crate) async fn last_change(stores: &Places) -> Option<i64> {
    let mut last = None;
    for store in migration::masters(stores).await.ok()? {
        let changed = async {
            let mut file = stores.of(store).reader().await?;
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
    for store in named_part(migration::masters(stores).await, "the course of the migration")? {
        let found = async {
            let mut file = stores.of(store).reader().await?;
            let found = read_pending(&mut file, now_ms()).await?;
            file.close().await?;
            Ok(found)
        };
        let found = named_part(found.await, "the user dimension")?;
        all.tasks += found.tasks;
        all.between += found.between;
    }
    all.tasks += named_part(migration::under_way(stores).await, "the failure log of the migration")?;
    let behind = async {
        let mut file = stores.of(rev::STORE).reader().await?;
        let behind: i64 =
            sqlx::query_scalar("SELECT count(*) FROM requests WHERE mirrored = 0").fetch_one(&mut file).await?;
        file.close().await?;
        Ok(behind)
    };
    all.between += named_part(behind.await, "the store of refunds")?;
    let goods = virtual_goods::count_under_way(&stores.of(vgo::STORE)).await;
    all.between += named_part(goods, "the store of virtual goods")?;
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

/// Request and lines are looked at in the user dimension only.
fn user_row(row: &AnyRow, group: u16) -> Result<OrderRow, sqlx::Error> {
    let lines: Vec<Line> = serde_json::from_str(row.try_get(17)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(OrderRow {
        req_id: row.try_get(4)?,
        portions: lines.iter().map(|line| line.quantity).sum(),
        lines_fen: lines.iter().map(|line| line.quantity * line.price_fen).sum(),
        ..order_row(row, group)?
    })
}

fn order_row(row: &AnyRow, group: u16) -> Result<OrderRow, sqlx::Error> {
    Ok(OrderRow {
        group,
        shard: row.try_get(0)?,
        order_id: row.try_get(1)?,
        user_id: row.try_get(2)?,
        restaurant_id: row.try_get(3)?,
        status: row.try_get(5)?,
        version: row.try_get(6)?,
        refund_status: row.try_get(7)?,
        delivery_status: row.try_get(8)?,
        items_fen: row.try_get(9)?,
        delivery_fee_fen: row.try_get(10)?,
        discount_fen: row.try_get(11)?,
        total_fen: row.try_get(12)?,
        coupon_id: row.try_get(13)?,
        day: row.try_get(14)?,
        number: row.try_get(15)?,
        updated_at_ms: row.try_get(16)?,
        settled_at_ms: row.try_get(18)?,
        revision: row.try_get(19)?,
        created_at_ms: row.try_get(20)?,
        ..OrderRow::default()
    })
}

/// Gives each row of a query as it comes, so that a table is in memory once.
pub(super) async fn each(
    rows: Query<'_, Any, AnyArguments>,
    connection: &mut AnyConnection,
    mut take: impl FnMut(&AnyRow) -> Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    let mut rows = rows.fetch(connection);
    let mut read = 0_u32;
    while let Some(row) = rows.try_next().await? {
        take(&row)?;
        read += 1;
        if read.is_multiple_of(YIELD_EVERY) {
            // Rows may come as fast as they are taken; whoever else is on this thread has a turn, too.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// All rows of a query on a store.
async fn all_of<T>(
    store: &Place,
    query: Query<'_, Any, AnyArguments>,
    row: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, sqlx::Error> {
    let (mut file, mut all) = (store.reader().await?, Vec::new());
    each(query, &mut file, |one| {
        all.push(row(one)?);
        Ok(())
    })
    .await?;
    file.close().await?;
    Ok(all)
}

async fn read_users(
    stores: &Places,
    store: &str,
    all: &mut UserDimension,
    names: &mut Names,
) -> Result<(), sqlx::Error> {
    let mut file = stores.of(store).reader().await?;
    // One transaction, one snapshot.
    let mut snapshot = file.begin().await?;
    let at_ms = all.read_at_ms;
    let pending = read_pending(&mut snapshot, at_ms).await?;
    all.pending.tasks += pending.tasks;
    all.pending.between += pending.between;
    each(sqlx::query(order_columns!()), &mut snapshot, |row| {
        all.orders.push(user_row(row, migration::group_in(store, row.try_get(0)?))?);
        Ok(())
    })
    .await?;
    let events = "SELECT order_id, version, from_status, to_status, at_ms, quote, quoted_fen, kind FROM events";
    each(sqlx::query(events), &mut snapshot, |row| {
        all.events.push(EventRow {
            order_id: row.try_get(0)?,
            version: row.try_get(1)?,
            from: row.try_get(2)?,
            to: row.try_get(3)?,
            kind: names.of(row.try_get(7)?),
            at_ms: row.try_get(4)?,
            quote: row.try_get::<Option<&str>, _>(5)?.map(quote_number).zip(row.try_get(6)?),
        });
        Ok(())
    })
    .await?;
    each(sqlx::query("SELECT payment_id, order_id, amount_fen, state FROM payments"), &mut snapshot, |row| {
        all.payments.push(money_row(row)?);
        Ok(())
    })
    .await?;
    each(sqlx::query("SELECT payment_id, order_id, amount_fen, state, source FROM refunds"), &mut snapshot, |row| {
        let MoneyRow { payment_id, order_id, amount_fen, state } = money_row(row)?;
        all.refunds.push(RefundRow { payment_id, order_id, amount_fen, state, source: row.try_get(4)? });
        Ok(())
    })
    .await?;
    let due = sqlx::query(concat!("SELECT DISTINCT order_id ", on_its_way!())).bind(at_ms).bind(at_ms + SOON_MS);
    each(due, &mut snapshot, |row| {
        all.in_motion.insert(row.try_get(0)?);
        Ok(())
    })
    .await?;
    read_waiting(&mut snapshot, all).await?;
    snapshot.rollback().await?;
    file.close().await
}

/// Whose orders with bare IDs are, which the sharded stores know in every phase of a migration. To be read after the orders,
/// because it is written before them.
async fn read_mapped(store: &Place, group: u16, all: &mut UserDimension) -> Result<(), sqlx::Error> {
    let mut file = store.reader().await?;
    let tables = [
        (&mut all.users_of, "SELECT order_id, user_id FROM order_users"),
        (&mut all.restaurants_of, "SELECT order_id, restaurant_id FROM order_restaurants"),
    ];
    for (mapped, query) in tables {
        each(sqlx::query(query), &mut file, |row| {
            mapped.insert(row.try_get(0)?, Mapped { group, key: row.try_get(1)? });
            Ok(())
        })
        .await?;
    }
    file.close().await
}

/// What has been due for too long.
async fn read_waiting(snapshot: &mut AnyConnection, all: &mut UserDimension) -> Result<(), sqlx::Error> {
    let at_ms = all.read_at_ms;
    let tasks = "SELECT task_id, order_id, kind, attempts, due_at_ms FROM tasks WHERE due_at_ms <= $1";
    each(sqlx::query(tasks).bind(at_ms), &mut *snapshot, |row| {
        let kind = TaskKind::from_code(row.try_get(2)?);
        let (task, order, attempts): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
        let what = format!("task {task} ({kind:?}) of order {order}, tried {attempts} times,");
        all.waiting.extend(overdue(&what, row.try_get(4)?, pauses_before(attempts), at_ms));
        Ok(())
    })
    .await?;
    let mut unsent = HashSet::new();
    each(sqlx::query("SELECT message_id FROM outbox WHERE state = 0"), snapshot, |row| {
        unsent.insert(row.try_get::<String, _>(0)?);
        Ok(())
    })
    .await?;
    if unsent.is_empty() {
        return Ok(());
    }
    for event in &all.events {
        let id = event_id(event.order_id, event.version);
        if unsent.contains(&id) {
            all.waiting.extend(overdue(&format!("event {id} in the outbox"), event.at_ms, 0, at_ms));
        }
    }
    Ok(())
}

/// The checksum that tells quotes apart; what is none is no quote's.
fn quote_number(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or(0)
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
    each(sqlx::query(order_columns!()), &mut snapshot, |row| {
        all.orders.push(order_row(row, group)?);
        Ok(())
    })
    .await?;
    each(sqlx::query("SELECT restaurant_id, day, number FROM slips"), &mut snapshot, |row| {
        all.slips.push(SlipRow { restaurant_id: row.try_get(0)?, day: row.try_get(1)?, number: row.try_get(2)? });
        Ok(())
    })
    .await?;
    snapshot.rollback().await?;
    file.close().await
}

async fn read_wallets(store: &Place) -> Result<Wallets, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    let mut all = Wallets::default();
    each(sqlx::query("SELECT user_id, balance_fen FROM wallets"), &mut snapshot, |row| {
        all.balances.push((row.try_get(0)?, row.try_get(1)?));
        Ok(())
    })
    .await?;
    all.ledger = read_lines(&mut snapshot).await?;
    snapshot.rollback().await?;
    file.close().await?;
    Ok(all)
}

async fn read_lines(book: &mut AnyConnection) -> Result<Vec<LedgerLine>, sqlx::Error> {
    // A name is in memory once: lines of a transaction follow each other, and there are few accounts for many lines.
    let (mut lines, mut accounts, mut last) = (Vec::new(), Names::default(), Arc::<str>::default());
    each(sqlx::query("SELECT txn, account, amount_fen FROM ledger ORDER BY line_no"), book, |row| {
        let (transaction, account): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        if *last != *transaction {
            last = transaction.into();
        }
        lines.push((Arc::clone(&last), accounts.of(account), row.try_get(2)?));
        Ok(())
    })
    .await?;
    Ok(lines)
}

async fn read_settlements(store: &Place) -> Result<SettlementBook, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    let mut all = SettlementBook { ledger: read_lines(&mut snapshot).await?, ..SettlementBook::default() };
    let settlements = "SELECT order_id, restaurant_id, gross_fen, merchant_fen + fee_fen + rider_fen FROM settlements";
    each(sqlx::query(settlements), &mut snapshot, |row| {
        all.settlements.push(SettlementRow {
            order_id: row.try_get(0)?,
            restaurant_id: row.try_get(1)?,
            gross_fen: row.try_get(2)?,
            shares_fen: row.try_get(3)?,
        });
        Ok(())
    })
    .await?;
    snapshot.rollback().await?;
    file.close().await?;
    Ok(all)
}

async fn read_requests(store: &Place) -> Result<Vec<RequestRow>, sqlx::Error> {
    let requests = "SELECT refund_no, order_id, req_id, amount_fen, state, arbitrated, mirrored FROM requests";
    all_of(store, sqlx::query(requests), |row| {
        Ok(RequestRow {
            refund_no: row.try_get(0)?,
            order_id: row.try_get(1)?,
            req_id: row.try_get(2)?,
            amount_fen: row.try_get(3)?,
            state: row.try_get(4)?,
            arbitrated: row.try_get::<i64, _>(5)? != 0,
            mirrored: row.try_get::<i64, _>(6)? != 0,
        })
    })
    .await
}

async fn read_charges(store: &Place) -> Result<Vec<ChargeRow>, sqlx::Error> {
    all_of(store, sqlx::query("SELECT payment_id, order_id, delivered, succeeded FROM charges"), |row| {
        Ok(ChargeRow {
            payment_id: row.try_get(0)?,
            order_id: row.try_get(1)?,
            heard: row.try_get::<i64, _>(2)? != 0,
            succeeded: row.try_get::<i64, _>(3)? != 0,
        })
    })
    .await
}

async fn read_watched(store: &Place) -> Result<Watched, sqlx::Error> {
    Ok(Watched { looks: registry::read(store).await?, firsts: online::firsts(store).await? })
}
