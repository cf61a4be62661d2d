//! Objectives against what was measured, and the sentences that tell it.

use kennel_model::Phase;
use kennel_model::api::{ObjectiveView, PhaseView};
use kennel_model::objective::{Comparison, Metric, Objective, Scope};

use super::totals::{Part, Total, Totals};
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

/// An objective to be checked over some seconds.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) objective: &'a Objective,
    pub(crate) role: Role,
    /// Where to measure it; absent when the run has no such seconds.
    pub(crate) seconds: Option<Seconds>,
}

impl<'a> Question<'a> {
    /// One of the experiment's objectives, over its own scope.
    pub(crate) fn of(objective: &'a Objective) -> Self {
        let seconds = match &objective.scope {
            Scope::Run => Seconds::Run,
            Scope::Phase(phase) => Seconds::Phase(*phase),
            Scope::Fault(name) => Seconds::Fault(name.clone()),
        };
        Self { objective, role: Role::Objective, seconds: Some(seconds) }
    }

    /// The steady state before the first fault.
    pub(crate) fn before(objective: &'a Objective) -> Self {
        Self { objective, role: Role::Before, seconds: Some(Seconds::Phase(Phase::Steady)) }
    }

    /// The steady state after the last fault: over the last third of the final recovery, once that had time to settle.
    pub(crate) fn after(objective: &'a Objective, phases: &[PhaseView]) -> Self {
        let recovery = phases.last().filter(|last| last.phase == Phase::Recovery);
        let seconds = recovery.and_then(settled);
        Self { objective, role: Role::After, seconds }
    }

    /// The part of the recording that answers it.
    pub(crate) fn part(&self) -> Option<Part> {
        Some(Part { seconds: self.seconds.clone()?, request: self.objective.request.clone() })
    }

    /// Answers it; the second value tells the answer in a sentence.
    pub(crate) fn answer(&self, totals: &Totals) -> (ObjectiveView, String) {
        let total = self.seconds.as_ref().map(|seconds| totals.get(seconds, self.objective.request.as_deref()));
        let value = total.and_then(|total| measure(self.objective.metric, &total));
        let view = view(self.objective, self.role.word(), value);
        let sentence = self.sentence(&view);
        (view, sentence)
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
        match (&view.measured, self.role, &self.seconds) {
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

/// The last third of a stretch, at least [`SETTLED_S`]; nothing when the stretch itself is shorter.
fn settled(stretch: &PhaseView) -> Option<Seconds> {
    let length = stretch.to_s - stretch.from_s;
    let end = length.div_ceil(3).max(SETTLED_S);
    (length >= SETTLED_S).then(|| Seconds::Between(stretch.to_s - end, u32::MAX))
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
