//! Sums over parts of a recording, as tables, objectives and effects ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kennel_model::Phase;
use kennel_model::api::{ArrivalRow, RequestRow, TimesView, WorkerView};
use kennel_model::frame::{ArrivalFrame, Latencies, LatenciesError, RequestFrame};

use crate::recording::{ALL, Recording, Stretch};
use crate::runs::phases::{Class, Seconds, Timeline};

/// The sum of some seconds of one request name, or of all together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Total {
    /// Requests of those seconds.
    pub(crate) requests: Arc<RequestFrame>,
    /// Arrivals that were dropped in those seconds, of all scenarios.
    pub(crate) dropped: u64,
    /// Measured seconds, without the tail after the planned end of the load, where only stragglers end.
    pub(crate) seconds: u32,
}

impl Total {
    /// Failed over all; absent when no request ended.
    pub(crate) fn error_rate(&self) -> Option<f64> {
        (self.requests.count > 0).then(|| self.requests.failed() as f64 / self.requests.count as f64)
    }

    /// Requests per second; absent when no second was measured.
    pub(crate) fn rate(&self) -> Option<f64> {
        (self.seconds > 0).then(|| self.requests.count as f64 / f64::from(self.seconds))
    }
}

/// The sums that were asked for.
#[derive(Debug)]
pub(crate) struct Totals<'a> {
    recording: &'a Recording,
    classes: BTreeMap<Class, Stretch>,
    sums: BTreeMap<Seconds, Stretch>,
}

impl<'a> Totals<'a> {
    /// Sums up all that is `wanted`.
    pub(crate) fn of(recording: &'a Recording, timeline: &Timeline, wanted: BTreeSet<Seconds>) -> Self {
        let classes = recording.classes(timeline);
        let sum = |seconds: &Seconds| {
            let mut sum = Stretch::default();
            classes.iter().filter(|(class, _)| seconds.include(class)).for_each(|(_, part)| sum.merge(part));
            sum
        };
        let sums = wanted.into_iter().map(|seconds| (seconds.clone(), sum(&seconds))).collect();
        Self { recording, classes, sums }
    }

    /// The sum of some seconds that were wanted; empty when nothing was measured in them.
    pub(crate) fn get(&self, seconds: &Seconds, request: Option<&str>) -> Total {
        let Some(sum) = self.sums.get(seconds) else {
            return Total::default();
        };
        let requests = match request {
            Some(name) => sum.requests.get(name).cloned().unwrap_or_default(),
            None => Arc::clone(&sum.all),
        };
        Total { requests, dropped: sum.dropped(), seconds: sum.planned_s }
    }

    /// The sum from a second on, of a request that a steady state names.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn since(&self, second: u32, request: Option<&str>) -> Result<Total, LatenciesError> {
        let window = self.recording.window(request, second..=u32::MAX)?;
        Ok(Total { requests: Arc::new(window.requests), dropped: window.dropped, seconds: window.planned_s })
    }

    /// One row for each request name (and `all`) over the run and in each of `phases` in which it was measured.
    pub(crate) fn rows(&self, names: &BTreeSet<&str>, phases: &BTreeSet<Phase>) -> Vec<RequestRow> {
        let mut rows = Vec::new();
        for request in std::iter::once(None).chain(names.iter().map(|name| Some(*name))) {
            for phase in std::iter::once(None).chain(phases.iter().map(|phase| Some(*phase))) {
                let seconds = phase.map_or(Seconds::Run, Seconds::Phase);
                let total = self.get(&seconds, request);
                if total.requests.count > 0 {
                    rows.push(row(request.unwrap_or(ALL), phase, &total));
                }
            }
        }
        rows
    }

    /// What became of planned arrivals after warm-up, per scenario.
    pub(crate) fn arrivals(&self) -> Vec<ArrivalRow> {
        // A scenario that only warm-up saw has a row too.
        let mut sums: BTreeMap<&str, ArrivalFrame> = BTreeMap::new();
        for (class, stretch) in &self.classes {
            for (scenario, arrivals) in &stretch.arrivals {
                let sum = sums.entry(scenario).or_default();
                if Seconds::Run.include(class) {
                    sum.merge(arrivals);
                }
            }
        }
        sums.into_iter()
            .map(|(scenario, sum)| ArrivalRow {
                scenario: scenario.to_owned(),
                scheduled: sum.scheduled,
                started: sum.started,
                dropped: sum.dropped,
            })
            .collect()
    }

    /// How the load workers fared after warm-up.
    pub(crate) fn workers(&self) -> WorkerView {
        let resident_bytes = self.classes.values().map(|stretch| stretch.resident_bytes).max().unwrap_or_default();
        let Some(run) = self.sums.get(&Seconds::Run) else {
            return WorkerView { resident_bytes, ..WorkerView::default() };
        };
        let requests = run.all.count;
        let cpu_us_per_request = if requests == 0 { 0.0 } else { run.cpu_us as f64 / requests as f64 };
        WorkerView { lag_p99_ms: run.lag.percentile_ms(99.0), cpu_us_per_request, resident_bytes }
    }
}

fn row(request: &str, phase: Option<Phase>, total: &Total) -> RequestRow {
    let requests = &total.requests;
    RequestRow {
        request: request.to_owned(),
        phase,
        count: requests.count,
        rate: total.rate().unwrap_or_default(),
        failures: requests.failures.clone(),
        error_rate: total.error_rate().unwrap_or_default(),
        response: times(&requests.response_time),
        service: times(&requests.service_time),
        bytes: requests.bytes,
    }
}

fn times(latencies: &Latencies) -> TimesView {
    TimesView {
        p50: latencies.percentile_ms(50.0),
        p90: latencies.percentile_ms(90.0),
        p95: latencies.percentile_ms(95.0),
        p99: latencies.percentile_ms(99.0),
        max: latencies.max_ms(),
        mean: latencies.mean_ms(),
    }
}
