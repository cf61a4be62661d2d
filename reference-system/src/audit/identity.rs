//! Who is who: IDs are unique (I3), rows lie where their keys say and are found (I4), and kitchen numbers are given once
//! and in a row (I15, C1).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Finding;
use super::books::{MerchantDimension, OrderRow, SlipRow, UserDimension};
use crate::ids::{IdLayout, OrderId, SlotHash, group, shard};
use crate::orders::routing::Dimension;
use crate::rpc::resending::request_of;

/// I3.
pub(super) fn one_request_one_order(finding: &mut Finding, users: &UserDimension) {
    let mut requests = HashMap::new();
    let mut ids = HashSet::new();
    let mut numbers = HashMap::new();
    for row in &users.orders {
        finding.checked += 1;
        if let Some(other) = requests.insert((row.user_id, request_of(&row.req_id)), row.order_id) {
            finding.violate(|| format!("request {} made orders {other} and {}", request_of(&row.req_id), row.order_id));
        }
        let id = OrderId(row.order_id);
        if let Some((key, owner)) = points_elsewhere(users, row) {
            finding.violate(|| {
                format!("order {id} of {key} {} is not found by its ID, which points to {owner}", own(row, key))
            });
        }
        if !ids.insert(row.order_id) {
            finding.violate(|| format!("order {id} exists twice"));
            continue;
        }
        if let Some(other) = numbers.insert((id.epoch(), id.sequence()), row.order_id) {
            finding.violate(|| {
                format!("orders {other} and {id} share sequence number {} of epoch {}", id.sequence(), id.epoch())
            });
        }
    }
}

fn own(row: &OrderRow, key: &str) -> i64 {
    if key == "user" { row.user_id } else { row.restaurant_id }
}

/// Where the mapping tables have a row's ID with another key: which key, and whose it is there.
fn points_elsewhere(users: &UserDimension, row: &OrderRow) -> Option<(&'static str, i64)> {
    if OrderId(row.order_id).layout() == IdLayout::Composed {
        return None;
    }
    let tables = [
        ("user", users.users_of.get(&row.order_id), row.user_id),
        ("restaurant", users.restaurants_of.get(&row.order_id), row.restaurant_id),
    ];
    tables
        .into_iter()
        .find_map(|(key, mapped, id)| mapped.filter(|mapped| mapped.key != id).map(|mapped| (key, mapped.key)))
}

/// I4, for one row of either dimension.
pub(super) fn routing(finding: &mut Finding, row: &OrderRow, slot_hash: SlotHash, dimension: Dimension) {
    finding.checked += 1;
    let id = OrderId(row.order_id);
    let (user, merchant) = (slot_hash.slot(row.user_id), slot_hash.slot(row.restaurant_id));
    if let Some(slots) = id.slots()
        && (slots.user, slots.merchant) != (user, merchant)
    {
        finding.violate(|| {
            format!("order {id} carries slots ({}, {}), its keys have ({user}, {merchant})", slots.user, slots.merchant)
        });
        return;
    }
    let (name, slot) = match dimension {
        Dimension::User => ("user", user),
        Dimension::Merchant => ("merchant", merchant),
    };
    let home = shard(slot);
    if row.shard != i64::from(home) || row.group != group(home) {
        finding.violate(|| {
            format!(
                "order {id} lies in {name} shard {} of group {}, its home is {home} of {}",
                row.shard,
                row.group,
                group(home)
            )
        });
    }
}

/// I4, for the ID of a row of the user dimension that carries no keys: tables must have it, where they are looked for.
pub(super) fn is_mapped(finding: &mut Finding, users: &UserDimension, row: &OrderRow, slot_hash: SlotHash) {
    let id = OrderId(row.order_id);
    if id.layout() == IdLayout::Composed {
        return;
    }
    finding.checked += 1;
    let home = group(slot_hash.mapping_shard(id));
    for (key, table) in [("user", &users.users_of), ("restaurant", &users.restaurants_of)] {
        if table.get(&row.order_id).is_none_or(|mapped| mapped.group != home) {
            finding.violate(|| format!("order {id} carries no keys, and group {home} does not know its {key}"));
        }
    }
}

