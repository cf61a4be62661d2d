//! The worker process from its first to its last line.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use goose::GooseAttack;
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use http::HeaderValue;
use kennel_model::frame::WorkerFrame;
use kennel_model::load::LoadProfile;
use kennel_scenarios::attack::{Script, ScriptError, goose_scenario};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::sync::{oneshot, watch};

use super::client::{Pool, REQUEST_TIMEOUT, Turns, User};
use super::connection::Destination;
use super::history::History;
use super::recorder::{self, Labels, Measurements};
use super::{WorkerAssignment, WorkerOrder, WorkerReport, pacer};
use crate::arrivals::Schedule;

/// How much longer than a request's timeout the worker waits for the last answers.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);

/// Why a worker cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its agent sent something else than an assignment.
    #[error("the assignment cannot be read: {0}")]
    Assignment(#[from] serde_json::Error),
    /// Its agent went away before it sent one.
    #[error("standard input ended before the assignment came")]
    NoAssignment,
    /// Something of the operating system.
    #[error("cannot {action}: {cause}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A scenario cannot run.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The base URL cannot be written in a header.
    #[error("`{0}` has no host that can be written in a header")]
    BadHost(String),
    /// Goose refused.
    #[error("the load engine refused to start: {0}")]
    Goose(String),
}

fn system(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> WorkerError {
    let action = action.into();
    move |cause| WorkerError::System { action, cause }
}

/// Runs the worker process: everything between its start and its exit code.
#[must_use]
pub fn main() -> ExitCode {
    allow_many_connections();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run());
            // Reading standard input blocks a thread that nothing can interrupt.
            runtime.shutdown_background();
            result
        }
        Err(cause) => Err(WorkerError::System { action: "start a runtime".to_owned(), cause }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_report(&mut std::io::stdout().lock(), &WorkerReport::Failed(error.to_string()));
            ExitCode::from(5)
        }
    }
}

