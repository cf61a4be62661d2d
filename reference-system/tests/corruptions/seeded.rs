//! A system in which everything has happened once, and the seeded corruptions of its rows.

use serde_json::{Value, json};

use super::Corruption;
use crate::world::{World, eventually, id_of, obeyed, set};

/// Orders of every end, with and without coupons, refunds, virtual goods, and IDs of both layouts.
pub async fn everything_happens(world: &World) {
    paid_ones_of_which_some_are_cancelled(world).await;
    money_in_every_place(world).await;
    for user in 40..43 {
        let id = paid(world, user, 41, None).await;
        match user {
            40 => drop(world.ok(&format!("/restaurants/41/orders/{id}/accept"), Value::Null).await),
            41 => drop(world.ok(&format!("/orders/{id}/cancel"), Value::Null).await),
            _ => {}
        }
    }
    let settled = world.settled(80, 81, Some(80)).await;
    let refund = world.ok("/refunds", json!({ "order": settled, "amount_fen": 100, "reason": "cold" })).await;
    let refund = &refund["refund_no"];
    world.ok(&format!("/refunds/{refund}/approve"), Value::Null).await;
    has_state(world, &format!("/refunds/{refund}"), 6).await;
    let wish = |quantity: i64| json!({ "user_id": 92, "product": "breakfast_ticket", "quantity": quantity });
    let goods = world.ok("/vorders", wish(2)).await["vorder_id"].clone();
    world.ok(&format!("/vorders/{goods}/pay"), Value::Null).await;
    has_state(world, &format!("/vorders/{goods}"), 9).await;
    world.ok("/vorders", wish(1)).await;
    bare_ids(world).await;
}

async fn paid(world: &World, user: i64, restaurant: i64, coupon: Option<i64>) -> String {
    let id = id_of(&world.create(user, restaurant, coupon).await);
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.status_is(&id, 0).await;
    id
}

async fn has_state(world: &World, path: &str, state: i64) {
    eventually(&format!("{path} has state {state}"), || async {
        (world.get(path).await.1["state"] == state).then_some(())
    })
    .await;
}

async fn paid_ones_of_which_some_are_cancelled(world: &World) {
    for user in 20..26 {
        let id = paid(world, user, 15, Some(user)).await;
        if user % 2 == 0 {
            world.ok(&format!("/orders/{id}/cancel"), Value::Null).await;
        }
    }
    // A second order of one user.
    world.create(20, 16, None).await;
}

async fn money_in_every_place(world: &World) {
    world.settled(60, 61, Some(60)).await;
    world.accepted(61, 61, Some(61)).await;
    let cancelled = paid(world, 62, 61, Some(62)).await;
    world.ok(&format!("/orders/{cancelled}/cancel"), Value::Null).await;
}

async fn bare_ids(world: &World) {
    const CREATORS: [&str; 2] = ["eos-c-1", "eos-c-2"];
    set(world, "id.layout", Some("seq"), None).await;
    obeyed(world, "id.layout", "seq", &CREATORS).await;
    for user in 120..123 {
        paid(world, user, 15, None).await;
    }
}

const fn at(store: &'static str, breaks: &'static [&'static str], sql: &'static str) -> Corruption {
    Corruption { store, breaks, sql }
}

/// Every corruption of what [`everything_happens`] leaves.
pub fn all() -> impl Iterator<Item = &'static Corruption> {
    [ORDERS, MONEY, STOCK, REFUNDS, GOODS, EVENTS, IDS].into_iter().flatten()
}

