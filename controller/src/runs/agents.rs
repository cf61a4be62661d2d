//! The attached agents: who serves which run, and which run waits for whom. One run at a time per agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kennel_model::RunId;
use kennel_model::fault::FaultKind;
use kennel_model::protocol::{AgentDescription, FromAgent, StepId, ToAgent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// Messages of an agent that may wait for its run's driver. Frames are large, so few.
const INBOX: usize = 32;
/// Messages of an agent that may wait for a step: pieces of its log, mostly.
const STEP_INBOX: usize = 64;
/// How long an agent may take to accept a message.
const SENDING: Duration = Duration::from_secs(5);

/// Why no agent will take a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAgent {
    #[error("no agent was attached for {} s", waited.as_secs())]
    Attached { waited: Duration },
    #[error("no attached agent can inject {} faults", kinds.join(" and "))]
    Capable { kinds: Vec<&'static str> },
    #[error("no attached agent carries the labels {}", labels.join(", "))]
    Labelled { labels: Vec<String> },
    #[error(
        "no attached agent that fits offers a command `{command}`; its configuration (agent.yaml) must name it{}",
        if offered.is_empty() { String::new() } else { format!(", as it does {}", offered.join(", ")) }
    )]
    Offering { command: String, offered: Vec<String> },
}

/// An agent did not take a message: its link is closed, or it is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent takes no messages")]
pub(crate) struct Unreachable;

/// The agents that are attached and the runs that wait for one.
#[derive(Debug)]
pub(crate) struct Agents {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// How long a run waits while no attached agent could ever take it.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    attached: BTreeMap<u64, Attached>,
}

#[derive(Debug)]
struct Attached {
    /// Who it is; unknown until it says hello, and until then it gets no run.
    description: Option<AgentDescription>,
    to: mpsc::Sender<ToAgent>,
    serving: Option<(RunId, mpsc::Sender<FromAgent>)>,
    /// Steps of suites that it works on, beside its run.
    steps: BTreeMap<StepId, mpsc::Sender<FromAgent>>,
    /// Things it told outside any run; the next run's warnings.
    notices: Vec<String>,
}

/// An agent that belongs to one run until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    agents: Arc<Agents>,
    agent: u64,
    run: RunId,
    to: mpsc::Sender<ToAgent>,
    /// The agent's name.
    pub(crate) name: String,
    /// What it told since its last run.
    pub(crate) notices: Vec<String>,
    /// What it says about this run; ends when its link closes.
    pub(crate) inbox: mpsc::Receiver<FromAgent>,
}

impl Claim {
    /// Sends a message to the agent.
    pub(crate) async fn send(&self, message: ToAgent) -> Result<(), Unreachable> {
        match tokio::time::timeout(SENDING, self.to.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unreachable),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.agents.state();
        if let Some(agent) = state.attached.get_mut(&self.agent)
            && agent.serving.as_ref().is_some_and(|(run, _)| *run == self.run)
        {
            agent.serving = None;
        }
        drop(state);
        self.agents.changed.send_replace(());
    }
}

/// An agent's work on one step of a suite, until this is dropped.
#[derive(Debug)]
pub(crate) struct StepLink {
    agents: Arc<Agents>,
    agent: u64,
    step: StepId,
    to: mpsc::Sender<ToAgent>,
    /// The agent's name.
    pub(crate) name: String,
    /// What it says about this step; ends when its link closes.
    pub(crate) inbox: mpsc::Receiver<FromAgent>,
}

impl StepLink {
    /// Sends a message to the agent.
    pub(crate) async fn send(&self, message: ToAgent) -> Result<(), Unreachable> {
        match tokio::time::timeout(SENDING, self.to.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unreachable),
        }
    }

    /// Tells the agent to end the step now.
    pub(crate) async fn stop(&self) -> Result<(), Unreachable> {
        self.send(ToAgent::StopStep { step: self.step.clone() }).await
    }
}

impl Drop for StepLink {
    fn drop(&mut self) {
        if let Some(agent) = self.agents.state().attached.get_mut(&self.agent) {
            agent.steps.remove(&self.step);
        }
    }
}

