//! The driver of one run: claims an agent and the target, tells the agent what to do, takes in what it measures, and
//! ends with a verdict. Every wait has a deadline; a silent agent is an error, never a hang.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kennel_model::protocol::{Assignment, FromAgent, ToAgent};
use kennel_model::{RunId, RunState, ValidExperiment};
use tokio::sync::watch;
use tokio::time::Instant;

use super::active::Stop;
use super::agents::{Agents, Claim};
use super::logbook::Logbook;
use super::queue::{Job, Queue, Turn};
use crate::judge::guards;
use crate::judge::verdict::Ending;
use crate::store::StoreError;

/// How long each wait may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// From the assignment until the agent is ready.
    pub(crate) prepare: Duration,
    /// From the start until the first frame: the load worker starts up in it.
    pub(crate) first_frame: Duration,
    /// From one frame to the next while load is on.
    pub(crate) frame: Duration,
    /// From one frame until guards that see nothing halt the run: its second, one for lateness, and the limit.
    pub(crate) blind: Duration,
    /// From the last sign of life after the planned load until its end: requests under way, faults that are reverted.
    pub(crate) drain: Duration,
    /// Beyond the planned length, all together.
    pub(crate) overtime: Duration,
    /// From a halt until it is confirmed.
    pub(crate) halt: Duration,
    /// Until audits are answered: the target first has to go quiet.
    pub(crate) audit: Duration,
}

impl Deadlines {
    /// Deadlines for agents that hold this lease.
    pub(crate) fn new(lease: Duration) -> Self {
        let frame = lease.max(Duration::from_secs(2));
        Self {
            prepare: Duration::from_secs(60),
            first_frame: frame + Duration::from_secs(5),
            frame,
            blind: Duration::from_secs(1 + u64::from(guards::UNKNOWN_LIMIT)),
            drain: Duration::from_secs(60),
            overtime: Duration::from_secs(300),
            halt: Duration::from_secs(30),
            audit: Duration::from_secs(180),
        }
    }
}

/// Everything a run's driver needs.
pub(crate) struct Driver {
    pub(crate) agents: Arc<Agents>,
    /// Where it waits for its target, and as what; `None` for a step of a suite that has the target already.
    pub(crate) queue: Option<(Arc<Queue>, Job)>,
    /// Labels that its agent must carry.
    pub(crate) labels: Vec<String>,
    pub(crate) experiment: Arc<ValidExperiment>,
    pub(crate) raw_log: Option<String>,
    pub(crate) lease: Duration,
    pub(crate) deadlines: Deadlines,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
    pub(crate) logbook: Logbook,
}

/// What a wait came to.
enum Event {
    Message(Box<FromAgent>),
    /// The agent's link closed.
    Gone,
    Stop(Stop),
    /// The deadline passed.
    Late,
}

impl Driver {
    /// Carries the run out, to its verdict.
    pub(crate) async fn drive(mut self) {
        let run = self.id();
        // Turn and claim outlive the judging: the next run on this target starts when this one is over.
        let (ending, _turn, _claim) = self.carry_out().await;
        match self.logbook.finish(ending).await {
            Ok(summary) => tracing::info!(%run, verdict = ?summary.verdict, "a run is over"),
            // The run stays unfinished in the store, and is marked as interrupted when Kennel starts again.
            Err(error) => tracing::error!(%run, %error, "a run's verdict could not be kept"),
        }
    }

    fn id(&self) -> RunId {
        self.logbook.run()
    }

    async fn carry_out(&mut self) -> (Ending, Option<Turn>, Option<Claim>) {
        let faults: BTreeSet<_> = self.experiment.experiment().faults.iter().map(|fault| fault.kind).collect();
        let id = self.id();
        let (agents, queue, labels) = (Arc::clone(&self.agents), self.queue.clone(), self.labels.clone());
        let claimed = async {
            let turn = match queue {
                Some((queue, job)) => Some(queue.turn(job).await),
                None => None,
            };
            turn.iter().for_each(|turn| turn.awaits_agent(true));
            let claim = agents.claim(id, &labels, &faults).await;
            turn.iter().for_each(|turn| turn.awaits_agent(false));
            (turn, claim)
        };
        let (turn, claim) = tokio::select! {
            claimed = claimed => claimed,
            stop = stopped(&mut self.stop) => {
                let why = vec![cause(stop).to_owned(), "it had not started".to_owned()];
                return (Ending::Halted { why }, None, None);
            }
        };
        let mut claim = match claim {
            Ok(claim) => claim,
            Err(why) => return (error(why.to_string()), turn, None),
        };
        let ending = match self.conduct(&mut claim).await {
            Ok(ending) => ending,
            Err(error) => {
                let why = format!("the run's record could not be kept: {error}");
                self.abandon(&mut claim, why)
                    .await
                    .unwrap_or_else(|error| Ending::Error { why: vec![error.to_string()] })
            }
        };
        // An agent that is gone needs no release.
        let _ = claim.send(ToAgent::Release { run: id }).await;
        (ending, turn, Some(claim))
    }

