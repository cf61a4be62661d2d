//! What must hold for any recording and any ending.

use std::collections::BTreeMap;

use kennel_model::fault::FaultState;
use kennel_model::frame::{ArrivalFrame, Frame, Latencies, RequestFrame, WorkerFrame};
use kennel_model::protocol::{AuditReport, AuditVerdict, InvariantReport};
use kennel_model::{Phase, RunId, ValidExperiment, Verdict};
use proptest::prelude::*;

use super::verdict::{Ending, judge};
use super::*;
use crate::recording::{ALL, Stretch};

/// A fault from second 4 to 6.
pub(crate) const FAULT: &str = "
faults:
  - {name: slow, kind: latency, selector: {link: gw -> db}, parameters: {latency: 1s}, start: 4s, duration: 2s}
";

fn experiment(extra: &str) -> Experiment {
    valid(extra).experiment().clone()
}

/// An experiment of 20 s with 2 s of warm-up, and what `extra` adds.
pub(crate) fn valid(extra: &str) -> ValidExperiment {
    let source = format!(
        "
version: 1
name: demo
target:
  name: shop
  base_url: http://127.0.0.1:1
  allowed_hosts: [127.0.0.1]
  links: [{{from: gw, to: db, listen: '127.0.0.1:2', upstream: '127.0.0.1:3'}}]
  audits: [{{name: books, url: 'http://127.0.0.1:4/'}}]
  limits: {{faults: [latency]}}
load: {{model: open, stages: [{{rate: 10/s, duration: 20s}}], warm_up: 2s}}
scenarios: [{{name: s, steps: [{{name: buy, path: /buy}}, {{name: look, path: /look}}]}}]
{extra}"
    );
    kennel_model::experiment::parse("x.yaml", &source, &NoSurroundings).unwrap_or_else(|e| panic!("{e}"))
}

struct NoSurroundings;

impl kennel_model::experiment::Surroundings for NoSurroundings {
    fn target(&self, _: &str) -> Result<kennel_model::target::Target, String> {
        Err("none".into())
    }

    fn builtins(&self) -> Vec<kennel_model::experiment::Builtin> {
        Vec::new()
    }
}

/// One request name in one second: how many requests, how many of them failed, how long each took.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) second: u32,
    pub(crate) request: &'static str,
    pub(crate) count: u64,
    pub(crate) failed: u64,
    pub(crate) ms: u64,
}

pub(crate) fn frame(run: RunId, load: &Load) -> Frame {
    let mut times = Latencies::new();
    (0..load.count).for_each(|_| times.record_us(load.ms * 1_000));
    let failures =
        if load.failed > 0 { BTreeMap::from([("timeout".to_owned(), load.failed)]) } else { BTreeMap::new() };
    let request = RequestFrame {
        count: load.count,
        failures,
        bytes: load.count * 10,
        response_time: times.clone(),
        service_time: times.clone(),
    };
    let arrivals = ArrivalFrame { scheduled: load.count, started: load.count, dropped: 0 };
    Frame {
        run,
        agent: "a".into(),
        second: load.second,
        requests: BTreeMap::from([(load.request.to_owned(), request)]),
        arrivals: BTreeMap::from([("s".to_owned(), arrivals)]),
        worker: WorkerFrame { lag: Latencies::new(), cpu_us: load.ms, resident_bytes: load.count, busy_users: 1 },
    }
}

/// What was measured, taken in in order of time.
fn recording(experiment: &Experiment, load: &[Load], steps: &[FaultStep]) -> Recording {
    recording_of(experiment, load, steps, |_| {})
}

fn recording_of(
    experiment: &Experiment,
    load: &[Load],
    steps: &[FaultStep],
    change: impl Fn(&mut Stretch),
) -> Recording {
    let timeline = Timeline::new(experiment, steps);
    let mut recording = Recording::new(experiment);
    let mut in_order: Vec<&Load> = load.iter().collect();
    in_order.sort_by_key(|load| load.second);
    for load in in_order {
        let mut measured = Stretch::from(frame(RunId::new(), load));
        change(&mut measured);
        recording.add(load.second, measured, &timeline).unwrap();
    }
    recording
}