/// Orders, their copies, their routes and their life.
const ORDERS: &[Corruption] = &[
    at("st-r?", &["I5", "C2", "C4"], "DELETE FROM orders"),
    at("st-r?", &["I5"], "UPDATE orders SET version = version - 1"),
    at("st-r?", &["I5"], "UPDATE orders SET delivery_status = 2 WHERE status = 0"),
    at("st-r?", &["I4"], "UPDATE orders SET shard = (shard + 1) % 120"),
    // Both slots of the IDs, swapped: no copy is its order's any more.
    at(
        "st-r?",
        &["I4", "I5"],
        "UPDATE orders SET order_id = (order_id & ~1048575) | ((order_id & 1023) << 10) | ((order_id >> 10) & 1023)",
    ),
    at("st-r?", &["I15", "C1"], "UPDATE orders SET number = 1 WHERE number IS NOT NULL"),
    at("st-u?", &["I3"], "DROP INDEX orders_by_request; UPDATE orders SET req_id = 'same'"),
    at("st-u?", &["I6"], "DELETE FROM events WHERE version = 2"),
    at(
        "st-u?",
        &["I6", "I7", "C5"],
        "INSERT INTO events (shard, order_id, version, from_status, to_status, kind, at_ms) \
             SELECT shard, order_id, version + 1, -1, 2, 'accepted', 0 FROM orders WHERE status = -1",
    ),
    at(
        "st-u?",
        &["I6", "C4", "C5"],
        "INSERT INTO events (shard, order_id, version, to_status, kind, at_ms) VALUES (0, 5, 1, -5, 'created', 0)",
    ),
    at("st-u?", &["I10", "I11", "C3"], "DELETE FROM refunds"),
    at("st-u?", &["I26"], "UPDATE orders SET items_fen = items_fen + 1"),
    at("st-u?", &["I26"], "UPDATE events SET quoted_fen = quoted_fen + 1 WHERE quoted_fen > 0"),
    at("eus", &["I9"], "UPDATE ledger SET amount_fen = amount_fen + 1 WHERE account LIKE 'hold:%' AND amount_fen > 0"),
    at("eps", &["I13"], "UPDATE coupons SET state = 1"),
    at("pay", &["I8"], "UPDATE charges SET payment_id = 'another ' || payment_id"),
    // The unpaid order, long after its timer, which nobody has any more.
    at(
        "st-u?",
        &["I24"],
        "DELETE FROM tasks; UPDATE events SET at_ms = at_ms - 10000000 \
             WHERE order_id IN (SELECT order_id FROM orders WHERE status = -5); \
             UPDATE orders SET updated_at_ms = updated_at_ms - 10000000 WHERE status = -5",
    ),
    at(
        "st-u?",
        &["I24"],
        "INSERT INTO tasks (shard, order_id, kind, due_at_ms, attempts) SELECT shard, order_id, 0, 1, 9 FROM orders",
    ),
    at("audit", &["I20"], "INSERT INTO registry_faults VALUES ('eos-c-1', 'is dead and listed for 9 s', 5)"),
    at("audit", &["I9"], "INSERT INTO first_violations VALUES ('I9', 5, 'a transaction sums to 1 fen')"),
    at("eps", &["I13"], "UPDATE coupons SET state = 0 WHERE state = 1"),
    at("eps", &["I13"], "UPDATE coupons SET state = 0 WHERE state = 2"),
    at("eps", &["I13"], "DELETE FROM coupons WHERE state = 1"),
    at("st-u?", &["I21"], "UPDATE lock_writes SET fence = 1 WHERE nth > 1"),
    at("st-u?", &["I21"], "UPDATE lock_writes SET fence = 0, acquired_at_ms = 0"),
];

