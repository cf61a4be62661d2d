//! Both dimensions in the audit: that they say the same of every order (I5), and that creations, orders and copies are as
//! many (C4).
//!
//! Rows are not compared one by one: each shard has a checksum on either side, and only where two differ it is told which
//! orders are the reason.

use std::collections::{BTreeMap, HashSet};

use super::Finding;
use super::books::{OrderRow, UserDimension};
use super::invariants::READ_MARGIN_MS;
use crate::ids::{SHARDS, SlotHash, mix64, shard};

/// What both dimensions must say of an order.
type Facts = (i64, i64, i64, i64, i64, i64, i64);

fn facts(row: &OrderRow) -> Facts {
    (row.status, row.version, row.user_id, row.restaurant_id, row.total_fen, row.refund_status, row.delivery_status)
}

/// How many orders, what they cost, and a hash of the facts of each: equal for equal sets of rows, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Checksum {
    orders: u64,
    total_fen: i64,
    facts: u64,
}

impl Checksum {
    fn add(&mut self, row: &OrderRow) {
        let (status, version, user, restaurant, total, refund, delivery) = facts(row);
        let parts = [row.order_id, status, version, user, restaurant, total, refund, delivery];
        self.orders += 1;
        self.total_fen = self.total_fen.wrapping_add(total);
        self.facts ^= parts.into_iter().fold(0, |hash, part| mix64(hash ^ part as u64));
    }
}

/// By home shard of each row's user, and of its restaurant.
#[derive(PartialEq, Eq)]
struct Checksums {
    by_user: Vec<Checksum>,
    by_restaurant: Vec<Checksum>,
}

impl Checksums {
    fn of<'a>(rows: impl Iterator<Item = &'a OrderRow>, hash: SlotHash) -> Self {
        let none = || vec![Checksum::default(); usize::from(SHARDS)];
        let mut all = Self { by_user: none(), by_restaurant: none() };
        for row in rows {
            all.by_user[usize::from(shard(hash.slot(row.user_id)))].add(row);
            all.by_restaurant[usize::from(shard(hash.slot(row.restaurant_id)))].add(row);
        }
        all
    }
}

/// I5. What is still on its way is the matter of I24.
pub(super) fn agree(finding: &mut Finding, users: &UserDimension, merchants: &[OrderRow], hash: SlotHash, quiet: bool) {
    // Without rest, what changed while the files were read differs for that reason alone.
    let moved = |row: &&OrderRow| !quiet && row.updated_at_ms >= users.read_at_ms - READ_MARGIN_MS;
    let mut skipped: HashSet<i64> = users.in_motion.iter().copied().collect();
    skipped.extend(users.orders.iter().chain(merchants).filter(moved).map(|row| row.order_id));
    let counts = |row: &&OrderRow| !skipped.contains(&row.order_id);
    let ours = Checksums::of(users.orders.iter().filter(counts), hash);
    let theirs = Checksums::of(merchants.iter().filter(counts), hash);
    finding.checked += ours.by_user.iter().map(|sum| sum.orders).sum::<u64>();
    if ours == theirs {
        return;
    }
    let differs = |row: &&OrderRow| {
        let home = usize::from(shard(hash.slot(row.user_id)));
        ours.by_user[home] != theirs.by_user[home]
    };
    let mut copies: BTreeMap<i64, &OrderRow> =
        merchants.iter().filter(counts).filter(differs).map(|row| (row.order_id, row)).collect();
    for row in users.orders.iter().filter(counts).filter(differs) {
        match copies.remove(&row.order_id) {
            None => finding.violate(|| format!("order {} has no merchant row", row.order_id)),
            Some(copy) if facts(copy) != facts(row) => finding.violate(|| {
                format!(
                    "order {}: user row {:?}, merchant row {:?} \
                     (status, version, user, restaurant, total, refund, delivery)",
                    row.order_id,
                    facts(row),
                    facts(copy)
                )
            }),
            Some(_) => {}
        }
    }
    for copy in copies.into_values() {
        finding.violate(|| format!("order {} has no user row", copy.order_id));
    }
    if finding.violations > 0 {
        return;
    }
    // Every order has its like, and yet: one of them is there more than once.
    let by_user = ours.by_user.iter().zip(&theirs.by_user).zip(0..).map(|pair| ("user", pair));
    let by_restaurant = ours.by_restaurant.iter().zip(&theirs.by_restaurant).zip(0..).map(|pair| ("merchant", pair));
    for (dimension, ((ours, theirs), shard)) in by_user.chain(by_restaurant) {
        if ours != theirs {
            finding.violate(|| {
                format!(
                    "{dimension} shard {shard}: {} orders of {} fen in the user dimension, {} of {} fen in the merchant's",
                    ours.orders, ours.total_fen, theirs.orders, theirs.total_fen
                )
            });
        }
    }
}

/// C4: as many orders as copies as creations. How many a load was promised, its history says.
pub(super) fn count(finding: &mut Finding, users: &UserDimension, merchants: &[OrderRow]) {
    let created = users.events.iter().filter(|event| event.from.is_none()).count();
    finding.checked += 1;
    if users.orders.len() != merchants.len() || users.orders.len() != created {
        finding.violate(|| {
            format!("{} orders, {} merchant rows, {created} creations", users.orders.len(), merchants.len())
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(order_id: i64) -> OrderRow {
        OrderRow {
            order_id,
            user_id: order_id % 7,
            restaurant_id: order_id % 5,
            total_fen: 100,
            version: 1,
            ..OrderRow::default()
        }
    }

    fn violations(users: Vec<OrderRow>, merchants: &[OrderRow]) -> u64 {
        let mut finding = Finding::new("I5", "");
        let users = UserDimension { orders: users, ..UserDimension::default() };
        agree(&mut finding, &users, merchants, SlotHash::default(), true);
        finding.violations
    }

    proptest! {
        #[test]
        fn equal_rows_in_any_order_agree_and_each_difference_is_one_violation(
            count in 1_i64..200, spoilt in 0_i64..200, field in 0..4_u8,
        ) {
            let rows: Vec<OrderRow> = (0..count).map(row).collect();
            let mut copies = rows.clone();
            copies.reverse();
            prop_assert_eq!(violations(rows.clone(), &copies), 0);
            let index = (spoilt % count) as usize;
            match field {
                0 => copies[index].version += 1,
                1 => copies[index].total_fen -= 1,
                2 => copies[index].restaurant_id += 1,
                _ => drop(copies.remove(index)),
            }
            prop_assert_eq!(violations(rows, &copies), 1);
        }
    }

    #[test]
    fn a_row_that_is_there_twice_is_told_by_its_shard() {
        let rows = vec![row(1), row(2)];
        let copies = [row(1), row(2), row(2)];
        let mut finding = Finding::new("I5", "");
        let users = UserDimension { orders: rows, ..UserDimension::default() };
        agree(&mut finding, &users, &copies, SlotHash::default(), true);
        assert_eq!(finding.violations, 2, "{finding:#?}");
        assert!(finding.examples[0].contains("shard"), "{finding:#?}");
    }
}
