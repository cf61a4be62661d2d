//! What a subscription has seen: counts for `/metrics` and `/debug/state`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde_json::{Value, json};

/// What a subscription has seen since its process began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    taken: AtomicU64,
    repeated: AtomicU64,
    failed: AtomicU64,
    batches: AtomicU64,
    /// Questions for messages that came to an end, with messages or without.
    rounds: AtomicU64,
    held: AtomicU64,
    /// Effects, and the time from each event to its effect.
    applied: AtomicU64,
    lag_sum_ms: AtomicI64,
    lag_last_ms: AtomicI64,
}

impl Counts {
    /// So many were handed out at once.
    pub(super) fn took(&self, messages: usize) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        if messages > 0 {
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.taken.fetch_add(messages as u64, Ordering::Relaxed);
        }
    }

    /// One could not be read.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// So many are held until they are due.
    pub(super) fn holds(&self, messages: usize) {
        self.held.store(messages as u64, Ordering::Relaxed);
    }

    /// Events of these moments have taken effect, `repeated` of them before.
    pub(super) fn applied(&self, repeated: usize, at_ms: &[i64], now_ms: i64) {
        self.repeated.fetch_add(repeated as u64, Ordering::Relaxed);
        for at_ms in at_ms {
            let lag = (now_ms - at_ms).max(0);
            self.applied.fetch_add(1, Ordering::Relaxed);
            self.lag_sum_ms.fetch_add(lag, Ordering::Relaxed);
            self.lag_last_ms.store(lag, Ordering::Relaxed);
        }
    }

    /// For `/debug/state`.
    pub(crate) fn describe(&self) -> Value {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "taken": of(&self.taken),
            "repeated": of(&self.repeated),
            "failed": of(&self.failed),
            "batches": of(&self.batches),
            "rounds": of(&self.rounds),
            "held": of(&self.held),
            "lag_ms": self.lag_last_ms.load(Ordering::Relaxed),
        })
    }

    /// For `/metrics`.
    pub(crate) fn write(&self, instance: &str, queue: &str, out: &mut String) {
        let labels = format!("{{instance=\"{instance}\",queue=\"{queue}\"}}");
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Writing to a String cannot fail.
        for (name, count) in
            [("taken", &self.taken), ("repeated", &self.repeated), ("failed", &self.failed), ("batches", &self.batches)]
        {
            let _ = writeln!(
                out,
                "# TYPE bus_consumer_{name}_total counter\nbus_consumer_{name}_total{labels} {}",
                of(count)
            );
        }
        let _ = writeln!(out, "# TYPE bus_consumer_held gauge\nbus_consumer_held{labels} {}", of(&self.held));
        let seconds = |milliseconds: &AtomicI64| milliseconds.load(Ordering::Relaxed) as f64 / 1_000.0;
        let _ = writeln!(
            out,
            "# TYPE bus_consumer_last_lag_seconds gauge\nbus_consumer_last_lag_seconds{labels} {:.3}",
            seconds(&self.lag_last_ms)
        );
        let _ = writeln!(
            out,
            "# TYPE bus_consumer_lag_seconds summary\nbus_consumer_lag_seconds_count{labels} {}\n\
             bus_consumer_lag_seconds_sum{labels} {:.3}",
            of(&self.applied),
            seconds(&self.lag_sum_ms)
        );
    }
}
