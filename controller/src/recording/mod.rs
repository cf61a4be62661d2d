//! What was measured in a run, summed up frame by frame.
//!
//! Reading a run that is under way must cost next to nothing, because the load that is being measured shares the
//! machine. So what a reader asks for is there already: numbers of each second, and histograms summed over the seconds
//! that belong together.
//!
//! Memory: open histograms take 360 kB per request name (and once for all together) in each class of seconds (warm-up,
//! steady, every combination of active faults, recovery) and in each of the last [`SETTLING_S`] seconds, however long
//! the run: 50 MB for 20 names in four classes. With the length grow the numbers of each second (100 bytes per name:
//! 7 MB for 20 names in an hour) and the tracks (a few kB per second for each request that a guard or a steady state
//! names).

mod frames;
mod stretch;
mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use kennel_model::api::{SecondView, SeriesView};
use kennel_model::experiment::Experiment;
use kennel_model::frame::{Latencies, LatenciesError, RequestFrame};

use crate::runs::phases::{Class, Timeline};
pub(crate) use frames::{Measured, StoredFrame, WorkerHealth};
pub(crate) use stretch::Stretch;
use track::Track;
pub(crate) use track::Window;

/// The name under which all requests together are shown.
pub(crate) const ALL: &str = "all";

/// Seconds that are kept apart until nobody is expected to revise their phase any more: a fault is reported when it
/// becomes active, its second's frame comes at that second's end.
const SETTLING_S: u32 = 3;

/// How a frame was taken in.
#[derive(Debug)]
pub(crate) enum Added {
    /// Its second, as charts show it from now on.
    Shown(BTreeMap<String, SecondView>),
    /// Its second was settled already, so its histograms are no longer here: [`Recording::show`] wants them.
    Late,
}

/// The measurements of a run. Cheap to clone: histograms are shared until one side adds to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recording {
    /// Whole seconds of load that are planned.
    planned_s: u32,
    series: SeriesView,
    /// Which seconds were measured.
    seconds: BTreeSet<u32>,
    /// Seconds whose class is not expected to change, summed by it.
    settled: BTreeMap<Class, Stretch>,
    /// The last seconds, each apart.
    recent: BTreeMap<u32, Stretch>,
    /// By request, those that are asked for in windows.
    tracks: BTreeMap<Option<String>, Arc<Track>>,
}

impl Recording {
    /// The empty recording of a run of `experiment`.
    pub(crate) fn new(experiment: &Experiment) -> Self {
        let windowed = experiment.guards.iter().chain(&experiment.steady_state);
        Self {
            planned_s: Timeline::new(experiment, []).planned_seconds(),
            tracks: windowed.map(|objective| (objective.request.clone(), Arc::default())).collect(),
            ..Self::default()
        }
    }

