//! The states of a run and which may follow which. Pure.

use kennel_model::RunState;

/// Whether a run in state `from` may go to `to`. Nothing follows [`RunState::Judged`], and any other state may end
/// there: a run can be halted or fail at any time.
pub(crate) fn may_follow(from: RunState, to: RunState) -> bool {
    use RunState::{Audit, Fault, Judged, Preparing, Queued, Recovery, Steady, WarmUp};
    match (from, to) {
        (Judged, _) => false,
        (_, Judged) | (Queued, Preparing) => true,
        (Preparing, WarmUp | Steady) => true,
        (WarmUp, Steady | Fault | Recovery) => true,
        (Steady | Recovery, Fault) => true,
        // A fault shorter than the time between two looks.
        (Steady, Recovery) => true,
        (Fault, Recovery) => true,
        (WarmUp | Steady | Fault | Recovery, Audit) => true,
        _ => false,
    }
}

/// Whether load is on in this state.
pub(crate) fn is_loaded(state: RunState) -> bool {
    matches!(state, RunState::WarmUp | RunState::Steady | RunState::Fault | RunState::Recovery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = RunState> {
        prop::sample::select(RunState::ALL)
    }

    #[test]
    fn a_whole_run_passes_through_every_state() {
        for pair in RunState::ALL.windows(2) {
            assert!(may_follow(pair[0], pair[1]) || pair == [RunState::Preparing, RunState::WarmUp], "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn every_walk_ends_judged_and_never_returns(walk in prop::collection::vec(any_state(), 0..60)) {
            let mut state = RunState::Queued;
            let mut seen = vec![state];
            for wanted in walk {
                if may_follow(state, wanted) {
                    state = wanted;
                    seen.push(state);
                }
            }
            prop_assert!(state == RunState::Judged || may_follow(state, RunState::Judged));
            // Only fault and recovery may be visited more than once.
            for once in RunState::ALL.iter().filter(|s| !matches!(s, RunState::Fault | RunState::Recovery)) {
                prop_assert!(seen.iter().filter(|s| *s == once).count() <= 1, "{} twice in {:?}", once, seen);
            }
            // Load is one stretch.
            let loaded: Vec<bool> = seen.iter().map(|s| is_loaded(*s)).collect();
            prop_assert!(loaded.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 2);
        }
    }
}
