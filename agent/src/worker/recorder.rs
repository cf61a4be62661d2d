//! What is measured within the current second. The runtime has one thread, so it is a thread-local without locks; a
//! second's measurements are handed whole to the writer thread, which encodes them while the load goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kennel_model::frame::{ArrivalFrame, Frame, Latencies, RequestFrame, WorkerFrame};
use kennel_model::run::RunId;

/// What is measured of one request name within a second.
#[derive(Debug, Default)]
struct Slot {
    count: u64,
    failures: Vec<(String, u64)>,
    bytes: u64,
    response_time: Latencies,
    service_time: Latencies,
}

/// The measurements of one second.
#[derive(Debug)]
pub(super) struct Measurements {
    slots: Vec<Slot>,
    arrivals: Vec<ArrivalFrame>,
    lag: Latencies,
    raw: Vec<RawRequest>,
}

/// One request as the raw log shows it.
#[derive(Debug)]
struct RawRequest {
    name: usize,
    intended_us: u64,
    response_us: u64,
    service_us: u64,
    failure: Option<String>,
}

/// What the frames say about where they come from, and the names behind the indexes.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    pub(super) run: RunId,
    pub(super) agent: String,
    pub(super) requests: Vec<String>,
    pub(super) scenarios: Vec<String>,
    pub(super) open_model: bool,
}

struct Recorder {
    start: Instant,
    current: Measurements,
    busy: u32,
    keep_raw: bool,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

impl Measurements {
    pub(super) fn new(labels: &Labels) -> Self {
        Self {
            slots: labels.requests.iter().map(|_| Slot::default()).collect(),
            arrivals: vec![ArrivalFrame::default(); labels.scenarios.len()],
            lag: Latencies::new(),
            raw: Vec::new(),
        }
    }

    /// Forgets everything but keeps the memory.
    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.count = 0;
            slot.bytes = 0;
            slot.failures.clear();
            slot.response_time.clear();
            slot.service_time.clear();
        }
        self.arrivals.fill(ArrivalFrame::default());
        self.lag.clear();
        self.raw.clear();
    }

    /// Whether nothing was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.count == 0)
            && self.arrivals.iter().all(|arrivals| *arrivals == ArrivalFrame::default())
    }

    /// The second as a frame.
    pub(super) fn frame(&self, second: u32, labels: &Labels, worker: WorkerFrame) -> Frame {
        let mut requests: BTreeMap<String, RequestFrame> = BTreeMap::new();
        for (slot, name) in self.slots.iter().zip(&labels.requests).filter(|(slot, _)| slot.count > 0) {
            // Two scenarios may measure under one name.
            requests.entry(name.clone()).or_default().merge(&RequestFrame {
                count: slot.count,
                failures: slot.failures.iter().cloned().collect(),
                bytes: slot.bytes,
                response_time: slot.response_time.clone(),
                service_time: slot.service_time.clone(),
            });
        }
        let arrivals = if labels.open_model {
            labels.scenarios.iter().cloned().zip(self.arrivals.iter().copied()).collect()
        } else {
            BTreeMap::new()
        };
        let worker = WorkerFrame { lag: self.lag.clone(), ..worker };
        Frame { run: labels.run, agent: labels.agent.clone(), second, requests, arrivals, worker }
    }

    /// Appends the second's requests to the raw log.
    pub(super) fn write_raw(&self, labels: &Labels, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        for raw in &self.raw {
            writeln!(
                out,
                "{},{},{},{},{}",
                labels.requests.get(raw.name).map_or("", String::as_str),
                raw.intended_us,
                raw.response_us,
                raw.service_us,
                raw.failure.as_deref().unwrap_or(""),
            )?;
        }
        out.flush()
    }
}

/// Starts measuring on this thread.
pub(super) fn start(at: Instant, measurements: Measurements, keep_raw: bool) {
    RECORDER.set(Some(Recorder { start: at, current: measurements, busy: 0, keep_raw }));
}

/// Takes the measurements so far and goes on with an empty set; also says how many users are busy.
pub(super) fn swap(fresh: Measurements) -> Option<(Measurements, u32)> {
    RECORDER.with_borrow_mut(|recorder| {
        let recorder = recorder.as_mut()?;
        Some((std::mem::replace(&mut recorder.current, fresh), recorder.busy))
    })
}

fn with(change: impl FnOnce(&mut Recorder)) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            change(recorder);
        }
    });
}

/// Counts a request that ended now.
pub(super) fn request(
    name: usize,
    intended: Instant,
    sent: Instant,
    ended: Instant,
    bytes: u64,
    failure: Option<String>,
) {
    with(|recorder| {
        let (response, service) = (ended.saturating_duration_since(intended), ended.saturating_duration_since(sent));
        if recorder.keep_raw {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            recorder.current.raw.push(RawRequest {
                name,
                intended_us: micros(intended.saturating_duration_since(recorder.start)),
                response_us: micros(response),
                service_us: micros(service),
                failure: failure.clone(),
            });
        }
        let Some(slot) = recorder.current.slots.get_mut(name) else { return };
        slot.count += 1;
        slot.bytes += bytes;
        slot.response_time.record(response);
        slot.service_time.record(service);
        if let Some(kind) = failure {
            match slot.failures.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => slot.failures.push((kind, 1)),
            }
        }
    });
}

/// Counts arrivals that became due.
pub(super) fn scheduled(scenario: usize) {
    with(|recorder| {
        if let Some(arrivals) = recorder.current.arrivals.get_mut(scenario) {
            arrivals.scheduled += 1;
        }
    });
}

/// Counts an arrival that a user took; `lag` is how late, when a user had been waiting for it.
pub(super) fn started(scenario: usize, lag: Option<Duration>) {
    with(|recorder| {
        recorder.busy += 1;
        if let Some(lag) = lag {
            recorder.current.lag.record(lag);
        }
        if let Some(arrivals) = recorder.current.arrivals.get_mut(scenario) {
            arrivals.started += 1;
        }
    });
}

/// Counts a user that finished its iteration.
pub(super) fn finished() {
    with(|recorder| recorder.busy = recorder.busy.saturating_sub(1));
}

/// Counts arrivals that found no user in time.
pub(super) fn dropped(scenario: usize, count: u64) {
    with(|recorder| {
        if let Some(arrivals) = recorder.current.arrivals.get_mut(scenario) {
            arrivals.dropped += count;
        }
    });
}

/// How many users are busy.
pub(super) fn busy() -> u32 {
    RECORDER.with_borrow(|recorder| recorder.as_ref().map_or(0, |recorder| recorder.busy))
}