/// Every user has a connection; the usual soft limit of 1,024 open files would end at a thousand users.
fn allow_many_connections() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it, connections beyond the limit fail and are counted as failures.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn write_report(out: &mut dyn Write, report: &WorkerReport) {
    // With the pipe closed the agent is gone, and standard input tells that too.
    if let Ok(line) = serde_json::to_string(report) {
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

async fn run() -> Result<(), WorkerError> {
    let mut input = BufReader::with_capacity(1 << 16, tokio::io::stdin()).lines();
    let line = input.next_line().await.map_err(system("read standard input"))?.ok_or(WorkerError::NoAssignment)?;
    let assignment: WorkerAssignment = serde_json::from_str(&line)?;
    let (start_at, start) = watch::channel(None);
    let over = Arc::new(AtomicBool::new(false));
    let history = match &assignment.history {
        Some(file) => {
            let created = History::create(file);
            Some(Arc::new(created.map_err(system(format!("create the history `{}`", file.path)))?))
        }
        None => None,
    };
    let load = Load::plan(&assignment, start, over.clone(), history.clone())?;
    let raw_log = match &assignment.raw_log {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(system(format!("create the raw log `{path}`")))?;
            let mut file = BufWriter::new(file);
            writeln!(file, "name,intended_us,response_us,service_us,failure").map_err(system("write the raw log"))?;
            Some(file)
        }
        None => None,
    };
    let keep_raw = raw_log.is_some();
    let mut attack = std::pin::pin!(load.attack.execute());
    write_report(&mut std::io::stdout().lock(), &WorkerReport::Ready);

    tokio::select! {
        ended = &mut attack => return Err(WorkerError::Goose(ended.map_or_else(|e| e.to_string(), |_| "it ended".to_owned()))),
        told = started(&mut input) => if !told { return Ok(()) },
    }
    let at = Instant::now();
    recorder::start(at, Measurements::new(&load.labels), keep_raw);
    start_at.send_replace(Some(at));

    let (end, ended) = oneshot::channel();
    let conduct = conduct(at, &assignment.load, load.schedule, &load.queues, &over, end);
    let report = report(at, load.labels.clone(), raw_log, history, ended);
    tokio::select! {
        // Goose ends only when it is told to, or when a signal for the whole group reached it.
        ended = &mut attack => Err(WorkerError::Goose(ended.map_or_else(|e| e.to_string(), |_| "it ended early".to_owned()))),
        () = agent_gone(&mut input) => Ok(()),
        result = async { tokio::try_join!(conduct, report) } => result.map(|_| ()),
    }
}

async fn started(input: &mut Lines<BufReader<Stdin>>) -> bool {
    while let Ok(Some(line)) = input.next_line().await {
        if matches!(serde_json::from_str(&line), Ok(WorkerOrder::Start)) {
            return true;
        }
    }
    false
}

async fn agent_gone(input: &mut Lines<BufReader<Stdin>>) {
    while let Ok(Some(_)) = input.next_line().await {}
}

/// Hands out arrivals (or lets users go on by themselves) until the load is over and the last answers are in.
async fn conduct(
    start: Instant,
    profile: &LoadProfile,
    schedule: Option<Schedule>,
    queues: &[flume::Sender<Instant>],
    over: &AtomicBool,
    end: oneshot::Sender<()>,
) -> Result<(), WorkerError> {
    if let Some(schedule) = schedule {
        pacer::pace(start, schedule, queues).await.map_err(system("wait on a timer"))?;
    }
    tokio::time::sleep_until((start + profile.duration()).into()).await;
    // Arrivals that came in time may still be taken, within the profile's patience.
    let mut deadline = Instant::now();
    if let LoadProfile::Open { patience, .. } = profile {
        let waiting = || queues.iter().any(|queue| !queue.is_empty());
        deadline += patience.get();
        while waiting() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (scenario, queue) in queues.iter().enumerate() {
            recorder::dropped(scenario, queue.len() as u64);
        }
    }
    over.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + REQUEST_TIMEOUT + DRAIN_MARGIN;
    while recorder::busy() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _ = end.send(());
    Ok(())
}

/// Hands each second's measurements to the writer thread, until the load has ended.
async fn report(
    start: Instant,
    labels: Labels,
    raw_log: Option<BufWriter<std::fs::File>>,
    history: Option<Arc<History>>,
    mut ended: oneshot::Receiver<()>,
) -> Result<(), WorkerError> {
    let (to_writer, from_worker) = std::sync::mpsc::channel::<(u32, Measurements, WorkerFrame)>();
    let (give_back, spare) = std::sync::mpsc::channel();
    let writer_labels = labels.clone();
    let writer = std::thread::Builder::new()
        .name("frames".to_owned())
        .spawn(move || write_frames(&from_worker, &give_back, &writer_labels, raw_log))
        .map_err(system("start a thread"))?;
    let mut usage = Usage::now();
    for second in 0_u32.. {
        let boundary = start + Duration::from_secs(u64::from(second) + 1);
        let last = tokio::select! {
            () = tokio::time::sleep_until(boundary.into()) => false,
            _ = &mut ended => true,
        };
        let fresh = spare.try_recv().unwrap_or_else(|_| Measurements::new(&labels));
        if let Some((measured, busy_users)) = recorder::swap(fresh)
            // The load's last second has its frame already; after it there may be nothing to tell.
            && !(last && measured.is_empty())
        {
            let (now, resident_bytes) = (Usage::now(), resident_bytes());
            let cpu_us = now.cpu_us.saturating_sub(usage.cpu_us);
            usage = now;
            let worker = WorkerFrame { busy_users, cpu_us, resident_bytes, ..WorkerFrame::default() };
            let _ = to_writer.send((second, measured, worker));
        }
        if last {
            break;
        }
    }
    if let Some(history) = history {
        // Before the agent hears that the load has ended.
        history.close().map_err(system("write the history for the audit"))?;
    }
    drop(to_writer);
    // The thread has at most one frame to write, and then ends because its channel is closed.
    match tokio::task::spawn_blocking(move || writer.join()).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(cause))) => Err(WorkerError::System { action: "write frames".to_owned(), cause }),
        _ => Err(WorkerError::Goose("the frame writer crashed".to_owned())),
    }
}

fn write_frames(
    from_worker: &std::sync::mpsc::Receiver<(u32, Measurements, WorkerFrame)>,
    give_back: &std::sync::mpsc::Sender<Measurements>,
    labels: &Labels,
    mut raw_log: Option<BufWriter<std::fs::File>>,
) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    for (second, mut measured, worker) in from_worker {
        write_report(&mut out, &WorkerReport::Frame(Box::new(measured.frame(second, labels, worker))));
        if let Some(raw_log) = &mut raw_log {
            measured.write_raw(labels, raw_log)?;
        }
        measured.clear();
        let _ = give_back.send(measured);
    }
    write_report(&mut out, &WorkerReport::Ended);
    Ok(())
}

/// What a run needs, planned ahead of its start.
struct Load {
    attack: Box<GooseAttack>,
    labels: Labels,
    schedule: Option<Schedule>,
    queues: Vec<flume::Sender<Instant>>,
}

