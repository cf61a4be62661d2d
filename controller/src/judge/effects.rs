//! What each fault did to the load, compared with the steady phase, and how long it took to be back.

use kennel_model::Phase;
use kennel_model::api::{FaultEffect, FaultView, SecondView, SeriesView};
use kennel_model::experiment::Experiment;
use kennel_model::fault::{Fault, FaultState};

use super::totals::{Total, Totals};
use crate::recording::ALL;
use crate::runs::phases::{FaultStep, Seconds, Timeline};

/// Windows of 1 s in a row that must be back at the steady level.
const BACK_WINDOWS: usize = 3;
/// How far above the steady p90 counts as back: this share of it …
const BACK_SHARE: f64 = 0.10;
/// … or this many milliseconds, whichever is larger.
const BACK_MS: f64 = 5.0;
/// How far above the steady error rate counts as back.
const BACK_ERRORS: f64 = 0.005;

/// A fault as its reports tell it.
pub(crate) fn fault_view(fault: &Fault, steps: &[FaultStep], timeline: &Timeline) -> FaultView {
    let seconds = |ms: u64| ms as f64 / 1e3;
    let mut own = steps.iter().filter(|step| step.fault == fault.name);
    let active = timeline.active(&fault.name);
    // What it resolved to stays worth knowing after later steps that say nothing.
    let detail = own.clone().rev().find(|step| !step.detail.is_empty()).map(|step| step.detail.clone());
    FaultView {
        name: fault.name.clone(),
        kind: fault.kind,
        description: fault.describe(),
        state: own.next_back().map_or(FaultState::Planned, |step| step.state),
        planned_start_s: fault.start.as_secs_f64(),
        planned_duration_s: fault.duration.map(|duration| duration.as_secs_f64()),
        injected_at_s: active.first().map(|span| seconds(span.from_ms)),
        reverted_at_s: active.last().and_then(|span| span.to_ms).map(seconds),
        detail: detail.unwrap_or_default(),
        effect: None,
    }
}

/// Every fault of the experiment with its effect.
pub(crate) fn faults(
    experiment: &Experiment,
    steps: &[FaultStep],
    timeline: &Timeline,
    totals: &Totals<'_>,
    series: &SeriesView,
) -> Vec<FaultView> {
    let steady = totals.get(&Seconds::Phase(Phase::Steady), None);
    let seconds: &[SecondView] = series.series.get(ALL).map_or(&[], Vec::as_slice);
    experiment
        .faults
        .iter()
        .map(|fault| {
            let mut view = fault_view(fault, steps, timeline);
            let during = totals.get(&Seconds::Fault(fault.name.clone()), None);
            let reverted_ms = timeline.active(&fault.name).last().and_then(|span| span.to_ms);
            let planned = timeline.planned_seconds();
            let after = reverted_ms.map(|at| (at, load_after(seconds, at, planned)));
            view.effect = effect(&steady, &during).map(|effect| FaultEffect {
                recovered_after_s: after.as_ref().and_then(|(at, load)| recovered_after(load, *at, &steady)),
                observed_after_s: after.map_or(0, |(_, load)| u32::try_from(load.len()).unwrap_or(u32::MAX)),
                ..effect
            });
            view
        })
        .collect()
}

/// What it did while it was active; what came after is not in here.
fn effect(steady: &Total, during: &Total) -> Option<FaultEffect> {
    let (before, times) = (&steady.requests.response_time, &during.requests.response_time);
    steady.error_rate()?;
    Some(FaultEffect {
        failed: during.requests.failed(),
        error_rate: during.error_rate()?,
        p50_before: before.percentile_ms(50.0),
        p50_during: times.percentile_ms(50.0),
        p99_before: before.percentile_ms(99.0),
        p99_during: times.percentile_ms(99.0),
        recovered_after_s: None,
        observed_after_s: 0,
    })
}

/// The seconds of load that were measured from the reversal on.
fn load_after(seconds: &[SecondView], reverted_ms: u64, planned_s: u32) -> Vec<&SecondView> {
    let first = u32::try_from(reverted_ms / 1_000).unwrap_or(u32::MAX);
    seconds.iter().filter(|view| view.second >= first && view.second < planned_s).collect()
}

