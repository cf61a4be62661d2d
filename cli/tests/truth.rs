//! The numbers are true: the rate is the one asked for, percentiles are those of the single requests, a stall shows, and
//! a latency fault adds what it says. These tests have the machine to themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{HttpProcess, Kennel, eventually, free_port};

fn constant_load(target: &str, rate: u32, seconds: u32, more: &str) -> String {
    format!(
        "version: 1
name: constant
target: {target}
load: {{ model: open, stages: [{{ rate: {rate}/s, duration: {seconds}s }}], max_users: 1500 }}
scenarios: [{{ name: version, steps: [{{ name: version, path: /version }}] }}]
{more}"
    )
}

fn row<'a>(run: &'a Value, request: &str) -> &'a Value {
    let rows = run["requests"].as_array().unwrap();
    rows.iter()
        .find(|row| row["request"] == request && row["phase"].is_null())
        .unwrap_or_else(|| panic!("no row {request}: {run:#}"))
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let rank = (p / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.max(1) - 1]
}

#[test]
fn a_constant_rate_is_kept_and_percentiles_are_those_of_the_raw_log() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    let file = kennel.file("constant.yaml", &constant_load(&server.target(""), 1000, 8, ""));
    let raw = kennel.dir().join("raw.csv");
    let arguments = ["run", file.to_str().unwrap(), "--json", "--raw-log", raw.to_str().unwrap()];
    let run: Value = serde_json::from_str(&kennel.expect(0, &arguments)).unwrap();

    let arrivals = &run["arrivals"][0];
    assert_eq!(
        (&arrivals["scheduled"], &arrivals["started"], &arrivals["dropped"]),
        (&8000.into(), &8000.into(), &0.into())
    );
    let whole = row(&run, "version");
    assert_eq!(whole["count"], 8000, "{whole:#}");
    let rate = whole["rate"].as_f64().unwrap();
    assert!((995.0..=1005.0).contains(&rate), "asked for 1000/s, achieved {rate}/s");

    let raw = std::fs::read_to_string(raw).unwrap();
    for (column, times) in [(2, &whole["response"]), (3, &whole["service"])] {
        let mut exact: Vec<f64> = raw
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(column).unwrap().parse::<f64>().unwrap() / 1e3)
            .collect();
        assert_eq!(exact.len(), 8000);
        exact.sort_by(f64::total_cmp);
        for (name, p) in [("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("max", 100.0)] {
            let (exact, told) = (percentile(&exact, p), times[name].as_f64().unwrap());
            // 0.2 %, and half a microsecond of rounding.
            assert!(
                (told - exact).abs() <= exact * 0.002 + 0.0005,
                "{name}: {told} ms from frames, {exact} ms from the raw log"
            );
        }
    }
}

/// The target stands still for a second.
fn stall(server: &HttpProcess) {
    server.process.signal(Signal::SIGSTOP);
    let end = Instant::now() + Duration::from_secs(1);
    // Parking may end early: a wake-up may be left over from a thread that was joined.
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    server.process.signal(Signal::SIGCONT);
}

#[test]
fn a_stall_of_the_target_shows_in_the_percentiles() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    let serving = kennel.serve();
    let id = serving.start(&constant_load(&server.target(""), 1000, 10, ""));
    eventually("the load is on", Duration::from_secs(30), || {
        (serving.get(&format!("/runs/{id}"))["measured_s"].as_u64()? >= 3).then_some(())
    });
    stall(&server);
    let run = eventually("the run is judged", Duration::from_secs(40), || {
        let run = serving.get(&format!("/runs/{id}"));
        (run["state"] == "judged").then_some(run)
    });
    let whole = row(&run, "version");
    let p99 = whole["response"]["p99"].as_f64().unwrap();
    assert!(p99 >= 850.0, "a stall of 1 s in 10 s at a constant rate reads as p99 = {p99} ms");
    assert_eq!(whole["count"], 10_000, "no arrival was left out: {whole:#}");
}

#[test]
fn arrivals_that_find_no_user_are_counted_not_forgotten() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    let serving = kennel.serve();
    let load =
        constant_load(&server.target(""), 200, 4, "").replace("max_users: 1500", "max_users: 3, patience: 100ms");
    let id = serving.start(&load);
    let run = || serving.get(&format!("/runs/{id}"));
    eventually("the load is on", Duration::from_secs(30), || (run()["measured_s"].as_u64()? >= 1).then_some(()));
    stall(&server);
    let run =
        eventually("the run is judged", Duration::from_secs(40), || Some(run()).filter(|run| run["state"] == "judged"));
    let number = |name: &str| run["arrivals"][0][name].as_u64().unwrap();
    assert_eq!(number("scheduled"), 800, "{run:#}");
    assert!(number("dropped") > 100, "three users cannot take what 200/s bring while the target stands still");
    assert_eq!(number("started") + number("dropped"), number("scheduled"));
    assert_eq!(row(&run, "version")["count"].as_u64().unwrap(), number("started"));
}

#[test]
fn a_latency_fault_adds_what_it_says_on_its_link_and_nothing_on_others() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    let (faulted, other) = (free_port(), free_port());
    let link = |to: &str, port: u16| {
        format!("{{ from: load, to: {to}, listen: '127.0.0.1:{port}', upstream: '127.0.0.1:{}' }}", server.port)
    };
    let target = format!(
        "{{ name: linked, base_url: 'http://127.0.0.1:{faulted}', allowed_hosts: ['127.0.0.1'], links: [{}, {}], limits: {{ faults: [latency] }} }}",
        link("first", faulted),
        link("second", other)
    );
    let faults = "faults: [{ name: slow, kind: latency, selector: { link: load -> first }, parameters: { latency: 200ms }, start: 3s, duration: 4s }]";
    let serving = kennel.serve();
    let id = serving.start(&constant_load(&target, 200, 9, faults));
    let state = |id: &str| serving.get(&format!("/runs/{id}"));
    eventually("the fault is active", Duration::from_secs(30), || {
        (state(&id)["faults"][0]["state"] == "active").then_some(())
    });
    let mut elsewhere: Vec<f64> = (0..50)
        .map(|_| {
            let start = std::time::Instant::now();
            support::get(&format!("http://127.0.0.1:{other}/version"));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    assert_eq!(state(&id)["faults"][0]["state"], "active", "the other link was measured while the fault was active");
    let run = eventually("the run is judged", Duration::from_secs(40), || {
        Some(state(&id)).filter(|run| run["state"] == "judged")
    });
    let effect = &run["faults"][0]["effect"];
    let (before, during) = (effect["p50_before"].as_f64().unwrap(), effect["p50_during"].as_f64().unwrap());
    let added = during - before;
    assert!(
        (198.0..=202.0).contains(&added),
        "200 ms of latency added {added} ms at the median ({before} -> {during})"
    );
    elsewhere.sort_by(f64::total_cmp);
    assert!(percentile(&elsewhere, 50.0) < 100.0, "the other link was slowed down too: {elsewhere:?}");
    assert_eq!(run["faults"][0]["state"], "reverted");
}
