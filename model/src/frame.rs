//! Frames: one worker's measurements for one second, with histograms that merge without loss.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::run::RunId;

/// Longest time that is told apart: 10 minutes, in microseconds. Longer ones count as this.
pub const MAX_LATENCY_US: u64 = 600_000_000;

/// A distribution of times in microseconds, 1 µs to 10 min at three significant digits (HdrHistogram).
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// A histogram blob that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read a stored histogram: {0}")]
pub struct LatenciesError(String);

impl Latencies {
    /// An empty distribution.
    #[must_use]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("constant bounds are valid");
        Self(histogram)
    }

    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        self.record_us(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one time in microseconds.
    pub fn record_us(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// Adds all times of another distribution.
    pub fn merge(&mut self, other: &Self) {
        // Same bounds by construction, so every value of one is in range of the other.
        let _ = self.0.add(&other.0);
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time below which `percentile` (0 to 100) of the times lie, in microseconds; 0 when empty.
    #[must_use]
    pub fn percentile_us(&self, percentile: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_percentile(percentile) }
    }

    /// As [`Self::percentile_us`], in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, percentile: f64) -> f64 {
        self.percentile_us(percentile) as f64 / 1e3
    }

    /// Longest time in milliseconds; 0 when empty.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// Mean in milliseconds; 0 when empty.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.mean() / 1e3 }
    }

    /// Forgets all times.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// The stored form: HdrHistogram's V2 encoding, deflated.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to a Vec cannot fail, and the bounds are far below what the encoding holds.
        let _ = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When the bytes are not such a histogram.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LatenciesError> {
        let read: Histogram<u64> =
            HdrDeserializer::new().deserialize(&mut &bytes[..]).map_err(|e| LatenciesError(e.to_string()))?;
        let mut own = Self::new();
        own.0.add(&read).map_err(|e| LatenciesError(e.to_string()))?;
        Ok(own)
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// One worker's measurements for one second of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The run.
    pub run: RunId,
    /// Name of the agent.
    pub agent: String,
    /// Which second, counted from the start of the load.
    pub second: u32,
    /// What was measured, by request name.
    pub requests: BTreeMap<String, RequestFrame>,
    /// What became of the planned arrivals, by scenario; empty in the closed model.
    pub arrivals: BTreeMap<String, ArrivalFrame>,
    /// How the load worker itself fared.
    pub worker: WorkerFrame,
}

/// Answers (and failures to answer) to one request name in one second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Requests that ended in this second, well or badly.
    pub count: u64,
    /// Failed ones by kind: `status 503`, `timeout`, `connection refused`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
    /// Bytes of answers' bodies.
    pub bytes: u64,
    /// Time from the intended start to the end of the answer.
    pub response_time: Latencies,
    /// Time from the actual send to the end of the answer.
    pub service_time: Latencies,
}

impl RequestFrame {
    /// Failed requests of all kinds.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds another second's, agent's or name's measurements.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        for (kind, count) in &other.failures {
            *self.failures.entry(kind.clone()).or_default() += count;
        }
        self.response_time.merge(&other.response_time);
        self.service_time.merge(&other.service_time);
    }
}

/// What became of one scenario's planned arrivals in one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArrivalFrame {
    /// Arrivals that were due.
    pub scheduled: u64,
    /// Arrivals that a user took.
    pub started: u64,
    /// Arrivals that found no user within the profile's patience.
    pub dropped: u64,
}

impl ArrivalFrame {
    /// Adds another second's or agent's arrivals.
    pub fn merge(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.started += other.started;
        self.dropped += other.dropped;
    }
}

/// How the load worker itself fared in one second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkerFrame {
    /// Users that were busy at the end of the second.
    pub busy_users: u32,
    /// How long after their intended time arrivals were handed out, when a user was free: the worker's own lag.
    pub lag: Latencies,
    /// CPU time the worker used in this second, in microseconds.
    pub cpu_us: u64,
    /// Memory the worker holds, in bytes.
    pub resident_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_distribution_reads_zero() {
        assert_eq!(Latencies::new().percentile_us(99.0), 0);
        assert_eq!(Latencies::new().mean_ms(), 0.0);
    }

    #[test]
    fn a_broken_blob_is_an_error() {
        assert!(Latencies::from_bytes(b"nonsense").is_err());
        assert!(serde_json::from_str::<Latencies>("\"AAAA\"").is_err());
    }

    proptest! {
        #[test]
        fn merging_frames_equals_measuring_at_once(times in prop::collection::vec(1_u64..MAX_LATENCY_US, 1..300), cut in 0_usize..300) {
            let cut = cut.min(times.len());
            let record = |times: &[u64]| { let mut l = Latencies::new(); times.iter().for_each(|t| l.record_us(*t)); l };
            let mut merged = record(&times[..cut]);
            let travelled: Latencies = serde_json::from_str(&serde_json::to_string(&record(&times[cut..])).unwrap()).unwrap();
            merged.merge(&travelled);
            let whole = record(&times);
            prop_assert_eq!(merged.count(), whole.count());
            for p in [1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                prop_assert_eq!(merged.percentile_us(p), whole.percentile_us(p));
            }
        }

        #[test]
        fn a_percentile_is_within_a_thousandth(mut times in prop::collection::vec(1_u64..MAX_LATENCY_US, 1..300)) {
            let mut latencies = Latencies::new();
            times.iter().for_each(|t| latencies.record_us(*t));
            times.sort_unstable();
            let exact = times[((times.len() as f64 * 0.99).ceil() as usize).max(1) - 1];
            let read = latencies.percentile_us(99.0);
            prop_assert!(read.abs_diff(exact) as f64 <= exact as f64 * 0.001 + 1.0, "{} read as {}", exact, read);
        }
    }
}
