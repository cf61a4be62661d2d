//! Stretches: sums of measurements, from one frame up to a whole run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use kennel_model::frame::{ArrivalFrame, Frame, Latencies, RequestFrame};

/// The sum of some frames. Cheap to clone: histograms are shared until one side adds to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stretch {
    /// By request name.
    pub(crate) requests: BTreeMap<String, Arc<RequestFrame>>,
    /// All request names together.
    pub(crate) all: Arc<RequestFrame>,
    /// By scenario.
    pub(crate) arrivals: BTreeMap<String, ArrivalFrame>,
    /// The workers' lag in handing out arrivals.
    pub(crate) lag: Arc<Latencies>,
    /// CPU time of the workers, µs.
    pub(crate) cpu_us: u64,
    /// Most memory that a worker held.
    pub(crate) resident_bytes: u64,
    /// Measured seconds, without the tail after the planned end of the load, where only stragglers end.
    pub(crate) planned_s: u32,
}

impl From<Frame> for Stretch {
    fn from(frame: Frame) -> Self {
        let requests = frame.requests.into_iter().map(|(name, measured)| (name, Arc::new(measured))).collect();
        Self {
            all: together(&requests),
            requests,
            arrivals: frame.arrivals,
            lag: Arc::new(frame.worker.lag),
            cpu_us: frame.worker.cpu_us,
            resident_bytes: frame.worker.resident_bytes,
            planned_s: 0,
        }
    }
}

/// Measurements of all names together.
pub(super) fn together(requests: &BTreeMap<String, Arc<RequestFrame>>) -> Arc<RequestFrame> {
    let mut named = requests.values();
    let mut sum = named.next().cloned().unwrap_or_default();
    named.for_each(|measured| Arc::make_mut(&mut sum).merge(measured));
    sum
}

impl Stretch {
    /// Adds other frames.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.requests.is_empty() {
            self.all = Arc::clone(&other.all);
        } else if !other.requests.is_empty() {
            Arc::make_mut(&mut self.all).merge(&other.all);
        }
        for (name, measured) in &other.requests {
            match self.requests.entry(name.clone()) {
                Entry::Occupied(mut sum) => Arc::make_mut(sum.get_mut()).merge(measured),
                Entry::Vacant(place) => drop(place.insert(Arc::clone(measured))),
            }
        }
        for (scenario, arrivals) in &other.arrivals {
            self.arrivals.entry(scenario.clone()).or_default().merge(arrivals);
        }
        if self.lag.is_empty() {
            self.lag = Arc::clone(&other.lag);
        } else if !other.lag.is_empty() {
            Arc::make_mut(&mut self.lag).merge(&other.lag);
        }
        self.cpu_us += other.cpu_us;
        self.resident_bytes = self.resident_bytes.max(other.resident_bytes);
        self.planned_s += other.planned_s;
    }

    /// Arrivals that found no user in time, over all scenarios.
    pub(crate) fn dropped(&self) -> u64 {
        self.arrivals.values().map(|arrivals| arrivals.dropped).sum()
    }
}