impl Load {
    fn plan(
        assignment: &WorkerAssignment,
        start: watch::Receiver<Option<Instant>>,
        over: Arc<AtomicBool>,
        history: Option<Arc<History>>,
    ) -> Result<Self, WorkerError> {
        let host = kennel_model::experiment::host_and_port(&assignment.base_url)
            .and_then(|(host, port)| HeaderValue::try_from(format!("{host}:{port}")).ok())
            .ok_or_else(|| WorkerError::BadHost(assignment.base_url.clone()))?;
        let destination = Destination { addresses: assignment.addresses.clone(), host };
        let weights: Vec<u32> = assignment.scenarios.iter().map(|s| s.weight).collect();
        let schedule = Schedule::of(&assignment.load, &weights);
        let pools = split_users(&assignment.load, &weights);
        let users: usize = pools.iter().sum();
        let goose = |error: goose::GooseError| WorkerError::Goose(error.to_string());
        let mut attack = GooseAttack::initialize_with_config(configuration(assignment, users))
            .map_err(goose)?
            // Kennel's users bring their own connections; one shared client keeps Goose's from costing memory.
            .set_client_builder_without_cookies(GooseClientBuilder::new().without_cookies())
            .map_err(goose)?;
        let mut labels = Labels {
            run: assignment.run,
            agent: assignment.agent.clone(),
            requests: Vec::new(),
            scenarios: assignment.scenarios.iter().map(|s| s.name.clone()).collect(),
            open_model: schedule.is_some(),
        };
        let mut queues = Vec::new();
        for (at, (scenario, pool_users)) in assignment.scenarios.iter().zip(pools).enumerate() {
            let script = Script::of(scenario)?;
            let turns = match &assignment.load {
                LoadProfile::Open { patience, .. } => {
                    let (sender, queue) = flume::unbounded();
                    queues.push(sender);
                    Turns::Arrivals { queue, patience: patience.get() }
                }
                LoadProfile::Closed { ramp_up, think_time, .. } => Turns::Always {
                    think_time: think_time.get(),
                    stagger: ramp_up.get() / u32::try_from(pool_users.max(1)).unwrap_or(u32::MAX),
                },
            };
            let pool = Arc::new(Pool {
                scenario: at,
                first_name: labels.requests.len(),
                destination: destination.clone(),
                turns,
                seed: assignment.load.seed(),
                next_user: AtomicU32::new(0),
                start: start.clone(),
                history: history.clone(),
                over: over.clone(),
            });
            labels.requests.extend(script.requests());
            let make_user = move || User::new(pool.clone());
            attack = attack.register_scenario(goose_scenario(&scenario.name, pool_users, script, make_user));
        }
        Ok(Self { attack: Box::new(attack), labels, schedule, queues })
    }
}

fn configuration(assignment: &WorkerAssignment, users: usize) -> GooseConfiguration {
    let mut configuration = GooseConfiguration::default();
    configuration.host = Some(assignment.base_url.clone());
    configuration.users = Some(users);
    // All users at once: they wait for the start, and the closed model's ramp is theirs.
    configuration.increase_rate = Some("100000".to_owned());
    configuration.no_metrics = true;
    configuration.no_print_metrics = true;
    configuration.no_error_summary = true;
    configuration.no_telnet = true;
    configuration.no_websocket = true;
    configuration.quiet = 3;
    configuration
}

/// How many users each scenario gets: the open model's arrivals may pile up in any scenario, so equal pools; the closed
/// model's weights are shares of users. At least one each, and no more than asked in sum.
fn split_users(profile: &LoadProfile, weights: &[u32]) -> Vec<usize> {
    let total = profile.users() as usize;
    let shares: Vec<usize> = match profile {
        LoadProfile::Open { .. } => weights.iter().map(|_| 1).collect(),
        LoadProfile::Closed { .. } => weights.iter().map(|w| *w as usize).collect(),
    };
    let sum: usize = shares.iter().sum::<usize>().max(1);
    let mut users: Vec<usize> = shares.iter().map(|share| (total * share / sum).max(1)).collect();
    let count = users.len().max(1);
    let mut at = 0;
    while users.iter().sum::<usize>() < total {
        users[at % count] += 1;
        at += 1;
    }
    while users.iter().sum::<usize>() > total && users.iter().any(|u| *u > 1) {
        if let Some(largest) = users.iter_mut().max() {
            *largest -= 1;
        }
    }
    users
}

/// CPU time of this process so far.
struct Usage {
    cpu_us: u64,
}

impl Usage {
    fn now() -> Self {
        let micros = |time: TimeVal| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0);
        let cpu_us =
            getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| micros(usage.user_time()) + micros(usage.system_time()));
        Self { cpu_us }
    }
}

/// Resident memory of this process in bytes; 0 where /proc does not tell.
fn resident_bytes() -> u64 {
    let pages =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_scenario_gets_users_and_no_more_than_asked(users in 1_u32..2000, weights in prop::collection::vec(1_u32..100, 1..6), closed in any::<bool>()) {
            prop_assume!(users as usize >= weights.len());
            let profile = if closed {
                serde_json::json!({"model": "closed", "users": users, "duration": "1s"})
            } else {
                serde_json::json!({"model": "open", "stages": [], "max_users": users})
            };
            let split = split_users(&serde_json::from_value(profile).unwrap(), &weights);
            prop_assert_eq!(split.iter().sum::<usize>(), users as usize);
            prop_assert!(split.iter().all(|u| *u >= 1));
        }
    }
}
