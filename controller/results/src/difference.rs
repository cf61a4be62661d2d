//! Two runs of a suite, test by test.

use kennel_model::api::{Outcome, TestChange};

use crate::history::is_failure;

/// A test counts as slower or faster when its time changed by this ratio or more …
pub const SLOWER_RATIO: f64 = 1.5;
/// … and by this much, in milliseconds: short tests vary.
pub const SLOWER_BY_MS: f64 = 100.0;

/// How a test ended in one of the two runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in ms.
    pub duration_ms: f64,
}

/// What became of a test from run `a` to run `b`; absent where it is in neither.
#[must_use]
pub fn change(a: Option<Side>, b: Option<Side>) -> Option<TestChange> {
    let (a, b) = match (a, b) {
        (None, None) => return None,
        (None, Some(_)) => return Some(TestChange::Added),
        (Some(_), None) => return Some(TestChange::Removed),
        (Some(a), Some(b)) => (a, b),
    };
    Some(match (is_failure(a.outcome), is_failure(b.outcome)) {
        (false, true) => TestChange::NewlyFailing,
        (true, true) => TestChange::StillFailing,
        (true, false) if b.outcome == Outcome::Passed => TestChange::Fixed,
        _ if a.outcome != b.outcome => TestChange::Other,
        _ if b.outcome == Outcome::Passed && slower(a.duration_ms, b.duration_ms) => TestChange::Slower,
        _ if b.outcome == Outcome::Passed && slower(b.duration_ms, a.duration_ms) => TestChange::Faster,
        _ => TestChange::Same,
    })
}

fn slower(before_ms: f64, after_ms: f64) -> bool {
    after_ms - before_ms >= SLOWER_BY_MS && after_ms >= before_ms * SLOWER_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn side(outcome: Outcome, duration_ms: f64) -> Option<Side> {
        Some(Side { outcome, duration_ms })
    }

    #[test]
    fn each_change_has_its_word() {
        use Outcome::{Error, Failed, Passed, Skipped};
        for (a, b, expected) in [
            (None, side(Failed, 1.0), TestChange::Added),
            (side(Passed, 1.0), None, TestChange::Removed),
            (side(Passed, 1.0), side(Failed, 1.0), TestChange::NewlyFailing),
            (side(Skipped, 1.0), side(Error, 1.0), TestChange::NewlyFailing),
            (side(Failed, 1.0), side(Passed, 900.0), TestChange::Fixed),
            (side(Failed, 1.0), side(Error, 1.0), TestChange::StillFailing),
            (side(Failed, 1.0), side(Skipped, 1.0), TestChange::Other),
            (side(Passed, 1.0), side(Skipped, 1.0), TestChange::Other),
            (side(Passed, 200.0), side(Passed, 300.0), TestChange::Slower),
            (side(Passed, 300.0), side(Passed, 200.0), TestChange::Faster),
            (side(Passed, 1.0), side(Passed, 90.0), TestChange::Same),
            (side(Passed, 1000.0), side(Passed, 1100.0), TestChange::Same),
        ] {
            assert_eq!(change(a, b), Some(expected), "{a:?} {b:?}");
        }
        assert_eq!(change(None, None), None);
    }

    proptest! {
        #[test]
        fn a_run_against_itself_differs_in_nothing_but_what_still_fails(outcome in prop::sample::select(Outcome::ALL.to_vec()), ms in 0.0..1e6) {
            let side = side(outcome, ms);
            let expected = if is_failure(outcome) { TestChange::StillFailing } else { TestChange::Same };
            prop_assert_eq!(change(side, side), Some(expected));
        }
    }
}
