//! Objectives against what was measured, and the sentences that tell it.

use kennel_model::Phase;
use kennel_model::api::{ObjectiveView, PhaseView};
use kennel_model::frame::LatenciesError;
use kennel_model::objective::{Comparison, Metric, Objective, Scope};

use super::totals::{Total, Totals};
use crate::runs::phases::Seconds;

/// Seconds that must have been measured at the end of recovery to tell whether the steady state is back.
const SETTLED_S: u32 = 5;

/// What part an objective plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of the experiment's objectives.
    Objective,
    /// The steady state before the first fault.
    Before,
    /// The steady state after the last fault.
    After,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Objective => "objective",
            Self::Before => "steady state before",
            Self::After => "steady state after",
        }
    }
}

/// Where an objective is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In these seconds.
    Scope(Seconds),
    /// From this second on.
    Since(u32),
}

/// An objective to be checked over some seconds.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) objective: &'a Objective,
    pub(crate) role: Role,
    /// Where to measure it; absent when the run has no such seconds.
    pub(crate) place: Option<Place>,
}

impl<'a> Question<'a> {
    /// One of the experiment's objectives, over its own scope.
    pub(crate) fn of(objective: &'a Objective) -> Self {
        let seconds = match &objective.scope {
            Scope::Run => Seconds::Run,
            Scope::Phase(phase) => Seconds::Phase(*phase),
            Scope::Fault(name) => Seconds::Fault(name.clone()),
        };
        Self { objective, role: Role::Objective, place: Some(Place::Scope(seconds)) }
    }

    /// The steady state before the first fault.
    pub(crate) fn before(objective: &'a Objective) -> Self {
        Self { objective, role: Role::Before, place: Some(Place::Scope(Seconds::Phase(Phase::Steady))) }
    }

    /// The steady state after the last fault: over the last third of the final recovery, once that had time to settle.
    pub(crate) fn after(objective: &'a Objective, phases: &[PhaseView]) -> Self {
        let recovery = phases.last().filter(|last| last.phase == Phase::Recovery);
        let place = recovery.and_then(settled).map(Place::Since);
        Self { objective, role: Role::After, place }
    }

    /// The seconds that answer it, unless it is about a window.
    pub(crate) fn scope(&self) -> Option<&Seconds> {
        match &self.place {
            Some(Place::Scope(seconds)) => Some(seconds),
            Some(Place::Since(_)) | None => None,
        }
    }

    /// Answers it; the second value tells the answer in a sentence.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn answer(&self, totals: &Totals<'_>) -> Result<(ObjectiveView, String), LatenciesError> {
        let request = self.objective.request.as_deref();
        let total = match &self.place {
            Some(Place::Scope(seconds)) => Some(totals.get(seconds, request)),
            Some(Place::Since(second)) => Some(totals.since(*second, request)?),
            None => None,
        };
        let value = total.and_then(|total| measure(self.objective.metric, &total));
        let view = view(self.objective, self.role.word(), value);
        let sentence = self.sentence(&view);
        Ok((view, sentence))
    }

    fn sentence(&self, view: &ObjectiveView) -> String {
        let objective = self.objective;
        let place = match (self.role, &objective.scope) {
            (Role::Objective, Scope::Run) => String::new(),
            (Role::Objective, scope) => format!(" during {scope}"),
            (Role::Before, _) => " in the steady state before".to_owned(),
            (Role::After, _) => " in the steady state after".to_owned(),
        };
        let subject = format!("{}{place}", subject(objective));
        match (&view.measured, self.role, &self.place) {
            (Some(measured), ..) => {
                format!("{subject} was {measured}, must be {}", bound(objective))
            }
            (None, Role::After, None) => {
                format!("{subject} is unknown: recovery was shorter than {SETTLED_S} s, must be {}", bound(objective))
            }
            (None, ..) => format!("{subject} is unknown: nothing was measured, must be {}", bound(objective)),
        }
    }
}

/// Where the last third of a stretch (at least [`SETTLED_S`]) begins; nothing when the stretch itself is shorter.
fn settled(stretch: &PhaseView) -> Option<u32> {
    let length = stretch.to_s - stretch.from_s;
    let end = length.div_ceil(3).max(SETTLED_S);
    (length >= SETTLED_S).then(|| stretch.to_s - end)
}

/// An objective's metric and request as written: `p99(create order)`.
pub(crate) fn subject(objective: &Objective) -> String {
    match &objective.request {
        Some(request) => format!("{}({request})", objective.metric),
        None => objective.metric.to_string(),
    }
}

/// An objective's comparison and bound as people read it: `< 150 ms`.
pub(crate) fn bound(objective: &Objective) -> String {
    let sign = match objective.comparison {
        Comparison::Below => "<",
        Comparison::AtMost => "<=",
        Comparison::Above => ">",
        Comparison::AtLeast => ">=",
    };
    format!("{sign} {}", objective.metric.format(objective.bound))
}

/// A metric over some seconds; nothing when it has no meaning there.
pub(crate) fn measure(metric: Metric, total: &Total) -> Option<f64> {
    let times = &total.requests.response_time;
    let time = |value: f64| (!times.is_empty()).then_some(value);
    match metric {
        Metric::Percentile(percentile) => time(times.percentile_ms(percentile)),
        Metric::Max => time(times.max_ms()),
        Metric::Mean => time(times.mean_ms()),
        Metric::ErrorRate => total.error_rate(),
        Metric::Rate => total.rate(),
        Metric::Dropped => (total.seconds > 0).then_some(total.dropped as f64),
    }
}

/// An objective beside a measured value.
pub(crate) fn view(objective: &Objective, role: &str, value: Option<f64>) -> ObjectiveView {
    ObjectiveView {
        objective: objective.to_string(),
        role: role.to_owned(),
        met: value.map(|value| objective.comparison.holds(value, objective.bound)),
        measured: value.map(|value| objective.metric.format(value)),
        value,
    }
}
