//! The board of a suite's run: how the run and each attempt of each step stand, kept in the store and told to whoever
//! watches, and the logs of the steps.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kennel_model::RunId;
use kennel_model::api::{Outcome, StepState, StepView, SuiteEvent, SuiteRunSummary};
use tokio::sync::broadcast;

use super::log::{self, LogWriter};
use super::plan::Node;
use super::step::Done;
use crate::Controller;
use crate::happenings::Happening;
use crate::store::{StoreError, now};

/// How a run and its steps stand.
pub(crate) struct Board {
    controller: Controller,
    run: RunId,
    live: broadcast::Sender<SuiteEvent>,
    state: Mutex<State>,
}

struct State {
    summary: SuiteRunSummary,
    /// By position and attempt.
    steps: BTreeMap<(usize, u32), StepView>,
    /// Why the record is not whole, once it is not.
    broken: Option<String>,
}

impl Board {
    pub(crate) fn new(controller: Controller, summary: SuiteRunSummary, live: broadcast::Sender<SuiteEvent>) -> Self {
        let state = State { summary, steps: BTreeMap::new(), broken: None };
        Self { controller, run: state.summary.id, live, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// The run as it stands.
    pub(crate) fn summary(&self) -> SuiteRunSummary {
        self.state().summary.clone()
    }

    /// Every attempt of every step, in the order of the suite.
    pub(crate) fn steps(&self) -> Vec<StepView> {
        self.state().steps.values().cloned().collect()
    }

    /// Why the record is not whole, if it is not.
    pub(crate) fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// A failure to keep something must not leave steps running: it is remembered, and becomes the verdict's reason.
    fn note<T>(&self, kept: Result<T, StoreError>) -> Option<T> {
        kept.inspect_err(|error| {
            tracing::error!(run = %self.run, %error, "the record of a suite's run is not whole");
            self.state().broken.get_or_insert_with(|| format!("the run's record could not be kept: {error}"));
        })
        .ok()
    }

    /// Notes that the record is not whole; the first reason stands.
    pub(crate) fn break_off(&self, why: String) {
        self.state().broken.get_or_insert(why);
    }

    /// Changes the run, keeps it and tells it.
    pub(crate) async fn change_run(&self, change: impl FnOnce(&mut SuiteRunSummary)) {
        let summary = {
            let mut state = self.state();
            change(&mut state.summary);
            state.summary.clone()
        };
        self.note(self.controller.inner.store.update_suite_run(&summary).await);
        // Nobody watching is no failure.
        let _ = self.live.send(SuiteEvent::Run { run: Box::new(summary) });
        self.controller.inner.happenings.tell(Happening::SuiteRunChanged(self.run));
    }

    /// Puts a step on the board that waits for its turn.
    pub(crate) async fn plan(&self, node: &Node) {
        self.set(node.position, queued(node, 1)).await;
    }

    /// An attempt of a step begins.
    pub(crate) async fn begin(&self, node: &Node, attempt: u32) {
        let step = StepView { state: StepState::Running, started_at: Some(now()), ..queued(node, attempt) };
        self.set(node.position, step).await;
    }

    /// A step does not run.
    pub(crate) async fn skip(&self, node: &Node, why: &str) {
        let step = StepView {
            state: StepState::Ended,
            outcome: Some(Outcome::Skipped),
            message: why.to_owned(),
            ended_at: Some(now()),
            ..queued(node, 1)
        };
        self.set(node.position, step).await;
    }

    /// Changes an attempt of a step that has begun.
    pub(crate) async fn change(&self, node: &Node, attempt: u32, change: impl FnOnce(&mut StepView)) {
        let changed = {
            let state = self.state();
            state.steps.get(&(node.position, attempt)).cloned()
        };
        if let Some(mut step) = changed {
            change(&mut step);
            self.set(node.position, step).await;
        }
    }

    /// An attempt of a step is over.
    pub(crate) async fn end(&self, node: &Node, attempt: u32, done: &Done) {
        self.change(node, attempt, |step| {
            step.state = StepState::Ended;
            step.outcome = Some(done.outcome);
            step.message.clone_from(&done.message);
            step.assertions.clone_from(&done.assertions);
            step.ended_at = Some(now());
        })
        .await;
    }

    async fn set(&self, position: usize, step: StepView) {
        self.state().steps.insert((position, step.attempt), step.clone());
        self.note(self.controller.inner.store.keep_step(self.run, position, &step).await);
        let _ = self.live.send(SuiteEvent::Step { step: Box::new(step) });
    }

    /// The log of an attempt; begun at its first line.
    pub(crate) fn log(&self, node: &Node, attempt: u32) -> StepLog<'_> {
        StepLog { board: self, path: node.path.clone(), position: node.position, attempt, writer: None }
    }
}

fn queued(node: &Node, attempt: u32) -> StepView {
    StepView {
        path: node.path.clone(),
        attempt,
        name: node.step.name.clone(),
        kind: node.step.kind(),
        state: StepState::Queued,
        outcome: None,
        message: String::new(),
        run: None,
        started_at: None,
        ended_at: None,
        has_log: false,
        agent: None,
        assertions: Vec::new(),
    }
}

/// The log of one attempt of one step.
pub(crate) struct StepLog<'a> {
    board: &'a Board,
    path: String,
    position: usize,
    attempt: u32,
    writer: Option<LogWriter>,
}

impl StepLog<'_> {
    /// Appends text as it came.
    pub(crate) async fn append(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.writer.is_none() {
            let data_dir = &self.board.controller.inner.config.data_dir;
            let Some(file) = log::file(data_dir, self.board.run, &self.path, self.attempt) else { return };
            match LogWriter::create(&file) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => return self.give_up(&error),
            }
            let begun = self.board.state().steps.get(&(self.position, self.attempt)).cloned();
            if let Some(begun) = begun {
                self.board.set(self.position, StepView { has_log: true, ..begun }).await;
            }
        }
        let Some(writer) = &mut self.writer else { return };
        match writer.append(text) {
            Ok("") => {}
            Ok(text) => {
                let (path, attempt, text) = (self.path.clone(), self.attempt, text.to_owned());
                let _ = self.board.live.send(SuiteEvent::Log { path, attempt, text });
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Appends a line of Kennel's own.
    pub(crate) async fn line(&mut self, text: &str) {
        self.append(&format!("{text}\n")).await;
    }

    fn give_up(&self, error: &std::io::Error) {
        tracing::error!(run = %self.board.run, %error, "a step's log cannot be written");
        self.board.state().broken.get_or_insert_with(|| format!("the log of {} could not be kept: {error}", self.path));
    }
}
