//! The arrival schedule of the open model: at what moment each iteration is due, and of which scenario.
//!
//! The k-th arrival is due when the integral of the rate reaches k (constant spacing) or the sum of k exponential gaps
//! of mean 1 (Poisson; inversion of the cumulative rate, see Lewis and Shedler 1979).

use std::time::Duration;

use kennel_model::load::{Arrivals, LoadProfile, Stage};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// One planned arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When it is due, counted from the start of the load.
    pub due: Duration,
    /// Which scenario it is for: an index into the experiment's scenarios.
    pub scenario: usize,
}

/// Iterates over planned arrivals in the order in which they are due.
#[derive(Debug, Clone)]
pub struct Schedule {
    stages: Vec<Stage>,
    spacing: Arrivals,
    random: SmallRng,
    /// Where the next arrival lies on the axis of expected arrivals so far.
    position: f64,
    stage: usize,
    /// Expected arrivals before the current stage, and when that stage starts (seconds).
    before: f64,
    stage_start: f64,
    weights: Vec<i64>,
    credit: Vec<i64>,
}

impl Schedule {
    /// The schedule of an open load profile over scenarios with these weights; `None` for a closed one.
    #[must_use]
    pub fn of(profile: &LoadProfile, weights: &[u32]) -> Option<Self> {
        let LoadProfile::Open { arrivals, stages, seed, .. } = profile else { return None };
        let mut schedule = Self {
            stages: stages.clone(),
            spacing: *arrivals,
            random: SmallRng::seed_from_u64(*seed),
            position: 0.0,
            stage: 0,
            before: 0.0,
            stage_start: 0.0,
            weights: weights.iter().map(|w| i64::from(*w)).collect(),
            credit: vec![0; weights.len()],
        };
        schedule.advance();
        Some(schedule)
    }

    fn advance(&mut self) {
        self.position += match self.spacing {
            Arrivals::Constant => 1.0,
            // 1 - u lies in (0, 1], so the logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.random.random::<f64>()).ln(),
        };
    }

    /// Seconds after the current stage's start at which `expected` arrivals of it have come, if it has so many.
    fn solve(stage: &Stage, expected: f64) -> Option<f64> {
        let (from, to, length) = (stage.start_rate().get(), stage.rate.get(), stage.duration.as_secs_f64());
        if expected > (from + to) / 2.0 * length {
            return None;
        }
        if expected <= 0.0 {
            // At a rate of 0 there is nothing to divide by, and nothing to come either.
            return (from + to > 0.0).then_some(0.0);
        }
        let slope = (to - from) / length;
        if slope.abs() < 1e-12 {
            return Some(expected / from);
        }
        // from·t + slope·t²/2 = expected, in the form that does not cancel.
        let root = (from * from + 2.0 * slope * expected).max(0.0).sqrt();
        Some((2.0 * expected / (from + root)).clamp(0.0, length))
    }

