//! What was promised: acknowledged orders, transitions and virtual goods are there (I1, I8, I25), no order that nobody
//! asked for (I2), and as many as were promised (C4). The payment service knows what it was promised; of the rest, the
//! load's own record tells ([`super::history`]).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::books::{Books, ChargeRow, OrderRow, RequestRow, UserDimension};
use super::history::{Asked, Decision, History, Outcome, Write, prefix};
use super::virtual_goods::{VirtualGoods, VirtualOrderRow};
use super::{Finding, Verdict, dimensions};
use crate::ids::{OrderId, shard};
use crate::orders::change::MoneyState;
use crate::orders::lifecycle::Status;
use crate::orders::{REFUND_APPLIED, REFUND_FAILED, REFUND_GRANTED, REFUND_REJECTED, REFUND_SUCCEEDED};
use crate::roles::vgo;
use crate::rpc::resending::request_of;

type Rule = fn(&mut Finding, &UserDimension, &History);

/// I1 and I2 if there is a history; I8 and C4 also without, as far as the system itself knows what was promised.
pub(super) fn check(books: &Books, history: Option<&History>, quiet: bool) -> Vec<Finding> {
    let with_users = |id: &str, title: &str, rule: &dyn Fn(&mut Finding, &UserDimension)| match &books.users {
        Ok(users) => {
            let mut finding = Finding::new(id, title);
            rule(&mut finding, users);
            finding
        }
        Err(why) => Finding::unknown(id, title, why),
    };
    let rules: [(&str, &str, Rule); 2] =
        [("I1", "No acknowledged order is lost", none_is_lost), ("I2", "No order out of nothing", none_out_of_nothing)];
    let mut findings: Vec<Finding> = history
        .into_iter()
        .flat_map(|history| {
            rules.map(|(id, title, rule)| with_users(id, title, &|finding, users| rule(finding, users, history)))
        })
        .collect();
    let survive = "Acknowledged transitions survive";
    findings.push(match (&books.charges, &books.requests) {
        (Ok(charges), Ok(requests)) => with_users("I8", survive, &|finding, users| {
            callbacks_survive(finding, users, charges);
            if let Some(history) = history {
                transitions_survive(finding, users, requests, history);
            }
        }),
        (Err(why), _) | (_, Err(why)) => Finding::unknown("I8", survive, why),
    });
    let as_many = "As many orders as copies, creations and promises";
    findings.push(match &books.merchants {
        Ok(merchants) => with_users("C4", as_many, &|finding, users| {
            // What is on its way is the matter of I24.
            if quiet {
                dimensions::count(finding, users, &merchants.orders);
            }
            if let Some(history) = history {
                as_many_as_promised(finding, users, history);
            }
        }),
        Err(why) => Finding::unknown("C4", as_many, why),
    });
    findings
}

impl Write {
    /// Tells where a fact is not as it was acknowledged.
    fn compare(&self, finding: &mut Finding, what: &str, stored: &[(&str, i64)]) {
        for (field, stored) in stored {
            if let Some(promised) = self.number(field)
                && promised != *stored
            {
                finding.violate(|| format!("{what} was acknowledged with {field} {promised}, it has {stored}"));
            }
        }
    }

    /// Counts what was acknowledged, and tells where nothing is there of it.
    fn keep(&self, finding: &mut Finding, kept: Result<bool, Untold>) {
        finding.checked += 1;
        match kept {
            Ok(true) => {}
            Ok(false) => finding
                .violate(|| format!("{} was acknowledged (key {}), and nothing is there of it", self.path, self.key())),
            Err(Untold) => finding.verdict = finding.verdict.max(Verdict::Unknown),
        }
    }
}

/// Nobody kept by what the thing is found that a write made.
struct Untold;

/// What writes have made, by its number and by the key of the request within its order or its user.
struct Made<'a, Row> {
    by_number: HashMap<i64, &'a Row>,
    by_key: HashMap<(i64, &'a str), &'a Row>,
}

impl<'a, Row> Made<'a, Row> {
    /// `names` gives of each row its number, its order or user, and its key.
    fn of(rows: &'a [Row], names: impl Fn(&'a Row) -> (i64, i64, &'a str)) -> Self {
        let (mut by_number, mut by_key) = (HashMap::new(), HashMap::new());
        for row in rows {
            let (number, within, key) = names(row);
            by_number.insert(number, row);
            by_key.insert((within, request_of(key)), row);
        }
        Self { by_number, by_key }
    }