    /// From the assignment to the end of the audits.
    async fn conduct(&mut self, claim: &mut Claim) -> Result<Ending, StoreError> {
        self.logbook.enter(RunState::Preparing).await?;
        for notice in std::mem::take(&mut claim.notices) {
            self.logbook.warn(notice).await?;
        }
        if let Some(ending) = self.prepare(claim).await? {
            return Ok(ending);
        }
        if let Some(ending) = self.load(claim).await? {
            return Ok(ending);
        }
        if self.experiment.experiment().audits.is_empty() {
            return Ok(Ending::Completed);
        }
        self.audit(claim).await
    }

    async fn prepare(&mut self, claim: &mut Claim) -> Result<Option<Ending>, StoreError> {
        let assignment = Assignment {
            run: self.id(),
            experiment: (*self.experiment).clone(),
            lease: self.lease,
            raw_log: self.raw_log.clone(),
        };
        if claim.send(ToAgent::Prepare(Box::new(assignment))).await.is_err() {
            return Ok(Some(error(format!("agent `{}` took no assignment", claim.name))));
        }
        let deadline = Instant::now() + self.deadlines.prepare;
        loop {
            match self.next(claim, deadline).await {
                Event::Message(message) => match *message {
                    FromAgent::Prepared { warnings, .. } => {
                        for warning in warnings {
                            self.logbook.warn(warning).await?;
                        }
                        return Ok(None);
                    }
                    FromAgent::Refused { reason, .. } => {
                        return Ok(Some(error(format!("agent `{}` refused the run: {reason}", claim.name))));
                    }
                    other => drop(self.note(other).await?),
                },
                Event::Gone => {
                    return Ok(Some(error(format!("agent `{}` vanished while it got ready", claim.name))));
                }
                Event::Stop(stop) => {
                    return self.halt(claim, vec![cause(stop).to_owned()]).await.map(Some);
                }
                Event::Late => {
                    let waited = self.deadlines.prepare.as_secs();
                    let why = format!("agent `{}` was not ready within {waited} s", claim.name);
                    return self.abandon(claim, why).await.map(Some);
                }
            }
        }
    }

    /// From the start of the load to its end; `None` when it went as planned.
    async fn load(&mut self, claim: &mut Claim) -> Result<Option<Ending>, StoreError> {
        if claim.send(ToAgent::Start { run: self.id() }).await.is_err() {
            return Ok(Some(error(format!("agent `{}` did not take the start", claim.name))));
        }
        self.logbook.start().await?;
        let started = Instant::now();
        let (mut heard, mut framed) = (started, started);
        loop {
            let (deadline, why_late) = self.load_deadline(started, heard, framed);
            match self.next(claim, deadline).await {
                Event::Message(message) => {
                    heard = Instant::now();
                    match *message {
                        FromAgent::LoadEnded { failure: None, .. } => return Ok(None),
                        FromAgent::LoadEnded { failure: Some(failure), .. } => {
                            return Ok(Some(error(format!("the load ended before its time: {failure}"))));
                        }
                        FromAgent::Halted { .. } => {
                            let why = format!("agent `{}` halted the run by itself (its lease ran out)", claim.name);
                            return Ok(Some(error(why)));
                        }
                        FromAgent::Refused { reason, .. } => {
                            return Ok(Some(error(format!("agent `{}` gave the run up: {reason}", claim.name))));
                        }
                        FromAgent::Frame(frame) => {
                            framed = heard;
                            if let Some(why) = self.logbook.frame(*frame).await? {
                                return self.halt(claim, vec![why]).await.map(Some);
                            }
                        }
                        other => drop(self.note(other).await?),
                    }
                }
                Event::Gone => {
                    let measured = self.logbook.measured_s();
                    let why = format!(
                        "agent `{}` vanished while load was on, after {measured} s of measurements",
                        claim.name
                    );
                    return Ok(Some(error(why)));
                }
                Event::Stop(stop) => {
                    return self.halt(claim, vec![cause(stop).to_owned()]).await.map(Some);
                }
                Event::Late => {
                    return match why_late {
                        Lateness::Blind => {
                            let why = guards::blind(self.logbook.awaited_second());
                            self.halt(claim, vec![why]).await.map(Some)
                        }
                        Lateness::Silent => {
                            let silent_s = (deadline - framed).as_secs();
                            let why = format!(
                                "agent `{}` sent no measurements for {silent_s} s while load was on",
                                claim.name
                            );
                            self.abandon(claim, why).await.map(Some)
                        }
                        Lateness::Endless => {
                            let why = format!("agent `{}` did not end the load in time", claim.name);
                            self.abandon(claim, why).await.map(Some)
                        }
                    };
                }
            }
        }
    }

    fn load_deadline(&self, started: Instant, heard: Instant, framed: Instant) -> (Instant, Lateness) {
        let planned = self.experiment.experiment().load.duration();
        let endless = (started + planned + self.deadlines.overtime, Lateness::Endless);
        let sooner = if self.logbook.is_load_measured() {
            (heard + self.deadlines.drain, Lateness::Endless)
        } else if self.logbook.is_empty() {
            (started + self.deadlines.first_frame, Lateness::Silent)
        } else if !self.experiment.experiment().guards.is_empty() && self.deadlines.blind < self.deadlines.frame {
            (framed + self.deadlines.blind, Lateness::Blind)
        } else {
            (framed + self.deadlines.frame, Lateness::Silent)
        };
        if sooner.0 < endless.0 { sooner } else { endless }
    }