    /// Smooth weighted round-robin: over any stretch each scenario gets its share, evenly spread.
    fn pick_scenario(&mut self) -> usize {
        let total: i64 = self.weights.iter().sum();
        let mut best = 0;
        for (at, weight) in self.weights.iter().enumerate() {
            self.credit[at] += weight;
            if self.credit[at] > self.credit[best] {
                best = at;
            }
        }
        if let Some(credit) = self.credit.get_mut(best) {
            *credit -= total;
        }
        best
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let stage = self.stages.get(self.stage)?;
            // The first arrival of constant spacing is due at once, not after a whole gap.
            let offset = if self.spacing == Arrivals::Constant { 1.0 } else { 0.0 };
            match Self::solve(stage, self.position - offset - self.before) {
                Some(seconds) if seconds < stage.duration.as_secs_f64() => {
                    let due = Duration::from_secs_f64(self.stage_start + seconds);
                    self.advance();
                    let scenario = self.pick_scenario();
                    return Some(Arrival { due, scenario });
                }
                _ => {
                    self.before += (stage.start_rate().get() + stage.rate.get()) / 2.0 * stage.duration.as_secs_f64();
                    self.stage_start += stage.duration.as_secs_f64();
                    self.stage += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::units::{Rate, Span};
    use proptest::prelude::*;

    fn stage(from: f64, to: f64, seconds: u64) -> Stage {
        Stage {
            rate: Rate::per_second(to).unwrap(),
            from: Some(Rate::per_second(from).unwrap()),
            duration: Span::from_secs(seconds),
        }
    }

    fn open(arrivals: Arrivals, stages: Vec<Stage>, seed: u64) -> LoadProfile {
        let (max_users, patience, warm_up) = (1, Span::from_secs(1), Span::from_secs(0));
        LoadProfile::Open { arrivals, stages, max_users, patience, warm_up, seed }
    }

    fn times(profile: &LoadProfile) -> Vec<f64> {
        Schedule::of(profile, &[1]).unwrap().map(|a| a.due.as_secs_f64()).collect()
    }

    #[test]
    fn a_constant_rate_is_even_and_exact() {
        let times = times(&open(Arrivals::Constant, vec![stage(1000.0, 1000.0, 10)], 1));
        assert_eq!(times.len(), 10_000);
        assert_eq!(times[0], 0.0);
        assert!(times.windows(2).all(|w| (w[1] - w[0] - 0.001).abs() < 1e-6));
    }

    #[test]
    fn a_ramp_has_the_area_under_it() {
        let times = times(&open(Arrivals::Constant, vec![stage(0.0, 100.0, 10), stage(100.0, 0.0, 10)], 1));
        assert!((times.len() as i64 - 1000).abs() <= 1, "{}", times.len());
        let first_half = times.iter().filter(|t| **t < 5.0).count() as i64;
        assert!((first_half - 125).abs() <= 1, "{first_half}");
    }

    #[test]
    fn poisson_gaps_have_their_mean_and_spread() {
        let times = times(&open(Arrivals::Poisson, vec![stage(1000.0, 1000.0, 60)], 7));
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.001).abs() < 0.00002, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "coefficient of variation {}", variance.sqrt() / mean);
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let profile = |seed| open(Arrivals::Poisson, vec![stage(50.0, 50.0, 5)], seed);
        assert_eq!(times(&profile(3)), times(&profile(3)));
        assert_ne!(times(&profile(3)), times(&profile(4)));
    }

    #[test]
    fn weights_share_the_arrivals_evenly() {
        let profile = open(Arrivals::Constant, vec![stage(100.0, 100.0, 1)], 1);
        let picks: Vec<usize> = Schedule::of(&profile, &[1, 3]).unwrap().map(|a| a.scenario).collect();
        assert_eq!(picks.iter().filter(|s| **s == 0).count(), 25);
        assert!(picks.chunks(4).all(|four| four.iter().filter(|s| **s == 0).count() == 1), "{picks:?}");
    }

    proptest! {
        #[test]
        fn arrivals_are_ordered_within_the_load_and_as_many_as_asked(
            stages in prop::collection::vec((0_u32..200, 0_u32..200, 1_u64..20), 1..5),
            poisson in any::<bool>(), seed in any::<u64>(),
        ) {
            let stages: Vec<Stage> = stages.into_iter().map(|(a, b, s)| stage(f64::from(a), f64::from(b), s)).collect();
            let area: f64 = stages.iter().map(|s| (s.start_rate().get() + s.rate.get()) / 2.0 * s.duration.as_secs_f64()).sum();
            let spacing = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let profile = open(spacing, stages, seed);
            let times = times(&profile);
            prop_assert!(times.windows(2).all(|w| w[0] <= w[1]));
            prop_assert!(times.iter().all(|t| *t <= profile.duration().as_secs_f64()));
            let allowed = if poisson { 6.0 * area.sqrt() + 6.0 } else { 1.5 };
            prop_assert!((times.len() as f64 - area).abs() <= allowed, "{} arrivals for an area of {}", times.len(), area);
        }
    }
}
