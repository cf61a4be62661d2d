//! Runs that end otherwise: refused, halted by a person or a guard, abandoned by their agent.

use std::time::Duration;

use kennel_controller::HaltError;
use kennel_model::fault::FaultState;
use kennel_model::protocol::FromAgent;
use kennel_model::{RunId, RunState, Verdict};
use tokio::time::{Instant, timeout};

use crate::stage::{DEADLINE, FAULT, Stage, experiment};

#[tokio::test]
async fn a_refused_run_is_an_error_with_the_agents_reason() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.hear_prepare().await;
    agent.tell(FromAgent::Refused { run: id, reason: "port 80 is closed".into() }).await;
    agent.expect_release(id).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Error));
    assert_eq!(run.summary.reasons, ["agent `a1` refused the run: port 80 is closed"]);
    stage.close().await;
}

#[tokio::test]
async fn a_breached_guard_halts_the_run() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("guards: ['error_rate(create order) < 50% over 3s']")).await;
    agent.begin().await;
    // Bad at once, but the window is not full before the third second.
    agent.seconds(id, 0..3, 20, 8).await;
    agent.expect_halt(id).await;
    agent.tell(FromAgent::Halted { run: id, took_ms: 42 }).await;
    agent.expect_release(id).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Halted));
    assert_eq!(
        run.summary.reasons,
        [
            "a guard halted the run: error_rate(create order) over the last 3s was 80.00 %, must be < 50.00 %",
            "load was off and every fault reverted 42 ms after the halt"
        ]
    );
    assert_eq!((run.summary.measured_s, run.guards[0].met), (3, Some(false)));
    stage.close().await;
}

#[tokio::test]
async fn three_missing_seconds_in_a_row_halt_a_guarded_run() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("guards: ['error_rate < 50%']")).await;
    agent.begin().await;
    agent.seconds(id, 0..4, 20, 0).await;
    agent.seconds(id, 6..7, 20, 0).await;
    agent.seconds(id, 10..11, 20, 0).await;
    agent.expect_halt(id).await;
    agent.tell(FromAgent::Halted { run: id, took_ms: 1 }).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Halted));
    assert!(
        run.summary.reasons[0].contains("nothing was measured for 3 s from second 7 on"),
        "{:?}",
        run.summary.reasons
    );
    stage.close().await;
}

#[tokio::test]
async fn a_person_halts_a_run_and_its_measurements_are_kept() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment(FAULT)).await;
    agent.begin().await;
    agent.seconds(id, 0..5, 20, 0).await;
    agent.fault(id, FaultState::Active, 5_000).await;
    stage.until(id, |run| run.summary.state == RunState::Fault).await;
    stage.controller.halt(id).await.unwrap();
    agent.expect_halt(id).await;
    agent.fault(id, FaultState::Reverted, 5_300).await;
    agent.second(id, 5, 100, 0).await;
    agent.tell(FromAgent::Halted { run: id, took_ms: 7 }).await;
    agent.expect_release(id).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Halted));
    assert_eq!(run.summary.reasons[0], "halted by a person");
    assert_eq!((run.summary.measured_s, run.faults[0].state), (6, FaultState::Reverted));
    assert!(matches!(stage.controller.halt(id).await, Err(HaltError::AlreadyOver { run }) if run == id));
    assert!(matches!(stage.controller.halt(RunId::new()).await, Err(HaltError::NotFound { .. })));
    stage.close().await;
}

#[tokio::test]
async fn a_stuck_fault_makes_a_halted_run_an_error() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment(FAULT)).await;
    agent.begin().await;
    agent.seconds(id, 0..5, 20, 0).await;
    agent.fault(id, FaultState::Active, 5_000).await;
    stage.until(id, |run| run.summary.state == RunState::Fault).await;
    assert_eq!(stage.controller.halt_all().await, [id]);
    agent.expect_halt(id).await;
    agent.fault(id, FaultState::Stuck, 5_300).await;
    agent.tell(FromAgent::Halted { run: id, took_ms: 7 }).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Error));
    assert!(run.summary.reasons[0].starts_with("FAULT STILL ACTIVE: `slow db`"), "{:?}", run.summary.reasons);
    stage.close().await;
}

#[tokio::test]
async fn a_queued_run_is_halted_at_once() {
    let stage = Stage::new().await;
    let id = stage.start(&experiment("")).await;
    stage.controller.halt(id).await.unwrap();
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Halted));
    assert_eq!(run.summary.reasons, ["halted by a person", "it had not started"]);
    stage.close().await;
}

