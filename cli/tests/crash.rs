//! Whatever is killed, faults end: the watchdog undoes what a killed Kennel left, and a silent controller ends the lease.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::time::{Duration, Instant};

use kennel_agent::{Agent, AgentConfig};
use kennel_model::command::AgentFile;
use kennel_model::experiment::{self, Builtin, Surroundings, ValidExperiment};
use kennel_model::fault::FaultState;
use kennel_model::protocol::{Assignment, FromAgent, ToAgent};
use kennel_model::run::RunId;
use kennel_model::target::Target;
use nix::sys::signal::Signal;
use support::{HttpProcess, Kennel, children_of, eventually, get, process_state, program};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const THREE_FAULTS: &str = "
version: 1
name: three faults
target: reference-system
load: { model: open, stages: [{ rate: 40/s, duration: 90s }], max_users: 100 }
scenarios: [{ name: list polls, builtin: order-system/list-polls }]
faults:
  - { name: slow, kind: latency, selector: { link: eos-c -> eus }, parameters: { latency: 200ms }, start: 1s, duration: 80s }
  - { name: frozen, kind: pause, selector: { service: eps, instance: eps-1 }, start: 1s, duration: 80s }
  - { name: unlisted, kind: registry-gap, selector: { service: eos-c, instance: eos-c-2 }, start: 1s, duration: 80s }
";

#[test]
fn what_a_killed_kennel_left_is_undone_by_its_watchdog() {
    let kennel = Kennel::new();
    let system = kennel.system();
    let serving = kennel.serve();
    let id = serving.start(THREE_FAULTS);
    let path = format!("/runs/{id}");
    eventually("all three faults are active", Duration::from_secs(40), || {
        let run = serving.get(&path);
        assert_ne!(run["state"], "judged", "{run:#}");
        let faults = run["faults"].as_array()?;
        (faults.len() == 3 && faults.iter().all(|f| f["state"] == "active") && run["measured_s"].as_u64()? >= 3)
            .then_some(())
    });
    let registry = system.state["registry"].as_str().unwrap();
    let toxiproxy = system.state["toxiproxy"].as_str().unwrap();
    let frozen = system.pid_of("eps-1");
    let is_listed = || get(&format!("{registry}/svc/eos-c")).to_string().contains("eos-c-2");
    let toxics = || {
        let proxies = get(&format!("{toxiproxy}/proxies"));
        proxies.as_object().unwrap().values().map(|proxy| proxy["toxics"].as_array().unwrap().len()).sum::<usize>()
    };
    assert_eq!(process_state(frozen), Some('T'));
    assert!(!is_listed());
    assert!(toxics() > 0);
    let worker =
        children_of(serving.process.0.id()).into_iter().find(|pid| is_worker(*pid)).expect("a load worker is running");

    serving.process.signal(Signal::SIGKILL);
    let killed = Instant::now();
    eventually("load is off and all three faults are undone", Duration::from_secs(2), || {
        let worker_is_gone = matches!(process_state(worker), None | Some('Z'));
        (worker_is_gone && process_state(frozen) != Some('T') && toxics() == 0 && is_listed()).then_some(())
    });
    assert!(killed.elapsed() < Duration::from_secs(2));
    drop(serving);

    let again = kennel.serve();
    let run = again.get(&path);
    assert_eq!((&run["state"], &run["verdict"]), (&"judged".into(), &"error".into()), "{run:#}");
    assert!(run["reasons"][0].as_str().unwrap().contains("interrupted"), "{:#}", run["reasons"]);
    let seconds = again.get(&format!("{path}/series"))["series"]["all"].as_array().unwrap().len();
    assert!(seconds >= 3, "{seconds} seconds were kept");
}

fn is_worker(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| support::text(&line).contains("\0worker"))
}

struct Nothing;

impl Surroundings for Nothing {
    fn target(&self, name: &str) -> Result<Target, String> {
        Err(format!("no target {name}"))
    }
    fn builtins(&self) -> Vec<Builtin> {
        Vec::new()
    }
}

fn valid(yaml: &str) -> ValidExperiment {
    experiment::parse("test.yaml", yaml, &Nothing).unwrap_or_else(|problems| panic!("{problems}"))
}