    async fn audit(&mut self, claim: &mut Claim) -> Result<Ending, StoreError> {
        self.logbook.enter(RunState::Audit).await?;
        let deadline = Instant::now() + self.deadlines.audit;
        if claim.send(ToAgent::Audit { run: self.id() }).await.is_err() {
            self.logbook.warn(format!("agent `{}` vanished before the audits", claim.name)).await?;
            return Ok(Ending::Completed);
        }
        loop {
            match self.next(claim, deadline).await {
                Event::Message(message) => match *message {
                    FromAgent::Audited { audits, .. } => {
                        self.logbook.audited(audits).await?;
                        return Ok(Ending::Completed);
                    }
                    other => drop(self.note(other).await?),
                },
                Event::Stop(stop) => return self.halt(claim, vec![cause(stop).to_owned()]).await,
                // The load was measured; audits that nobody answered leave the verdict open.
                Event::Gone => {
                    self.logbook.warn(format!("agent `{}` vanished during the audits", claim.name)).await?;
                    return Ok(Ending::Completed);
                }
                Event::Late => {
                    let waited = self.deadlines.audit.as_secs();
                    self.logbook.warn(format!("the audits were not answered within {waited} s")).await?;
                    return Ok(Ending::Completed);
                }
            }
        }
    }

    /// Halts the run on its agent and waits for the confirmation.
    async fn halt(&mut self, claim: &mut Claim, mut why: Vec<String>) -> Result<Ending, StoreError> {
        let closing = *self.stop.borrow() == Some(Stop::Closing);
        let sent = claim.send(ToAgent::Halt { run: self.id() }).await;
        let mut deadline = Instant::now() + self.deadlines.halt;
        let problem = loop {
            if sent.is_err() {
                break "was gone before it could be told to halt";
            }
            // Whatever asked for the halt has been heard: only the agent's answer counts now.
            match tokio::time::timeout_at(deadline, claim.inbox.recv()).await {
                Ok(Some(FromAgent::Halted { took_ms, .. })) => {
                    why.push(format!("load was off and every fault reverted {took_ms} ms after the halt"));
                    return Ok(Ending::Halted { why });
                }
                // It ended by itself in the same moment; the agent may see nothing left to halt.
                Ok(Some(FromAgent::LoadEnded { .. })) => deadline = deadline.min(Instant::now() + self.deadlines.frame),
                Ok(Some(message)) => drop(self.note(message).await?),
                Ok(None) => break "vanished before it confirmed the halt",
                Err(_) => break "did not confirm the halt in time",
            }
        };
        why.push(format!("agent `{}` {problem}; faults end with its lease at the latest", claim.name));
        if closing {
            return Ok(Ending::Halted { why });
        }
        Ok(Ending::Error { why })
    }

    /// Gives the run up: as a halt, but the verdict is an error whether or not the agent confirms.
    async fn abandon(&mut self, claim: &mut Claim, why: String) -> Result<Ending, StoreError> {
        self.deadlines.halt = self.deadlines.halt.min(self.deadlines.frame);
        match self.halt(claim, vec![why]).await? {
            Ending::Halted { why } | Ending::Error { why } => Ok(Ending::Error { why }),
            Ending::Completed => Ok(Ending::Completed),
        }
    }

    /// Takes in what may come at any time.
    async fn note(&mut self, message: FromAgent) -> Result<(), StoreError> {
        match message {
            FromAgent::Fault(report) => self.logbook.fault(report).await,
            FromAgent::Frame(frame) => self.logbook.frame(*frame).await.map(drop),
            other => {
                tracing::debug!(run = %self.id(), ?other, "an agent said something that nobody asked for");
                Ok(())
            }
        }
    }

    async fn next(&mut self, claim: &mut Claim, deadline: Instant) -> Event {
        tokio::select! {
            biased;
            stop = stopped(&mut self.stop) => Event::Stop(stop),
            message = claim.inbox.recv() => message.map_or(Event::Gone, |message| Event::Message(Box::new(message))),
            () = tokio::time::sleep_until(deadline) => Event::Late,
        }
    }
}

/// Why a deadline during the load matters.
#[derive(Debug, Clone, Copy)]
enum Lateness {
    /// Guards see nothing.
    Blind,
    /// The agent sends no frames.
    Silent,
    /// The load does not end.
    Endless,
}

/// Resolves when the run is told to stop.
async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    if let Ok(stop) = stop.wait_for(Option::is_some).await
        && let Some(stop) = *stop
    {
        return stop;
    }
    // The run's handle is gone, so nobody can stop it any more.
    std::future::pending().await
}

fn cause(stop: Stop) -> &'static str {
    match stop {
        Stop::Person => "halted by a person",
        Stop::Closing => "halted because Kennel was stopped",
    }
}

fn error(why: String) -> Ending {
    Ending::Error { why: vec![why] }
}
