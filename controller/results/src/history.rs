//! A test over its runs: since when it fails, and how flaky it is. Told from its last results, one per run.

use kennel_model::RunId;
use kennel_model::api::Outcome;

/// Results that a test's strip shows and its flaky score counts.
pub const STRIP: usize = 30;

/// What makes a test flaky, for people.
pub const FLAKY_DEFINITION: &str = "Flaky score: of the last 30 results that passed or failed, how many changed from \
    pass to fail or back, or passed only on a retry, as a share of the results. A test is called flaky when it passed \
    on a retry, or changed three times or more.";

/// How a test ended in one run: its last attempt there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// It passed, but an earlier attempt in the same run had not.
    pub on_retry: bool,
}

/// A test as its runs left it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last results, oldest first, at most [`STRIP`].
    pub strip: Vec<Mark>,
    /// The first run of the streak of failures that has not ended; absent when the last result that counts is a pass.
    pub failing_since: Option<RunId>,
    /// Runs in that streak.
    pub failing_runs: u32,
    /// The last run in which it passed.
    pub last_passed: Option<RunId>,
}

/// How flaky a test is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Flakiness {
    /// 0 to 1.
    pub score: f64,
    /// Changes from pass to fail or back.
    pub changes: u32,
    /// Passes that took a retry.
    pub on_retry: u32,
    /// Results that passed or failed.
    pub results: u32,
}

impl Flakiness {
    /// Whether the test is called flaky.
    #[must_use]
    pub fn is_flaky(&self) -> bool {
        self.on_retry > 0 || self.changes >= 3
    }
}

/// Whether an outcome is a failure.
#[must_use]
pub fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Error)
}

impl Standing {
    /// Takes in how the test ended in a run: a new run, one taken in before (another attempt), or a late one.
    pub fn take(&mut self, mark: Mark) {
        let before = self.clone();
        let was_full = before.strip.len() >= STRIP;
        let is_new = match self.strip.binary_search_by_key(&mark.run, |mark| mark.run) {
            Ok(at) => {
                self.strip[at] = mark;
                false
            }
            // Older than everything that is remembered.
            Err(0) if was_full => return,
            Err(at) => {
                self.strip.insert(at, mark);
                true
            }
        };
        if self.strip.len() > STRIP {
            self.strip.remove(0);
        }
        let passed = self.strip.iter().rev().find(|mark| mark.outcome == Outcome::Passed).map(|mark| mark.run);
        self.last_passed = passed.or(before.last_passed.filter(|run| *run != mark.run));
        let streak = self
            .strip
            .iter()
            .rev()
            .take_while(|mark| mark.outcome != Outcome::Passed)
            .filter(|mark| is_failure(mark.outcome));
        let (seen, first) = streak.fold((0_u32, None), |(count, _), mark| (count + 1, Some(mark.run)));
        let is_cut = passed.is_none() && was_full;
        if is_cut && before.failing_since.is_some() && seen > 0 {
            // The streak began before what the strip remembers.
            self.failing_since = before.failing_since.min(first);
            let now = u32::from(is_new && is_failure(mark.outcome));
            self.failing_runs = (before.failing_runs + now).max(seen);
        } else {
            (self.failing_since, self.failing_runs) = (first, seen);
        }
    }

    /// How the test ended last; absent before its first result.
    #[must_use]
    pub fn last(&self) -> Option<Mark> {
        self.strip.last().copied()
    }

    /// How flaky it is ([`FLAKY_DEFINITION`]).
    #[must_use]
    pub fn flakiness(&self) -> Flakiness {
        let counted: Vec<&Mark> = self.strip.iter().filter(|mark| mark.outcome != Outcome::Skipped).collect();
        let changes =
            counted.windows(2).filter(|pair| is_failure(pair[0].outcome) != is_failure(pair[1].outcome)).count();
        let on_retry = counted.iter().filter(|mark| mark.on_retry).count();
        let score = if counted.is_empty() { 0.0 } else { (changes + on_retry) as f64 / counted.len() as f64 };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Flakiness {
            score: score.min(1.0),
            changes: small(changes),
            on_retry: small(on_retry),
            results: small(counted.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcomes(letters: &str) -> Vec<Mark> {
        letters
            .chars()
            .map(|letter| Mark {
                run: RunId::new(),
                outcome: match letter {
                    'p' | 'r' => Outcome::Passed,
                    'f' => Outcome::Failed,
                    'e' => Outcome::Error,
                    _ => Outcome::Skipped,
                },
                on_retry: letter == 'r',
            })
            .collect()
    }

    fn standing(marks: &[Mark]) -> Standing {
        let mut standing = Standing::default();
        marks.iter().for_each(|mark| standing.take(*mark));
        standing
    }

    #[test]
    fn a_streak_counts_from_its_first_failure_and_skips_do_not_end_it() {
        let marks = outcomes("pfpfsef");
        let standing = standing(&marks);
        assert_eq!((standing.failing_since, standing.failing_runs), (Some(marks[3].run), 3));
        assert_eq!(standing.last_passed, Some(marks[2].run));
    }

    #[test]
    fn a_pass_ends_the_streak() {
        let marks = outcomes("ffp");
        assert_eq!((standing(&marks).failing_since, standing(&marks).failing_runs), (None, 0));
    }

    #[test]
    fn another_attempt_in_the_same_run_replaces_the_first() {
        let mut marks = outcomes("pf");
        let retried = Mark { outcome: Outcome::Passed, on_retry: true, ..marks[1] };
        marks.push(retried);
        let standing = standing(&marks);
        assert_eq!((standing.strip.len(), standing.failing_since), (2, None));
        assert!(standing.flakiness().is_flaky());
    }

    #[test]
    fn breaking_once_is_not_flaky_and_swinging_is() {
        assert!(!standing(&outcomes("ppppffff")).flakiness().is_flaky());
        assert!(!standing(&outcomes("pppfpp")).flakiness().is_flaky());
        let swinging = standing(&outcomes("pfpf")).flakiness();
        assert_eq!((swinging.changes, swinging.score, swinging.is_flaky()), (3, 0.75, true));
    }

    proptest! {
        /// Whatever comes, what is kept says the same as all results looked at together.
        #[test]
        fn what_is_kept_agrees_with_the_whole_history(letters in "[pfes]{0,90}") {
            let marks = outcomes(&letters);
            let kept = standing(&marks);
            let streak: Vec<&Mark> = marks.iter().rev().take_while(|m| m.outcome != Outcome::Passed).filter(|m| is_failure(m.outcome)).collect();
            let last_pass = marks.iter().rev().find(|m| m.outcome == Outcome::Passed).map(|m| m.run);
            prop_assert_eq!(kept.last_passed, last_pass);
            prop_assert_eq!(kept.strip, marks[marks.len().saturating_sub(STRIP)..].to_vec());
            // A strip full of skips forgets a streak; nothing else does.
            if marks.iter().rev().take(STRIP).any(|m| m.outcome != Outcome::Skipped) {
                prop_assert_eq!(kept.failing_runs as usize, streak.len());
                prop_assert_eq!(kept.failing_since, streak.last().map(|m| m.run));
            }
        }

        #[test]
        fn the_order_of_arrival_does_not_matter_while_all_is_remembered(letters in "[pfes]{1,30}", seed in any::<u64>()) {
            let marks = outcomes(&letters);
            let mut shuffled = marks.clone();
            shuffled.sort_by_key(|mark| mark.run.0.as_u128().wrapping_mul(u128::from(seed | 1)) % 1009);
            prop_assert_eq!(standing(&shuffled), standing(&marks));
        }
    }
}
