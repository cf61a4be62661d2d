//! Sums over parts of a recording: one pass decodes each stored histogram once and adds it to every sum that wants it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kennel_model::Phase;
use kennel_model::api::{ArrivalRow, RequestRow, SecondView, SeriesView, TimesView, WorkerView};
use kennel_model::frame::{ArrivalFrame, Latencies, LatenciesError, RequestFrame};

use crate::recording::{Recording, Second};
use crate::runs::phases::{Seconds, Timeline};

/// The name under which all requests together are shown.
pub(crate) const ALL: &str = "all";

/// Part of a recording: some seconds of one request name, or of all together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) seconds: Seconds,
    pub(crate) request: Option<String>,
}

/// The sum of a part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Total {
    /// Requests of those seconds.
    pub(crate) requests: RequestFrame,
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

/// The sums that were asked for, and the recording second by second.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    sums: HashMap<Part, Total>,
    pub(crate) series: SeriesView,
}

impl Totals {
    /// Sums every part that is `wanted`.
    ///
    /// # Errors
    /// When a stored histogram cannot be read.
    pub(crate) fn of(
        recording: &Recording,
        timeline: &Timeline,
        wanted: BTreeSet<Part>,
    ) -> Result<Self, LatenciesError> {
        let mut totals =
            Self { sums: wanted.into_iter().map(|part| (part, Total::default())).collect(), ..Self::default() };
        for (at, second) in recording.seconds() {
            let by_name = second.merged()?;
            let all = merge_all(&by_name);
            for (part, total) in &mut totals.sums {
                if !timeline.covers(&part.seconds, at) {
                    continue;
                }
                total.seconds += u32::from(at < timeline.planned_seconds());
                total.dropped += second.dropped();
                let measured = part.request.as_ref().map_or(Some(&all), |name| by_name.get(name));
                if let Some(measured) = measured {
                    total.requests.merge(measured);
                }
            }
            for (name, view) in views(at, second, &by_name, &all) {
                totals.series.series.entry(name).or_default().push(view);
            }
        }
        Ok(totals)
    }

    /// The sum of a part; empty when nothing was measured in it.
    pub(crate) fn get(&self, seconds: &Seconds, request: Option<&str>) -> Total {
        let part = Part { seconds: seconds.clone(), request: request.map(str::to_owned) };
        self.sums.get(&part).cloned().unwrap_or_default()
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

fn merge_all(by_name: &BTreeMap<String, RequestFrame>) -> RequestFrame {
    let mut all = RequestFrame::default();
    by_name.values().for_each(|requests| all.merge(requests));
    all
}

/// One second as charts show it, by request name and for `all`.
///
/// # Errors
/// When a stored histogram cannot be read.
pub(crate) fn second_views(at: u32, second: &Second) -> Result<BTreeMap<String, SecondView>, LatenciesError> {
    let by_name = second.merged()?;
    Ok(views(at, second, &by_name, &merge_all(&by_name)))
}

fn views(
    at: u32,
    second: &Second,
    by_name: &BTreeMap<String, RequestFrame>,
    all: &RequestFrame,
) -> BTreeMap<String, SecondView> {
    let view = |requests: &RequestFrame, dropped| {
        let time = |value: f64| (!requests.response_time.is_empty()).then_some(value);
        SecondView {
            second: at,
            rate: requests.count,
            errors: requests.failed(),
            dropped,
            p50: time(requests.response_time.percentile_ms(50.0)),
            p90: time(requests.response_time.percentile_ms(90.0)),
            p99: time(requests.response_time.percentile_ms(99.0)),
            max: time(requests.response_time.max_ms()),
        }
    };
    let mut views: BTreeMap<String, SecondView> =
        by_name.iter().map(|(name, requests)| (name.clone(), view(requests, 0))).collect();
    views.insert(ALL.to_owned(), view(all, second.dropped()));
    views
}

/// What became of planned arrivals after warm-up, per scenario.
pub(crate) fn arrivals(recording: &Recording, timeline: &Timeline) -> Vec<ArrivalRow> {
    let mut sums: BTreeMap<&str, ArrivalFrame> = BTreeMap::new();
    for (at, second) in recording.seconds() {
        for (scenario, arrivals) in &second.arrivals {
            let sum = sums.entry(scenario).or_default();
            if timeline.covers(&Seconds::Run, at) {
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
///
/// # Errors
/// When a stored histogram cannot be read.
pub(crate) fn workers(recording: &Recording, timeline: &Timeline) -> Result<WorkerView, LatenciesError> {
    let mut lag = Latencies::new();
    let (mut cpu_us, mut requests, mut resident_bytes) = (0, 0, 0);
    for (at, second) in recording.seconds() {
        for worker in &second.workers {
            resident_bytes = worker.resident_bytes.max(resident_bytes);
            if timeline.covers(&Seconds::Run, at) {
                lag.merge(&Latencies::from_bytes(&worker.lag)?);
                cpu_us += worker.cpu_us;
            }
        }
        if timeline.covers(&Seconds::Run, at) {
            requests += second.requests.values().flatten().map(|measured| measured.count).sum::<u64>();
        }
    }
    let cpu_us_per_request = if requests == 0 { 0.0 } else { cpu_us as f64 / requests as f64 };
    Ok(WorkerView { lag_p99_ms: lag.percentile_ms(99.0), cpu_us_per_request, resident_bytes })
}