/// Numbers by restaurant and day, each with the order that has it.
type Days = BTreeMap<(i64, i64), Vec<(i64, i64)>>;

fn printed(merchants: &[OrderRow]) -> Days {
    let mut days = Days::new();
    for row in merchants {
        if let (Some(day), Some(number)) = (row.day, row.number) {
            days.entry((row.restaurant_id, day)).or_default().push((number, row.order_id));
        }
    }
    days
}

/// I15: no two orders of a restaurant's day have the same number.
pub(super) fn kitchen_numbers(finding: &mut Finding, merchants: &[OrderRow]) {
    for ((restaurant, day), numbers) in printed(merchants) {
        let mut slips = HashMap::new();
        for (number, order) in numbers {
            finding.checked += 1;
            if let Some(other) = slips.insert(number, order) {
                finding.violate(|| {
                    format!("restaurant {restaurant} has number {number} of day {day} on orders {other} and {order}")
                });
            }
        }
    }
}

/// I15: the numbers that nobody has are no more than the creates that failed, or of which nobody knows. A number that was
/// given to an order which took another way meanwhile is no gap.
pub(super) fn kitchen_gaps(finding: &mut Finding, merchants: &MerchantDimension, allowed: usize) {
    let mut given: BTreeMap<(i64, i64), BTreeSet<i64>> = BTreeMap::new();
    for (day, numbers) in printed(&merchants.orders) {
        given.entry(day).or_default().extend(numbers.into_iter().map(|(number, _)| number));
    }
    for slip in &merchants.slips {
        given.entry((slip.restaurant_id, slip.day)).or_default().insert(slip.number);
    }
    let gaps = |numbers: &BTreeSet<i64>| numbers.last().copied().unwrap_or(0) - numbers.len() as i64;
    let all: i64 = given.values().map(gaps).sum();
    if all <= i64::try_from(allowed).unwrap_or(i64::MAX) {
        return;
    }
    for ((restaurant, day), numbers) in given.iter().filter(|(_, numbers)| gaps(numbers) > 0) {
        finding.violate(|| {
            format!(
                "restaurant {restaurant} skipped {} numbers of day {day}; {allowed} creates failed or are unknown",
                gaps(numbers)
            )
        });
    }
}