    fn by_number(&self, write: &Write, field: &str) -> Result<Option<&'a Row>, Untold> {
        let number = write.number(field).ok_or(Untold)?;
        Ok(self.by_number.get(&number).copied())
    }

    fn by_key(&self, write: &Write, within: Option<i64>) -> Result<Option<&'a Row>, Untold> {
        let key = within.zip(write.key.as_deref()).ok_or(Untold)?;
        Ok(self.by_key.get(&key).copied())
    }
}

/// What a read by ID finds: rows in the shard that the ID names, or whose user the mapping tables name.
fn by_id(users: &UserDimension) -> HashMap<i64, &OrderRow> {
    let found = users.orders.iter().filter(|row| match OrderId(row.order_id).slots() {
        Some(slots) => row.shard == i64::from(shard(slots.user)),
        // The tables point to one of those who have it.
        None => users.users_of.get(&row.order_id).is_none_or(|mapped| mapped.key == row.user_id),
    });
    found.map(|row| (row.order_id, row)).collect()
}

fn none_is_lost(finding: &mut Finding, users: &UserDimension, history: &History) {
    let rows = by_id(users);
    let created = history.writes.iter().filter(|write| write.asked() == Asked::Create && write.outcome == Outcome::Ok);
    for write in created {
        finding.checked += 1;
        let Some(order_id) = write.number("order_id") else {
            // Whoever kept the record did not keep the answers: nothing is known of this order.
            finding.verdict = finding.verdict.max(Verdict::Unknown);
            continue;
        };
        let Some(row) = rows.get(&order_id) else {
            finding.violate(|| {
                format!("order {order_id} was acknowledged (key {}), and a read by its ID finds nothing", write.key())
            });
            continue;
        };
        let facts = [("user_id", row.user_id), ("restaurant_id", row.restaurant_id), ("total_fen", row.total_fen)];
        write.compare(finding, &format!("order {order_id}"), &facts);
    }
}

/// The keys of a load's creations, by what became of them.
struct Creations<'a> {
    prefixes: BTreeSet<&'a str>,
    acknowledged: HashSet<&'a str>,
    /// Nobody knows of these.
    unknown: HashSet<&'a str>,
}

impl<'a> Creations<'a> {
    fn of(history: &'a History) -> Self {
        let (prefixes, acknowledged, unknown) = Default::default();
        let mut all = Self { prefixes, acknowledged, unknown };
        for write in history.writes.iter().filter(|write| write.asked() == Asked::Create) {
            all.prefixes.extend(prefix(write.key()));
            match write.outcome {
                Outcome::Ok => drop(all.acknowledged.insert(write.key())),
                Outcome::Info => drop(all.unknown.insert(write.key())),
                Outcome::Fail => {}
            }
        }
        all
    }

    /// The orders of the load.
    fn made<'b>(&self, users: &'b UserDimension) -> impl Iterator<Item = &'b OrderRow> {
        users.orders.iter().filter(|row| prefix(&row.req_id).is_some_and(|own| self.prefixes.contains(own)))
    }
}

/// C4 with a history: as many orders as were acknowledged, or came about although nobody knew.
fn as_many_as_promised(finding: &mut Finding, users: &UserDimension, history: &History) {
    let creations = Creations::of(history);
    let made: HashSet<&str> = creations.made(users).map(|row| request_of(&row.req_id)).collect();
    let orders = creations.made(users).count();
    let promised = creations.acknowledged.len();
    let realised = creations.unknown.intersection(&made).filter(|key| !creations.acknowledged.contains(*key)).count();
    finding.checked += 1;
    if orders != promised + realised {
        finding.violate(|| {
            format!("{orders} orders of this load; {promised} were acknowledged, {realised} came about unacknowledged")
        });
    }
}

fn none_out_of_nothing(finding: &mut Finding, users: &UserDimension, history: &History) {
    let creations = Creations::of(history);
    for row in creations.made(users) {
        finding.checked += 1;
        let key = request_of(&row.req_id);
        if !creations.acknowledged.contains(key) && !creations.unknown.contains(key) {
            finding.violate(|| {
                format!("order {} exists, but its request {} was refused or never sent", row.order_id, row.req_id)
            });
        }
    }
}

