//! The driver of one run of a suite: waits for its targets, walks its steps in order or side by side, tries failed ones
//! again, always cleans up, and ends with a verdict.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use jiff::Timestamp;
use kennel_model::api::{Outcome, QueueKind, StepKind, StepState};
use kennel_model::suite::ValidSuite;
use tokio_util::sync::CancellationToken;

use super::active::{Cancel, Reins};
use super::board::Board;
use super::plan::{Node, Plan};
use super::step::{Attempt, Done};
use super::verdict::{Facts, judge};
use crate::Controller;
use crate::happenings::Happening;
use crate::runs::queue::{Job, Turn};
use crate::store::{StoredSuiteRun, now};

/// How long the tear-down may take when Kennel itself is to end.
const CLOSING_TEAR_DOWN: Duration = Duration::from_secs(60);

/// Everything that carrying out a suite's run needs.
pub(crate) struct SuiteDriver {
    controller: Controller,
    suite: Arc<ValidSuite>,
    plan: Plan,
    board: Board,
    reins: Reins,
}

/// How a row of steps ended.
enum Row {
    /// Every step ran, or failed ones were let pass.
    Through,
    /// A step failed, or the run was cancelled; the rest is skipped for this reason.
    Stopped(String),
}

impl SuiteDriver {
    pub(crate) fn new(controller: Controller, run: StoredSuiteRun, suite: Arc<ValidSuite>, reins: Reins) -> Self {
        let plan = Plan::new(suite.suite(), &run.only);
        let board = Board::new(controller.clone(), run.summary, reins.live.clone());
        Self { controller, suite, plan, board, reins }
    }

    /// Carries the run out, to its verdict.
    pub(crate) async fn drive(self) {
        let run = self.board.run();
        let Some(turn) = self.turn().await else { return };
        let walked = AssertUnwindSafe(self.walk()).catch_unwind().await;
        if walked.is_err() {
            tracing::error!(%run, "the driver of a suite's run crashed");
            self.finish(Some("Kennel's own driver of this run crashed; its log tells more".to_owned())).await;
        } else {
            self.finish(None).await;
        }
        drop(turn);
    }

    /// Waits until every target is free; `None` when the run ends before that, or stays for Kennel's next start.
    async fn turn(&self) -> Option<Turn> {
        let summary = self.board.summary();
        let expected = match self.controller.inner.store.usual_length(&summary.suite).await {
            Ok(length) => length,
            Err(error) => {
                tracing::warn!(run = %summary.id, %error, "how long the suite takes is not known");
                None
            }
        };
        let job = Job {
            priority: summary.priority,
            created_at: summary.created_at.parse().unwrap_or_else(|_| Timestamp::now()),
            requested_by: summary.started_by.clone(),
            expected,
            ..Job::new(summary.id, QueueKind::Suite, summary.suite.clone(), self.suite.targets())
        };
        for node in self.plan.all() {
            self.board.plan(node).await;
        }
        tokio::select! {
            turn = self.controller.inner.queue.turn(job) => Some(turn),
            () = self.reins.steps.cancelled() => {
                if *self.reins.cancel.borrow() != Some(Cancel::Closing) {
                    for node in self.plan.all() {
                        self.board.skip(node, "cancelled before the run started").await;
                    }
                    self.finish(None).await;
                }
                None
            }
        }
    }

    async fn walk(&self) {
        self.board
            .change_run(|run| {
                run.state = StepState::Running;
                run.started_at = Some(now());
            })
            .await;
        let cancel = &self.reins.steps;
        let before = self.row(&self.plan.set_up, cancel, None).await;
        let stopped = match before {
            Row::Through => None,
            Row::Stopped(why) => Some(why),
        };
        self.row(&self.plan.steps, cancel, stopped).await;
        self.tear_down().await;
    }

    /// Cleans up, whatever happened; only a second cancellation, or too long a wait for Kennel's own end, stops it.
    async fn tear_down(&self) {
        let everything = &self.reins.everything;
        let steps = async {
            for node in &self.plan.tear_down {
                if everything.is_cancelled() {
                    self.skip(node, "the tear-down was cancelled too").await;
                } else {
                    self.node(node, everything).await;
                }
            }
        };
        let mut steps = std::pin::pin!(steps);
        let too_long = async {
            let mut cancel = self.reins.cancel.clone();
            // The sender lives as long as the run is active, which ends after this.
            let _ = cancel.wait_for(|cancel| *cancel == Some(Cancel::Closing)).await;
            tokio::time::sleep(CLOSING_TEAR_DOWN).await;
        };
        tokio::select! {
            () = &mut steps => return,
            () = too_long => everything.cancel(),
        }
        steps.await;
    }

    /// Steps one after another, until one fails that may not.
    async fn row(&self, nodes: &[Node], cancel: &CancellationToken, stopped: Option<String>) -> Row {
        let mut stopped = stopped;
        for node in nodes {
            if cancel.is_cancelled() {
                stopped = Some("the run was cancelled".to_owned());
            }
            if let Some(why) = &stopped {
                self.skip(node, why).await;
                continue;
            }
            let outcome = self.node(node, cancel).await;
            if outcome != Outcome::Passed {
                stopped = Some(format!("step “{}” did not pass", node.step.name));
            }
        }
        stopped.map_or(Row::Through, Row::Stopped)
    }