#[tokio::test]
async fn an_agent_whose_link_closes_makes_the_run_an_error_at_once() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.begin().await;
    agent.seconds(id, 0..4, 20, 0).await;
    drop(agent);
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Error));
    assert_eq!(run.summary.reasons, ["agent `a1` vanished while load was on, after 4 s of measurements"]);
    assert!(stage.controller.agents().is_empty());
    stage.close().await;
}

#[tokio::test]
async fn an_agent_that_falls_silent_makes_the_run_an_error_within_the_deadline() {
    let stage = Stage::with_lease(Duration::from_secs(1)).await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.begin().await;
    agent.seconds(id, 0..4, 20, 0).await;
    let silent_since = Instant::now();
    // It is told to halt, and does not answer that either.
    agent.expect_halt(id).await;
    let run = stage.judged(id).await;
    assert!(silent_since.elapsed() < DEADLINE);
    assert_eq!(run.summary.verdict, Some(Verdict::Error));
    assert_eq!(run.summary.reasons[0], "agent `a1` sent no measurements for 2 s while load was on");
    assert!(run.summary.reasons[1].contains("did not confirm the halt in time"), "{:?}", run.summary.reasons);
    assert!(agent.heartbeats > 1, "leases were not renewed");
    stage.close().await;
}

#[tokio::test]
async fn a_crashed_load_worker_is_an_error() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.begin().await;
    agent.seconds(id, 0..4, 20, 0).await;
    agent.tell(FromAgent::LoadEnded { run: id, failure: Some("worker died with signal 9".into()) }).await;
    let run = stage.judged(id).await;
    assert_eq!(run.summary.verdict, Some(Verdict::Error));
    assert_eq!(run.summary.reasons, ["the load ended before its time: worker died with signal 9"]);
    stage.close().await;
}

#[tokio::test]
async fn faults_that_an_earlier_agent_left_are_told_with_the_next_run() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    agent.tell(FromAgent::Replayed { reverted: vec!["pause of eos-c-1".into()] }).await;
    let id = stage.start(&experiment("")).await;
    // Messages of one link arrive in order, so the agent was not given a run before its hello.
    agent.carry_out(20).await;
    let mut warnings = stage.judged(id).await.warnings;
    if warnings.is_empty() {
        // The run may have been claimed between hello and the replay's report; then the next one tells.
        let next = stage.start(&experiment("")).await;
        agent.carry_out(20).await;
        warnings = stage.judged(next).await.warnings;
    }
    assert!(warnings[0].ends_with("reverted: pause of eos-c-1"), "{warnings:?}");
    stage.close().await;
}

#[tokio::test]
async fn closing_halts_what_runs_and_waits_for_it() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.begin().await;
    agent.seconds(id, 0..3, 20, 0).await;
    let controller = stage.controller.clone();
    let (dir, ()) = tokio::join!(stage.close(), async {
        agent.expect_halt(id).await;
        agent.tell(FromAgent::Halted { run: id, took_ms: 3 }).await;
        agent.expect_release(id).await;
        // Then the link is closed.
        assert!(agent.hear().await.is_none());
    });
    drop(controller);
    let again = timeout(DEADLINE, reopen(dir.path())).await.unwrap();
    let run = again.run(id).await.unwrap().unwrap();
    assert_eq!(run.summary.verdict, Some(Verdict::Halted));
    assert_eq!(run.summary.reasons[0], "halted because Kennel was stopped");
    again.close().await;
}

#[tokio::test]
async fn a_halt_by_closing_that_no_agent_confirmed_says_so() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.begin().await;
    agent.seconds(id, 0..3, 20, 0).await;
    let (dir, ()) = tokio::join!(stage.close(), async {
        agent.expect_halt(id).await;
        drop(agent);
    });
    let again = timeout(DEADLINE, reopen(dir.path())).await.unwrap();
    let run = again.run(id).await.unwrap().unwrap();
    assert_eq!(run.summary.verdict, Some(Verdict::Halted));
    let told = [
        "halted because Kennel was stopped",
        "agent `a1` vanished before it confirmed the halt; faults end with its lease at the latest",
    ];
    assert_eq!(run.summary.reasons, told);
    again.close().await;
}

/// Opens the directory as soon as its last owner has let go of it.
async fn reopen(dir: &std::path::Path) -> kennel_controller::Controller {
    loop {
        match crate::stage::open(dir, crate::stage::LEASE).await {
            Ok(controller) => return controller,
            Err(kennel_controller::ControllerError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}