/// What the payment service holds an acknowledgement for is booked.
fn callbacks_survive(finding: &mut Finding, users: &UserDimension, charges: &[ChargeRow]) {
    let booked: HashSet<&str> = users
        .payments
        .iter()
        .filter(|row| row.state == MoneyState::Ok.code())
        .map(|row| row.payment_id.as_str())
        .collect();
    let reached: HashSet<(i64, i64)> = users.events.iter().map(|event| (event.order_id, event.to)).collect();
    for charge in charges.iter().filter(|charge| charge.heard) {
        finding.checked += 1;
        let (payment, order) = (&charge.payment_id, charge.order_id);
        if charge.succeeded && !booked.contains(payment.as_str()) {
            finding.violate(|| format!("order {order}: payment {payment} was acknowledged, and is not booked"));
        }
        // It closes the order, unless that had another end already.
        let closed = [Status::Closed, Status::Cancelled, Status::RiskRejected];
        if !charge.succeeded && !closed.iter().any(|status| reached.contains(&(order, status.code()))) {
            finding
                .violate(|| format!("order {order}: the failure of {payment} was acknowledged, and it is not closed"));
        }
    }
}

fn transitions_survive(finding: &mut Finding, users: &UserDimension, requests: &[RequestRow], history: &History) {
    let rows = by_id(users);
    let reached: HashSet<(i64, i64)> = users.events.iter().map(|event| (event.order_id, event.to)).collect();
    let refunds = Made::of(requests, |row| (row.refund_no, row.order_id, row.req_id.as_str()));
    let appeals = history.appeals();
    for write in history.writes.iter().filter(|write| write.outcome == Outcome::Ok) {
        let kept = match write.asked() {
            // The merchant decides; until then, what has been promised is that he is asked.
            Asked::Step(order, _) if write.status == Some(202) => applied_for(finding, write, &refunds, Some(order)),
            Asked::Step(order, status) => Ok(reached.contains(&(order, status.code()))),
            Asked::Delivery(order, at_least) => Ok(rows.get(&order).is_some_and(|row| row.delivery_status >= at_least)),
            // Rejected or failed later, it has still been applied for.
            Asked::Refund => applied_for(finding, write, &refunds, None),
            Asked::Decide(refund_no, decision) => {
                let again = appeals.get(&refund_no).zip(write.t_invoke_us).is_some_and(|(done, sent)| *done <= sent);
                Ok(refunds.by_number.get(&refund_no).is_some_and(|row| is_decided(row, decision, again)))
            }
            // Of these, other invariants tell.
            _ => continue,
        };
        write.keep(finding, kept);
    }
}

/// Whether the refund is there that a write applied for: of this order, if its path says of which.
fn applied_for(
    finding: &mut Finding,
    write: &Write,
    refunds: &Made<'_, RequestRow>,
    order: Option<i64>,
) -> Result<bool, Untold> {
    let row = match order {
        // An order's answer has the number of its latest refund, which may be another one.
        Some(_) => refunds.by_key(write, order).or_else(|Untold| refunds.by_number(write, "refund_no"))?,
        None => {
            refunds.by_number(write, "refund_no").or_else(|Untold| refunds.by_key(write, write.number("order_id")))?
        }
    };
    if let (Some(row), None) = (row, order) {
        let facts = [("order_id", row.order_id), ("amount_fen", row.amount_fen)];
        write.compare(finding, &format!("refund {}", row.refund_no), &facts);
    }
    Ok(row.is_some())
}

/// Whether a refund has come to this decision, or further; `again` is a rejection after the arbitration.
fn is_decided(row: &RequestRow, decision: Decision, again: bool) -> bool {
    match decision {
        Decision::Grant => [REFUND_GRANTED, REFUND_SUCCEEDED].contains(&row.state),
        // Only what was rejected goes to arbitration.
        Decision::Reject if row.arbitrated && !again => row.state != REFUND_APPLIED,
        Decision::Reject => [REFUND_REJECTED, REFUND_FAILED].contains(&row.state) && (row.arbitrated || !again),
        Decision::Arbitrate => row.arbitrated && row.state != REFUND_APPLIED,
    }
}

