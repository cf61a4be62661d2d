//! Phases: which part of a run a moment or a measured second belongs to. Pure functions of the timeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kennel_model::Phase;
use kennel_model::api::PhaseView;
use kennel_model::experiment::Experiment;
use kennel_model::fault::FaultState;

/// A step of a fault as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FaultStep {
    /// Name of the fault.
    pub(crate) fault: String,
    /// The state it went to.
    pub(crate) state: FaultState,
    /// Milliseconds since the start of the load.
    pub(crate) at_ms: u64,
    /// What it resolved to, or why it failed.
    pub(crate) detail: String,
}

/// When a fault was active, in milliseconds since the start of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Active {
    /// When it was confirmed active.
    pub(crate) from_ms: u64,
    /// When its reversal was confirmed; absent while it is active (or stuck).
    pub(crate) to_ms: Option<u64>,
}

impl Active {
    /// Whether it was active at any time in `from_ms..to_ms`. A fault that was reverted in the millisecond in which
    /// it became active was active in that millisecond.
    fn overlaps(&self, from_ms: u64, to_ms: u64) -> bool {
        self.from_ms < to_ms && self.to_ms.is_none_or(|end| end.max(self.from_ms + 1) > from_ms)
    }
}

/// What determines phases: how long warm-up and load are planned to last, and when faults were active.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Timeline {
    warm_up: Duration,
    load: Duration,
    active: BTreeMap<String, Vec<Active>>,
}

/// A set of seconds of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Seconds {
    /// All but warm-up.
    Run,
    /// Those of one phase.
    Phase(Phase),
    /// Those in which the fault of this name was active.
    Fault(String),
}

impl Seconds {
    /// Whether the seconds of a class are among these.
    pub(crate) fn include(&self, class: &Class) -> bool {
        match self {
            Self::Run => class.phase != Phase::WarmUp,
            Self::Phase(phase) => class.phase == *phase,
            Self::Fault(name) => class.faults.contains(name),
        }
    }
}

/// What a second belongs to. Seconds of one class are never told apart by [`Seconds`], so they are summed together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) phase: Phase,
    /// Names of the faults that were active.
    pub(crate) faults: BTreeSet<String>,
}

