//! Stock in the audit: its rows and I14, the identity of what was there, what is left, held and sold.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Connection, Row};

use super::Finding;
use super::books::UserDimension;
use crate::orders::lifecycle::Status;
use crate::store::Place;
use crate::store::stock::{RELEASED, RESERVED, SOLD};

/// A reservation without an order may stay this long: the sweep comes every few seconds.
const ORPHAN_MS: i64 = 30_000;

/// The restaurants' store.
#[derive(Default)]
pub(crate) struct Stock {
    /// (dish, opening, remaining).
    dishes: Vec<(i64, i64, i64)>,
    reservations: Vec<ReservationRow>,
}

struct ReservationRow {
    order_id: i64,
    dish_id: i64,
    quantity: i64,
    state: i64,
    reserved_at_ms: i64,
}

pub(super) async fn read(store: &Place) -> Result<Stock, sqlx::Error> {
    let mut file = store.reader().await?;
    let mut snapshot = file.begin().await?;
    let mut all = Stock::default();
    let dishes = sqlx::query("SELECT dish_id, opening, remaining FROM stock");
    for row in dishes.fetch_all(&mut *snapshot).await? {
        all.dishes.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let reservations = sqlx::query("SELECT order_id, dish_id, quantity, state, reserved_at_ms FROM reservations");
    for row in reservations.fetch_all(&mut *snapshot).await? {
        all.reservations.push(ReservationRow {
            order_id: row.try_get(0)?,
            dish_id: row.try_get(1)?,
            quantity: row.try_get(2)?,
            state: row.try_get(3)?,
            reserved_at_ms: row.try_get(4)?,
        });
    }
    snapshot.rollback().await?;
    file.close().await?;
    Ok(all)
}

/// Per dish: opening = remaining + reserved + sold, and none below zero. Per order: what it holds is what it ordered,
/// in the state that its life implies.
pub(super) fn identity(finding: &mut Finding, users: &UserDimension, stock: &Stock, quiet: bool) {
    let mut taken: HashMap<i64, i64> = HashMap::new();
    let mut held: BTreeMap<i64, Vec<&ReservationRow>> = BTreeMap::new();
    for row in &stock.reservations {
        if row.state != RELEASED {
            *taken.entry(row.dish_id).or_default() += row.quantity;
        }
        held.entry(row.order_id).or_default().push(row);
    }
    for (dish, opening, remaining) in &stock.dishes {
        finding.checked += 1;
        let taken = taken.remove(dish).unwrap_or(0);
        if remaining + taken != *opening || *remaining < 0 {
            finding.violate(|| format!("dish {dish}: {opening} at first, {remaining} left, {taken} reserved or sold"));
        }
    }
    for (dish, taken) in taken {
        finding.violate(|| format!("{taken} of dish {dish} are taken, which nobody had in stock"));
    }
    if !quiet {
        // Orders move while two stores are read; the sums above are of one store.
        return;
    }
    let accepted: HashSet<i64> = users
        .events
        .iter()
        .filter(|event| (event.from, event.to) == (Some(Status::Waiting.code()), Status::Accepted.code()))
        .map(|event| event.order_id)
        .collect();
    for order in &users.orders {
        let rows = held.remove(&order.order_id).unwrap_or_default();
        finding.checked += 1;
        let dead = Status::from_code(order.status).is_some_and(Status::is_dead);
        let expected = match (accepted.contains(&order.order_id), dead) {
            (true, _) => SOLD,
            (false, true) => RELEASED,
            (false, false) => RESERVED,
        };
        let (ordered, reserved): (i64, i64) = (order.portions, rows.iter().map(|row| row.quantity).sum());
        if ordered != reserved {
            finding.violate(|| format!("order {} is of {ordered} portions and took {reserved}", order.order_id));
        } else if let Some(row) = rows.iter().find(|row| row.state != expected) {
            finding.violate(|| {
                format!(
                    "order {} (status {}): dish {} has reservation state {}, expected {expected}",
                    order.order_id, order.status, row.dish_id, row.state
                )
            });
        }
    }
    for (order, rows) in held {
        let orphan = rows.iter().any(|row| {
            row.state == SOLD || (row.state == RESERVED && users.read_at_ms - row.reserved_at_ms > ORPHAN_MS)
        });
        if orphan {
            finding.violate(|| format!("stock is held for order {order}, which is none"));
        }
    }
}