/// C1: a restaurant's count of the day is not behind its numbers, and there are as many numbers as numbered orders.
pub(super) fn counted(finding: &mut Finding, merchants: &MerchantDimension) {
    let mut counters: HashMap<(i64, i64), i64> = HashMap::new();
    for SlipRow { restaurant_id, day, number } in &merchants.slips {
        let counter = counters.entry((*restaurant_id, *day)).or_default();
        *counter = (*counter).max(*number);
    }
    for ((restaurant, day), numbers) in printed(&merchants.orders) {
        finding.checked += 1;
        let highest = numbers.iter().map(|(number, _)| *number).max().unwrap_or(0);
        let counter = counters.get(&(restaurant, day)).copied().unwrap_or(0);
        if counter < highest {
            finding.violate(|| {
                format!("restaurant {restaurant} counted {counter} orders on day {day}, and printed number {highest}")
            });
        }
        let distinct: BTreeSet<i64> = numbers.iter().map(|(number, _)| *number).collect();
        if distinct.len() != numbers.len() {
            finding.violate(|| {
                format!(
                    "restaurant {restaurant} has {} orders of day {day} with {} numbers",
                    numbers.len(),
                    distinct.len()
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::books::Mapped;
    use crate::ids::Slots;

    const HASH: SlotHash = SlotHash::Mix64;

    fn row(order_id: OrderId, user_id: i64, restaurant_id: i64) -> OrderRow {
        let home = shard(HASH.slot(user_id));
        OrderRow {
            group: group(home),
            shard: i64::from(home),
            order_id: order_id.0,
            user_id,
            restaurant_id,
            req_id: format!("r-{order_id}-{user_id}"),
            status: 0,
            version: 3,
            revision: 3,
            created_at_ms: 0,
            refund_status: 0,
            delivery_status: 0,
            items_fen: 0,
            delivery_fee_fen: 0,
            discount_fen: 0,
            total_fen: 0,
            coupon_id: None,
            day: Some(1),
            number: Some(1),
            updated_at_ms: 0,
            portions: 0,
            lines_fen: 0,
            settled_at_ms: None,
        }
    }

    fn composed(epoch: i64, sequence: i64, user: i64, restaurant: i64) -> OrderRow {
        let slots = Slots { user: HASH.slot(user), merchant: HASH.slot(restaurant) };
        row(OrderId::compose(epoch, sequence, slots), user, restaurant)
    }

    fn told(rule: impl FnOnce(&mut Finding)) -> Vec<String> {
        let mut finding = Finding::new("I", "");
        rule(&mut finding);
        finding.examples
    }

    #[test]
    fn a_sequence_number_is_given_once_in_an_epoch_whatever_the_layout() {
        let mut users = UserDimension {
            orders: vec![composed(2, 5, 7, 11), composed(3, 5, 7, 11), composed(2, 6, 8, 11)],
            ..UserDimension::default()
        };
        assert!(told(|finding| one_request_one_order(finding, &users)).is_empty());
        // The whole IDs differ, because other slots are in them.
        users.orders.push(composed(2, 5, 8, 12));
        assert_eq!(told(|finding| one_request_one_order(finding, &users)).len(), 1);
        users.orders.pop();
        users.orders.push(row(OrderId::bare(2, 6), 9, 12));
        let told = told(|finding| one_request_one_order(finding, &users));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with("share sequence number 6 of epoch 2"), "{told:?}");
    }

    #[test]
    fn an_upsert_that_points_an_id_to_somebody_else_is_told() {
        let id = OrderId(5);
        let home = group(HASH.mapping_shard(id));
        let mut users = UserDimension { orders: vec![row(id, 7, 11)], ..UserDimension::default() };
        let mapped = |key| Mapped { group: home, key };
        users.users_of.insert(5, mapped(7));
        users.restaurants_of.insert(5, mapped(11));
        assert!(told(|finding| one_request_one_order(finding, &users)).is_empty());
        assert!(told(|finding| is_mapped(finding, &users, &users.orders[0], HASH)).is_empty());
        users.users_of.insert(5, mapped(9));
        let why = told(|finding| one_request_one_order(finding, &users));
        assert_eq!(why, ["order 5 of user 7 is not found by its ID, which points to 9"]);
        assert!(told(|finding| is_mapped(finding, &users, &users.orders[0], HASH)).is_empty());
        users.users_of.insert(5, Mapped { group: 1 - home, key: 7 });
        assert!(told(|finding| one_request_one_order(finding, &users)).is_empty());
        let why = told(|finding| is_mapped(finding, &users, &users.orders[0], HASH));
        assert_eq!(why, [format!("order 5 carries no keys, and group {home} does not know its user")]);
    }

    #[test]
    fn numbers_that_nobody_has_are_gaps_unless_a_create_failed() {
        let numbered = |order: i64, number: i64| OrderRow { number: Some(number), ..row(OrderId(order), 7, 11) };
        let slip = |number| SlipRow { restaurant_id: 11, day: 1, number };
        let mut merchants = MerchantDimension {
            orders: vec![numbered(1, 1), numbered(2, 4)],
            // Order 3 was cancelled between its number and its kitchen.
            slips: vec![slip(1), slip(2), slip(4)],
        };
        let gaps = |merchants: &MerchantDimension, allowed| told(|finding| kitchen_gaps(finding, merchants, allowed));
        assert!(gaps(&merchants, 1).is_empty());
        assert_eq!(gaps(&merchants, 0), ["restaurant 11 skipped 1 numbers of day 1; 0 creates failed or are unknown"]);
        assert!(told(|finding| counted(finding, &merchants)).is_empty());
        merchants.slips.pop();
        assert_eq!(
            told(|finding| counted(finding, &merchants)),
            ["restaurant 11 counted 2 orders on day 1, and printed number 4"]
        );
        merchants.orders.push(numbered(4, 4));
        assert_eq!(told(|finding| kitchen_numbers(finding, &merchants.orders)).len(), 1);
        assert_eq!(told(|finding| counted(finding, &merchants)).len(), 2);
    }
}
