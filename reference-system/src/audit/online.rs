//! The audit while the system runs: what is new since the last round, every five seconds, by the rules of I4 and I9. It finds
//! when something was broken first; the whole audit finds everything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Connection, Row};

use super::books::OrderRow;
use super::identity::routing;
use super::migration::group_in;
use super::reading::each;
use super::{Finding, Verdict};
use crate::config::now_ms;
use crate::ids::{GROUPS, SlotHash};
use crate::migration::OLD_STORE;
use crate::orders::routing::Dimension;
use crate::orders::service::{merchant_store, user_store};
use crate::population::OPENING_WALLET_FEN;
use crate::roles::{eus, ledger};
use crate::store::{Place, Places};

/// Part of the auditor's store. Repeatable.
macro_rules! online_tables {
    () => {
        "
CREATE TABLE IF NOT EXISTS first_violations (
  invariant TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, example TEXT NOT NULL
) WITHOUT ROWID;
"
    };
}
pub(crate) use online_tables;

/// A row of the user dimension may be committed this long after the time it is stamped with.
const COMMITTED_WITHIN_MS: i64 = 5_000;
/// And its copy in the merchant dimension. What comes later is the whole audit's.
const COPIED_WITHIN_MS: i64 = 30_000;

/// What the rounds have found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineView {
    /// How many rounds there were.
    pub rounds: u64,
    /// When the last one began, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long reading and checking has taken in all rounds, in milliseconds.
    pub busy_ms: u64,
    /// Each invariant of the subset: what was looked at since the auditor started, and how often it was broken.
    pub invariants: Vec<Finding>,
}

impl OnlineView {
    /// The worst verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.invariants.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown)
    }
}

/// Where reading has got to, and what was seen on the way.
pub(crate) struct Rounds {
    stores: Places,
    slot_hash: SlotHash,
    orders: Vec<OrderCursor>,
    books: [BookCursor; 2],
    routing: Finding,
    balance: Finding,
}

#[derive(Clone)]
struct OrderCursor {
    store: &'static str,
    dimension: Dimension,
    /// The newest creation that was read.
    newest_ms: i64,
    /// Orders that lie wrong, and are known to.
    known: BTreeSet<i64>,
}

#[derive(Clone)]
struct BookCursor {
    store: &'static str,
    line_no: i64,
    /// What user accounts have got and given in the lines read.
    users_fen: i64,
    /// Whether the wallets were known to be wrong.
    told: bool,
}

/// Lines of one transaction, which are written together.
#[derive(Default)]
struct Transaction {
    name: String,
    sum_fen: i64,
}

impl Rounds {
    /// `migration`: whether there is an old order table beside the sharded stores.
    pub(crate) fn new(stores: Places, slot_hash: SlotHash, migration: bool) -> Self {
        let users = (0..GROUPS).map(user_store).chain(migration.then_some(OLD_STORE));
        let users = users.map(|store| (store, Dimension::User));
        let merchants = (0..GROUPS).map(|group| (merchant_store(group), Dimension::Merchant));
        let order = |(store, dimension)| OrderCursor { store, dimension, newest_ms: 0, known: BTreeSet::new() };
        let book = |store| BookCursor { store, line_no: 0, users_fen: 0, told: false };
        Self {
            stores,
            slot_hash,
            orders: users.chain(merchants).map(order).collect(),
            books: [book(eus::STORE), book(ledger::STORE)],
            routing: Finding::new("I4", "Routing is true"),
            balance: Finding::new("I9", "Books balance"),
        }
    }

    /// Reads and checks what is new. A part that cannot be read is unknown until it can.
    pub(crate) async fn next(&mut self) -> [Finding; 2] {
        let (mut routing, mut balance) = (None, None);
        // What breaks off half-way is read again as a whole: the copy is put in place at the end only.
        for cursor in &mut self.orders {
            let (mut next, mut found) = (cursor.clone(), self.routing.clone());
            match next.catch_up(&self.stores, self.slot_hash, &mut found).await {
                Ok(()) => (*cursor, self.routing) = (next, found),
                Err(error) => routing = Some(format!("{} cannot be read: {error}", cursor.store)),
            }
        }
        for cursor in &mut self.books {
            let (mut next, mut found) = (cursor.clone(), self.balance.clone());
            match next.catch_up(&self.stores.of(cursor.store), &mut found).await {
                Ok(()) => (*cursor, self.balance) = (next, found),
                Err(error) => balance = Some(format!("the book of {} cannot be read: {error}", cursor.store)),
            }
        }
        [so_far(&self.routing, routing), so_far(&self.balance, balance)]
    }
}

/// What is known of an invariant, given that this round could not read everything.
fn so_far(finding: &Finding, unreadable: Option<String>) -> Finding {
    let mut finding = finding.clone();
    if let Some(why) = unreadable {
        finding.verdict = finding.verdict.max(Verdict::Unknown);
        finding.examples.push(why);
    }
    finding
}

