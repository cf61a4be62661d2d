//! One run on this agent: prepared, started, held while its lease lives, ended or halted, audited.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kennel_model::fault::{Fault, FaultState};
use kennel_model::protocol::{Assignment, FaultReport, FromAgent};
use kennel_model::run::RunId;
use kennel_model::target::Target;
use kennel_proxy::{FaultProxy, ProxySpec, ProxyUpdate};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit;
use crate::boundary::Boundary;
use crate::faults::{self, Injection, Surroundings};
use crate::history::History;
use crate::journal::{self, Journal};
use crate::load::LoadWorker;
use crate::timeline::{Claim, conflicts};
use crate::worker::{WorkerAssignment, WorkerReport};

/// What the controller may tell a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Start,
    Halt,
    Audit,
    Release,
}

/// What a run needs of its agent.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) agent: String,
    pub(crate) worker_command: Vec<OsString>,
    /// Where raw logs are written.
    pub(crate) raw_logs: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) proxy: FaultProxy,
    /// When the controller was last heard of.
    pub(crate) heard: watch::Receiver<Instant>,
    pub(crate) to_controller: mpsc::Sender<FromAgent>,
    pub(crate) shutdown: CancellationToken,
}

impl Host {
    /// Undoes whatever the journal still holds and takes every toxic off the embedded proxy: for when the task that should
    /// have done it is gone.
    pub(crate) async fn revert_everything(&self) -> Vec<String> {
        let mut told = match journal::replay(self.journal.path()).await {
            Ok(told) => told,
            Err(error) => vec![error.to_string()],
        };
        if let Err(error) = self.proxy.reset().await {
            told.push(format!("the embedded fault proxy could not be reset: {error}"));
        }
        told
    }
}

/// A run that passed every check.
struct Prepared {
    boundary: Boundary,
    worker: LoadWorker,
    history: Option<History>,
    warnings: Vec<String>,
}

/// How the load ended.
enum LoadEnd {
    ByItself { failure: Option<String> },
    Halted { asked_at: Instant },
    Abandoned { why: String },
}

/// Conducts a run from its preparation to its release.
pub(crate) async fn conduct(assignment: Assignment, host: Host, mut orders: mpsc::Receiver<Order>) {
    let run = assignment.run;
    let preparing = tokio::select! {
        preparing = prepare(&assignment, &host) => preparing,
        () = told_to_stop(&host, &mut orders) => return tell(&host, FromAgent::Halted { run, took_ms: 0 }).await,
    };
    let mut prepared = match preparing {
        Ok(prepared) => prepared,
        Err(reason) => return tell(&host, FromAgent::Refused { run, reason }).await,
    };
    let warnings = std::mem::take(&mut prepared.warnings);
    tell(&host, FromAgent::Prepared { run, warnings }).await;
    let started = tokio::select! {
        order = orders.recv() => order == Some(Order::Start),
        () = silence(&host, assignment.lease) => false,
        () = host.shutdown.cancelled() => false,
    };
    if !started {
        prepared.worker.kill().await;
        return tell(&host, FromAgent::Halted { run, took_ms: 0 }).await;
    }
    match under_load(&assignment, &host, &mut prepared, &mut orders).await {
        LoadEnd::ByItself { failure } => tell(&host, FromAgent::LoadEnded { run, failure }).await,
        LoadEnd::Halted { asked_at } => {
            let took_ms = millis(asked_at.elapsed());
            return tell(&host, FromAgent::Halted { run, took_ms }).await;
        }
        LoadEnd::Abandoned { why } => return tell(&host, FromAgent::LoadEnded { run, failure: Some(why) }).await,
    }
    let asked = tokio::select! {
        order = orders.recv() => order,
        () = silence(&host, assignment.lease) => None,
        () = host.shutdown.cancelled() => None,
    };
    match asked {
        Some(Order::Audit) => tokio::select! {
            () = audits(&assignment, &host, &prepared) => {}
            () = told_to_stop(&host, &mut orders) => tell(&host, FromAgent::Halted { run, took_ms: 0 }).await,
        },
        Some(Order::Halt) => tell(&host, FromAgent::Halted { run, took_ms: 0 }).await,
        _ => {}
    }
}

/// Ends when the run is to end without further ado: halted, released, or the agent shuts down.
async fn told_to_stop(host: &Host, orders: &mut mpsc::Receiver<Order>) {
    loop {
        tokio::select! {
            order = orders.recv() => if matches!(order, Some(Order::Halt | Order::Release) | None) { return },
            () = host.shutdown.cancelled() => return,
        }
    }
}