fn steady_load(seconds: std::ops::Range<u32>) -> Vec<Load> {
    seconds.map(|second| Load { second, request: "buy", count: 10, failed: 0, ms: 20 }).collect()
}

pub(crate) fn step(state: FaultState, at_ms: u64) -> FaultStep {
    FaultStep { fault: "slow".into(), state, at_ms, detail: "proxy gone".into() }
}

fn verdict(experiment: &Experiment, load: &[Load], steps: &[FaultStep]) -> (Verdict, Vec<String>) {
    let assessment = assess(experiment, &recording(experiment, load, steps), steps).unwrap();
    judge(experiment, &assessment, &[], &Ending::Completed)
}

#[test]
fn a_missed_objective_names_what_was_measured_and_what_was_allowed() {
    let experiment = experiment(&format!("objectives: ['p99(buy) < 150ms during fault', 'error_rate < 1%']\n{FAULT}"));
    let mut load = steady_load(0..20);
    load[4].ms = 231;
    load[5].ms = 231;
    let steps = [step(FaultState::Active, 4_000), step(FaultState::Reverted, 6_000)];
    let (verdict, reasons) = verdict(&experiment, &load, &steps);
    assert_eq!(verdict, Verdict::Failed);
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].starts_with("p99(buy) during fault was 231"), "{reasons:?}");
    assert!(reasons[0].ends_with("must be < 150 ms"), "{reasons:?}");
}

#[test]
fn when_everything_fails_the_most_frequent_kind_is_named() {
    let mut load = steady_load(0..20);
    load.iter_mut().for_each(|load| load.failed = load.count);
    let (verdict, reasons) = verdict(&experiment(""), &load, &[]);
    assert_eq!(verdict, Verdict::Failed);
    assert_eq!(reasons, ["every request failed: timeout (180×)"]);
}

#[test]
fn measurements_of_warm_up_alone_are_inconclusive() {
    let (verdict, reasons) = verdict(&experiment(""), &steady_load(0..2), &[]);
    assert_eq!((verdict, reasons[0].as_str()), (Verdict::Inconclusive, "no request was measured after warm-up"));
}

#[test]
fn a_stuck_fault_is_loud_however_the_run_ended() {
    let experiment = experiment(FAULT);
    let steps = [step(FaultState::Active, 4_000), step(FaultState::Stuck, 6_000)];
    let assessment = assess(&experiment, &recording(&experiment, &steady_load(0..20), &steps), &steps).unwrap();
    let why = vec!["halted by a person".to_owned()];
    for ending in [Ending::Completed, Ending::Halted { why: why.clone() }, Ending::Error { why }] {
        let (verdict, reasons) = judge(&experiment, &assessment, &[], &ending);
        assert_eq!(verdict, Verdict::Error);
        assert!(reasons[0].starts_with("FAULT STILL ACTIVE: `slow` (latency 1s on gw -> db)"), "{reasons:?}");
        assert!(reasons[0].ends_with("proxy gone"), "{reasons:?}");
    }
}

#[test]
fn a_fault_that_failed_is_an_error_and_one_that_never_came_is_inconclusive() {
    let experiment = experiment(FAULT);
    let (failed, reasons) = verdict(&experiment, &steady_load(0..20), &[step(FaultState::Failed, 4_000)]);
    assert_eq!((failed, reasons[0].as_str()), (Verdict::Error, "fault `slow` could not be injected: proxy gone"));
    let (never, reasons) = verdict(&experiment, &steady_load(0..20), &[]);
    assert_eq!((never, reasons[0].as_str()), (Verdict::Inconclusive, "fault `slow` was never active"));
}

