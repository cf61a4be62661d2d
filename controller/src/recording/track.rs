//! Tracks: one request name second by second, so that any window of seconds is summed up without going through all of
//! them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kennel_model::frame::{Latencies, LatenciesError, RequestFrame};

/// Blocks are 1, 2, 4 … seconds long, up to 2^(this − 1).
const LEVELS: u32 = 11;

/// The sum of some seconds of a track.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// Service times are not kept: no guard or objective asks for them.
    pub(crate) requests: RequestFrame,
    /// Arrivals that were dropped, of all scenarios.
    pub(crate) dropped: u64,
    /// Seconds that were measured.
    pub(crate) measured_s: u32,
    /// Those of them that were planned.
    pub(crate) planned_s: u32,
}

impl Window {
    fn merge(&mut self, other: &Self) {
        self.requests.merge(&other.requests);
        self.dropped += other.dropped;
        self.measured_s += other.measured_s;
        self.planned_s += other.planned_s;
    }
}

/// A window with its histogram in stored form.
#[derive(Debug, Clone)]
struct Block {
    count: u64,
    failures: BTreeMap<String, u64>,
    bytes: u64,
    response: Vec<u8>,
    dropped: u64,
    measured_s: u32,
    planned_s: u32,
}

impl Block {
    fn close(window: Window) -> Self {
        Self {
            count: window.requests.count,
            response: window.requests.response_time.to_bytes(),
            failures: window.requests.failures,
            bytes: window.requests.bytes,
            dropped: window.dropped,
            measured_s: window.measured_s,
            planned_s: window.planned_s,
        }
    }

    fn open(&self) -> Result<Window, LatenciesError> {
        let requests = RequestFrame {
            count: self.count,
            failures: self.failures.clone(),
            bytes: self.bytes,
            response_time: Latencies::from_bytes(&self.response)?,
            service_time: Latencies::new(),
        };
        let (dropped, measured_s, planned_s) = (self.dropped, self.measured_s, self.planned_s);
        Ok(Window { requests, dropped, measured_s, planned_s })
    }
}

/// One request name (or all together) second by second. Besides each second it keeps the sums of aligned blocks of 2,
/// 4, 8 … seconds: a window is the sum of a few blocks, twice as many as its length has binary digits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    /// By level and number: block `n` of level `l` covers the seconds from `n << l` to before `(n + 1) << l`. A block
    /// of more than one second is there once its last second came; until then smaller ones stand for it.
    levels: [BTreeMap<u32, Block>; LEVELS as usize],
}

impl Track {
    /// Adds measurements to a second.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn add(&mut self, second: u32, measured: Window) -> Result<(), LatenciesError> {
        let mut sum = measured;
        if let Some(known) = self.levels[0].get(&second) {
            sum.merge(&known.open()?);
        }
        self.levels[0].insert(second, Block::close(sum));
        for level in 1..LEVELS {
            let number = second >> level;
            let is_last = second == last(level, number);
            // A block that is there already has to learn of a late second; it must not count itself.
            if self.levels[level as usize].remove(&number).is_some() || is_last {
                let sum = self.between(number << level..=last(level, number))?;
                self.levels[level as usize].insert(number, Block::close(sum));
            }
        }
        Ok(())
    }

    /// The sum of a window.
    ///
    /// # Errors
    /// When a histogram that was kept cannot be read.
    pub(crate) fn between(&self, seconds: RangeInclusive<u32>) -> Result<Window, LatenciesError> {
        let (mut from, to) = seconds.into_inner();
        let mut sum = Window::default();
        // From one second that was measured to the next, in the longest strides that stay inside.
        while let Some((&at, _)) = (from <= to).then(|| self.levels[0].range(from..=to).next()).flatten() {
            let fits = |level: &u32| (at >> level) << level == at && last(*level, at >> level) <= to;
            let longest = (0..LEVELS).rev().filter(fits).find_map(|level| {
                let number = at >> level;
                self.levels[level as usize].get(&number).map(|block| (last(level, number), block))
            });
            let Some((end, block)) = longest else { break };
            sum.merge(&block.open()?);
            let Some(next) = end.checked_add(1) else { break };
            from = next;
        }
        Ok(sum)
    }
}

/// The last second of a block.
fn last(level: u32, number: u32) -> u32 {
    (number << level) | ((1 << level) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(count: u64, ms: u64) -> Window {
        let mut window = Window { dropped: 1, measured_s: 1, planned_s: 1, ..Window::default() };
        window.requests.count = count;
        window.requests.failures.insert("timeout".into(), 1);
        (0..count).for_each(|_| window.requests.response_time.record_us(ms * 1_000));
        window
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_window_is_the_sum_of_its_seconds(
            seconds in prop::collection::vec((0_u32..70, 1_u64..4, 1_u64..500), 0..50),
            windows in prop::collection::vec((0_u32..80, 0_u32..80), 8),
        ) {
            let mut track = Track::default();
            for (second, count, ms) in &seconds {
                track.add(*second, window(*count, *ms)).unwrap();
            }
            for (from, length) in windows {
                let asked = from..=from + length;
                let mut expected = Window::default();
                for (_, count, ms) in seconds.iter().filter(|(second, ..)| asked.contains(second)) {
                    expected.merge(&window(*count, *ms));
                }
                let sum = track.between(asked).unwrap();
                prop_assert_eq!(sum.requests.count, expected.requests.count);
                prop_assert_eq!(&sum.requests.failures, &expected.requests.failures);
                prop_assert_eq!((sum.dropped, sum.measured_s, sum.planned_s), (expected.dropped, expected.measured_s, expected.planned_s));
                for percentile in [0.0, 50.0, 90.0, 100.0] {
                    let times = |window: &Window| window.requests.response_time.percentile_us(percentile);
                    prop_assert_eq!(times(&sum), times(&expected));
                }
            }
        }
    }

    #[test]
    fn a_window_reaches_to_the_last_second_that_can_be() {
        let mut track = Track::default();
        for second in [7, u32::MAX] {
            track.add(second, window(2, 20)).unwrap();
        }
        assert_eq!(track.between(0..=u32::MAX).unwrap().requests.count, 4);
        assert_eq!(track.between(8..=u32::MAX - 1).unwrap().requests.count, 0);
    }
}
