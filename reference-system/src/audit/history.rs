//! What the load's own record promises: acknowledged orders and transitions are there (I1, I8), and no order that nobody
//! asked for (I2).
//!
//! The record has one JSON object per line for each write: `method`, `path`, `key`, `outcome` (`ok`, `fail`, `info`),
//! `status` and the `answer`'s fields. Whoever wrote it used keys of the form `PREFIX-NUMBER`: the prefix tells its
//! orders from everybody else's.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::books::{Books, OrderRow, UserDimension};
use super::{Finding, Verdict};
use crate::orders::DELIVERED;
use crate::orders::lifecycle::Status;

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
    Delivered(i64),
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
        match parts[..] {
            ["orders"] => Asked::Create,
            ["orders", id, "pay"] => step(id, Status::Paying),
            ["orders", id, "cancel"] => step(id, Status::Cancelled),
            ["orders", id, "confirm"] => step(id, Status::Completed),
            ["restaurants", _, "orders", id, "accept"] => step(id, Status::Accepted),
            ["restaurants", _, "orders", id, "reject"] => step(id, Status::Cancelled),
            ["orders", id, "delivered"] | ["courier", id, "done"] => id.parse().map_or(Asked::Other, Asked::Delivered),
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

/// I1, I2 and I8.
pub(super) fn check(books: &Books, history: &History) -> Vec<Finding> {
    let rules: [(&str, &str, Rule); 3] = [
        ("I1", "No acknowledged order is lost", none_is_lost),
        ("I2", "No order out of nothing", none_out_of_nothing),
        ("I8", "Acknowledged transitions survive", transitions_survive),
    ];
    let findings = rules.into_iter().map(|(id, title, rule)| match &books.users {
        Ok(users) => {
            let mut finding = Finding::new(id, title);
            rule(&mut finding, users, history);
            finding
        }
        Err(why) => Finding::unknown(id, title, why),
    });
    findings.collect()
}

fn by_id(users: &UserDimension) -> HashMap<i64, &OrderRow> {
    users.orders.iter().map(|row| (row.order_id, row)).collect()
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
            finding.violate(|| format!("order {order_id} was acknowledged (key {}) and is not there", write.key()));
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

fn none_out_of_nothing(finding: &mut Finding, users: &UserDimension, history: &History) {
    let creates = history.writes.iter().filter(|write| write.asked() == Asked::Create);
    let mut asked = HashSet::new();
    let mut prefixes = BTreeSet::new();
    for write in creates {
        prefixes.extend(prefix(write.key()));
        if write.outcome != Outcome::Fail {
            asked.insert(write.key());
        }
    }
    for row in users.orders.iter().filter(|row| prefix(&row.req_id).is_some_and(|own| prefixes.contains(own))) {
        finding.checked += 1;
        if !asked.contains(row.req_id.as_str()) {
            finding.violate(|| {
                format!("order {} exists, but its request {} was refused or never sent", row.order_id, row.req_id)
            });
        }
    }
}

fn transitions_survive(finding: &mut Finding, users: &UserDimension, history: &History) {
    let rows = by_id(users);
    let reached: HashSet<(i64, i64)> = users.events.iter().map(|event| (event.order_id, event.to)).collect();
    for write in history.writes.iter().filter(|write| write.outcome == Outcome::Ok) {
        match write.asked() {
            // 202: it was handed on, and may yet be refused.
            Asked::Step(order_id, status) if write.status != Some(202) => {
                finding.checked += 1;
                if !reached.contains(&(order_id, status.code())) {
                    finding.violate(|| {
                        format!(
                            "order {order_id}: {} was acknowledged, but it never had status {}",
                            write.path,
                            status.code()
                        )
                    });
                }
            }
            Asked::Delivered(order_id) => {
                finding.checked += 1;
                if rows.get(&order_id).is_none_or(|row| row.delivery_status != DELIVERED) {
                    finding.violate(|| format!("order {order_id} was acknowledged as delivered, and is not"));
                }
            }
            _ => {}
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
        assert_eq!(of("/orders/5/delivered"), Asked::Delivered(5));
        assert_eq!(of("/courier/5/done"), Asked::Delivered(5));
        assert_eq!(of("/quote"), Asked::Other);
        assert_eq!(of("/orders/x/pay"), Asked::Other);
    }
}