#[test]
fn the_steady_state_must_be_back_and_recovery_must_be_long_enough_to_tell() {
    let experiment = experiment(&format!("steady_state: ['p90 < 100ms']\n{FAULT}"));
    let steps = |reverted| [step(FaultState::Active, 4_000), step(FaultState::Reverted, reverted)];
    assert_eq!(verdict(&experiment, &steady_load(0..20), &steps(6_000)).0, Verdict::Passed);
    // Slow only in the last third of recovery (6..20: from second 15 on).
    let mut slow = steady_load(0..20);
    slow[15..].iter_mut().for_each(|load| load.ms = 500);
    let (failed, reasons) = verdict(&experiment, &slow, &steps(6_000));
    assert_eq!(failed, Verdict::Failed);
    assert!(reasons[0].starts_with("p90 in the steady state after was 500"), "{reasons:?}");
    // Slow at first, then settled.
    let mut settling = steady_load(0..20);
    settling[6..15].iter_mut().for_each(|load| load.ms = 500);
    assert_eq!(verdict(&experiment, &settling, &steps(6_000)).0, Verdict::Passed);
    let (short, reasons) = verdict(&experiment, &steady_load(0..20), &steps(17_000));
    assert_eq!(short, Verdict::Inconclusive);
    assert!(reasons[0].contains("recovery was shorter than 5 s"), "{reasons:?}");
}

#[test]
fn a_generator_that_lags_is_unfit_and_a_busy_target_is_not() {
    let behind = |lag_ms: u64| {
        let experiment = experiment("");
        let recording = recording_of(&experiment, &steady_load(0..20), &[], |frame| {
            frame.arrivals.insert("s".into(), ArrivalFrame { scheduled: 20, started: 10, dropped: 0 });
            let mut lag = Latencies::new();
            lag.record_us(lag_ms * 1_000);
            frame.lag = lag.into();
        });
        judge(&experiment, &assess(&experiment, &recording, &[]).unwrap(), &[], &Ending::Completed)
    };
    let (unfit, reasons) = behind(80);
    assert_eq!(unfit, Verdict::Invalid);
    assert!(reasons[0].starts_with("the load generator could not keep up: 180 of 360 arrivals"), "{reasons:?}");
    let (busy, reasons) = behind(2);
    assert_eq!(busy, Verdict::Inconclusive, "the generator was fit: {reasons:?}");
}

#[test]
fn load_that_found_no_free_user_never_passes_unless_an_objective_says_how_much_may_be_missing() {
    let judged = |objectives: &str, arrivals: ArrivalFrame| {
        let experiment = experiment(objectives);
        let recording = recording_of(&experiment, &steady_load(0..20), &[], |frame| {
            frame.arrivals.insert("s".into(), arrivals);
        });
        judge(&experiment, &assess(&experiment, &recording, &[]).unwrap(), &[], &Ending::Completed)
    };
    let missing = ArrivalFrame { scheduled: 4_000, started: 898, dropped: 3_102 };
    let (unstated, reasons) = judged("objectives: ['p99 < 1s']", missing);
    assert_eq!(unstated, Verdict::Inconclusive);
    assert_eq!(
        reasons,
        ["only 898 of 4000 arrivals per second (22 %) found a free user; raise max_users or patience, or state an \
          objective on `dropped` or `rate`"]
    );
    assert_eq!(judged("objectives: ['p99 < 1ms']", missing).0, Verdict::Failed, "a missed objective weighs more");
    assert_eq!(judged("objectives: ['rate > 5/s']", missing).0, Verdict::Passed);
    assert_eq!(judged("objectives: ['dropped < 100000']", missing).0, Verdict::Passed);
    let nearly_all = ArrivalFrame { scheduled: 4_000, started: 3_960, dropped: 40 };
    assert_eq!(judged("objectives: ['p99 < 1s']", nearly_all).0, Verdict::Passed);
}

#[test]
fn audits_decide_when_objectives_are_met() {
    let experiment = experiment("audits: [books]");
    let assessment = assess(&experiment, &recording(&experiment, &steady_load(0..20), &[]), &[]).unwrap();
    let invariant = |verdict| InvariantReport {
        id: "I7".into(),
        title: "no order is paid twice".into(),
        verdict,
        checked: 90,
        violations: 2,
        examples: Vec::new(),
    };
    let audit = |verdict, problem: Option<&str>| AuditReport {
        name: "books".into(),
        verdict,
        invariants: vec![invariant(verdict)],
        problem: problem.map(str::to_owned),
    };
    let judge = |audits: &[AuditReport]| judge(&experiment, &assessment, audits, &Ending::Completed);
    assert_eq!(judge(&[audit(AuditVerdict::Valid, None)]).0, Verdict::Passed);
    let (failed, reasons) = judge(&[audit(AuditVerdict::Invalid, None)]);
    assert_eq!(failed, Verdict::Failed);
    assert_eq!(reasons, ["audit `books` found violations: I7 no order is paid twice (2 of 90 checked)"]);
    let (unknown, reasons) = judge(&[audit(AuditVerdict::Unknown, Some("no answer"))]);
    assert_eq!((unknown, reasons[0].as_str()), (Verdict::Inconclusive, "audit `books` could not tell: no answer"));
    assert_eq!(judge(&[]).0, Verdict::Inconclusive);
}

