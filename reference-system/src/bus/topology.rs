//! Which queues there are, what is put into each, and what becomes of a message whose consumer failed.

use serde::{Deserialize, Serialize};

/// How long a message rests after each failure, unless somebody has less patience.
pub(crate) const RETRY_MS: [u32; 3] = [1_000, 5_000, 30_000];

/// Messages to users and restaurants.
pub(crate) const SMS: &str = "q.sms";
/// Pushes to merchants.
pub(crate) const ERS: &str = "q.ers";
/// What became of coupons.
pub(crate) const EPS: &str = "q.eps";
/// Statements of restaurants.
pub(crate) const SETTLE: &str = "q.settle";
/// Reminders.
pub(crate) const TIMER: &str = "q.timer";
/// The ground-truth copy.
pub(crate) const AUDIT: &str = "q.audit";

/// A topic exchange and its queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The exchange.
    pub exchange: String,
    /// Its queues.
    pub queues: Vec<Queue>,
    /// How long a message rests after its first failure, its second, and so on, in milliseconds. One that failed once
    /// more than that is a dead letter.
    pub retry_ms: Vec<u32>,
}

/// A queue. Its ladder of retries and its dead letters are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Patterns of the keys that it gets: `*` is one word, `#` any number of words.
    pub bindings: Vec<String>,
}

impl Queue {
    /// A queue of these patterns.
    #[must_use]
    pub fn new(name: &str, bindings: &[&str]) -> Self {
        Self { name: name.to_owned(), bindings: bindings.iter().map(|&pattern| pattern.to_owned()).collect() }
    }

    /// Whether a message with this key belongs here.
    #[must_use]
    pub fn takes(&self, key: &str) -> bool {
        self.bindings.iter().any(|pattern| matches(pattern, key))
    }

    /// Where a message rests after its `failures`-th failure (from 1).
    #[must_use]
    pub fn resting_place(&self, failures: usize) -> String {
        format!("{}.retry.{failures}", self.name)
    }

    /// Where its dead letters are.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        dead_letters(&self.name)
    }
}

/// Where the dead letters of a queue are.
#[must_use]
pub fn dead_letters(queue: &str) -> String {
    format!("{queue}.dead")
}

impl Topology {
    /// The events of orders: who consumes what, and how long a message rests after each failure.
    #[must_use]
    pub fn of_orders(retry_ms: &[u32]) -> Self {
        Self {
            exchange: "order".to_owned(),
            queues: vec![
                Queue::new(SMS, &["order.paid", "order.accepted", "order.cancelled"]),
                Queue::new(ERS, &["order.pending", "order.cancelled", "order.completed"]),
                Queue::new(EPS, &["order.paid", "order.closed", "order.cancelled"]),
                Queue::new(SETTLE, &["order.completed", "refund.*"]),
                Queue::new(TIMER, &["order.created", "order.pending", "order.accepted"]),
                Queue::new(AUDIT, &["#"]),
            ],
            retry_ms: retry_ms.to_vec(),
        }
    }

    /// The queue with this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name == name)
    }
}

/// Whether a topic pattern of AMQP 0-9-1 matches a key.
fn matches(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                words(rest, key) || key.split_first().is_some_and(|(_, later)| words(pattern, later))
            }
            (Some((word, rest)), Some((first, later))) => (*word == "*" || word == first) && words(rest, later),
            _ => false,
        }
    }
    let split = |text: &'_ str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, key) = (split(pattern), split(key));
    words(&pattern.iter().map(String::as_str).collect::<Vec<_>>(), &key.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_amqp_says() {
        for (pattern, key, expected) in [
            ("order.paid", "order.paid", true),
            ("order.paid", "order.pai", false),
            ("order.*", "order.paid", true),
            ("order.*", "order", false),
            ("order.*", "order.paid.late", false),
            ("order.#", "order", true),
            ("order.#", "order.paid.late", true),
            ("#", "anything.at.all", true),
            ("#.late", "order.paid.late", true),
            ("#.late", "order.paid", false),
            ("*.paid.#", "order.paid", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn the_audit_queue_gets_every_event() {
        let topology = Topology::of_orders(&RETRY_MS);
        for key in ["order.created", "refund.succeeded", "delivery.picked", "vorder.paid"] {
            assert!(topology.queue(AUDIT).is_some_and(|queue| queue.takes(key)), "{key}");
        }
        assert!(!topology.queue(SMS).is_some_and(|queue| queue.takes("order.created")));
    }
}