async fn tell(host: &Host, message: FromAgent) {
    // A controller that takes nothing any more must not keep the lease from being watched.
    let _ = host.to_controller.send_timeout(message, Duration::from_millis(500)).await;
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Ends when nothing was heard of the controller for longer than the lease.
async fn silence(host: &Host, lease: Duration) {
    let mut heard = host.heard.clone();
    loop {
        let deadline = *heard.borrow_and_update() + lease;
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return,
            changed = heard.changed() => if changed.is_err() { return },
        }
    }
}

async fn prepare(assignment: &Assignment, host: &Host) -> Result<Prepared, String> {
    let (experiment, target) = (assignment.experiment.experiment(), assignment.experiment.target());
    check_limits(assignment)?;
    let boundary = Boundary::of(target).await.map_err(|e| e.to_string())?;
    if target.base_url.starts_with("https://") {
        return Err(format!(
            "target `{}` is served over https, which this version of the load engine does not speak",
            target.name
        ));
    }
    let addresses = boundary.addresses(&target.base_url).await.map_err(|e| e.to_string())?;
    host_links(target, &boundary, &host.proxy).await?;
    let surroundings = Surroundings { target, boundary: &boundary, proxy: &host.proxy, lease: assignment.lease };
    let mut claims = Vec::new();
    for fault in &experiment.faults {
        let injections = faults::resolve(fault, &surroundings).await;
        let injections = injections.map_err(|e| format!("fault `{}` cannot be injected: {e}", fault.name))?;
        claims.extend(injections.iter().map(|injection| Claim::of(fault, injection.owns())));
    }
    let conflicts = conflicts(&claims);
    if !conflicts.is_empty() {
        return Err(conflicts.join("; "));
    }
    let history = History::create(&host.raw_logs, assignment)?;
    let worker = WorkerAssignment {
        run: assignment.run,
        agent: host.agent.clone(),
        base_url: target.base_url.clone(),
        addresses,
        load: experiment.load.clone(),
        scenarios: experiment.scenarios.clone(),
        raw_log: match &assignment.raw_log {
            Some(name) => Some(raw_log(&host.raw_logs, name)?),
            None => None,
        },
        history: history.as_ref().map(History::for_worker),
    };
    let worker = LoadWorker::prepare(&host.worker_command, &worker).await;
    history.iter().for_each(History::forget_name);
    let worker = worker.map_err(|e| e.to_string())?;
    let warnings = unhealthy(target, &boundary).await;
    Ok(Prepared { boundary, worker, history, warnings })
}

/// The file of a raw log: a plain name in the agent's own directory, because whoever reaches the API names it.
fn raw_log(directory: &Path, name: &str) -> Result<String, String> {
    let plain =
        !name.starts_with('.') && !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if !plain {
        return Err(format!("raw log `{name}` is not a plain file name"));
    }
    std::fs::create_dir_all(directory).map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    Ok(directory.join(name).display().to_string())
}

/// The limits were checked when the experiment was validated; the agent is the last moment, and trusts nobody.
fn check_limits(assignment: &Assignment) -> Result<(), String> {
    let (experiment, target) = (assignment.experiment.experiment(), assignment.experiment.target());
    if let (Some(limit), Some(peak)) = (target.limits.max_rate, experiment.load.peak_rate())
        && peak.get() > limit.get()
    {
        return Err(format!("a peak of {peak} passes the limit of target `{}`, {limit}", target.name));
    }
    if let Some(limit) = target.limits.max_users
        && experiment.load.users() > limit
    {
        return Err(format!("{} users pass the limit of target `{}`, {limit}", experiment.load.users(), target.name));
    }
    match experiment.faults.iter().find(|fault| !target.limits.faults.contains(&fault.kind)) {
        Some(fault) => Err(format!("target `{}` does not allow {} faults", target.name, fault.kind)),
        None => Ok(()),
    }
}

/// Makes the embedded proxy carry the target's links that no other proxy carries.
async fn host_links(target: &Target, boundary: &Boundary, proxy: &FaultProxy) -> Result<(), String> {
    for link in target.links.iter().filter(|link| link.toxiproxy.is_none()) {
        let mut checked = Vec::new();
        for address in [&link.listen, &link.upstream] {
            let addresses = boundary.addresses(&format!("http://{address}")).await.map_err(|e| e.to_string())?;
            // By address: a name could lead elsewhere the next time it is resolved.
            let first = addresses.first().ok_or_else(|| format!("`{address}` has no address"))?;
            checked.push(first.to_string());
        }
        let [listen, upstream] = checked.as_slice() else { continue };
        let spec = ProxySpec::new(faults::carried_name(target, link), listen.clone(), upstream.clone());
        let done = match proxy.get(&spec.name) {
            Ok(_) => {
                let update =
                    ProxyUpdate { listen: Some(spec.listen), upstream: Some(spec.upstream), enabled: Some(true) };
                proxy.update(&spec.name, update).await
            }
            Err(_) => proxy.create(spec).await,
        };
        done.map_err(|e| format!("the embedded fault proxy cannot carry link `{}`: {e}", link.name()))?;
    }
    Ok(())
}

