//! One attempt of one step: what it does, until it is over, too late, or told to end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kennel_model::api::{LiveEvent, Outcome, StepKind};
use kennel_model::fault::FaultState;
use kennel_model::protocol::{
    Assertion, FromAgent, StepAssignment, StepFile, StepFileKind, StepId, StepReport, StepTask, ToAgent,
};
use kennel_model::suite::ValidSuite;
use kennel_model::units::{LONGEST_DURATION, format_duration};
use kennel_results::{TestCase, TestName};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::board::{Board, StepLog};
use super::plan::Node;
use super::tests_of_runs::{outcome_of, tests_of};
use crate::Controller;
use crate::runs::agents::StepLink;

/// How long a check may take unless its step says otherwise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an agent may take to end a step that was told to end, or whose time is over.
const ENDING: Duration = Duration::from_secs(20);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) message: String,
    pub(crate) assertions: Vec<Assertion>,
    /// What it tested; kept with the run.
    pub(crate) tests: Vec<TestCase>,
    /// Files to keep with the run.
    pub(crate) artifacts: Vec<StepFile>,
    /// What the agent said of a command whose tests decide.
    report: Option<StepReport>,
    /// It was cancelled: what failed says nothing.
    cancelled: bool,
}

impl Done {
    pub(crate) fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
            assertions: Vec::new(),
            tests: Vec::new(),
            artifacts: Vec::new(),
            report: None,
            cancelled: false,
        }
    }

    fn error(message: impl Into<String>) -> Self {
        Self::new(Outcome::Error, message)
    }
}

/// One attempt of one step with what it needs.
pub(crate) struct Attempt<'a> {
    pub(crate) controller: &'a Controller,
    pub(crate) suite: &'a Arc<ValidSuite>,
    pub(crate) board: &'a Board,
    pub(crate) node: &'a Node,
    /// Which, from 1.
    pub(crate) number: u32,
    pub(crate) cancel: &'a CancellationToken,
}