/// I25 with a history: virtual orders that were acknowledged are there, and paid or cancelled as was acknowledged.
pub(super) fn virtual_orders_survive(finding: &mut Finding, goods: &VirtualGoods, history: &History) {
    let orders = Made::of(&goods.orders, |row| (row.vorder_id, row.user_id, row.req_id.as_str()));
    for write in history.writes.iter().filter(|write| write.outcome == Outcome::Ok) {
        let has =
            |id, as_asked: fn(&VirtualOrderRow) -> bool| Ok(orders.by_number.get(&id).is_some_and(|r| as_asked(r)));
        let kept = match write.asked() {
            Asked::VirtualOrder => {
                let by_number = orders.by_number(write, "vorder_id");
                by_number.or_else(|Untold| orders.by_key(write, write.number("user_id"))).map(|row| {
                    if let Some(row) = row {
                        let facts = [("user_id", row.user_id), ("amount_fen", row.amount_fen)];
                        write.compare(finding, &format!("virtual order {}", row.vorder_id), &facts);
                    }
                    row.is_some()
                })
            }
            Asked::VirtualPayment(id) => has(id, |row| row.state >= vgo::PAID),
            Asked::VirtualCancel(id) => has(id, |row| row.state == vgo::CANCELLED),
            _ => continue,
        };
        write.keep(finding, kept);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::orders::REFUND_IN_ARBITRATION;

    /// What I8 says of refunds alone.
    fn refunds_survive(requests: &[RequestRow], writes: &[Value]) -> Finding {
        let lines: Vec<String> = writes.iter().map(Value::to_string).collect();
        let history = History::parse(lines.join("\n").as_bytes()).unwrap();
        let mut finding = Finding::new("I8", "");
        transitions_survive(&mut finding, &UserDimension::default(), requests, &history);
        finding
    }

    fn request(state: i64, arbitrated: bool) -> RequestRow {
        let req_id = "load-1#resent".to_owned();
        RequestRow { refund_no: 7, order_id: 5, req_id, amount_fen: 300, state, arbitrated, mirrored: true }
    }

    #[test]
    fn a_decision_is_kept_by_the_state_that_it_led_to_and_by_what_can_come_after() {
        let rejected = json!({ "method": "POST", "path": "/refunds/7/reject", "outcome": "ok" });
        let mut arbitrated = json!({ "method": "POST", "path": "/refunds/7/arbitrate", "outcome": "ok" });
        arbitrated["t_done_us"] = json!(50);
        let at = |sent: u64| {
            let mut write = rejected.clone();
            write["t_invoke_us"] = json!(sent);
            write
        };
        let first = [at(10)];
        let appealed = [at(10), arbitrated.clone()];
        let twice = [at(10), arbitrated.clone(), at(60)];
        // Sent before the arbitration and answered late, it may have been the first one.
        let late = [arbitrated, at(40)];
        for (writes, row, lost) in [
            (&first[..], request(REFUND_REJECTED, false), 0),
            (&first, request(REFUND_GRANTED, true), 0),
            (&first, request(REFUND_APPLIED, false), 1),
            (&first, request(REFUND_GRANTED, false), 1),
            (&appealed, request(REFUND_IN_ARBITRATION, true), 0),
            (&appealed, request(REFUND_SUCCEEDED, true), 0),
            (&appealed, request(REFUND_REJECTED, false), 1),
            (&twice, request(REFUND_REJECTED, true), 0),
            (&twice, request(REFUND_IN_ARBITRATION, true), 1),
            (&late, request(REFUND_IN_ARBITRATION, true), 0),
        ] {
            let finding = refunds_survive(std::slice::from_ref(&row), writes);
            assert_eq!(finding.violations, lost, "{row:?}, {writes:?}: {finding:?}");
        }
    }

    #[test]
    fn a_refund_without_its_number_is_found_by_order_and_key_and_without_those_nobody_knows() {
        let apply = |key: &str, answer: Value| json!({ "method": "POST", "path": "/refunds", "outcome": "ok", "key": key, "answer": answer });
        let rows = [request(REFUND_APPLIED, false)];
        let verdict = |write: Value| refunds_survive(&rows, &[write]).verdict;
        assert_eq!(verdict(apply("other-1", json!({ "refund_no": 7 }))), Verdict::Valid);
        assert_eq!(verdict(apply("load-1", json!({ "refund_no": 8, "order_id": "5" }))), Verdict::Invalid);
        assert_eq!(verdict(apply("load-1", json!({ "order_id": "5" }))), Verdict::Valid);
        assert_eq!(verdict(apply("load-2", json!({ "order_id": "5" }))), Verdict::Invalid);
        assert_eq!(verdict(apply("load-1", json!({}))), Verdict::Unknown);
        assert_eq!(verdict(apply("load-1", json!({ "refund_no": 7, "amount_fen": 301 }))), Verdict::Invalid);
    }
}