async fn unhealthy(target: &Target, boundary: &Boundary) -> Vec<String> {
    let mut warnings = Vec::new();
    for url in &target.health {
        let answer = match boundary.http_client(url, Duration::from_secs(2)).await {
            Ok((client, url)) => client.get(url).send().await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => {
                warnings.push(format!("the target was not healthy before the run: {url} answered {}", answer.status()))
            }
            Err(problem) => warnings.push(format!("the target was not healthy before the run: {url}: {problem}")),
        }
    }
    warnings
}

/// Load and faults, from the start of the load until it is off and every fault is over.
async fn under_load(
    assignment: &Assignment,
    host: &Host,
    prepared: &mut Prepared,
    orders: &mut mpsc::Receiver<Order>,
) -> LoadEnd {
    if let Err(error) = prepared.worker.start().await {
        prepared.worker.kill().await;
        return LoadEnd::ByItself { failure: Some(error.to_string()) };
    }
    let start = Instant::now();
    let revert = CancellationToken::new();
    let mut faults = JoinSet::new();
    for fault in assignment.experiment.experiment().faults.clone() {
        let life = FaultLife {
            run: assignment.run,
            fault,
            target: assignment.experiment.target().clone(),
            boundary: prepared.boundary.clone(),
            lease: assignment.lease,
            host: host.clone(),
            start,
            revert: revert.clone(),
        };
        faults.spawn(life.live());
    }
    let mut crashed = false;
    let end = loop {
        tokio::select! {
            Some(Err(error)) = faults.join_next(), if !faults.is_empty() => {
                crashed = true;
                break LoadEnd::ByItself { failure: Some(format!("a fault's task crashed: {error}")) };
            }
            report = prepared.worker.next() => match report {
                Some(WorkerReport::Frame(frame)) => tell(host, FromAgent::Frame(frame)).await,
                Some(WorkerReport::Ended) => {
                    prepared.worker.exit_status().await;
                    break LoadEnd::ByItself { failure: None };
                }
                Some(WorkerReport::Ready) => {}
                Some(WorkerReport::Failed(problem)) => break LoadEnd::ByItself { failure: Some(format!("the load worker failed: {problem}")) },
                None => {
                    let status = prepared.worker.exit_status().await;
                    break LoadEnd::ByItself { failure: Some(format!("the load worker ended before its time ({status})")) };
                }
            },
            order = orders.recv() => match order {
                Some(Order::Halt) => break LoadEnd::Halted { asked_at: Instant::now() },
                Some(Order::Start | Order::Audit) => {}
                Some(Order::Release) | None => break LoadEnd::Abandoned { why: "the controller gave the run up".to_owned() },
            },
            () = silence(host, assignment.lease) => {
                let why = format!("nothing was heard of the controller for {:?}: load was stopped and every fault reverted", assignment.lease);
                break LoadEnd::Abandoned { why };
            }
            () = host.shutdown.cancelled() => break LoadEnd::Abandoned { why: "the agent was shut down".to_owned() },
        }
    };
    let natural = matches!(end, LoadEnd::ByItself { failure: None });
    if !natural {
        revert.cancel();
        prepared.worker.kill().await;
    }
    // A fault that ends by itself (a killed process that is started again) may outlast the load.
    let mut end = end;
    loop {
        tokio::select! {
            over = faults.join_next() => match over {
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    crashed = true;
                    revert.cancel();
                }
                None => break,
            },
            order = orders.recv(), if natural && !revert.is_cancelled() => if matches!(order, Some(Order::Halt) | None) {
                end = LoadEnd::Halted { asked_at: Instant::now() };
                revert.cancel();
            },
            () = silence(host, assignment.lease), if !revert.is_cancelled() => revert.cancel(),
            () = host.shutdown.cancelled(), if !revert.is_cancelled() => revert.cancel(),
        }
    }
    if crashed {
        let told = host.revert_everything().await;
        let failure = format!("a fault's task crashed; from the undo journal: {}", told.join("; "));
        end = LoadEnd::ByItself { failure: Some(failure) };
    }
    end
}