impl Attempt<'_> {
    /// Carries it out.
    pub(crate) async fn carry_out(&self) -> Done {
        let began = Instant::now();
        let mut log = self.board.log(self.node, self.number);
        let step = &self.node.step;
        let mut done = match step.kind() {
            StepKind::Wait => self.wait().await,
            StepKind::Experiment => self.experiment(&mut log).await,
            StepKind::Check => self.check(&mut log).await,
            StepKind::Command => self.command(&mut log).await,
            StepKind::Parallel | StepKind::Import => Done::error("this is no step that is carried out by itself"),
        };
        // A step that tells nothing test by test is one test itself; a wait tests nothing.
        if done.tests.is_empty() && matches!(step.kind(), StepKind::Check | StepKind::Command | StepKind::Experiment) {
            done.tests.push(self.as_one_test(&done, began.elapsed()));
        }
        done.cancelled = self.cancel.is_cancelled();
        // A test that was cut short by a cancellation tells nothing of itself.
        if done.cancelled && done.outcome != Outcome::Passed && done.report.is_none() {
            done.tests.clear();
        }
        done
    }

    fn as_one_test(&self, done: &Done, duration: Duration) -> TestCase {
        let told = done.assertions.iter().map(|assertion| {
            let sign = if assertion.holds { "✓" } else { "✕" };
            format!("{sign} {}: expected {}, got {}", assertion.what, assertion.expected, assertion.actual)
        });
        TestCase {
            test: TestName { class: String::new(), name: self.node.step.name.clone(), parameters: String::new() },
            outcome: done.outcome,
            duration,
            message: if done.outcome == Outcome::Passed { String::new() } else { done.message.clone() },
            detail: told.collect::<Vec<_>>().join("\n"),
            attempt: 1,
            tags: Vec::new(),
        }
    }

    async fn wait(&self) -> Done {
        let length = self.node.step.wait.unwrap_or_default().get();
        tokio::select! {
            () = tokio::time::sleep(length) => Done::new(Outcome::Passed, format!("waited {}", format_duration(length))),
            () = self.cancel.cancelled() => Done::error("cancelled"),
        }
    }

    async fn experiment(&self, log: &mut StepLog<'_>) -> Done {
        let Some(experiment) = self.suite.experiment(&self.node.path) else {
            return Done::error("the experiment is not known any more");
        };
        let labels = &self.suite.suite().agents;
        let started = self.controller.start_within_suite(experiment.clone(), labels.clone()).await;
        let run = match started {
            Ok(run) => run,
            Err(error) => return Done::error(error.to_string()),
        };
        let events = self.controller.live(run);
        self.board.change(self.node, self.number, |step| step.run = Some(run)).await;
        log.line(&format!("run {run} of experiment “{}”", experiment.experiment().name)).await;
        let deadline = self.node.step.timeout.map(|limit| Instant::now() + limit.get());
        let mut ended_by = None;
        let mut events = Box::pin(events);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => if let Some(line) = told(&event) {
                        log.line(&line).await;
                    },
                    None => break,
                },
                () = self.cancel.cancelled(), if ended_by.is_none() => {
                    ended_by = Some("cancelled".to_owned());
                    // Refused when it ended by itself in this moment, which its verdict will tell.
                    let _ = self.controller.halt(run).await;
                }
                () = passed(deadline), if ended_by.is_none() => {
                    let limit = self.node.step.timeout.unwrap_or_default();
                    ended_by = Some(format!("halted because it was not over after {limit}"));
                    let _ = self.controller.halt(run).await;
                }
            }
        }
        let detail = match self.controller.run(run).await {
            Ok(Some(detail)) => detail,
            Ok(None) => return Done::error(format!("run {run} is gone")),
            Err(error) => return Done::error(error.to_string()),
        };
        for reason in &detail.summary.reasons {
            log.line(reason).await;
        }
        let verdict = detail.summary.verdict;
        let told = verdict.map_or("without a verdict", kennel_model::Verdict::word);
        let mut done = Done::new(outcome_of(verdict), format!("{told}: {}", detail.summary.reasons.join("; ")));
        if let Some(why) = ended_by {
            done = Done::new(if why == "cancelled" { Outcome::Error } else { Outcome::Failed }, why);
        }
        done.tests = tests_of(&detail, &self.node.step.name);
        done
    }

    async fn check(&self, log: &mut StepLog<'_>) -> Done {
        let (Some(check), Some(target)) = (&self.node.step.check, self.suite.target()) else {
            return Done::error("the check's target is not known any more");
        };
        let limit = self.node.step.timeout.map_or(CHECK_TIMEOUT, kennel_model::units::Span::get);
        let task = StepTask::Check { check: Box::new(check.clone()), target: Box::new(target.clone()) };
        match self.on_an_agent(task, limit, None, log).await {
            Ok((report, _)) => Done { assertions: report.assertions, ..Done::new(report.outcome, report.message) },
            Err(done) => done,
        }
    }

    async fn command(&self, log: &mut StepLog<'_>) -> Done {
        let step = &self.node.step;
        let command = step.command.clone().unwrap_or_default();
        let task = StepTask::Command { command: command.clone(), arguments: step.arguments.clone() };
        // Without a limit of the step's own, that of the agent's configuration holds.
        let limit = step.timeout.map_or(LONGEST_DURATION, kennel_model::units::Span::get);
        let (report, files) = match self.on_an_agent(task, limit, Some(&command), log).await {
            Ok(answer) => answer,
            Err(done) => return done,
        };
        let (results, artifacts): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.kind == StepFileKind::Results);
        let mut done = Done { artifacts, ..Done::new(report.outcome, report.message.clone()) };
        let mut unreadable = Vec::new();
        for file in &results {
            match kennel_results::read(None, Cursor::new(&file.content)) {
                Ok(tests) => done.tests.extend(tests),
                Err(error) => unreadable.push(format!("{}: {error}", file.name)),
            }
        }
        done.artifacts.extend(results);
        if !unreadable.is_empty() {
            let why = format!("its results cannot be read: {}", unreadable.join("; "));
            log.line(&why).await;
            return Done { outcome: Outcome::Error, message: why, ..done };
        }
        if !done.tests.is_empty() {
            (done.outcome, done.message) = judge_tests(&report, &done.tests, &Muted::new());
            done.report = Some(report);
        }
        done
    }

    /// Lets an agent carry out a task, and takes in what it says until it is over.
    async fn on_an_agent(
        &self,
        task: StepTask,
        limit: Duration,
        command: Option<&str>,
        log: &mut StepLog<'_>,
    ) -> Result<(StepReport, Vec<StepFile>), Done> {
        let id = StepId { run: self.board.run(), path: self.node.path.clone(), attempt: self.number };
        let labels = &self.suite.suite().agents;
        let mut link = tokio::select! {
            link = self.controller.inner.agents.link(id.clone(), labels, command) => match link {
                Ok(link) => link,
                Err(why) => {
                    log.line(&why.to_string()).await;
                    return Err(Done::error(why.to_string()));
                }
            },
            () = self.cancel.cancelled() => return Err(Done::error("cancelled before an agent took it")),
        };
        let name = link.name.clone();
        self.board.change(self.node, self.number, |step| step.agent = Some(name)).await;
        let lease = self.controller.inner.config.lease;
        let assignment = StepAssignment { step: id.clone(), task, timeout: limit, lease };
        if link.send(ToAgent::Step(Box::new(assignment))).await.is_err() {
            return Err(Done::error(format!("agent `{}` did not take the step", link.name)));
        }
        let answer = self.listen(&mut link, limit, log).await;
        if answer.is_err() {
            // Whatever it still does is of no use to anybody.
            let _ = link.send(ToAgent::StopStep { step: id }).await;
        }
        answer
    }

    async fn listen(
        &self,
        link: &mut StepLink,
        limit: Duration,
        log: &mut StepLog<'_>,
    ) -> Result<(StepReport, Vec<StepFile>), Done> {
        let mut files = Vec::new();
        // The agent ends it in time by itself; this only keeps a run from waiting for an agent that forgot.
        let mut deadline = Instant::now() + limit + ENDING;
        let mut told_to_end = false;
        loop {
            tokio::select! {
                message = timeout(deadline.saturating_duration_since(Instant::now()), link.inbox.recv()) => match message {
                    Ok(Some(FromAgent::StepLog { text, .. })) => log.append(&text).await,
                    Ok(Some(FromAgent::StepFile { file, .. })) => files.push(file),
                    Ok(Some(FromAgent::StepDone { report, .. })) => return Ok((report, files)),
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        let why = format!("agent `{}` vanished while it worked on this step", link.name);
                        log.line(&why).await;
                        return Err(Done::error(why));
                    }
                    Err(_) => return Err(Done::error(format!("agent `{}` did not end the step in time", link.name))),
                },
                () = self.cancel.cancelled(), if !told_to_end => {
                    told_to_end = true;
                    deadline = Instant::now() + ENDING;
                    if link.stop().await.is_err() {
                        return Err(Done::error(format!("cancelled; agent `{}` could not be told", link.name)));
                    }
                }
            }
        }
    }
}