#[test]
fn a_guard_judges_once_its_window_is_full_and_forgets_what_left_it() {
    let experiment = experiment("guards: ['error_rate < 50% over 3s']");
    let mut load = steady_load(0..10);
    load[..3].iter_mut().for_each(|load| load.failed = 9);
    // A second that was never measured leaves the window's other seconds as they are.
    load.remove(4);
    let recording = recording(&experiment, &load, &[]);
    let at = |second| guards::evaluate(&experiment.guards[0], &recording, second).unwrap();
    assert_eq!((at(0).met, at(0).value, at(1).met), (None, Some(0.9), None));
    assert_eq!((at(2).met, at(2).value), (Some(false), Some(0.9)));
    assert_eq!((at(3).met, at(3).value), (Some(false), Some(0.6)));
    assert_eq!((at(4).met, at(4).value), (Some(true), Some(0.45)));
    assert_eq!((at(5).met, at(5).value), (Some(true), Some(0.0)));
}

#[test]
fn stragglers_after_the_planned_end_do_not_thin_the_rate() {
    let mut load = steady_load(0..20);
    load.push(Load { second: 24, request: "buy", count: 1, failed: 0, ms: 4_000 });
    let experiment = experiment("");
    let assessment = assess(&experiment, &recording(&experiment, &load, &[]), &[]).unwrap();
    let all = &assessment.requests[0];
    assert_eq!((all.count, all.rate), (181, 181.0 / 18.0));
}

pub(crate) fn loads() -> impl Strategy<Value = Vec<Load>> {
    let load = (0_u32..25, prop::sample::select(vec!["buy", "look"]), 1_u64..20, 0.0_f64..=1.0, 1_u64..500);
    let load = load.prop_map(|(second, request, count, share, ms)| {
        let failed = (count as f64 * share).floor() as u64;
        Load { second, request, count, failed, ms }
    });
    prop::collection::vec(load, 0..25)
}