async fn audits(assignment: &Assignment, host: &Host, prepared: &Prepared) {
    let target = assignment.experiment.target();
    let mut reports = Vec::new();
    for name in &assignment.experiment.experiment().audits {
        if let Some(declared) = target.audits.iter().find(|audit| audit.name == *name) {
            let history = prepared.history.as_ref().filter(|_| declared.history.is_some());
            reports.push(audit::ask(declared, &prepared.boundary, history).await);
        }
    }
    tell(host, FromAgent::Audited { run: assignment.run, audits: reports }).await;
}

/// One fault's life on the timeline.
struct FaultLife {
    run: RunId,
    fault: Fault,
    target: Target,
    boundary: Boundary,
    lease: Duration,
    host: Host,
    start: Instant,
    revert: CancellationToken,
}

impl FaultLife {
    async fn live(self) {
        tokio::select! {
            () = tokio::time::sleep_until(self.start + self.fault.start.get()) => {}
            () = self.revert.cancelled() => return,
        }
        self.report(FaultState::Armed, "").await;
        let surroundings =
            Surroundings { target: &self.target, boundary: &self.boundary, proxy: &self.host.proxy, lease: self.lease };
        let injections = match faults::resolve(&self.fault, &surroundings).await {
            Ok(injections) => injections,
            Err(error) => return self.report(FaultState::Failed, &error.to_string()).await,
        };
        let things: Vec<String> = injections.iter().map(|injection| injection.owns()).collect();
        let things = things.join(", ");
        self.report(FaultState::Injecting, &things).await;
        let mut undos = HashMap::new();
        let mut injected = 0;
        let mut failure = None;
        for (at, injection) in injections.iter().enumerate() {
            if self.revert.is_cancelled() {
                break;
            }
            match self.inject(injection.as_ref()).await {
                Ok(entry) => {
                    undos.insert(at, entry);
                    injected = at + 1;
                }
                Err((error, entry)) => {
                    undos.insert(at, entry);
                    injected = at + 1;
                    failure = Some(error);
                    break;
                }
            }
        }
        if failure.is_none() && injected == injections.len() {
            self.report(FaultState::Active, &things).await;
            self.hold(&injections).await;
        }
        self.report(FaultState::Reverting, &things).await;
        let mut stuck = Vec::new();
        for (at, injection) in injections.iter().enumerate().take(injected).rev() {
            if let Err(error) = self.undo(injection.as_ref(), undos.remove(&at).flatten()).await {
                stuck.push(error);
            }
        }
        match (failure, stuck.is_empty()) {
            (_, false) => self.report(FaultState::Stuck, &stuck.join("; ")).await,
            (Some(failure), true) => self.report(FaultState::Failed, &failure).await,
            (None, true) => self.report(FaultState::Reverted, &things).await,
        }
    }

    /// Writes the undo, then injects. The journal entry comes back in either case.
    async fn inject(&self, injection: &dyn Injection) -> Result<Option<Uuid>, (String, Option<Uuid>)> {
        let entry = match injection.undo() {
            Some(undo) => {
                let recorded = self.host.journal.record(&self.fault.name, undo).await;
                Some(recorded.map_err(|error| (error.to_string(), None))?)
            }
            None => None,
        };
        injection.inject().await.map_err(|error| (error.to_string(), entry))?;
        Ok(entry)
    }

    async fn hold(&self, injections: &[Box<dyn Injection>]) {
        let by_itself = futures::future::join_all(injections.iter().map(|injection| injection.hold()));
        let over = async {
            match self.fault.duration {
                Some(duration) => tokio::time::sleep_until(self.start + self.fault.start.get() + duration.get()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            results = by_itself => for error in results.into_iter().filter_map(Result::err) {
                tracing::warn!("fault `{}` did not last: {error}", self.fault.name);
            },
            () = over => {}
            () = self.revert.cancelled() => {}
        }
    }

    /// Reverts, several times if need be, and marks it in the journal. The error is for a person.
    async fn undo(&self, injection: &dyn Injection, entry: Option<Uuid>) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..3 {
            match injection.revert().await {
                Ok(()) => {
                    if let Some(entry) = entry
                        && let Err(error) = self.host.journal.done(entry).await
                    {
                        tracing::warn!("{error}");
                    }
                    return Ok(());
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let by_hand = injection.undo().map(|undo| format!("; by hand: {}", undo.by_hand())).unwrap_or_default();
        Err(format!("{last}{by_hand}"))
    }

    async fn report(&self, state: FaultState, detail: &str) {
        let report = FaultReport {
            run: self.run,
            fault: self.fault.name.clone(),
            state,
            at_ms: millis(self.start.elapsed()),
            detail: detail.to_owned(),
        };
        tell(&self.host, FromAgent::Fault(report)).await;
    }
}
