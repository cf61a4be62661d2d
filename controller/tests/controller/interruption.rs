//! Kennel itself dies in the middle of a run.

use std::time::Duration;

use kennel_controller::ControllerError;
use kennel_model::api::StartRun;
use kennel_model::{Phase, Verdict};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::stage::{Agent, LEASE, experiment, open};

#[test]
fn a_run_that_was_under_way_is_an_error_and_keeps_its_measurements() {
    let dir = TempDir::new().unwrap();
    // A runtime that is dropped takes every task with it where it stands, as a crash does.
    let crashing = Runtime::new().unwrap();
    // Agent and controller outlive it, so that neither hears of the other's end.
    let (id, agent, controller) = crashing.block_on(async {
        let controller = open(dir.path(), LEASE).await.unwrap();
        let taken = open(dir.path(), LEASE).await.err().unwrap();
        assert!(matches!(taken, ControllerError::InUse { .. }), "{taken}");
        let mut agent = Agent::attach(&controller, "a1").await;
        let request = StartRun { experiment: experiment(""), file: None, raw_log: None };
        let id = controller.start_run(request).await.unwrap();
        agent.begin().await;
        agent.seconds(id, 0..6, 20, 1).await;
        while controller.summary(id).await.unwrap().unwrap().measured_s < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (id, agent, controller)
    });
    crashing.shutdown_timeout(Duration::from_secs(10));
    drop((agent, controller));

    Runtime::new().unwrap().block_on(async {
        let controller = open(dir.path(), LEASE).await.unwrap();
        let run = controller.run(id).await.unwrap().unwrap();
        assert_eq!(run.summary.verdict, Some(Verdict::Error));
        let expected = "interrupted: Kennel stopped while this run was in steady; 6 s of measurements were kept";
        assert_eq!(run.summary.reasons, [expected]);
        let steady = run.requests.iter().find(|row| row.request == "create order" && row.phase == Some(Phase::Steady));
        assert_eq!(steady.map(|row| (row.count, row.failures["status 503"])), Some((40, 4)));
        let series = controller.series(id).await.unwrap().unwrap();
        assert_eq!(series.series["all"].iter().map(|view| view.rate).collect::<Vec<_>>(), [15; 6]);
        // It is over: nothing waits for it, and it can be neither halted nor watched.
        controller.idle().await;
        assert!(controller.halt(id).await.is_err());
        controller.close().await;
    });
}