impl Timeline {
    /// The timeline of an experiment after these steps of its faults.
    pub(crate) fn new<'a>(experiment: &Experiment, steps: impl IntoIterator<Item = &'a FaultStep>) -> Self {
        let mut timeline =
            Self { warm_up: experiment.load.warm_up(), load: experiment.load.duration(), active: BTreeMap::new() };
        for step in steps {
            timeline.step(step);
        }
        timeline
    }

    /// Takes in a step of a fault.
    pub(crate) fn step(&mut self, step: &FaultStep) {
        let spans = self.active.entry(step.fault.clone()).or_default();
        let open = spans.last_mut().filter(|span| span.to_ms.is_none());
        match (step.state, open) {
            (FaultState::Active, None) => spans.push(Active { from_ms: step.at_ms, to_ms: None }),
            (FaultState::Reverted, Some(span)) => span.to_ms = Some(step.at_ms.max(span.from_ms)),
            _ => {}
        }
    }

    /// When the fault of this name was active.
    pub(crate) fn active(&self, fault: &str) -> &[Active] {
        self.active.get(fault).map_or(&[], Vec::as_slice)
    }

    /// Whole seconds of load that are planned; what is measured later is the tail of requests under way at its end.
    pub(crate) fn planned_seconds(&self) -> u32 {
        u32::try_from(self.load.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
    }

    /// The phase of a measured second.
    pub(crate) fn phase(&self, second: u32) -> Phase {
        self.phase_between(u64::from(second) * 1_000, u64::from(second) * 1_000 + 1_000)
    }

    /// The phase of a moment, in milliseconds since the start of the load.
    pub(crate) fn phase_at(&self, at_ms: u64) -> Phase {
        self.phase_between(at_ms, at_ms + 1)
    }

    fn phase_between(&self, from_ms: u64, to_ms: u64) -> Phase {
        let mut spans = self.active.values().flatten();
        if u128::from(from_ms) < self.warm_up.as_millis() {
            Phase::WarmUp
        } else if spans.clone().any(|span| span.overlaps(from_ms, to_ms)) {
            Phase::Fault
        } else if spans.any(|span| span.from_ms < from_ms) {
            Phase::Recovery
        } else {
            Phase::Steady
        }
    }

    /// The class of a measured second.
    pub(crate) fn class(&self, second: u32) -> Class {
        let from_ms = u64::from(second) * 1_000;
        let touches = |spans: &[Active]| spans.iter().any(|span| span.overlaps(from_ms, from_ms + 1_000));
        let faults = self.active.iter().filter(|(_, spans)| touches(spans)).map(|(name, _)| name.clone()).collect();
        Class { phase: self.phase(second), faults }
    }

    /// The stretches of equal phase in the first `measured` seconds of load.
    pub(crate) fn phases(&self, measured: u32) -> Vec<PhaseView> {
        let mut phases: Vec<PhaseView> = Vec::new();
        for second in 0..measured.min(self.planned_seconds()) {
            let phase = self.phase(second);
            match phases.last_mut() {
                Some(last) if last.phase == phase => last.to_s = second + 1,
                _ => phases.push(PhaseView { phase, from_s: second, to_s: second + 1 }),
            }
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(fault: &str, state: FaultState, at_ms: u64) -> FaultStep {
        FaultStep { fault: fault.into(), state, at_ms, detail: String::new() }
    }

    fn timeline(warm_up_ms: u64, load_s: u64, steps: &[FaultStep]) -> Timeline {
        let mut timeline = Timeline {
            warm_up: Duration::from_millis(warm_up_ms),
            load: Duration::from_secs(load_s),
            active: BTreeMap::new(),
        };
        steps.iter().for_each(|step| timeline.step(step));
        timeline
    }

    #[test]
    fn a_run_with_one_fault_has_four_phases() {
        let steps = [step("a", FaultState::Active, 10_400), step("a", FaultState::Reverted, 15_000)];
        let view = |phase, from_s, to_s| PhaseView { phase, from_s, to_s };
        assert_eq!(
            timeline(2_500, 20, &steps).phases(25),
            [
                view(Phase::WarmUp, 0, 3),
                view(Phase::Steady, 3, 10),
                view(Phase::Fault, 10, 15),
                view(Phase::Recovery, 15, 20)
            ]
        );
    }

    #[test]
    fn a_stuck_fault_stays_active() {
        let steps = [step("a", FaultState::Active, 1_000), step("a", FaultState::Stuck, 2_000)];
        assert_eq!(timeline(0, 10, &steps).phase(9), Phase::Fault);
    }

    #[test]
    fn a_fault_that_failed_leaves_the_run_steady() {
        let steps = [step("a", FaultState::Injecting, 1_000), step("a", FaultState::Failed, 1_100)];
        assert_eq!(timeline(0, 10, &steps).phase(5), Phase::Steady);
    }

    fn spans() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0_u64..60_000, 0_u64..20_000), 0..5)
    }

    fn with_spans(warm_up_ms: u64, spans: &[(u64, u64)]) -> Timeline {
        let steps: Vec<FaultStep> = spans
            .iter()
            .enumerate()
            .flat_map(|(at, (from, length))| {
                let name = format!("f{at}");
                [step(&name, FaultState::Active, *from), step(&name, FaultState::Reverted, from + length)]
            })
            .collect();
        timeline(warm_up_ms, 60, &steps)
    }

    proptest! {
        #[test]
        fn phases_cover_every_planned_second_once_and_in_order(spans in spans(), warm_up in 0_u64..10_000, measured in 0_u32..90) {
            let phases = with_spans(warm_up, &spans).phases(measured);
            let mut next = 0;
            for view in &phases {
                prop_assert_eq!(view.from_s, next);
                prop_assert!(view.to_s > view.from_s);
                next = view.to_s;
            }
            prop_assert_eq!(next, measured.min(60));
            for pair in phases.windows(2) {
                prop_assert_ne!(pair[0].phase, pair[1].phase);
            }
        }

        #[test]
        fn phases_never_go_back_to_warm_up_or_steady(spans in spans(), warm_up in 0_u64..10_000) {
            let order: Vec<u8> = with_spans(warm_up, &spans).phases(60).iter().map(|view| match view.phase {
                Phase::WarmUp => 0,
                Phase::Steady => 1,
                Phase::Fault | Phase::Recovery => 2,
            }).collect();
            prop_assert!(order.is_sorted(), "{:?}", order);
        }

        #[test]
        fn a_second_after_warm_up_is_fault_exactly_when_a_fault_touches_it(spans in spans(), second in 0_u32..90) {
            let from = u64::from(second) * 1_000;
            let touched = spans.iter().any(|(start, length)| *start < from + 1_000 && start + (*length).max(1) > from);
            prop_assert_eq!(with_spans(0, &spans).phase(second) == Phase::Fault, touched);
        }

        #[test]
        fn the_order_in_which_faults_report_does_not_matter(spans in spans(), second in 0_u32..90) {
            let mut reversed = spans.clone();
            reversed.reverse();
            prop_assert_eq!(with_spans(3_000, &spans).phase(second), with_spans(3_000, &reversed).phase(second));
        }
    }
}
