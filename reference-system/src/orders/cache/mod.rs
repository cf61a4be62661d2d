//! Copies of orders on the key-value server `kv-cache` (`cache.design`): what they look like and how long they live.
//!
//! - `o:{order}`: the order and its revision. Whoever reads the row or has changed it writes it there, and no older
//!   revision overwrites a newer one.
//! - `ul:{user}`: the IDs of the user's latest orders. Who reads them from the store takes a lease first, and a new order
//!   removes index and lease, so that an index from before it is not kept.
//!
//! Whoever was answered reads what was answered, or newer. Reads alone promise no order: while the cache hangs, one may
//! find in the store a change that the cache was not told of yet, and the next its copy from before.
//!
//! - `vouch:{store}`: a store's word that it owes the cache nothing (`vouchers`); without it nobody believes a copy.
//!
//! `writes` is the store's side, `debt` what it has not told yet; `reads` is the order pool's side, and `flights` lets one
//! read serve many who miss.

mod debt;
mod flights;
pub(crate) mod reads;
mod vouchers;
pub(crate) mod writes;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Order;
use crate::config::now_ms;
use crate::ids::{OrderId, UserId, mix64};

/// How many IDs an index holds at most.
pub(crate) const LONGEST_INDEX: usize = 20;
/// How long a copy and an index live, give or take a tenth.
pub(crate) const LIFE: Duration = Duration::from_secs(300);
/// How long it is remembered that there is no such order, give or take a tenth.
pub(crate) const LIFE_OF_NOTHING: Duration = Duration::from_secs(5);
/// The keys of copies, of indexes, of whole answers, and of vouchers.
pub(crate) const PATTERNS: [&str; 4] = ["o:*", "ul:*", "api:*", "vouch:*"];

/// The key of an order's copy.
pub(crate) fn order_key(order_id: OrderId) -> String {
    format!("o:{order_id}")
}

/// The order of a key.
pub(crate) fn order_of(key: &str) -> Option<OrderId> {
    key.strip_prefix("o:")?.parse().ok().map(OrderId)
}

/// The key of a user's index.
pub(crate) fn index_key(user_id: UserId) -> String {
    format!("ul:{user_id}")
}

/// The user of a key.
pub(crate) fn user_of(key: &str) -> Option<UserId> {
    key.strip_prefix("ul:")?.parse().ok().map(UserId)
}

/// A copy without its revision: the script that writes it puts that before it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Copied<O> {
    /// When it was written, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// `None`: there is no such order.
    pub(crate) order: Option<O>,
}

/// Revision and copy of a value; `None` if it is neither.
pub(crate) fn copy_of(value: &[u8]) -> Option<(i64, Copied<Order>)> {
    let end = value.iter().position(|byte| *byte == b' ')?;
    let revision = std::str::from_utf8(&value[..end]).ok()?.parse().ok()?;
    Some((revision, serde_json::from_slice(&value[end + 1..]).ok()?))
}

/// What the script is told of an order: key, revision, copy and life.
fn telling(order: &Order) -> (String, Vec<Vec<u8>>) {
    let copied = Copied { at_ms: now_ms(), order: Some(order) };
    arguments(order.order_id, order.revision, &copied, LIFE)
}

/// The same of an order that is not there: it has come before the first revision.
fn telling_of_nothing(order_id: OrderId) -> (String, Vec<Vec<u8>>) {
    arguments(order_id, 0, &Copied::<&Order> { at_ms: now_ms(), order: None }, LIFE_OF_NOTHING)
}

fn arguments(order_id: OrderId, revision: i64, copied: &Copied<&Order>, life: Duration) -> (String, Vec<Vec<u8>>) {
    // An order is plain data: it can always be written.
    let text = serde_json::to_vec(copied).unwrap_or_default();
    let life = spread(life, order_id.0).as_millis().to_string();
    (order_key(order_id), vec![revision.to_string().into_bytes(), text, life.into_bytes()])
}

/// An index as it is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct Index {
    /// When it was written, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// The latest first.
    pub(crate) orders: Vec<OrderId>,
}

/// The index of a value; `None` if it is a lease.
pub(crate) fn index_of(value: &[u8]) -> Option<Index> {
    serde_json::from_slice(value).ok()
}

/// A life that ends up to a tenth earlier or later: what was written together does not end together.
fn spread(life: Duration, salt: i64) -> Duration {
    let drawn = mix64((salt as u64) ^ mix64(now_ms() as u64)) % 2_001;
    life.mul_f64(0.9 + drawn as f64 / 10_000.0)
}

/// What is kept: the label of its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    List,
}

impl Kind {
    const ALL: [(Self, &'static str); 2] = [(Self::Object, "object"), (Self::List, "list")];
}

/// What became of questions to the cache, and of changes it was to be told.
#[derive(Debug, Default)]
struct Counts {
    hits: [AtomicU64; 2],
    misses: [AtomicU64; 2],
    errors: [AtomicU64; 2],
}

impl Counts {
    fn hit(&self, kind: Kind) {
        self.hits[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn miss(&self, kind: Kind) {
        self.misses[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, kind: Kind) {
        self.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The lines of `/metrics`.
    fn write(&self, instance: &str, out: &mut String) {
        for (name, counts) in [
            ("cache_hits_total", &self.hits),
            ("cache_misses_total", &self.misses),
            ("cache_errors_total", &self.errors),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# TYPE {name} counter");
            for (kind, label) in Kind::ALL {
                let count = counts[kind as usize].load(Ordering::Relaxed);
                let _ = writeln!(out, "{name}{{instance=\"{instance}\",kind=\"{label}\"}} {count}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_differ_by_at_most_a_tenth_and_not_all_are_the_same() {
        let lives: Vec<Duration> = (0..200).map(|salt| spread(LIFE, salt)).collect();
        assert!(lives.iter().all(|life| (LIFE.mul_f64(0.89)..=LIFE.mul_f64(1.11)).contains(life)), "{lives:?}");
        let (least, most) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
        assert!(*most - *least > LIFE / 10, "{least:?} {most:?}");
    }

    #[test]
    fn keys_name_what_they_are_of_and_a_lease_is_no_index() {
        assert_eq!(order_of(&order_key(OrderId(7))), Some(OrderId(7)));
        assert_eq!(user_of(&index_key(UserId(8))), Some(UserId(8)));
        assert_eq!((order_of("ul:8"), user_of("ul:x")), (None, None));
        assert!(index_of(b"lease:eos-c-1:3").is_none());
        let (_, arguments) = telling_of_nothing(OrderId(9));
        let value = [&arguments[0][..], b" ", &arguments[1]].concat();
        let (revision, copied) = copy_of(&value).unwrap();
        assert_eq!((revision, copied.order), (0, None));
        assert!(copy_of(b"lease:1").is_none() && copy_of(b"x {}").is_none());
    }
}
