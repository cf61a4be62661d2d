//! The record of a load's writes, and of what it read of orders.
//!
//! It has one JSON object per line for each write: `method`, `path`, `key`, `outcome` (`ok`, `fail`, `info`), `status`, the
//! `answer`'s fields ([`ANSWER_FIELDS`]), and when it began and was done; a line of method `GET` is a read. Whoever wrote it
//! used keys of the form `PREFIX-NUMBER`: the prefix tells its orders from everybody else's.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::orders::lifecycle::Status;
use crate::orders::{DELIVERED, PICKED};

/// The fields of answers that a record has to keep: what was promised, and by which number it is found.
pub const ANSWER_FIELDS: [&str; 8] =
    ["order_id", "user_id", "restaurant_id", "total_fen", "revision", "refund_no", "vorder_id", "amount_fen"];

/// What a load wrote, and what it was answered.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub(super) writes: Vec<Write>,
    /// Orders that were read by their IDs.
    pub(super) reads: Vec<Read>,
}

/// What was read of an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) order_id: i64,
    /// `None`: that there is none.
    pub(super) revision: Option<i64>,
    pub(super) sent_us: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Write {
    method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) key: Option<String>,
    pub(super) outcome: Outcome,
    #[serde(default)]
    pub(super) status: Option<u16>,
    #[serde(default)]
    answer: Answer,
    /// When it was sent, and when its answer was there.
    #[serde(default)]
    pub(super) t_invoke_us: Option<u64>,
    #[serde(default)]
    t_done_us: Option<u64>,
}

/// The numbers of an answer, in the order of [`ANSWER_FIELDS`]. JSON may hold them as text. A record has many, and what else
/// they hold is not kept.
#[derive(Debug, Clone, Default)]
struct Answer([Option<i64>; ANSWER_FIELDS.len()]);

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut answer = Self::default();
        for (field, value) in Map::deserialize(deserializer)? {
            if let Some(place) = ANSWER_FIELDS.iter().position(|known| *known == field) {
                answer.0[place] = match value {
                    Value::String(text) => text.parse().ok(),
                    value => value.as_i64(),
                };
            }
        }
        Ok(answer)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
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
pub(super) enum Asked {
    Create,
    /// A transition of this order, to this status.
    Step(i64, Status),
    /// This delivery status of an order, or a later one.
    Delivery(i64, i64),
    /// A new refund.
    Refund,
    /// That this is decided about a refund.
    Decide(i64, Decision),
    /// A new virtual order.
    VirtualOrder,
    /// That this virtual order is paid.
    VirtualPayment(i64),
    /// That this virtual order is cancelled.
    VirtualCancel(i64),
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Grant,
    Reject,
    Arbitrate,
}

impl History {
    /// Reads a record: one JSON object per line.
    ///
    /// # Errors
    ///
    /// [`BadHistory`] for the first line that is no write.
    pub fn parse(text: &[u8]) -> Result<Self, BadHistory> {
        let lines = text.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
        let mut all = Self::default();
        for (text, line) in lines {
            let told: Write =
                serde_json::from_slice(text).map_err(|error| BadHistory { line, why: error.to_string() })?;
            if told.method == "GET" {
                // There are many of them, and little of each is needed.
                all.reads.extend(told.as_read());
            } else {
                all.writes.push(told);
            }
        }
        Ok(all)
    }

    /// The revisions that were acknowledged of each order: when, and which.
    pub(super) fn revisions(&self) -> HashMap<i64, Vec<(u64, i64)>> {
        let mut known: HashMap<i64, Vec<(u64, i64)>> = HashMap::new();
        for write in self.writes.iter().filter(|write| write.outcome == Outcome::Ok) {
            // The answers of other writes have revisions of other things.
            if matches!(write.asked(), Asked::Create | Asked::Step(..) | Asked::Delivery(..))
                && let (Some(order), Some(revision)) = (write.number("order_id"), write.number("revision"))
                && let Some(done) = write.t_done_us
            {
                known.entry(order).or_default().push((done, revision));
            }
        }
        known
    }

