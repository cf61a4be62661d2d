//! What was measured in a run, second by second, with histograms in their stored form: a few hundred bytes each,
//! where an open one takes 170 kB.

use std::collections::{BTreeMap, BTreeSet};

use kennel_model::frame::{ArrivalFrame, Frame, Latencies, LatenciesError, RequestFrame};

/// One worker's measurements of one request name in one second.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Measured {
    pub(crate) count: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) bytes: u64,
    /// Response times as [`Latencies::to_bytes`] writes them.
    pub(crate) response: Vec<u8>,
    /// Service times, likewise.
    pub(crate) service: Vec<u8>,
}

impl Measured {
    fn encode(frame: &RequestFrame) -> Self {
        Self {
            count: frame.count,
            failures: frame.failures.clone(),
            bytes: frame.bytes,
            response: frame.response_time.to_bytes(),
            service: frame.service_time.to_bytes(),
        }
    }

    fn decode(&self) -> Result<RequestFrame, LatenciesError> {
        Ok(RequestFrame {
            count: self.count,
            failures: self.failures.clone(),
            bytes: self.bytes,
            response_time: Latencies::from_bytes(&self.response)?,
            service_time: Latencies::from_bytes(&self.service)?,
        })
    }
}

/// How a worker fared in one second.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct WorkerHealth {
    pub(crate) busy_users: u32,
    /// Its lag as [`Latencies::to_bytes`] writes it.
    pub(crate) lag: Vec<u8>,
    pub(crate) cpu_us: u64,
    pub(crate) resident_bytes: u64,
}

/// A frame in the form in which it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredFrame {
    pub(crate) second: u32,
    pub(crate) agent: String,
    pub(crate) requests: BTreeMap<String, Measured>,
    pub(crate) arrivals: BTreeMap<String, ArrivalFrame>,
    pub(crate) worker: WorkerHealth,
}

impl StoredFrame {
    pub(crate) fn encode(frame: &Frame) -> Self {
        Self {
            second: frame.second,
            agent: frame.agent.clone(),
            requests: frame.requests.iter().map(|(name, r)| (name.clone(), Measured::encode(r))).collect(),
            arrivals: frame.arrivals.clone(),
            worker: WorkerHealth {
                busy_users: frame.worker.busy_users,
                lag: frame.worker.lag.to_bytes(),
                cpu_us: frame.worker.cpu_us,
                resident_bytes: frame.worker.resident_bytes,
            },
        }
    }
}

/// Everything that was measured in one second, by all workers.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Second {
    pub(crate) requests: BTreeMap<String, Vec<Measured>>,
    pub(crate) arrivals: BTreeMap<String, ArrivalFrame>,
    pub(crate) workers: Vec<WorkerHealth>,
}

impl Second {
    /// Measurements by request name, merged over workers and late frames.
    pub(crate) fn merged(&self) -> Result<BTreeMap<String, RequestFrame>, LatenciesError> {
        self.requests
            .iter()
            .map(|(name, parts)| {
                let mut parts = parts.iter();
                let mut sum = parts.next().map_or_else(|| Ok(RequestFrame::default()), Measured::decode)?;
                for part in parts {
                    sum.merge(&part.decode()?);
                }
                Ok((name.clone(), sum))
            })
            .collect()
    }

    /// Measurements of one request name, or of all together.
    pub(crate) fn total(&self, request: Option<&str>) -> Result<RequestFrame, LatenciesError> {
        let mut sum = RequestFrame::default();
        for (name, parts) in &self.requests {
            if request.is_none_or(|request| request == name) {
                for part in parts {
                    sum.merge(&part.decode()?);
                }
            }
        }
        Ok(sum)
    }

    /// Arrivals that found no user in time, over all scenarios.
    pub(crate) fn dropped(&self) -> u64 {
        self.arrivals.values().map(|arrivals| arrivals.dropped).sum()
    }
}

/// The seconds of a run that were measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Recording {
    seconds: BTreeMap<u32, Second>,
}

impl Recording {
    /// Adds a frame. Another frame of the same second and agent adds to it: it is a late part of the same second.
    pub(crate) fn add(&mut self, frame: StoredFrame) {
        let second = self.seconds.entry(frame.second).or_default();
        for (name, measured) in frame.requests {
            second.requests.entry(name).or_default().push(measured);
        }
        for (scenario, arrivals) in &frame.arrivals {
            second.arrivals.entry(scenario.clone()).or_default().merge(arrivals);
        }
        second.workers.push(frame.worker);
    }

    /// The measured seconds in order.
    pub(crate) fn seconds(&self) -> impl DoubleEndedIterator<Item = (u32, &Second)> {
        self.seconds.iter().map(|(at, second)| (*at, second))
    }

    /// One second, if it was measured.
    pub(crate) fn second(&self, at: u32) -> Option<&Second> {
        self.seconds.get(&at)
    }

    /// The last measured second.
    pub(crate) fn last(&self) -> Option<u32> {
        self.seconds.keys().next_back().copied()
    }

    /// How many seconds were measured.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.seconds.len()).unwrap_or(u32::MAX)
    }

    /// Names of all requests that were measured.
    pub(crate) fn request_names(&self) -> BTreeSet<&str> {
        self.seconds.values().flat_map(|second| second.requests.keys().map(String::as_str)).collect()
    }
}