/// The books.
const MONEY: &[Corruption] = &[
    at("ledger", &["I9"], "UPDATE ledger SET amount_fen = amount_fen + 1 WHERE account = 'fee'"),
    at("ledger", &["I10", "I12", "C3"], "UPDATE settlements SET merchant_fen = merchant_fen + 1"),
    at("ledger", &["I10", "C2", "C3"], "DELETE FROM settlements"),
    at(
        "ledger",
        &["I10", "I12", "C2", "C3"],
        "INSERT INTO ledger (txn, account, order_id, amount_fen) SELECT txn || '2', account, order_id, amount_fen FROM ledger",
    ),
    at("ledger", &["C2"], "UPDATE settlements SET restaurant_id = restaurant_id + 1"),
    at(
        "eus",
        &["I9", "I10", "C2", "C3"],
        "UPDATE ledger SET amount_fen = amount_fen + 1 WHERE txn LIKE '%:capture' AND account LIKE 'escrow:%'",
    ),
    at("eus", &["I9"], "UPDATE wallets SET balance_fen = balance_fen - 1"),
    at(
        "eus",
        &["I10", "C3"],
        "DELETE FROM ledger WHERE txn LIKE '%:refund'; UPDATE wallets SET balance_fen = \
                 (SELECT 1000000 + sum(amount_fen) FROM ledger WHERE account = 'user:' || user_id)",
    ),
    at("st-u?", &["I10", "I11", "C3"], "UPDATE refunds SET state = 2"),
    at(
        "eus",
        &["I11"],
        "UPDATE ledger SET account = 'refund-clearing' WHERE txn LIKE '%:refund' AND account LIKE 'user:%'; \
                 UPDATE wallets SET balance_fen = \
                 (SELECT 1000000 + sum(amount_fen) FROM ledger WHERE account = 'user:' || user_id)",
    ),
    at("st-u?", &["I11"], "UPDATE refunds SET payment_id = 'none'"),
    at("st-u?", &["I12"], "UPDATE orders SET settled_at_ms = completed_at_ms - 1"),
    at("st-u?", &["I10", "I12"], "UPDATE orders SET settled_at_ms = 1 WHERE status = 2"),
];

/// What dishes are left.
const STOCK: &[Corruption] = &[
    at("ers", &["I14"], "UPDATE stock SET remaining = remaining + 1"),
    at("ers", &["I14"], "UPDATE reservations SET quantity = quantity + 1"),
    at("ers", &["I14"], "DELETE FROM reservations WHERE state = 2"),
    at("ers", &["I14"], "UPDATE reservations SET state = 0 WHERE state = 1"),
    at("ers", &["I14"], "UPDATE reservations SET state = 1 WHERE state = 0"),
    at("ers", &["I14"], "UPDATE stock SET opening = 3, remaining = -1 WHERE remaining = opening - 4"),
];

/// Refunds after completion.
const REFUNDS: &[Corruption] = &[
    at("rev", &["I11"], "UPDATE requests SET amount_fen = amount_fen + 1"),
    at("st-u?", &["I11"], "DELETE FROM refunds WHERE order_id IN (SELECT order_id FROM orders WHERE status = 9)"),
    at(
        "st-u?",
        &["I11"],
        "UPDATE refunds SET amount_fen = 1000000 WHERE order_id IN (SELECT order_id FROM orders WHERE status = 9)",
    ),
    at("rev", &["I24"], "UPDATE requests SET mirrored = 0"),
];

/// Virtual goods.
const GOODS: &[Corruption] = &[
    at("vgo", &["I25"], "DELETE FROM vorder_extensions WHERE quantity = 1"),
    at("vgo", &["I25"], "INSERT INTO vorder_extensions VALUES (77, 'breakfast_ticket', 1, NULL)"),
    at("vgo", &["I25"], "DELETE FROM cards"),
    at("vgo", &["I25"], "DROP INDEX cards_by_number; UPDATE cards SET card_no = (SELECT min(card_no) FROM cards)"),
    at("vgo", &["I25"], "UPDATE vorders SET amount_fen = amount_fen + 1"),
    at("vgo", &["I25"], "UPDATE vorders SET state = 2, changed_at_ms = 0 WHERE state = 9"),
    at("vgo", &["I25"], "UPDATE vorders SET state = 9 WHERE state = 1"),
    // All that this store has of an order whose money the seller has.
    at(
        "vgo",
        &["I25"],
        "DELETE FROM vorder_extensions WHERE vorder_id IN (SELECT vorder_id FROM vorders WHERE state = 9); \
                 DELETE FROM cards; DELETE FROM vorders WHERE state = 9",
    ),
];