    /// How many creates failed, or may have.
    pub(super) fn creates_not_ok(&self) -> usize {
        let creates = self.writes.iter().filter(|write| write.asked() == Asked::Create);
        creates.filter(|write| write.outcome != Outcome::Ok).count()
    }

    /// When it was first known of each refund that it is in arbitration.
    pub(super) fn appeals(&self) -> HashMap<i64, u64> {
        let mut appeals = HashMap::new();
        for write in self.writes.iter().filter(|write| write.outcome == Outcome::Ok) {
            if let (Asked::Decide(refund_no, Decision::Arbitrate), Some(done)) = (write.asked(), write.t_done_us) {
                let first = appeals.entry(refund_no).or_insert(done);
                *first = done.min(*first);
            }
        }
        appeals
    }
}

impl Write {
    /// What a read by an order's ID has found; `None` for other reads, and for those that were not answered.
    fn as_read(&self) -> Option<Read> {
        let path = self.path.split('?').next()?;
        let order_id = path.strip_prefix("/orders/")?.parse().ok()?;
        let revision = match self.status? {
            404 => None,
            200 => Some(self.number("revision")?),
            _ => return None,
        };
        Some(Read { order_id, revision, sent_us: self.t_invoke_us? })
    }

    pub(super) fn asked(&self) -> Asked {
        let path = self.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if self.method != "POST" {
            return Asked::Other;
        }
        let step = |id: &str, status| id.parse().map_or(Asked::Other, |id| Asked::Step(id, status));
        let delivery = |id: &str, status| id.parse().map_or(Asked::Other, |id| Asked::Delivery(id, status));
        let about = |id: &str, asked: fn(i64) -> Asked| id.parse().map_or(Asked::Other, asked);
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
            ["refunds", number, "approve"] => about(number, |number| Asked::Decide(number, Decision::Grant)),
            ["refunds", number, "reject"] => about(number, |number| Asked::Decide(number, Decision::Reject)),
            ["refunds", number, "arbitrate"] => about(number, |number| Asked::Decide(number, Decision::Arbitrate)),
            ["vorders"] => Asked::VirtualOrder,
            ["vorders", id, "pay"] => about(id, Asked::VirtualPayment),
            ["vorders", id, "cancel"] => about(id, Asked::VirtualCancel),
            _ => Asked::Other,
        }
    }

    /// A number of the answer.
    pub(super) fn number(&self, field: &str) -> Option<i64> {
        let place = ANSWER_FIELDS.iter().position(|known| *known == field)?;
        self.answer.0[place]
    }

    pub(super) fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }
}

pub(super) fn prefix(key: &str) -> Option<&str> {
    key.rsplit_once('-').map(|(prefix, _)| prefix).filter(|prefix| !prefix.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            let line = json!({ "method": "POST", "path": path, "outcome": "ok" });
            serde_json::from_value::<Write>(line).unwrap().asked()
        };
        assert_eq!(of("/orders"), Asked::Create);
        assert_eq!(of("/orders/5/pay"), Asked::Step(5, Status::Paying));
        assert_eq!(of("/restaurants/2/orders/5/accept"), Asked::Step(5, Status::Accepted));
        assert_eq!(of("/orders/5/delivered"), Asked::Delivery(5, DELIVERED));
        assert_eq!(of("/courier/5/picked"), Asked::Delivery(5, PICKED));
        assert_eq!(of("/refunds"), Asked::Refund);
        assert_eq!(of("/refunds/7/approve"), Asked::Decide(7, Decision::Grant));
        assert_eq!(of("/refunds/7/reject"), Asked::Decide(7, Decision::Reject));
        assert_eq!(of("/refunds/7/arbitrate"), Asked::Decide(7, Decision::Arbitrate));
        assert_eq!(of("/refunds/x/arbitrate"), Asked::Other);
        assert_eq!(of("/vorders"), Asked::VirtualOrder);
        assert_eq!(of("/vorders/7/pay"), Asked::VirtualPayment(7));
        assert_eq!(of("/vorders/7/cancel"), Asked::VirtualCancel(7));
        assert_eq!(of("/courier/5/done"), Asked::Delivery(5, DELIVERED));
        assert_eq!(of("/quote"), Asked::Other);
        assert_eq!(of("/orders/x/pay"), Asked::Other);
    }
}
