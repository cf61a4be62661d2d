//! Virtual goods in the audit: their rows and I25.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Connection, Row};

use super::Finding;
use super::books::Wallets;
use crate::roles::vgo::{DELIVERED, PAID};
use crate::store::Place;

/// A paid order has its cards after this long.
const DELIVERED_WITHIN_MS: i64 = 10_000;

/// The store of virtual goods.
#[derive(Default)]
pub(crate) struct VirtualGoods {
    pub(super) orders: Vec<VirtualOrderRow>,
    /// (order, quantity).
    extensions: Vec<(i64, i64)>,
    /// (card, order).
    cards: Vec<(String, i64)>,
}

pub(super) struct VirtualOrderRow {
    pub(super) vorder_id: i64,
    pub(super) user_id: i64,
    pub(super) req_id: String,
    pub(super) amount_fen: i64,
    pub(super) state: i64,
    under_way: bool,
    changed_at_ms: i64,
}

impl VirtualGoods {
    /// Orders that are paid, or may be, and not done.
    pub(super) fn under_way(&self) -> usize {
        self.orders.iter().filter(|order| order.under_way).count()
    }
}

/// As [`VirtualGoods::under_way`], without reading everything.
pub(super) async fn count_under_way(store: &Place) -> Result<i64, sqlx::Error> {
    let mut file = store.reader().await?;
    let count = sqlx::query_scalar("SELECT count(*) FROM vorders WHERE paying = 1").fetch_one(&mut file).await?;
    file.close().await?;
    Ok(count)
}

pub(super) async fn read(store: &Place) -> Result<VirtualGoods, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    let mut all = VirtualGoods::default();
    let orders =
        sqlx::query("SELECT vorder_id, user_id, req_id, amount_fen, state, paying, changed_at_ms FROM vorders");
    for row in orders.fetch_all(&mut *snapshot).await? {
        all.orders.push(VirtualOrderRow {
            vorder_id: row.try_get(0)?,
            user_id: row.try_get(1)?,
            req_id: row.try_get(2)?,
            amount_fen: row.try_get(3)?,
            state: row.try_get(4)?,
            under_way: row.try_get::<i64, _>(5)? != 0,
            changed_at_ms: row.try_get(6)?,
        });
    }
    for row in sqlx::query("SELECT vorder_id, quantity FROM vorder_extensions").fetch_all(&mut *snapshot).await? {
        all.extensions.push((row.try_get(0)?, row.try_get(1)?));
    }
    for row in sqlx::query("SELECT card_no, vorder_id FROM cards").fetch_all(&mut *snapshot).await? {
        all.cards.push((row.try_get(0)?, row.try_get(1)?));
    }
    snapshot.rollback().await?;
    file.close().await?;
    Ok(all)
}

/// I25: core and extension rows belong together, who has paid has the cards, and nobody has a card twice.
pub(super) fn check(finding: &mut Finding, goods: &VirtualGoods, wallets: &Wallets, read_at_ms: i64, quiet: bool) {
    let mut extensions: BTreeMap<i64, i64> = goods.extensions.iter().copied().collect();
    let mut seen = HashSet::new();
    let mut cards: HashMap<i64, i64> = HashMap::new();
    for (card, order) in &goods.cards {
        *cards.entry(*order).or_default() += 1;
        if !seen.insert(card) {
            finding.violate(|| format!("card {card} was delivered twice"));
        }
    }
    let mut purchases: HashMap<&str, i64> = HashMap::new();
    for (transaction, account, amount) in &wallets.ledger {
        if account.starts_with("seller:") {
            *purchases.entry(transaction).or_default() += amount;
        }
    }
    for order in &goods.orders {
        finding.checked += 1;
        let id = order.vorder_id;
        let paid = purchases.remove(format!("v{id}:purchase").as_str()).unwrap_or(0);
        let Some(quantity) = extensions.remove(&id) else {
            finding.violate(|| format!("virtual order {id} has no extension row"));
            continue;
        };
        let (has, wants) = (cards.remove(&id).unwrap_or(0), if order.state >= DELIVERED { quantity } else { 0 });
        if has != wants {
            finding.violate(|| format!("virtual order {id} (state {}) has {has} cards, not {wants}", order.state));
        }
        if order.state == PAID && read_at_ms - order.changed_at_ms > DELIVERED_WITHIN_MS {
            finding.violate(|| format!("virtual order {id} is paid and has no cards after 10 s"));
        }
        let expected = if order.state >= PAID { order.amount_fen } else { 0 };
        // While it is under way, the money may be a step ahead.
        if quiet && !order.under_way && paid != expected {
            finding.violate(|| {
                format!("virtual order {id} (state {}): the seller has {paid} fen, not {expected}", order.state)
            });
        }
    }
    for (order, _) in extensions {
        finding.violate(|| format!("an extension row belongs to virtual order {order}, which is none"));
    }
    for order in cards.keys() {
        finding.violate(|| format!("cards were delivered for virtual order {order}, which is none"));
    }
    // Without rest, the order may have been made after its store was read.
    for (transaction, paid) in purchases.into_iter().filter(|_| quiet) {
        finding.violate(|| format!("the seller has {paid} fen by {transaction}, which is no virtual order's"));
    }
}