enum Attempt {
    Claimed(Box<Claim>),
    /// Everything that could take the run is in use.
    Busy,
    Never(NoAgent),
}

impl Agents {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), patience }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the agents that are there.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().attached.values().filter_map(|a| a.description.as_ref()).map(|d| d.name.clone()).collect()
    }

    /// What the agents that are there say of themselves.
    pub(crate) fn descriptions(&self) -> Vec<AgentDescription> {
        self.state().attached.values().filter_map(|agent| agent.description.clone()).collect()
    }

    /// Waits until an agent is there that carries all of `labels` and offers `command`, and gives it a step, however much
    /// else it does.
    pub(crate) async fn link(
        self: &Arc<Self>,
        step: StepId,
        labels: &[String],
        command: Option<&str>,
    ) -> Result<StepLink, NoAgent> {
        let mut changed = self.changed.subscribe();
        let deadline = Instant::now() + self.patience;
        loop {
            changed.borrow_and_update();
            let why = match self.try_link(&step, labels, command) {
                Ok(link) => return Ok(link),
                // An agent that is there will not learn a command by waiting.
                Err(why @ NoAgent::Offering { .. }) => return Err(why),
                Err(why) => why,
            };
            if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(why);
            }
        }
    }

    fn try_link(
        self: &Arc<Self>,
        step: &StepId,
        labels: &[String],
        command: Option<&str>,
    ) -> Result<StepLink, NoAgent> {
        let mut state = self.state();
        let known = || state.attached.iter().filter_map(|(id, agent)| Some((*id, agent, agent.description.as_ref()?)));
        if known().next().is_none() {
            return Err(NoAgent::Attached { waited: self.patience });
        }
        let labelled: Vec<_> = known().filter(|(_, _, described)| carries(described, labels)).collect();
        if labelled.is_empty() {
            return Err(NoAgent::Labelled { labels: labels.to_vec() });
        }
        let offers = |described: &AgentDescription| {
            command.is_none_or(|command| described.commands.iter().any(|offered| offered.name == command))
        };
        let fit = labelled.iter().filter(|(_, _, described)| offers(described));
        // The one with the least to do.
        let Some((id, _, described)) = fit.min_by_key(|(_, agent, _)| agent.steps.len()) else {
            let offered = labelled.iter().flat_map(|(_, _, described)| described.commands.iter());
            let mut offered: Vec<String> = offered.map(|command| format!("`{}`", command.name)).collect();
            offered.sort();
            offered.dedup();
            return Err(NoAgent::Offering { command: command.unwrap_or_default().to_owned(), offered });
        };
        let (id, name) = (*id, described.name.clone());
        let (inbox_sender, inbox) = mpsc::channel(STEP_INBOX);
        let Some(agent) = state.attached.get_mut(&id) else {
            return Err(NoAgent::Attached { waited: self.patience });
        };
        agent.steps.insert(step.clone(), inbox_sender);
        Ok(StepLink { agents: Arc::clone(self), agent: id, step: step.clone(), to: agent.to.clone(), name, inbox })
    }

    /// Why no agent takes a run with these faults at the moment, in a sentence; nothing when one could.
    pub(crate) fn obstacle(&self, faults: &BTreeSet<FaultKind>) -> Option<String> {
        let state = self.state();
        let known: Vec<_> =
            state.attached.values().filter_map(|a| Some((a.description.as_ref()?, &a.serving))).collect();
        if known.is_empty() {
            return Some("no agent is attached".to_owned());
        }
        let mut capable = known.iter().filter(|(d, _)| faults.iter().all(|kind| d.faults.contains(kind))).peekable();
        if capable.peek().is_none() {
            let kinds = faults.iter().map(|kind| kind.word()).collect();
            return Some(NoAgent::Capable { kinds }.to_string());
        }
        let busy: Option<Vec<String>> = capable
            .map(|(agent, serving)| {
                let (run, _) = serving.as_ref()?;
                Some(format!("agent `{}` is busy with run {}", agent.name, run.short()))
            })
            .collect();
        busy.map(|busy| busy.join(", "))
    }

    /// Waits until an agent that carries all of `labels` and can inject `faults` is free, and takes it.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        run: RunId,
        labels: &[String],
        faults: &BTreeSet<FaultKind>,
    ) -> Result<Claim, NoAgent> {
        let mut changed = self.changed.subscribe();
        let mut hopeless_since = None;
        loop {
            changed.borrow_and_update();
            let give_up = match self.try_claim(run, labels, faults) {
                Attempt::Claimed(claim) => return Ok(*claim),
                Attempt::Busy => {
                    hopeless_since = None;
                    None
                }
                Attempt::Never(why) => Some((*hopeless_since.get_or_insert_with(Instant::now) + self.patience, why)),
            };
            match give_up {
                None => drop(changed.changed().await),
                Some((deadline, why)) => {
                    if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                        return Err(why);
                    }
                }
            }
        }
    }

    fn try_claim(self: &Arc<Self>, run: RunId, labels: &[String], faults: &BTreeSet<FaultKind>) -> Attempt {
        let mut state = self.state();
        let known = |agent: &Attached| agent.description.clone();
        if !state.attached.values().any(|agent| known(agent).is_some()) {
            return Attempt::Never(NoAgent::Attached { waited: self.patience });
        }
        let labelled = |agent: &Attached| known(agent).is_some_and(|d| carries(&d, labels));
        if !state.attached.values().any(labelled) {
            return Attempt::Never(NoAgent::Labelled { labels: labels.to_vec() });
        }
        let capable = |agent: &Attached| {
            labelled(agent) && known(agent).is_some_and(|d| faults.iter().all(|kind| d.faults.contains(kind)))
        };
        if !state.attached.values().any(capable) {
            return Attempt::Never(NoAgent::Capable { kinds: faults.iter().map(|kind| kind.word()).collect() });
        }
        let free = state.attached.iter_mut().find(|(_, agent)| agent.serving.is_none() && capable(agent));
        let Some((id, agent)) = free else {
            return Attempt::Busy;
        };
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        agent.serving = Some((run, inbox_sender));
        let claim = Claim {
            agents: Arc::clone(self),
            agent: *id,
            run,
            to: agent.to.clone(),
            name: known(agent).map(|description| description.name).unwrap_or_default(),
            notices: std::mem::take(&mut agent.notices),
            inbox,
        };
        Attempt::Claimed(Box::new(claim))
    }

    /// Serves an agent until its link closes: heartbeats to it, its messages to the driver of the run it works on.
    pub(crate) async fn serve(&self, to: mpsc::Sender<ToAgent>, from: mpsc::Receiver<FromAgent>, heartbeat: Duration) {
        let id = {
            let mut state = self.state();
            state.next += 1;
            let id = state.next;
            let agent = Attached {
                description: None,
                to: to.clone(),
                serving: None,
                steps: BTreeMap::new(),
                notices: Vec::new(),
            };
            state.attached.insert(id, agent);
            id
        };
        let _attached = Attachment { agents: self, id };
        tokio::select! {
            () = beat(to, heartbeat) => {}
            () = self.route(id, from) => {}
        }
    }

    async fn route(&self, id: u64, mut from: mpsc::Receiver<FromAgent>) {
        while let Some(message) = from.recv().await {
            let message = match self.route_step(id, message).await {
                Some(message) => message,
                None => continue,
            };
            let Some(run) = run_of(&message) else {
                self.note(id, message);
                continue;
            };
            let inbox = {
                let state = self.state();
                let serving = state.attached.get(&id).and_then(|agent| agent.serving.as_ref());
                serving.filter(|(serving, _)| *serving == run).map(|(_, inbox)| inbox.clone())
            };
            let delivered = match inbox {
                Some(inbox) => inbox.send(message).await.is_ok(),
                None => false,
            };
            if !delivered {
                tracing::debug!(%run, "an agent spoke of a run that it no longer works on");
            }
        }
    }

    /// Takes a message to the step that it is about; gives back what is about no step.
    async fn route_step(&self, id: u64, message: FromAgent) -> Option<FromAgent> {
        let step = match &message {
            FromAgent::StepLog { step, .. } | FromAgent::StepFile { step, .. } | FromAgent::StepDone { step, .. } => {
                step
            }
            _ => return Some(message),
        };
        let inbox = self.state().attached.get(&id).and_then(|agent| agent.steps.get(step).cloned());
        match inbox {
            // A run that no longer listens is over; what comes late is of no use.
            Some(inbox) => drop(inbox.send(message).await),
            None => tracing::debug!(run = %step.run, path = step.path, "an agent spoke of a step that is over"),
        }
        None
    }

    fn note(&self, id: u64, message: FromAgent) {
        {
            let mut state = self.state();
            let Some(agent) = state.attached.get_mut(&id) else {
                return;
            };
            match message {
                FromAgent::Hello(description) => {
                    tracing::info!(agent = description.name, host = description.host, "an agent is attached");
                    agent.description = Some(description);
                }
                FromAgent::Replayed { reverted } => {
                    tracing::warn!(?reverted, "an agent reverted faults that an earlier one had left");
                    let note = |line| {
                        format!("before this run, a fault of an earlier run was found active and reverted: {line}")
                    };
                    agent.notices.extend(reverted.into_iter().map(note));
                }
                _ => {}
            }
        }
        self.changed.send_replace(());
    }
}