    async fn skip(&self, node: &Node, why: &str) {
        self.board.skip(node, why).await;
        for inner in &node.inner {
            self.board.skip(inner, why).await;
        }
    }

    /// A step, single or parallel; passed also when it failed and that lets the rest go on.
    async fn node(&self, node: &Node, cancel: &CancellationToken) -> Outcome {
        let outcome = if node.step.kind() == StepKind::Parallel {
            self.parallel(node, cancel).await
        } else {
            self.single(node, cancel).await
        };
        if node.step.continue_on_failure { Outcome::Passed } else { outcome }
    }

    async fn parallel(&self, node: &Node, cancel: &CancellationToken) -> Outcome {
        self.board.begin(node, 1).await;
        let within = cancel.child_token();
        let branches = join_all(node.inner.iter().map(|inner| self.single(inner, &within)));
        let mut branches = std::pin::pin!(branches);
        let limit = async {
            match node.step.timeout {
                Some(limit) => tokio::time::sleep(limit.get()).await,
                None => std::future::pending().await,
            }
        };
        let (outcomes, late) = tokio::select! {
            outcomes = &mut branches => (outcomes, false),
            () = limit => {
                within.cancel();
                (branches.await, true)
            }
        };
        let bad = |outcome: &&Outcome| **outcome != Outcome::Passed;
        let worst = if late || outcomes.contains(&Outcome::Failed) {
            Outcome::Failed
        } else if outcomes.iter().any(|outcome| bad(&outcome)) {
            Outcome::Error
        } else {
            Outcome::Passed
        };
        let message = match (late, outcomes.iter().filter(bad).count()) {
            (true, _) => format!("not over after {}", node.step.timeout.unwrap_or_default()),
            (false, 0) => format!("{} steps passed", outcomes.len()),
            (false, some) => format!("{some} of {} steps did not pass", outcomes.len()),
        };
        self.board.end(node, 1, &Done::new(worst, message)).await;
        // What a branch lets pass does not stop the steps after the group.
        let stops =
            node.inner.iter().zip(&outcomes).any(|(inner, outcome)| bad(&outcome) && !inner.step.continue_on_failure);
        if stops || late { worst } else { Outcome::Passed }
    }

    /// All attempts of a step.
    async fn single(&self, node: &Node, cancel: &CancellationToken) -> Outcome {
        let last = node.step.retries + 1;
        let mut number = 1;
        loop {
            self.board.begin(node, number).await;
            let attempt =
                Attempt { controller: &self.controller, suite: &self.suite, board: &self.board, node, number, cancel };
            let mut done = attempt.carry_out().await;
            self.keep_results(node, number, &mut done).await;
            self.board.end(node, number, &done).await;
            if done.outcome == Outcome::Passed || number == last || cancel.is_cancelled() {
                return done.outcome;
            }
            tokio::select! {
                () = tokio::time::sleep(node.step.retry_delay.unwrap_or_default().get()) => {}
                () = cancel.cancelled() => return done.outcome,
            }
            number += 1;
        }
    }

    /// Keeps what an attempt tested and left behind, and lets pass what failed in muted tests only.
    async fn keep_results(&self, node: &Node, attempt: u32, done: &mut Done) {
        let run = self.board.run();
        if let Err(error) = self.controller.keep_step_results(run, &node.path, attempt, done).await {
            tracing::error!(%run, %error, "the results of a step could not be kept");
            self.board.break_off(format!("the results of “{}” could not be kept: {error}", node.step.name));
        }
        match self.controller.muted_in(run, &self.suite.suite().name).await {
            Ok(muted) => done.settle(&muted),
            Err(error) => self.board.break_off(format!("muted tests could not be read: {error}")),
        }
    }

    async fn finish(&self, crash: Option<String>) {
        let run = self.board.run();
        let (tests, muted) = match self.controller.test_counts(run, &self.suite.suite().name).await {
            Ok(counts) => counts,
            Err(error) => {
                self.board.break_off(format!("the run's tests could not be counted: {error}"));
                Default::default()
            }
        };
        let (summary, steps) = (self.board.summary(), self.board.steps());
        let cancel = self.reins.cancel.borrow().clone();
        let broken = crash.or_else(|| self.board.broken());
        let (verdict, reasons) = judge(&Facts {
            run: &summary,
            steps: &steps,
            cancel: cancel.as_ref(),
            broken: broken.as_deref(),
            tests,
            muted,
        });
        tracing::info!(%run, %verdict, "a suite's run is over");
        self.board
            .change_run(|run| {
                run.state = StepState::Ended;
                run.verdict = Some(verdict);
                run.reasons = reasons;
                run.ended_at = Some(now());
                run.tests = tests;
            })
            .await;
        self.controller.inner.happenings.tell(Happening::SuiteRunEnded(run));
    }
}
