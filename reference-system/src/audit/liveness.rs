//! Liveness in the audit (I24): the system comes to rest, no order stays beyond its timer, and nothing that is due waits.

use std::collections::HashMap;

use super::Finding;
use super::books::{Books, OrderRow, UserDimension};
use crate::orders::lifecycle::Status;
use crate::orders::plan::Timers;
use crate::orders::{DELIVERED, REFUND_APPLIED, REFUND_IN_ARBITRATION};

/// How long something may last beyond its time, or wait although it is due.
const GRACE_MS: i64 = 30_000;

const TITLE: &str = "The system comes to rest, and nothing waits for ever";

/// I24. That something cannot be read is no unrest: then nobody knows.
pub(super) fn check(books: &Books, timers: &Timers, quiet: bool) -> Finding {
    let users = match &books.users {
        Ok(users) => users,
        Err(why) => return Finding::unknown("I24", TITLE, why),
    };
    if let Some(why) = books.rest_is_unknown() {
        return Finding::unknown("I24", TITLE, why);
    }
    let mut finding = Finding::new("I24", TITLE);
    if !quiet {
        let (queued, due) = books.bus.as_ref().map_or((0, 0), |bus| (bus.queued, bus.due));
        let unsent = books.told.as_ref().map_or(0, |told| told.waiting);
        finding.violate(|| {
            format!(
                "{} task rows due, {} orders between two services, {unsent} events in outboxes, {queued} in queues, \
                 {due} timers due",
                users.pending.tasks, users.pending.between,
            )
        });
        for waits in &users.waiting {
            finding.violate(|| waits.clone());
        }
    }
    no_order_is_stuck(&mut finding, users, timers);
    finding
}

fn no_order_is_stuck(finding: &mut Finding, users: &UserDimension, timers: &Timers) {
    let mut since: HashMap<i64, i64> = HashMap::new();
    for event in &users.events {
        let last = since.entry(event.order_id).or_insert(event.at_ms);
        *last = event.at_ms.max(*last);
    }
    for row in &users.orders {
        finding.checked += 1;
        let Some(limit_ms) = longest_stay(row, timers) else { continue };
        // Whatever changed last: a timer may have begun then.
        let since_ms = since.get(&row.order_id).copied().unwrap_or(0).max(row.updated_at_ms);
        let over_ms = users.read_at_ms - since_ms - limit_ms;
        if over_ms > GRACE_MS {
            finding.violate(|| {
                format!("order {} has status {} for {} s beyond its time", row.order_id, row.status, over_ms / 1_000)
            });
        }
    }
}

/// How long an order may be where it is; `None` if it may stay.
fn longest_stay(row: &OrderRow, timers: &Timers) -> Option<i64> {
    match Status::from_code(row.status)? {
        Status::Unpaid => Some(timers.unpaid_ms),
        Status::Paying => Some(timers.charge_again_ms),
        Status::Paid => Some(0),
        Status::Waiting => Some(timers.unanswered_ms),
        // What is not delivered has no timer, and an open refund goes first.
        Status::Accepted => (row.delivery_status == DELIVERED
            && ![REFUND_APPLIED, REFUND_IN_ARBITRATION].contains(&row.refund_status))
        .then_some(timers.unconfirmed_ms),
        _ => None,
    }
}

/// What a task row that has waited too long is called; `None` while it may wait. `attempts` failed, with a pause of
/// `pauses_ms` altogether.
pub(super) fn overdue(what: &str, due_at_ms: i64, pauses_ms: i64, now_ms: i64) -> Option<String> {
    let waits_ms = now_ms - due_at_ms + pauses_ms;
    (waits_ms > GRACE_MS).then(|| format!("{what} waits since {} s", waits_ms / 1_000))
}