/// Seconds from the reversal until the first of three seconds in a row at the steady level. Faster than before counts
/// as back; so the level is a ceiling.
fn recovered_after(load: &[&SecondView], reverted_ms: u64, steady: &Total) -> Option<f64> {
    let steady_p90 = steady.requests.response_time.percentile_ms(90.0);
    let slowest = steady_p90 + (steady_p90 * BACK_SHARE).max(BACK_MS);
    let most_errors = steady.error_rate()? + BACK_ERRORS;
    let is_back = |view: &SecondView| {
        view.p90.is_some_and(|p90| p90 <= slowest) && view.errors as f64 <= most_errors * view.rate as f64
    };
    let back = load.windows(BACK_WINDOWS).find(|windows| {
        windows.iter().all(|view| is_back(view)) && windows.windows(2).all(|pair| pair[0].second + 1 == pair[1].second)
    })?;
    Some((f64::from(back[0].second) - reverted_ms as f64 / 1e3).max(0.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kennel_model::frame::RequestFrame;
    use proptest::prelude::*;

    use super::*;

    fn second(at: u32, p90: f64, errors: u64) -> SecondView {
        SecondView { second: at, rate: 100, errors, p90: Some(p90), ..SecondView::default() }
    }

    fn steady_of(ms: u64) -> Total {
        let mut requests = RequestFrame { count: 1, ..RequestFrame::default() };
        requests.response_time.record_us(ms * 1_000);
        Total { requests: Arc::new(requests), ..Total::default() }
    }

    fn recovered(seconds: &[SecondView], reverted_ms: u64, planned_s: u32) -> Option<f64> {
        recovered_after(&load_after(seconds, reverted_ms, planned_s), reverted_ms, &steady_of(20))
    }

    #[test]
    fn seconds_before_the_reversal_and_after_the_planned_end_are_not_observed() {
        let load: Vec<SecondView> = (0..25).map(|at| second(at, 20.0, 0)).collect();
        let observed = |reverted_ms| load_after(&load, reverted_ms, 20).len();
        assert_eq!([observed(10_500), observed(18_000), observed(20_000), observed(60_000)], [10, 2, 0, 0]);
        assert_eq!(load_after(&load[..12], 10_000, 20).len(), 2, "a halt ends what is observed");
    }

    #[test]
    fn recovery_counts_from_the_reversal_to_the_first_of_three_good_seconds() {
        // Good for two seconds, bad for one (errors), then good.
        let load: Vec<SecondView> =
            (0..20).map(|at| second(at, if at < 12 { 400.0 } else { 20.0 }, u64::from(at == 14))).collect();
        assert_eq!(recovered(&load, 10_500, 20), Some(4.5));
        assert_eq!(recovered(&load, 15_500, 20), Some(0.0));
    }

    #[test]
    fn a_run_that_ends_too_early_never_recovered() {
        let load: Vec<SecondView> = (0..20).map(|at| second(at, if at < 18 { 400.0 } else { 20.0 }, 0)).collect();
        assert_eq!(recovered(&load, 10_000, 20), None);
        // The tail after the planned end does not help.
        assert_eq!(
            recovered(
                &(0..25).map(|at| second(at, if at < 18 { 400.0 } else { 20.0 }, 0)).collect::<Vec<_>>(),
                10_000,
                20
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn whoever_recovered_had_three_good_seconds(p90s in prop::collection::vec(prop::sample::select(vec![20.0, 24.0, 26.0, 90.0]), 0..40), reverted in 0_u64..40_000) {
            let load: Vec<SecondView> = p90s.iter().enumerate().map(|(at, p90)| second(u32::try_from(at).unwrap(), *p90, 0)).collect();
            // 20 ms + max(10 %, 5 ms) = 25 ms.
            let good = |at: usize| p90s.get(at).is_some_and(|p90| *p90 <= 25.0);
            match recovered(&load, reverted, 40) {
                Some(after) => {
                    let at = ((reverted as f64 / 1e3 + after).floor()) as usize;
                    prop_assert!(good(at) && good(at + 1) && good(at + 2), "{} {:?}", at, p90s);
                }
                None => {
                    let first = (reverted / 1_000) as usize;
                    prop_assert!((first..40).all(|at| !(good(at) && good(at + 1) && good(at + 2))));
                }
            }
        }
    }
}
