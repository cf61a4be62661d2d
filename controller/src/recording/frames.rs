//! Frames in the form in which they are kept: histograms take a few hundred bytes each, where an open one takes 180 kB.

use std::collections::BTreeMap;
use std::sync::Arc;

use kennel_model::frame::{ArrivalFrame, Frame, Latencies, LatenciesError, RequestFrame};

use super::stretch::{Stretch, together};

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

    /// Its measurements, with open histograms.
    ///
    /// # Errors
    /// When a histogram cannot be read.
    pub(crate) fn open(self) -> Result<Stretch, LatenciesError> {
        let requests = self.requests.into_iter().map(|(name, measured)| Ok((name, Arc::new(measured.decode()?))));
        let requests = requests.collect::<Result<_, _>>()?;
        Ok(Stretch {
            all: together(&requests),
            requests,
            arrivals: self.arrivals,
            lag: Arc::new(Latencies::from_bytes(&self.worker.lag)?),
            cpu_us: self.worker.cpu_us,
            resident_bytes: self.worker.resident_bytes,
            planned_s: 0,
        })
    }
}
