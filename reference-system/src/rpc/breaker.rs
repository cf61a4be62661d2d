//! A circuit breaker per dependency: when half of the calls of its window failed, calls are refused at once for a while;
//! then one call is let through, and its outcome decides.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The parts of a window; a part that is too old is forgotten as a whole.
const PARTS: u32 = 10;
/// The fewest calls in a window from which anything follows.
const FEWEST: u32 = 20;
/// How long calls are refused before one is let through.
const OPEN: Duration = Duration::from_secs(2);

/// The breaker of one dependency, as one caller sees it. Time comes in as an argument.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    parts: VecDeque<Part>,
    /// Until when calls are refused.
    open_until: Option<Instant>,
    /// Whether the one call that decides is under way, and since when.
    probing: Option<Instant>,
    openings: u64,
}

#[derive(Debug)]
struct Part {
    began: Instant,
    calls: u32,
    failures: u32,
}

impl Breaker {
    /// Whether a call may be made now.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        let Some(until) = self.open_until else { return true };
        // A probe whose outcome never came must not keep the breaker open for ever.
        let probing = self.probing.is_some_and(|since| now < since + OPEN);
        if now < until || probing {
            return false;
        }
        self.probing = Some(now);
        true
    }

    /// Notes how a call went. `window` is how far back the breaker looks.
    pub(crate) fn note(&mut self, succeeded: bool, window: Duration, now: Instant) {
        if let Some(until) = self.open_until {
            if self.probing.take().is_none() {
                // A call from before the opening: known already.
                return;
            }
            if succeeded {
                self.open_until = None;
                self.parts.clear();
            } else {
                self.open_until = Some(until.max(now + OPEN));
            }
            return;
        }
        let length = window / PARTS;
        match self.parts.back_mut() {
            Some(part) if now < part.began + length => {
                part.calls += 1;
                part.failures += u32::from(!succeeded);
            }
            _ => self.parts.push_back(Part { began: now, calls: 1, failures: u32::from(!succeeded) }),
        }
        while self.parts.front().is_some_and(|part| part.began + window <= now) {
            self.parts.pop_front();
        }
        let (calls, failures) =
            self.parts.iter().fold((0, 0), |(calls, failures), part| (calls + part.calls, failures + part.failures));
        if calls >= FEWEST && failures * 2 >= calls {
            self.open_until = Some(now + OPEN);
            self.openings += 1;
        }
    }

    /// How often it opened, and whether it is open.
    pub(crate) fn describe(&self) -> (u64, bool) {
        (self.openings, self.open_until.is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Calls at 40/s that go as `succeeds` says, from `from` on; gives when the breaker opened.
    fn opens(breaker: &mut Breaker, window: Duration, from: Instant, seconds: u64, succeeds: bool) -> Option<Duration> {
        (0..seconds * 40).find_map(|n| {
            let now = from + Duration::from_millis(25 * n);
            breaker.note(succeeds, window, now);
            breaker.describe().1.then(|| now - from)
        })
    }

    #[tokio::test]
    async fn a_short_window_opens_within_five_seconds_of_an_outage_and_a_long_one_needs_minutes() {
        let start = Instant::now();
        for (window, healthy, least, most) in [(WINDOW, 60, 0, 6), (Duration::from_secs(400), 400, 180, 210)] {
            let mut breaker = Breaker::default();
            assert_eq!(opens(&mut breaker, window, start, healthy, true), None);
            let from = start + Duration::from_secs(healthy);
            let took = opens(&mut breaker, window, from, 400, false).unwrap();
            assert!((least..most).contains(&took.as_secs()), "{window:?}: {took:?}");
        }
    }

    #[tokio::test]
    async fn one_call_is_let_through_and_decides() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FEWEST {
            assert!(breaker.admits(start));
            breaker.note(false, WINDOW, start);
        }
        assert!(!breaker.admits(start + OPEN / 2));
        let later = start + OPEN;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "only one");
        breaker.note(false, WINDOW, later);
        assert!(!breaker.admits(later + OPEN / 2));
        let later = later + OPEN;
        assert!(breaker.admits(later));
        breaker.note(true, WINDOW, later);
        assert!(breaker.admits(later) && breaker.admits(later));
        assert_eq!(breaker.describe(), (1, false));
    }

    #[tokio::test]
    async fn a_probe_that_was_cut_off_is_followed_by_another() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        (0..FEWEST).for_each(|_| breaker.note(false, WINDOW, start));
        assert!(breaker.admits(start + OPEN));
        assert!(!breaker.admits(start + OPEN + OPEN / 2));
        assert!(breaker.admits(start + 2 * OPEN));
    }

    proptest! {
        #[test]
        fn fewer_than_half_failures_never_open_it(successes in proptest::collection::vec(1_u32..4, 10..60)) {
            let (mut breaker, start) = (Breaker::default(), Instant::now());
            let mut at = start;
            for run in successes {
                // Each failure comes after more successes than one.
                for _ in 0..=run {
                    breaker.note(true, WINDOW, at);
                }
                breaker.note(false, WINDOW, at);
                at += Duration::from_millis(100);
                prop_assert!(breaker.admits(at));
            }
        }
    }
}