/// Forgets an agent, however its service ends.
struct Attachment<'a> {
    agents: &'a Agents,
    id: u64,
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        // The sender to the run's driver goes with it, which tells the driver.
        self.agents.state().attached.remove(&self.id);
        self.agents.changed.send_replace(());
    }
}

/// Renews the agent's leases until its link closes.
async fn beat(to: mpsc::Sender<ToAgent>, every: Duration) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // A full queue means that the agent is behind; one more heartbeat would not help it.
        if let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send(ToAgent::Heartbeat) {
            return;
        }
    }
}

fn carries(agent: &AgentDescription, labels: &[String]) -> bool {
    labels.iter().all(|label| agent.labels.contains(label))
}

fn run_of(message: &FromAgent) -> Option<RunId> {
    match message {
        FromAgent::Hello(_)
        | FromAgent::Replayed { .. }
        | FromAgent::StepLog { .. }
        | FromAgent::StepFile { .. }
        | FromAgent::StepDone { .. } => None,
        FromAgent::Prepared { run, .. }
        | FromAgent::Refused { run, .. }
        | FromAgent::LoadEnded { run, .. }
        | FromAgent::Halted { run, .. }
        | FromAgent::Audited { run, .. } => Some(*run),
        FromAgent::Frame(frame) => Some(frame.run),
        FromAgent::Fault(report) => Some(report.run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_gives_up_when_no_agent_comes() {
        let agents = Arc::new(Agents::new(Duration::from_millis(20)));
        let error = agents.claim(RunId::new(), &[], &BTreeSet::new()).await.unwrap_err();
        assert!(error.to_string().starts_with("no agent was attached"), "{error}");
    }

    #[tokio::test]
    async fn a_run_gives_up_when_no_agent_can_inject_its_faults() {
        let agents = Arc::new(Agents::new(Duration::from_millis(20)));
        let (to, _keep) = mpsc::channel(1);
        let (tell, from) = mpsc::channel(1);
        let hello = AgentDescription { name: "a".into(), faults: vec![FaultKind::Kill], ..AgentDescription::default() };
        tell.send(FromAgent::Hello(hello)).await.unwrap();
        let wanted = BTreeSet::from([FaultKind::Pause]);
        let error = tokio::select! {
            () = agents.serve(to, from, Duration::from_secs(1)) => unreachable!("the link stays open"),
            claimed = async {
                let known = agents.changed.subscribe().wait_for(|()| !agents.names().is_empty()).await.map(drop);
                known.unwrap();
                agents.claim(RunId::new(), &[], &wanted).await
            } => claimed.unwrap_err(),
        };
        assert_eq!(error.to_string(), "no attached agent can inject pause faults");
    }
}