/// An agent alone, with the test as its controller.
struct Alone {
    to_agent: mpsc::Sender<ToAgent>,
    from_agent: mpsc::Receiver<FromAgent>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Alone {
    fn start(dir: &std::path::Path) -> Self {
        let role = |name: &str| vec![program().into(), name.into()];
        let config = AgentConfig {
            name: "alone".into(),
            data_dir: dir.to_owned(),
            worker_command: role("worker"),
            watchdog_command: role("watchdog"),
            guard_command: role("guard"),
            file: AgentFile::default(),
        };
        let (to_agent, from_controller) = mpsc::channel(16);
        let (to_controller, from_agent) = mpsc::channel(1024);
        let shutdown = CancellationToken::new();
        let agent = Agent::new(config, from_controller, to_controller, shutdown.clone());
        let task = tokio::spawn(async move { agent.work().await.unwrap() });
        Self { to_agent, from_agent, shutdown, task }
    }

    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&FromAgent) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut seen = Vec::new();
        loop {
            match tokio::time::timeout_at(deadline, self.from_agent.recv()).await {
                Ok(Some(message)) => match wanted(&message) {
                    Some(value) => return value,
                    None if matches!(message, FromAgent::Frame(_)) => {}
                    None => seen.push(message),
                },
                _ => panic!("the agent did not say: {what}; it said {seen:#?}"),
            }
        }
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn assignment(experiment: ValidExperiment, lease: Duration) -> (RunId, ToAgent) {
    let run = RunId::new();
    (run, ToAgent::Prepare(Box::new(Assignment { run, experiment, lease, raw_log: None })))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_controller_falls_silent_stops_load_and_reverts() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    // A second process to freeze, so that the load itself goes on.
    let victim = HttpProcess::start();
    let pid = i32::try_from(victim.process.0.id()).unwrap();
    let services = format!(
        ", services: [{{ name: v, instances: [{{ name: v-1, process: {{ listening_port: {} }} }}] }}]",
        victim.port
    );
    let experiment = valid(&format!(
        "{{ version: 1, name: silence, target: {}, load: {{ model: open, stages: [{{ rate: 50/s, duration: 60s }}] }},
           scenarios: [{{ name: s, steps: [{{ name: version, path: /version }}] }}],
           faults: [{{ name: frozen, kind: pause, selector: {{ service: v, instance: v-1 }}, start: 200ms, duration: 50s }}] }}",
        server.target(&services)
    ));
    let lease = Duration::from_secs(2);
    let (run, prepare) = assignment(experiment, lease);
    let mut alone = Alone::start(kennel.dir());
    alone.to_agent.send(prepare).await.unwrap();
    alone.until("prepared", |m| matches!(m, FromAgent::Prepared { .. }).then_some(())).await;
    alone.to_agent.send(ToAgent::Start { run }).await.unwrap();
    let silent_since = tokio::time::Instant::now();
    alone
        .until("the fault is active", |m| {
            matches!(m, FromAgent::Fault(f) if f.state == FaultState::Active).then_some(())
        })
        .await;
    assert_eq!(process_state(pid), Some('T'));
    alone
        .until("the fault is reverted", |m| {
            matches!(m, FromAgent::Fault(f) if f.state == FaultState::Reverted).then_some(())
        })
        .await;
    let held = silent_since.elapsed();
    assert!(held >= lease, "the lease was cut short: {held:?}");
    assert_ne!(process_state(pid), Some('T'));
    eventually("the load worker is gone", Duration::from_secs(2), || {
        let workers = children_of(std::process::id())
            .into_iter()
            .filter(|pid| is_worker(*pid) && process_state(*pid) != Some('Z'));
        (workers.count() == 0).then_some(())
    });
    alone.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_target_does_not_declare_gets_no_packet() {
    let kennel = Kennel::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let undeclared = listener.local_addr().unwrap();
    let declared = support::free_port();
    let good = valid(&format!(
        "{{ version: 1, name: outside, target: {{ name: t, base_url: 'http://127.0.0.1:{declared}', allowed_hosts: ['127.0.0.1:{declared}'],
             health: ['http://127.0.0.1:{declared}/'], audits: [{{ name: books, url: 'http://127.0.0.1:{declared}/audit' }}],
             links: [{{ from: a, to: b, listen: '127.0.0.1:{declared}', upstream: '127.0.0.1:{declared}' }}] }},
           load: {{ model: open, stages: [{{ rate: 50/s, duration: 1s }}] }},
           scenarios: [{{ name: s, steps: [{{ name: r, path: / }}] }}], audits: [books] }}"
    ));
    let mut alone = Alone::start(kennel.dir());
    // What a validated experiment can never say, said over the protocol: every place where an address stands, one by one.
    for pointer in ["/target/base_url", "/target/links/0/upstream"] {
        let mut forged = serde_json::to_value(&good).unwrap();
        let place = forged.pointer_mut(pointer).unwrap();
        *place = place.as_str().unwrap().replace(&format!("127.0.0.1:{declared}"), &undeclared.to_string()).into();
        let (run, prepare) = assignment(serde_json::from_value(forged).unwrap(), Duration::from_secs(5));
        alone.to_agent.send(prepare).await.unwrap();
        let reason = alone.until("refused", |m| match m {
            FromAgent::Refused { run: refused, reason } if *refused == run => Some(reason.clone()),
            _ => None,
        });
        let reason = reason.await;
        assert!(
            reason.contains("outside target `t`") && reason.contains(&undeclared.to_string()),
            "{pointer}: {reason}"
        );
    }
    let untouched = listener.accept();
    assert!(
        untouched.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
        "a packet reached the undeclared host"
    );
    alone.end().await;
}

#[test]
fn a_dead_target_gives_errors_and_a_clear_verdict() {
    let kennel = Kennel::new();
    let port = support::free_port();
    let run = kennel.experiment(
        1,
        &format!(
            "{{ version: 1, name: dead, target: {{ name: t, base_url: 'http://127.0.0.1:{port}', allowed_hosts: ['127.0.0.1'], health: ['http://127.0.0.1:{port}/'] }},
               load: {{ model: open, stages: [{{ rate: 50/s, duration: 3s }}] }},
               scenarios: [{{ name: s, steps: [{{ name: r, path: / }}] }}], objectives: ['error_rate < 1%'] }}"
        ),
    );
    assert_eq!(run["verdict"], "failed");
    assert!(run["reasons"].to_string().contains("connection refused"), "{:#}", run["reasons"]);
    assert!(run["warnings"].to_string().contains("not healthy"), "{:#}", run["warnings"]);
}
