//! What was promised: acknowledged orders and transitions are there (I1, I8), no order that nobody asked for (I2), and as
//! many as were promised (C4). The payment service knows what it was promised; of the rest, the load's own record tells.
//!
//! The record has one JSON object per line for each write: `method`, `path`, `key`, `outcome` (`ok`, `fail`, `info`),
//! `status` and the `answer`'s fields. Whoever wrote it used keys of the form `PREFIX-NUMBER`: the prefix tells its
//! orders from everybody else's.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::books::{Books, ChargeRow, OrderRow, RequestRow, UserDimension};
use super::{Finding, Verdict, dimensions};
use crate::ids::{OrderId, shard};
use crate::orders::change::MoneyState;
use crate::orders::lifecycle::Status;
use crate::orders::{DELIVERED, PICKED, REFUND_GRANTED, REFUND_SUCCEEDED};
use crate::rpc::resending::request_of;

/// The record of a load's writes.
#[derive(Debug, Clone, Default)]
pub struct History {
    writes: Vec<Write>,
}

#[derive(Debug, Clone, Deserialize)]
struct Write {
    method: String,
    path: String,
    #[serde(default)]
    key: Option<String>,
    outcome: Outcome,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    answer: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// Acknowledged.
    Ok,
    /// Refused before any effect.
    Fail,
    /// Nobody knows.
    Info,
}

/// A line of a record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the history is no write: {why}")]
pub struct BadHistory {
    line: usize,
    why: String,
}

/// What a write asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Create,
    /// A transition of this order, to this status.
    Step(i64, Status),
    /// This delivery status of an order, or a later one.
    Delivery(i64, i64),
    /// A new refund.
    Refund,
    /// That this refund is granted.
    Grant(i64),
    Other,
}

impl History {
    /// Reads a record: one JSON object per line.
    ///
    /// # Errors
    ///
    /// [`BadHistory`] for the first line that is no write.
    pub fn parse(text: &[u8]) -> Result<Self, BadHistory> {
        let lines = text.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
        let writes = lines.map(|(text, line)| {
            serde_json::from_slice(text).map_err(|error| BadHistory { line, why: error.to_string() })
        });
        Ok(Self { writes: writes.collect::<Result<_, _>>()? })
    }

    /// How many creates failed, or may have.
    pub(super) fn creates_not_ok(&self) -> usize {
        let creates = self.writes.iter().filter(|write| write.asked() == Asked::Create);
        creates.filter(|write| write.outcome != Outcome::Ok).count()
    }
}

impl Write {
    fn asked(&self) -> Asked {
        let path = self.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if self.method != "POST" {
            return Asked::Other;
        }
        let step = |id: &str, status| id.parse().map_or(Asked::Other, |id| Asked::Step(id, status));
        let delivery = |id: &str, status| id.parse().map_or(Asked::Other, |id| Asked::Delivery(id, status));
        match parts[..] {
            ["orders"] => Asked::Create,
            ["orders", id, "pay"] => step(id, Status::Paying),
            ["orders", id, "cancel"] => step(id, Status::Cancelled),
            ["orders", id, "confirm"] => step(id, Status::Completed),
            ["restaurants", _, "orders", id, "accept"] => step(id, Status::Accepted),
            ["restaurants", _, "orders", id, "reject"] => step(id, Status::Cancelled),
            ["orders", id, "delivered"] | ["courier", id, "done"] => delivery(id, DELIVERED),
            ["courier", id, "picked"] => delivery(id, PICKED),
            ["refunds"] => Asked::Refund,
            ["refunds", number, "approve"] => number.parse().map_or(Asked::Other, Asked::Grant),
            _ => Asked::Other,
        }
    }

    /// A number of the answer, which JSON may hold as text.
    fn number(&self, field: &str) -> Option<i64> {
        match self.answer.get(field)? {
            Value::String(text) => text.parse().ok(),
            value => value.as_i64(),
        }
    }

    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }
}

fn prefix(key: &str) -> Option<&str> {
    key.rsplit_once('-').map(|(prefix, _)| prefix).filter(|prefix| !prefix.is_empty())
}

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
        for (field, stored) in facts {
            if let Some(promised) = write.number(field)
                && promised != stored
            {
                finding
                    .violate(|| format!("order {order_id} was acknowledged with {field} {promised}, it has {stored}"));
            }
        }
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
    let refunds: HashMap<i64, i64> = requests.iter().map(|row| (row.refund_no, row.state)).collect();
    for write in history.writes.iter().filter(|write| write.outcome == Outcome::Ok) {
        let kept = match write.asked() {
            // 202: it was handed on, and may yet be refused.
            Asked::Step(order, status) if write.status != Some(202) => reached.contains(&(order, status.code())),
            Asked::Delivery(order, at_least) => rows.get(&order).is_some_and(|row| row.delivery_status >= at_least),
            // Rejected or failed later, it has still been applied for.
            Asked::Refund => write.number("refund_no").is_none_or(|refund| refunds.contains_key(&refund)),
            Asked::Grant(refund) => {
                refunds.get(&refund).is_some_and(|state| [REFUND_GRANTED, REFUND_SUCCEEDED].contains(state))
            }
            Asked::Create | Asked::Step(..) | Asked::Other => continue,
        };
        finding.checked += 1;
        if !kept {
            finding.violate(|| {
                format!("{} was acknowledged (key {}), and nothing is there of it", write.path, write.key())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_write_is_told_with_its_number() {
        let text = b"{\"method\":\"POST\",\"path\":\"/orders\",\"outcome\":\"ok\"}\n\n{\"method\":\"POST\"}";
        let error = History::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("line 3 of the history is no write: missing field `path`"), "{error}");
        assert_eq!(History::parse(&text[..50]).unwrap().writes.len(), 1);
    }

    #[test]
    fn paths_say_what_was_asked() {
        let of = |path: &str| {
            let line = serde_json::json!({ "method": "POST", "path": path, "outcome": "ok" });
            serde_json::from_value::<Write>(line).unwrap().asked()
        };
        assert_eq!(of("/orders"), Asked::Create);
        assert_eq!(of("/orders/5/pay"), Asked::Step(5, Status::Paying));
        assert_eq!(of("/restaurants/2/orders/5/accept"), Asked::Step(5, Status::Accepted));
        assert_eq!(of("/orders/5/delivered"), Asked::Delivery(5, DELIVERED));
        assert_eq!(of("/courier/5/picked"), Asked::Delivery(5, PICKED));
        assert_eq!(of("/refunds"), Asked::Refund);
        assert_eq!(of("/refunds/7/approve"), Asked::Grant(7));
        assert_eq!(of("/courier/5/done"), Asked::Delivery(5, DELIVERED));
        assert_eq!(of("/quote"), Asked::Other);
        assert_eq!(of("/orders/x/pay"), Asked::Other);
    }
}
