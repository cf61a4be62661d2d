//! Sums over parts of a recording, in one pass that decodes each stored histogram once.

use std::collections::btree_map::Entry;
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

/// The sum of some seconds by request name.
#[derive(Debug, Default)]
struct Stretch {
    requests: BTreeMap<String, RequestFrame>,
    dropped: u64,
    seconds: u32,
}

impl Stretch {
    fn add(&mut self, second: &Second, by_name: BTreeMap<String, RequestFrame>, is_planned: bool) {
        self.seconds += u32::from(is_planned);
        self.dropped += second.dropped();
        for (name, measured) in by_name {
            match self.requests.entry(name) {
                Entry::Occupied(mut sum) => sum.get_mut().merge(&measured),
                Entry::Vacant(place) => drop(place.insert(measured)),
            }
        }
    }

    fn add_to(&self, total: &mut Total, request: Option<&str>) {
        total.seconds += self.seconds;
        total.dropped += self.dropped;
        for (name, measured) in &self.requests {
            if request.is_none_or(|request| request == name) {
                total.requests.merge(measured);
            }
        }
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
        let scopes: BTreeSet<&Seconds> = wanted.iter().map(|part| &part.seconds).collect();
        // Merging histograms is what this costs. Seconds that belong to the same scopes are merged once, and those few
        // sums then into every part.
        let mut stretches: BTreeMap<BTreeSet<&Seconds>, Stretch> = BTreeMap::new();
        let mut series = SeriesView::default();
        for (at, second) in recording.seconds() {
            let by_name = second.merged()?;
            for (name, view) in views(at, second, &by_name) {
                series.series.entry(name).or_default().push(view);
            }
            let within = scopes.iter().copied().filter(|scope| timeline.covers(scope, at)).collect();
            stretches.entry(within).or_default().add(second, by_name, at < timeline.planned_seconds());
        }
        let mut sums: HashMap<Part, Total> = HashMap::new();
        for part in &wanted {
            let total = sums.entry(part.clone()).or_default();
            let within = stretches.iter().filter(|(scopes, _)| scopes.contains(&part.seconds));
            within.for_each(|(_, stretch)| stretch.add_to(total, part.request.as_deref()));
        }
        Ok(Self { sums, series })
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

/// One second as charts show it, by request name and for `all`.
///
/// # Errors
/// When a stored histogram cannot be read.
pub(crate) fn second_views(at: u32, second: &Second) -> Result<BTreeMap<String, SecondView>, LatenciesError> {
    Ok(views(at, second, &second.merged()?))
}

fn views(at: u32, second: &Second, by_name: &BTreeMap<String, RequestFrame>) -> BTreeMap<String, SecondView> {
    let view = |rate, errors, dropped, times: &Latencies| {
        let time = |value: f64| (!times.is_empty()).then_some(value);
        SecondView {
            second: at,
            rate,
            errors,
            dropped,
            p50: time(times.percentile_ms(50.0)),
            p90: time(times.percentile_ms(90.0)),
            p99: time(times.percentile_ms(99.0)),
            max: time(times.max_ms()),
        }
    };
    let mut views = BTreeMap::new();
    let (mut rate, mut errors, mut times) = (0, 0, Latencies::new());
    for (name, requests) in by_name {
        rate += requests.count;
        errors += requests.failed();
        times.merge(&requests.response_time);
        views.insert(name.clone(), view(requests.count, requests.failed(), 0, &requests.response_time));
    }
    views.insert(ALL.to_owned(), view(rate, errors, second.dropped(), &times));
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