impl Done {
    /// Lets pass what failed only in tests that are muted.
    pub(crate) fn settle(&mut self, muted: &Muted) {
        if muted.is_empty() || self.cancelled || self.outcome == Outcome::Passed {
            return;
        }
        if let Some(report) = &self.report {
            (self.outcome, self.message) = judge_tests(report, &self.tests, muted);
            return;
        }
        let tests = last_tries(&self.tests);
        let mut failed = tests.iter().filter(|test| is_bad(test)).peekable();
        if failed.peek().is_some() && failed.all(|test| muted.contains(&test.test)) {
            self.outcome = Outcome::Passed;
            self.message = format!("muted, so this does not count: {}", self.message);
        }
    }
}

fn is_bad(test: &TestCase) -> bool {
    matches!(test.outcome, Outcome::Failed | Outcome::Error)
}

/// What a command's tests and its own end come to together.
fn judge_tests(report: &StepReport, tests: &[TestCase], muted: &Muted) -> (Outcome, String) {
    let tests = last_tries(tests);
    let failed: Vec<&TestCase> = tests.iter().copied().filter(|test| is_bad(test)).collect();
    let counted: Vec<&TestCase> = failed.iter().copied().filter(|test| !muted.contains(&test.test)).collect();
    let skipped = tests.iter().filter(|test| test.outcome == Outcome::Skipped).count();
    let mut message = match (counted.len(), tests.len()) {
        (0, many) => format!("{} of {many} tests passed", many - skipped - failed.len()),
        (bad, many) => {
            let first = counted.first().map(|test| first_of(test)).unwrap_or_default();
            format!("{bad} of {many} tests failed: {first}{}", if bad > 1 { ", …" } else { "" })
        }
    };
    if skipped > 0 {
        message.push_str(&format!(", {skipped} skipped"));
    }
    if failed.len() > counted.len() {
        message.push_str(&format!(", {} failed but muted", failed.len() - counted.len()));
    }
    if !report.ran_to_its_end {
        return (report.outcome, format!("{}; {message}", report.message));
    }
    match (counted.is_empty(), report.outcome) {
        (false, _) => (Outcome::Failed, message),
        // It says that something is wrong which none of its tests tells.
        (true, Outcome::Failed) if failed.is_empty() => {
            (Outcome::Error, format!("{}, although {message}", report.message))
        }
        (true, _) => (Outcome::Passed, message),
    }
}

/// The last try of each test: tools that try failed ones again tell of every try.
fn last_tries(tests: &[TestCase]) -> Vec<&TestCase> {
    let mut last: BTreeMap<&TestName, &TestCase> = BTreeMap::new();
    for test in tests {
        let known = last.entry(&test.test).or_insert(test);
        if known.attempt <= test.attempt {
            *known = test;
        }
    }
    last.into_values().collect()
}

fn first_of(test: &TestCase) -> String {
    let name = if test.test.class.is_empty() {
        test.test.name.clone()
    } else {
        format!("{}.{}", test.test.class, test.test.name)
    };
    match test.message.lines().next() {
        Some(line) if !line.is_empty() => format!("{name}: {line}"),
        _ => name,
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What of a run's live stream is worth a line.
fn told(event: &LiveEvent) -> Option<String> {
    match event {
        LiveEvent::State { run } => Some(format!("{}", run.state)),
        LiveEvent::Fault { fault } if matches!(fault.state, FaultState::Planned | FaultState::Armed) => None,
        LiveEvent::Fault { fault } => {
            let detail = if fault.detail.is_empty() { String::new() } else { format!(" ({})", fault.detail) };
            Some(format!("fault “{}” is {}{detail}", fault.name, fault.state))
        }
        LiveEvent::Warning { message } => Some(format!("warning: {message}")),
        LiveEvent::Second { seconds } => {
            let all = seconds.get("all").filter(|all| all.second % 10 == 9)?;
            let p99 = all.p99.map_or_else(String::new, |ms| format!(", p99 {ms:.0} ms"));
            Some(format!("second {}: {} requests/s, {} errors{p99}", all.second + 1, all.rate, all.errors))
        }
        LiveEvent::Guard { .. } => None,
    }
}

/// The tests among some that are muted.
pub(crate) type Muted = BTreeSet<TestName>;
