//! Guards: objectives over a sliding window, evaluated as each second is measured. A breach halts the run, and so do
//! three unknown seconds in a row: a guard that sees nothing protects nothing.

use std::sync::Arc;
use std::time::Duration;

use kennel_model::api::ObjectiveView;
use kennel_model::frame::LatenciesError;
use kennel_model::objective::Objective;
use kennel_model::units::format_duration;

use super::objectives::{bound, measure, subject, view};
use super::totals::Total;
use crate::recording::Recording;

/// The window of a guard that names none.
const DEFAULT_WINDOW: Duration = Duration::from_secs(5);

/// Unknown seconds in a row that halt a run.
pub(crate) const UNKNOWN_LIMIT: u32 = 3;

/// Length of a guard's window in whole seconds.
fn window_s(guard: &Objective) -> u32 {
    let window = guard.window.unwrap_or(DEFAULT_WINDOW);
    u32::try_from(window.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

/// A guard at the end of second `at`. Before the window is full the guard has a value but no judgement: one slow
/// request in the first second says little.
///
/// # Errors
/// When a histogram that was kept cannot be read.
pub(crate) fn evaluate(guard: &Objective, recording: &Recording, at: u32) -> Result<ObjectiveView, LatenciesError> {
    let window = window_s(guard);
    let seen = recording.window(guard.request.as_deref(), (at + 1).saturating_sub(window)..=at)?;
    let total = Total { requests: Arc::new(seen.requests), dropped: seen.dropped, seconds: seen.measured_s };
    let mut view = view(guard, "guard", measure(guard.metric, &total));
    if at + 1 < window {
        view.met = None;
    }
    Ok(view)
}

/// A guard of a run in which nothing was measured.
pub(crate) fn unseen(guard: &Objective) -> ObjectiveView {
    view(guard, "guard", None)
}

/// The sentence for a breached guard.
pub(crate) fn breach(guard: &Objective, view: &ObjectiveView) -> String {
    format!(
        "a guard halted the run: {} over the last {} was {}, must be {}",
        subject(guard),
        format_duration(Duration::from_secs(u64::from(window_s(guard)))),
        view.measured.as_deref().unwrap_or("unknown"),
        bound(guard),
    )
}

/// The sentence for guards that saw nothing.
pub(crate) fn blind(from: u32) -> String {
    format!("the guards halted the run: nothing was measured for {UNKNOWN_LIMIT} s from second {from} on")
}

/// Watches for seconds that were never measured. Pure: it is told which seconds there are.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Gaps {
    /// The second that comes next.
    next: u32,
}

impl Gaps {
    /// Takes in a measured second; the first second of a gap that is too long, if this second ends one.
    pub(crate) fn measured(&mut self, second: u32) -> Option<u32> {
        let from = self.next;
        self.next = self.next.max(second.saturating_add(1));
        (second >= from.saturating_add(UNKNOWN_LIMIT)).then_some(from)
    }

    /// The second that has been waited for.
    pub(crate) fn awaited(self) -> u32 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_three_missing_seconds_in_a_row_are_too_many(missing in prop::collection::btree_set(0_u32..40, 0..20)) {
            let mut gaps = Gaps::default();
            let found = (0..40).filter(|second| !missing.contains(second)).find_map(|second| gaps.measured(second));
            let last = (0..40).filter(|second| !missing.contains(second)).max().unwrap_or(0);
            let expected = (0..last.saturating_sub(2)).find(|from| (*from..from + 3).all(|s| missing.contains(&s)));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn late_frames_are_no_gap(mut order in Just((0_u32..30).collect::<Vec<_>>()).prop_shuffle()) {
            // However late frames come, a second that was already passed never counts as a new gap.
            let mut gaps = Gaps::default();
            order.sort_by_key(|second| second / 3);
            for second in order {
                prop_assert_eq!(gaps.measured(second), None);
            }
        }
    }
}