pub(crate) fn fault_steps() -> impl Strategy<Value = Vec<FaultStep>> {
    prop_oneof![
        Just(Vec::new()),
        (0_u64..20_000, 0_u64..10_000)
            .prop_map(|(from, length)| vec![step(FaultState::Active, from), step(FaultState::Reverted, from + length)]),
        (0_u64..20_000).prop_map(|from| vec![step(FaultState::Active, from)]),
        (0_u64..20_000).prop_map(|from| vec![step(FaultState::Active, from), step(FaultState::Stuck, from + 1_000)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_request_is_counted_in_exactly_one_phase(load in loads(), steps in fault_steps()) {
        let experiment = experiment(FAULT);
        let assessment = assess(&experiment, &recording(&experiment, &load, &steps), &steps).unwrap();
        // Phases of stragglers alone get no row of their own.
        let (sent, tail): (Vec<&Load>, Vec<&Load>) = load.iter().partition(|load| load.second < 20);
        for request in [ALL, "buy", "look"] {
            let of = |loads: &[&Load]| loads.iter().filter(|l| request == ALL || l.request == request).map(|l| l.count).sum::<u64>();
            let rows = assessment.requests.iter().filter(|row| row.request == request);
            let by_phase: u64 = rows.clone().filter(|row| row.phase.is_some()).map(|row| row.count).sum();
            let whole: u64 = rows.clone().filter(|row| row.phase.is_none()).map(|row| row.count).sum();
            let warm_up: u64 = rows.filter(|row| row.phase == Some(Phase::WarmUp)).map(|row| row.count).sum();
            prop_assert!(by_phase >= of(&sent) && by_phase <= of(&sent) + of(&tail));
            prop_assert_eq!(whole + warm_up, of(&sent) + of(&tail));
        }
    }

    #[test]
    fn a_row_is_what_the_requests_of_its_seconds_come_to(load in loads(), steps in fault_steps()) {
        let experiment = experiment(FAULT);
        let timeline = Timeline::new(&experiment, &steps);
        let assessment = assess(&experiment, &recording(&experiment, &load, &steps), &steps).unwrap();
        for row in &assessment.requests {
            let within = |second: u32| {
                let phase = timeline.phase(second);
                row.phase.map_or(phase != Phase::WarmUp, |wanted| wanted == phase)
            };
            let of_row = |l: &&Load| within(l.second) && (row.request == ALL || row.request == l.request);
            let (mut count, mut failed, mut times) = (0, 0, Latencies::new());
            for load in load.iter().filter(of_row) {
                (count, failed) = (count + load.count, failed + load.failed);
                (0..load.count).for_each(|_| times.record_us(load.ms * 1_000));
            }
            let seconds: BTreeSet<u32> = load.iter().map(|l| l.second).filter(|s| *s < 20 && within(*s)).collect();
            let rate = if seconds.is_empty() { 0.0 } else { count as f64 / seconds.len() as f64 };
            prop_assert_eq!((row.count, row.bytes, row.rate), (count, count * 10, rate));
            prop_assert_eq!(row.failures.values().sum::<u64>(), failed);
            for shown in [row.response, row.service] {
                prop_assert_eq!((shown.p50, shown.p99), (times.percentile_ms(50.0), times.percentile_ms(99.0)));
                prop_assert_eq!((shown.max, shown.mean), (times.max_ms(), times.mean_ms()));
            }
        }
    }

    #[test]
    fn the_series_adds_up_to_the_table(load in loads()) {
        let recording = recording(&experiment(""), &load, &[]);
        let seconds = recording.series().series.get(ALL).cloned().unwrap_or_default();
        prop_assert_eq!(seconds.iter().map(|view| view.rate).sum::<u64>(), load.iter().map(|l| l.count).sum::<u64>());
        prop_assert_eq!(seconds.iter().map(|view| view.errors).sum::<u64>(), load.iter().map(|l| l.failed).sum::<u64>());
        prop_assert!(seconds.windows(2).all(|pair| pair[0].second < pair[1].second));
    }

    #[test]
    fn a_looser_bound_is_never_harder(load in loads(), steps in fault_steps(), tight in 1_u64..500, more in 0_u64..500) {
        let met = |bound: u64| {
            let experiment = experiment(&format!("objectives: ['p90 < {bound}ms during fault']\n{FAULT}"));
            assess(&experiment, &recording(&experiment, &load, &steps), &steps).unwrap().objectives[0].met
        };
        let (tight_met, loose_met) = (met(tight), met(tight + more));
        prop_assert_eq!(tight_met.is_none(), loose_met.is_none());
        prop_assert!(tight_met <= loose_met);
    }

    #[test]
    fn passed_means_that_everything_was_met(load in loads(), steps in fault_steps()) {
        let experiment = experiment(&format!("objectives: ['p99 < 400ms', 'error_rate < 60%']\n{FAULT}"));
        let assessment = assess(&experiment, &recording(&experiment, &load, &steps), &steps).unwrap();
        let (verdict, reasons) = judge(&experiment, &assessment, &[], &Ending::Completed);
        prop_assert!(!reasons.is_empty());
        if verdict == Verdict::Passed {
            prop_assert!(assessment.objectives.iter().all(|view| view.met == Some(true)));
            prop_assert!(assessment.faults.iter().all(|fault| fault.injected_at_s.is_some()));
        }
        let stuck = assessment.faults.iter().any(|fault| fault.state == FaultState::Stuck);
        prop_assert!(!stuck || verdict == Verdict::Error);
        prop_assert!(load.iter().any(|load| load.second >= 2) || verdict != Verdict::Failed);
    }
}