/// What was told, and what became of it.
const EVENTS: &[Corruption] = &[
    at("sms", &["I16"], "DELETE FROM inbox"),
    at("audit", &["I16"], "DELETE FROM inbox WHERE event_id LIKE '%.3'"),
    at("sms", &["I17"], "UPDATE inbox SET effects = 2"),
    at("sms", &["I17"], "DELETE FROM messages WHERE recipient LIKE 'restaurant:%'"),
    at(
        "sms",
        &["I17"],
        "INSERT INTO messages (event_id, recipient, body, at_ms) SELECT event_id, recipient, body, 0 FROM messages",
    ),
    at("ers", &["I16"], "DELETE FROM inbox"),
    at("ers", &["I17"], "DELETE FROM pushes WHERE kind = 'completed'"),
    at(
        "eps",
        &["I17"],
        "INSERT INTO coupon_history (event_id, coupon_id, order_id, fate, at_ms) \
             SELECT event_id, coupon_id, order_id, fate, 0 FROM coupon_history",
    ),
    at("ledger", &["I17"], "DELETE FROM statements WHERE kind LIKE 'refund.%'"),
    at("timers", &["I17"], "DELETE FROM timers"),
    at("timers", &["I24"], "UPDATE timers SET state = 0, due_at_ms = 1"),
    at("sms", &["I18"], "INSERT INTO inbox (event_id, consumer, effects) VALUES ('1.1', 'sms', 1)"),
    at(
        "audit",
        &["C5", "I18"],
        "INSERT INTO copies (event_id, subject, version, message_key, body, at_ms) VALUES ('1.1', '1', 1, 'k', '', 0)",
    ),
    at("audit", &["I19"], "UPDATE copies SET version = 100 - version"),
    at("st-u?", &["I24"], "UPDATE outbox SET state = 0"),
    at("st-u?", &["C5"], "DELETE FROM outbox WHERE message_key LIKE 'delivery.%'"),
    at("rev", &["I24"], "UPDATE outbox SET state = 0"),
    at("rev", &["C5", "I18"], "DELETE FROM happened"),
    at(
        "vgo",
        &["I16"],
        "INSERT INTO outbox (message_id, message_key, body, state) VALUES ('v99.1', 'vorder.created', '', 1)",
    ),
];

/// Bare IDs and kitchen numbers.
const IDS: &[Corruption] = &[
    at("st-u?", &["I3"], "UPDATE order_users SET user_id = user_id + 1"),
    at("st-u?", &["I3"], "UPDATE order_restaurants SET restaurant_id = restaurant_id + 1"),
    at("st-u?", &["I4"], "DELETE FROM order_users"),
    at("st-u?", &["I4"], "DELETE FROM order_restaurants"),
    at("st-u?", &["I4"], "UPDATE orders SET shard = (shard + 1) % 120"),
    at("st-r?", &["I15", "C1"], "UPDATE orders SET number = 1 WHERE number IS NOT NULL"),
    at("st-r?", &["C1"], "DELETE FROM slips"),
];

/// An old order table that has handed over, beside the rows of the new side.
pub const OLD_SIDE: &[Corruption] = &[
    at("st-old", &["I23"], "DELETE FROM orders WHERE order_id IN (SELECT min(order_id) FROM orders)"),
    at("st-old", &["I23"], "UPDATE orders SET version = version + 1"),
    at("st-old", &["I23"], "UPDATE orders SET status = -1"),
];

/// New rows beside an old order table that decides.
pub const NEW_SIDE: &[Corruption] = &[
    at("st-u?", &["I23"], "DELETE FROM orders"),
    at("st-u?", &["I23"], "UPDATE orders SET total_fen = total_fen + 1"),
    // What the old side was told of is on its way as long as it is in its log.
    at("st-old", &["I24"], "INSERT INTO failure_log (order_id, failures) SELECT order_id, 1 FROM orders"),
];