impl OrderCursor {
    async fn catch_up(&mut self, stores: &Places, hash: SlotHash, found: &mut Finding) -> Result<(), sqlx::Error> {
        let mut file = stores.of(self.store).reader().await?;
        let behind = match self.dimension {
            Dimension::User => COMMITTED_WITHIN_MS,
            Dimension::Merchant => COPIED_WITHIN_MS,
        };
        let before = self.newest_ms;
        let rows = sqlx::query(
            "SELECT shard, order_id, user_id, restaurant_id, created_at_ms FROM orders WHERE created_at_ms > $1",
        );
        each(rows.bind(before - behind), &mut file, |row| {
            let shard = row.try_get(0)?;
            let order = OrderRow {
                group: group_in(self.store, shard),
                shard,
                order_id: row.try_get(1)?,
                user_id: row.try_get(2)?,
                restaurant_id: row.try_get(3)?,
                ..OrderRow::default()
            };
            let created_at_ms: i64 = row.try_get(4)?;
            self.newest_ms = self.newest_ms.max(created_at_ms);
            let mut one = Finding::new("I4", "");
            routing(&mut one, &order, hash, self.dimension);
            // Rows that were read before are looked at again and counted once.
            found.checked += u64::from(created_at_ms > before);
            if one.verdict == Verdict::Invalid && self.known.insert(order.order_id) {
                found.violate_at(now_ms(), || one.examples.concat());
            }
            Ok(())
        })
        .await?;
        file.close().await
    }
}

impl BookCursor {
    async fn catch_up(&mut self, place: &Place, found: &mut Finding) -> Result<(), sqlx::Error> {
        let mut file = place.reader().await?;
        // One snapshot: lines and wallets of one moment.
        let mut snapshot = file.begin().await?;
        let mut open = Transaction::default();
        let rows =
            sqlx::query("SELECT line_no, txn, account, amount_fen FROM ledger WHERE line_no > $1 ORDER BY line_no");
        each(rows.bind(self.line_no), &mut snapshot, |row| {
            let (name, account, amount_fen): (&str, &str, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            if open.name != name {
                open.end(found);
                open = Transaction { name: name.to_owned(), sum_fen: 0 };
            }
            open.sum_fen += amount_fen;
            if account.starts_with("user:") {
                self.users_fen += amount_fen;
            }
            self.line_no = row.try_get(0)?;
            Ok(())
        })
        .await?;
        open.end(found);
        if self.store == eus::STORE {
            self.compare_wallets(&mut snapshot, found).await?;
        }
        snapshot.rollback().await?;
        file.close().await
    }

    async fn compare_wallets(&mut self, snapshot: &mut AnyConnection, found: &mut Finding) -> Result<(), sqlx::Error> {
        let sums = sqlx::query("SELECT count(*), CAST(coalesce(sum(balance_fen), 0) AS BIGINT) FROM wallets")
            .fetch_one(snapshot)
            .await?;
        let (wallets, held_fen): (i64, i64) = (sums.try_get(0)?, sums.try_get(1)?);
        let expected_fen = wallets * OPENING_WALLET_FEN + self.users_fen;
        if held_fen != expected_fen && !self.told {
            found.violate_at(now_ms(), || {
                format!("{wallets} wallets hold {held_fen} fen; opening and ledger give {expected_fen}")
            });
        }
        self.told = held_fen != expected_fen;
        Ok(())
    }
}

impl Transaction {
    fn end(&self, found: &mut Finding) {
        if self.name.is_empty() {
            return;
        }
        found.checked += 1;
        if self.sum_fen != 0 {
            found.violate_at(now_ms(), || format!("transaction {} sums to {} fen", self.name, self.sum_fen));
        }
    }
}

/// When an invariant was broken first while the system ran, and how.
pub(super) type Firsts = BTreeMap<String, (i64, String)>;

pub(super) async fn firsts(store: &Place) -> Result<Firsts, sqlx::Error> {
    let mut file = store.reader().await?;
    let rows = sqlx::query("SELECT invariant, at_ms, example FROM first_violations").fetch_all(&mut file).await?;
    file.close().await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
}

/// Puts into the findings of a whole audit what the rounds saw.
pub(super) fn recall(findings: &mut [Finding], firsts: &Firsts) {
    for finding in findings {
        let Some((at_ms, example)) = firsts.get(&finding.id) else { continue };
        if finding.verdict == Verdict::Invalid {
            finding.first_seen_ms = Some(finding.first_seen_ms.map_or(*at_ms, |seen| seen.min(*at_ms)));
        } else {
            // It was broken, and is not any more.
            finding.violate_at(*at_ms, || example.clone());
        }
    }
}