    /// Adds a frame of a second. Further frames of the same second add to it: they are other workers', or late parts.
    /// `timeline` must be the one that earlier frames were added under, as far as [`Self::is_revised`] tells.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn add(
        &mut self,
        second: u32,
        mut frame: Stretch,
        timeline: &Timeline,
    ) -> Result<Added, LatenciesError> {
        let is_new = self.seconds.insert(second);
        frame.planned_s = u32::from(is_new && second < self.planned_s);
        self.track(second, &frame, is_new)?;
        if !is_new && !self.recent.contains_key(&second) {
            self.settled.entry(timeline.class(second)).or_default().merge(&frame);
            return Ok(Added::Late);
        }
        let whole = self.recent.entry(second).or_default();
        whole.merge(&frame);
        drop(frame);
        let views = views(second, whole);
        self.insert(&views);
        self.settle(timeline);
        Ok(Added::Shown(views))
    }

    fn track(&mut self, second: u32, frame: &Stretch, is_new: bool) -> Result<(), LatenciesError> {
        for (request, track) in &mut self.tracks {
            let requests = match request {
                Some(name) => frame.requests.get(name),
                None => Some(&frame.all),
            };
            let window = Window {
                requests: requests.map(|measured| RequestFrame::clone(measured)).unwrap_or_default(),
                dropped: frame.dropped(),
                measured_s: u32::from(is_new),
                planned_s: frame.planned_s,
            };
            Arc::make_mut(track).add(second, window)?;
        }
        Ok(())
    }

    fn settle(&mut self, timeline: &Timeline) {
        let Some(last) = self.last() else { return };
        while let Some(oldest) = self.recent.first_entry().filter(|entry| last - entry.key() >= SETTLING_S) {
            let class = timeline.class(*oldest.key());
            self.settled.entry(class).or_default().merge(&oldest.remove());
        }
    }

    /// Corrects the numbers of a second, now that it is known whole again; answers them.
    pub(crate) fn show(&mut self, second: u32, whole: &Stretch) -> BTreeMap<String, SecondView> {
        let views = views(second, whole);
        self.insert(&views);
        views
    }

    fn insert(&mut self, views: &BTreeMap<String, SecondView>) {
        for (name, view) in views {
            let series = self.series.series.entry(name.clone()).or_default();
            match series.binary_search_by_key(&view.second, |known| known.second) {
                Ok(at) => series[at] = *view,
                Err(at) => series.insert(at, *view),
            }
        }
    }

    /// Whether seconds that are settled belong elsewhere since `before` became `now`. Then this recording is wrong, and
    /// has to be summed up anew from its frames.
    pub(crate) fn is_revised(&self, before: &Timeline, now: &Timeline) -> bool {
        let mut settled = self.seconds.iter().filter(|second| !self.recent.contains_key(second));
        settled.any(|second| before.class(*second) != now.class(*second))
    }

    /// The sums of all seconds by class.
    pub(crate) fn classes(&self, timeline: &Timeline) -> BTreeMap<Class, Stretch> {
        let mut classes = self.settled.clone();
        for (second, whole) in &self.recent {
            classes.entry(timeline.class(*second)).or_default().merge(whole);
        }
        classes
    }

    /// The sum of a window of seconds, of a request that a guard or a steady state of the experiment names.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn window(&self, request: Option<&str>, seconds: RangeInclusive<u32>) -> Result<Window, LatenciesError> {
        let track = self.tracks.get(&request.map(str::to_owned));
        track.map_or_else(|| Ok(Window::default()), |track| track.between(seconds))
    }

    /// The run second by second, per request name and for [`ALL`].
    pub(crate) fn series(&self) -> &SeriesView {
        &self.series
    }

    /// The last measured second.
    pub(crate) fn last(&self) -> Option<u32> {
        self.seconds.last().copied()
    }

    /// How many seconds are measured once `second` is.
    pub(crate) fn measured_with(&self, second: u32) -> u32 {
        let known = u32::try_from(self.seconds.len()).unwrap_or(u32::MAX);
        known + u32::from(!self.seconds.contains(&second))
    }

    /// Names of all requests that were measured.
    pub(crate) fn request_names(&self) -> BTreeSet<&str> {
        let stretches = self.settled.values().chain(self.recent.values());
        stretches.flat_map(|stretch| stretch.requests.keys().map(String::as_str)).collect()
    }
}

/// One second as charts show it, by request name and for [`ALL`].
fn views(second: u32, whole: &Stretch) -> BTreeMap<String, SecondView> {
    let view = |requests: &RequestFrame, dropped| {
        let times: &Latencies = &requests.response_time;
        let time = |value: f64| (!times.is_empty()).then_some(value);
        SecondView {
            second,
            rate: requests.count,
            errors: requests.failed(),
            dropped,
            p50: time(times.percentile_ms(50.0)),
            p90: time(times.percentile_ms(90.0)),
            p99: time(times.percentile_ms(99.0)),
            max: time(times.max_ms()),
        }
    };
    let mut views: BTreeMap<String, SecondView> =
        whole.requests.iter().map(|(name, requests)| (name.clone(), view(requests, 0))).collect();
    views.insert(ALL.to_owned(), view(&whole.all, whole.dropped()));
    views
}
