//! A run from its experiment to its verdict, watched live, and two runs side by side.

use futures::StreamExt as _;
use kennel_model::api::LiveEvent;
use kennel_model::fault::FaultState;
use kennel_model::protocol::{AuditReport, AuditVerdict, FromAgent, ToAgent};
use kennel_model::{Phase, RunState, Verdict};
use tokio::time::timeout;

use crate::stage::{DEADLINE, FAULT, Stage, experiment, experiment_on, request};

const WHOLE: &str = "
objectives: ['p99(create order) < 150ms during fault', 'error_rate < 5%', 'rate > 10/s during slow db']
steady_state: ['p90 < 50ms']
guards: ['error_rate < 50%']
audits: [books]
";

#[tokio::test]
async fn a_run_passes_when_objectives_steady_state_and_audits_hold() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment(&format!("{WHOLE}{FAULT}"))).await;
    let mut live = Box::pin(stage.controller.live(id));
    let assignment = agent.hear_prepare().await;
    assert_eq!((assignment.run, assignment.experiment.target().name.as_str()), (id, "shop"));
    agent.tell(FromAgent::Prepared { run: id, warnings: vec!["the cache is cold".into()] }).await;
    assert!(matches!(agent.hear().await, Some(ToAgent::Start { run }) if run == id));
    agent.load_with_fault(id, 20, 120).await;
    agent.tell(FromAgent::LoadEnded { run: id, failure: None }).await;
    assert!(matches!(agent.hear().await, Some(ToAgent::Audit { run }) if run == id));
    let books = AuditReport { name: "books".into(), verdict: AuditVerdict::Valid, invariants: vec![], problem: None };
    agent.tell(FromAgent::Audited { run: id, audits: vec![books] }).await;
    agent.expect_release(id).await;
    let run = stage.judged(id).await;

    assert_eq!(run.summary.verdict, Some(Verdict::Passed), "{:?}", run.summary.reasons);
    assert_eq!(run.summary.measured_s, 16);
    assert_eq!(run.warnings, ["the cache is cold"]);
    let phases: Vec<(Phase, u32, u32)> = run.phases.iter().map(|view| (view.phase, view.from_s, view.to_s)).collect();
    assert_eq!(phases, [(Phase::WarmUp, 0, 2), (Phase::Steady, 2, 5), (Phase::Fault, 5, 8), (Phase::Recovery, 8, 16)]);
    let row = |name: &str, phase| run.requests.iter().find(|row| row.request == name && row.phase == phase).unwrap();
    assert_eq!((row("all", None).count, row("all", None).rate), (14 * 15, 15.0));
    assert_eq!(row("create order", Some(Phase::Fault)).failures["status 503"], 3);
    assert!((119.0..121.0).contains(&row("create order", Some(Phase::Fault)).response.p99));
    assert_eq!((run.arrivals[0].scheduled, run.arrivals[0].dropped), (14 * 160, 14));
    let fault = &run.faults[0];
    assert_eq!((fault.state, fault.injected_at_s, fault.reverted_at_s), (FaultState::Reverted, Some(5.02), Some(8.0)));
    let effect = fault.effect.unwrap();
    assert_eq!((effect.failed, effect.recovered_after_s), (3, Some(0.0)));
    assert!(effect.p99_during > 5.0 * effect.p99_before, "{effect:?}");
    assert!(
        run.objectives.iter().all(|view| view.met == Some(true)) && run.objectives.len() == 5,
        "{:?}",
        run.objectives
    );
    assert_eq!(run.guards[0].met, Some(true));
    assert_eq!(run.audits[0].verdict, AuditVerdict::Valid);

    let mut states = Vec::new();
    let mut seconds = 0;
    while let Some(event) = timeout(DEADLINE, live.next()).await.expect("the live stream never ends") {
        match event {
            LiveEvent::State { run } => states.push(run.state),
            LiveEvent::Second { .. } => seconds += 1,
            _ => {}
        }
    }
    assert_eq!(seconds, 16);
    assert_eq!(states, RunState::ALL[1..]);
    stage.close().await;
}

#[tokio::test]
async fn a_run_under_way_tells_its_phases_faults_and_objectives_so_far() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment(&format!("{WHOLE}{FAULT}"))).await;
    agent.begin().await;
    agent.seconds(id, 0..5, 20, 0).await;
    agent.fault(id, FaultState::Active, 5_020).await;
    agent.seconds(id, 5..7, 120, 1).await;
    let run = stage.until(id, |run| run.summary.measured_s == 7).await;
    assert_eq!(run.summary.state, RunState::Fault);
    let phases: Vec<(Phase, u32, u32)> = run.phases.iter().map(|view| (view.phase, view.from_s, view.to_s)).collect();
    assert_eq!(phases, [(Phase::WarmUp, 0, 2), (Phase::Steady, 2, 5), (Phase::Fault, 5, 7)]);
    let counts = [Some(Phase::WarmUp), Some(Phase::Steady), Some(Phase::Fault), None]
        .map(|phase| run.requests.iter().find(|row| row.request == "all" && row.phase == phase).map(|row| row.count));
    assert_eq!(counts, [Some(30), Some(45), Some(30), Some(75)]);
    let fault = &run.faults[0];
    assert_eq!((fault.state, fault.injected_at_s, fault.reverted_at_s), (FaultState::Active, Some(5.02), None));
    assert_eq!(fault.effect.map(|effect| (effect.failed, effect.recovered_after_s)), Some((2, None)));
    let met: Vec<_> = run.objectives.iter().map(|view| (view.role.as_str(), view.met)).collect();
    let objective = ("objective", Some(true));
    let (before, after) = (("steady state before", Some(true)), ("steady state after", None));
    assert_eq!(met, [objective, objective, objective, before, after]);
    assert_eq!(run.guards[0].met, Some(true));
    let (_, series) = stage.get(&format!("/runs/{id}/series")).await;
    assert_eq!(series["series"]["all"].as_array().map(Vec::len), Some(7));

    // The last third of a recovery of 9 s.
    agent.fault(id, FaultState::Reverted, 7_000).await;
    agent.seconds(id, 7..11, 120, 0).await;
    agent.seconds(id, 11..16, 20, 0).await;
    let run = stage.until(id, |run| run.summary.measured_s == 16).await;
    assert_eq!(run.objectives[4].met, Some(true), "{:?}", run.objectives[4]);
    let series = stage.controller.series(id).await.unwrap();
    agent.tell(FromAgent::LoadEnded { run: id, failure: None }).await;
    agent.hear().await;
    agent.tell(FromAgent::Audited { run: id, audits: Vec::new() }).await;
    let judged = stage.judged(id).await;
    assert_eq!((judged.requests, judged.objectives, judged.faults), (run.requests, run.objectives, run.faults));
    assert_eq!(stage.controller.series(id).await.unwrap(), series);
    stage.close().await;
}

