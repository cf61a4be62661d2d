//! An agent that does nothing to anybody: it reports a believable run, second by second.

use std::collections::BTreeMap;
use std::time::Duration;

use kennel_model::RunId;
use kennel_model::experiment::Experiment;
use kennel_model::fault::{Fault, FaultKind, FaultState};
use kennel_model::frame::{ArrivalFrame, Frame, Latencies, RequestFrame, WorkerFrame};
use kennel_model::protocol::{
    AgentDescription, Assignment, AuditReport, AuditVerdict, FaultReport, FromAgent, InvariantReport, ToAgent,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

#[path = "scripted_steps.rs"]
mod steps;

/// How the agent behaves.
#[derive(Clone)]
pub(crate) struct Script {
    /// Seconds of the run that come at once.
    pub(crate) rush: u32,
    /// Time from one second of the run to the next, after those.
    pub(crate) pace: Duration,
    /// Examples of a broken invariant that audits find; none means all is well.
    pub(crate) audit_examples: Vec<String>,
}

impl Script {
    /// As fast as it can, and all is well.
    pub(crate) fn fast() -> Self {
        Self { rush: u32::MAX, pace: Duration::ZERO, audit_examples: Vec::new() }
    }
}

/// Plays the agent until its controller is gone.
pub(crate) async fn play(script: Script, mut orders: mpsc::Receiver<ToAgent>, reports: mpsc::Sender<FromAgent>) {
    let hello = AgentDescription {
        name: "scripted".to_owned(),
        version: "0".to_owned(),
        host: "nowhere".to_owned(),
        faults: FaultKind::ALL.to_vec(),
        labels: vec!["linux".to_owned(), "robot".to_owned()],
        commands: steps::commands(),
    };
    if reports.send(FromAgent::Hello(hello)).await.is_err() {
        return;
    }
    let mut assigned: Option<Box<Assignment>> = None;
    // Steps of suites go on beside a run; they end with this agent.
    let mut tasks = JoinSet::new();
    while let Some(order) = orders.recv().await {
        let answer = match order {
            ToAgent::Prepare(assignment) => {
                let run = assignment.run;
                assigned = Some(assignment);
                FromAgent::Prepared { run, warnings: vec!["health probe of orders-1 answered after 812 ms".to_owned()] }
            }
            ToAgent::Start { .. } => match &assigned {
                Some(assignment) => carry_out(&script, assignment, &mut orders, &reports, &mut tasks).await,
                None => continue,
            },
            ToAgent::Halt { run } => FromAgent::Halted { run, took_ms: 12 },
            ToAgent::Audit { run } => FromAgent::Audited { run, audits: audits(&script, assigned.as_deref()) },
            ToAgent::Step(assignment) => {
                tasks.spawn(steps::play(assignment, reports.clone()));
                continue;
            }
            ToAgent::Heartbeat | ToAgent::Release { .. } | ToAgent::StopStep { .. } => continue,
        };
        if reports.send(answer).await.is_err() {
            return;
        }
    }
}

/// The load of one run; gives the message that ends it.
async fn carry_out(
    script: &Script,
    assignment: &Assignment,
    orders: &mut mpsc::Receiver<ToAgent>,
    reports: &mpsc::Sender<FromAgent>,
    tasks: &mut JoinSet<()>,
) -> FromAgent {
    let run = assignment.run;
    let experiment = assignment.experiment.experiment();
    let mut random = StdRng::seed_from_u64(run.0.as_u128() as u64);
    let length = experiment.load.duration().as_secs() as u32;
    for second in 0..length {
        for fault in &experiment.faults {
            for (state, at_ms) in steps(fault, second) {
                let detail = if state == FaultState::Active { "gateway-orders through 127.0.0.1:1" } else { "" };
                let report = FaultReport { run, fault: fault.name.clone(), state, at_ms, detail: detail.to_owned() };
                let _ = reports.send(FromAgent::Fault(report)).await;
            }
        }
        let _ = reports.send(FromAgent::Frame(Box::new(frame(run, experiment, second, &mut random)))).await;
        let pace = if second < script.rush { Duration::ZERO } else { script.pace };
        let next = Instant::now() + pace;
        while let Ok(order) = timeout_at(next, orders.recv()).await {
            match order {
                None => return FromAgent::LoadEnded { run, failure: None },
                Some(ToAgent::Halt { .. }) => {
                    let now = u64::from(second);
                    for fault in experiment.faults.iter().filter(|fault| (span(fault).0..span(fault).1).contains(&now))
                    {
                        let at_ms = now * 1000 + 900;
                        let state = FaultState::Reverted;
                        let report =
                            FaultReport { run, fault: fault.name.clone(), state, at_ms, detail: String::new() };
                        let _ = reports.send(FromAgent::Fault(report)).await;
                    }
                    return FromAgent::Halted { run, took_ms: 12 };
                }
                Some(ToAgent::Step(assignment)) => {
                    tasks.spawn(steps::play(assignment, reports.clone()));
                }
                Some(_) => {}
            }
        }
    }
    FromAgent::LoadEnded { run, failure: None }
}

/// When a fault is active, in seconds.
fn span(fault: &Fault) -> (u64, u64) {
    let start = fault.start.get().as_secs();
    let length = fault.duration.map_or(3, |length| length.get().as_secs());
    (start, start + length)
}

fn steps(fault: &Fault, second: u32) -> Vec<(FaultState, u64)> {
    let (start, end) = span(fault);
    let now = u64::from(second);
    let mut steps = Vec::new();
    if now == start {
        steps.extend([(FaultState::Armed, 0), (FaultState::Injecting, 4), (FaultState::Active, 21)]);
    }
    if now == end {
        steps.extend([(FaultState::Reverting, 2), (FaultState::Reverted, 18)]);
    }
    steps.into_iter().map(|(state, ms)| (state, now * 1000 + ms)).collect()
}

fn frame(run: RunId, experiment: &Experiment, second: u32, random: &mut StdRng) -> Frame {
    let active = |kind| {
        experiment.faults.iter().any(|fault| {
            let (start, end) = span(fault);
            fault.kind == kind && (start..end).contains(&u64::from(second))
        })
    };
    let (late, dead) = (active(FaultKind::Latency), active(FaultKind::Kill));
    let names = experiment.scenarios.iter().flat_map(|scenario| scenario.steps.iter().map(|step| step.name.clone()));
    let mut requests = BTreeMap::new();
    for (at, name) in names.enumerate() {
        let mut one = RequestFrame { count: random.random_range(36..44), ..RequestFrame::default() };
        for _ in 0..one.count {
            let spread: f64 = (0..4).map(|_| random.random_range(0.0..1.0)).product();
            let mut us = 6_000.0 * (at as f64 + 1.0) / (spread + 0.05).sqrt();
            if late && at > 0 {
                us += random.random_range(150_000.0..250_000.0);
            }
            let failed = dead && at > 0 && random.random_range(0..10) < 4;
            if failed {
                let kind = if random.random_range(0..3) == 0 { "connection refused" } else { "status 503" };
                *one.failures.entry(kind.to_owned()).or_default() += 1;
                us = random.random_range(800.0..3_000.0);
            }
            one.response_time.record_us(us as u64);
            one.service_time.record_us((us * 0.9) as u64);
            one.bytes += 512;
        }
        requests.insert(name, one);
    }
    let dropped = if late { random.random_range(0..5) } else { 0 };
    let arrivals = experiment
        .scenarios
        .iter()
        .map(|scenario| (scenario.name.clone(), ArrivalFrame { scheduled: 40, started: 40 - dropped, dropped }))
        .collect();
    let mut lag = Latencies::new();
    for _ in 0..40 {
        lag.record_us(random.random_range(40..900));
    }
    let worker = WorkerFrame { busy_users: 7, lag, cpu_us: 9_600, resident_bytes: 48 << 20 };
    Frame { run, agent: "scripted".to_owned(), second, requests, arrivals, worker }
}

fn audits(script: &Script, assigned: Option<&Assignment>) -> Vec<AuditReport> {
    let Some(assignment) = assigned else {
        return Vec::new();
    };
    let broken = !script.audit_examples.is_empty();
    let verdict = if broken { AuditVerdict::Invalid } else { AuditVerdict::Valid };
    let names = &assignment.experiment.experiment().audits;
    let report = |name: &String| AuditReport {
        name: name.clone(),
        verdict,
        invariants: vec![
            InvariantReport {
                id: "paid-once".to_owned(),
                title: "No order is paid twice".to_owned(),
                verdict: AuditVerdict::Valid,
                checked: 4_812,
                violations: 0,
                examples: Vec::new(),
            },
            InvariantReport {
                id: "paid-shipped".to_owned(),
                title: "Every paid order is known to shipping".to_owned(),
                verdict,
                checked: 4_812,
                violations: script.audit_examples.len() as u64,
                examples: script.audit_examples.clone(),
            },
        ],
        problem: None,
    };
    names.iter().map(report).collect()
}