#[tokio::test]
async fn a_missed_objective_fails_the_run_and_says_by_how_much() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment(&format!("objectives: ['p99(create order) < 150ms during fault']{FAULT}"))).await;
    assert_eq!(agent.begin().await, id);
    agent.load_with_fault(id, 20, 230).await;
    agent.tell(FromAgent::LoadEnded { run: id, failure: None }).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Failed));
    let reason = &run.summary.reasons[0];
    assert!(reason.starts_with("p99(create order) during fault was 230"), "{reason}");
    assert!(reason.ends_with("must be < 150 ms"), "{reason}");
    stage.close().await;
}

#[tokio::test]
async fn a_late_frame_replaces_its_second() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    let mut live = Box::pin(stage.controller.live(id));
    agent.begin().await;
    agent.seconds(id, 0..16, 20, 0).await;
    agent.frame(id, 3, [("create order".to_owned(), request(1, 900, 0))].into()).await;
    agent.tell(FromAgent::LoadEnded { run: id, failure: None }).await;
    stage.judged(id).await;
    let mut last = None;
    while let Some(event) = timeout(DEADLINE, live.next()).await.expect("the live stream never ends") {
        if let LiveEvent::Second { seconds } = event {
            last = Some(seconds);
        }
    }
    let last = last.unwrap();
    assert_eq!((last["all"].second, last["all"].rate, last["create order"].rate), (3, 16, 11));
    assert!(last["all"].max.unwrap() > 890.0);
    let series = stage.controller.series(id).await.unwrap().unwrap();
    assert_eq!(series.series["all"][3], last["all"]);
    assert_eq!(series.series["browse"].len(), 16);
    stage.close().await;
}

#[tokio::test]
async fn a_second_run_on_the_same_target_waits_and_one_on_another_does_not() {
    let stage = Stage::new().await;
    let mut first_agent = stage.agent("a1").await;
    let first = stage.start(&experiment("")).await;
    assert_eq!(first_agent.begin().await, first);
    let mut second_agent = stage.agent("a2").await;
    let second = stage.start(&experiment("")).await;
    let elsewhere = stage.start(&experiment_on("depot", "")).await;
    // The free agent passes over the run whose target is in use.
    assert_eq!(second_agent.carry_out(20).await, elsewhere);
    assert_eq!(stage.judged(elsewhere).await.summary.verdict, Some(Verdict::Passed));
    assert_eq!(stage.controller.summary(second).await.unwrap().unwrap().state, RunState::Queued);
    first_agent.seconds(first, 0..16, 20, 0).await;
    first_agent.tell(FromAgent::LoadEnded { run: first, failure: None }).await;
    first_agent.expect_release(first).await;
    // Now the target is free: whichever agent is asked takes it.
    let taken = tokio::select! {
        run = first_agent.begin() => run,
        run = second_agent.begin() => run,
    };
    assert_eq!(taken, second);
    assert_eq!(stage.controller.active_runs().last(), Some(&second));
    stage.controller.halt(second).await.unwrap();
    drop((first_agent, second_agent));
    stage.judged(second).await;
    timeout(DEADLINE, stage.controller.idle()).await.unwrap();
    stage.close().await;
}

#[tokio::test]
async fn two_runs_are_compared_number_by_number() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let a = stage.start(&experiment("")).await;
    agent.carry_out(20).await;
    let b = stage.start(&experiment("objectives: ['p50 < 10ms']")).await;
    agent.carry_out(40).await;
    let other = stage.start(&experiment("").replace("10/s", "11/s")).await;
    stage.judged(a).await;
    stage.judged(b).await;
    let compared = stage.controller.compare(a, b).await.unwrap().unwrap();
    assert_eq!(compared.warnings, [""; 0]);
    let row = |metric: &str| {
        let mut rows = compared.rows.iter().filter(|row| row.request == "create order" && row.phase.is_none());
        rows.find(|row| row.metric == metric).unwrap()
    };
    let p50 = row("p50");
    assert!((0.98..1.02).contains(&p50.change.unwrap()) && !p50.higher_is_better, "{p50:?}");
    assert_eq!((row("rate").change, row("rate").higher_is_better), (Some(0.0), true));
    assert_eq!((row("error_rate").a, row("error_rate").change), (Some(0.0), None));
    assert!(compared.rows.iter().any(|row| row.phase == Some(Phase::Steady)));
    let warnings = stage.controller.compare(a, other).await.unwrap().unwrap().warnings;
    assert_eq!(warnings, ["the load profiles differ", "run B is not over"]);
    drop(agent);
    stage.close().await;
}
