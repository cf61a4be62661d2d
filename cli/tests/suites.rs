//! Suites through the real command: real test tools and processes on the agent, a real server, real signals.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{HttpProcess, Kennel, Running, Serving, eventually, processes_mentioning, test_tools, text};

/// Longest that a suite here may take.
const OVER: Duration = Duration::from_secs(60);

const PYTEST: &str = "
import pytest

def test_adds():
    assert 1 + 1 == 2

@pytest.mark.parametrize('dish', ['soup', 'salad'])
def test_dish(dish):
    print('cooking', dish)
    assert dish != 'salad', f'no {dish} today'

@pytest.mark.skip(reason='closed on Mondays')
def test_monday():
    pass
";

const ROBOT: &str = "
*** Test Cases ***
Soup Is Served
    Log    hot
    Should Be Equal    soup    soup

Salad Is Served
    [Tags]    cold
    Should Be Equal    soup    salad    Nobody ordered soup
";

/// Fails until it was tried as often as its first argument says; the count lies beside it.
const FLAKY: &str = "
tries=$(( $(cat \"$2\" 2>/dev/null || echo 0) + 1 ))
echo \"$tries\" > \"$2\"
echo \"try $tries of $1\"
test \"$tries\" -ge \"$1\"
";

/// Starts a child in its group and one in a session of its own, says that it is ready, and hangs, deaf to polite signals.
const HANGS: &str = "
trap '' TERM
sleep 987001 &
setsid sleep 987002 &
echo ready
while true; do sleep 0.2; done
";

/// A Kennel whose agent has real test tools and a few scripts.
fn kennel() -> Kennel {
    let kennel = Kennel::new();
    let dir = kennel.dir().to_owned();
    kennel.file("tests/test_menu.py", PYTEST);
    kennel.file("tests/menu.robot", ROBOT);
    for (name, script) in [("flaky", FLAKY), ("hangs", HANGS), ("mark", "echo \"$1\" >> \"$2\"; sleep \"${3:-0}\"\n")] {
        kennel.file(&format!("scripts/{name}.sh"), script);
    }
    let tools = test_tools().join("python/bin");
    assert!(tools.join("pytest").exists(), "run ./test once: it installs the test tools");
    let script = |name: &str| {
        let script = dir.join(format!("scripts/{name}.sh"));
        format!("  - {{name: {name}, program: bash, arguments: ['{}']}}\n", script.display())
    };
    let config = format!(
        "version: 1
labels: [linux, menu]
commands:
  - name: pytest
    description: The menu's tests
    program: {tools}/pytest
    arguments: [-q, -p, 'no:cacheprovider', '--junitxml=${{output}}/junit.xml']
    directory: {dir}/tests
    environment: {{PYTHONDONTWRITEBYTECODE: '1'}}
    results: ['${{output}}/junit.xml']
  - name: robot
    program: {tools}/robot
    arguments: [--outputdir, '${{output}}']
    directory: {dir}/tests
    results: ['${{output}}/output.xml']
    artifacts: ['${{output}}/*.html']
  - {{name: greedy, program: python3, limits: {{file_size: 1MiB}}}}
  - {{name: hungry, program: python3, limits: {{memory: 256MiB, cpu_time: 1s}}}}
  - {{name: stale, program: 'true', directory: {dir}/tests, results: ['old-*.xml']}}
{}{}{}",
        script("flaky"),
        script("hangs"),
        script("mark"),
        tools = tools.display(),
        dir = dir.display(),
    );
    kennel.file("agent/agent.yaml", &config);
    kennel
}

/// Starts a suite and gives its run's id.
fn start(serving: &Serving, suite: &str) -> String {
    let (status, answer) = serving.post("/suite-runs", &json!({ "source": suite }));
    assert_eq!(status, 201, "{answer:#}");
    answer["id"].as_str().unwrap().to_owned()
}

fn until(serving: &Serving, run: &str, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    eventually(what, OVER, || {
        last = serving.get(&format!("/suite-runs/{run}"));
        reached(&last).then(|| last.clone())
    })
}

/// The run once it is over.
fn over(serving: &Serving, run: &str) -> Value {
    until(serving, run, "the suite is over", |run| run["state"] == "ended")
}

fn run(serving: &Serving, suite: &str) -> Value {
    over(serving, &start(serving, suite))
}

/// An attempt of a step by name.
fn step(run: &Value, name: &str, attempt: u64) -> Value {
    let steps = run["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["name"] == name && step["attempt"] == attempt);
    found.unwrap_or_else(|| panic!("no attempt {attempt} of {name}: {run:#}")).clone()
}

fn log(serving: &Serving, run: &Value, path: &str, attempt: u64) -> String {
    let id = run["id"].as_str().unwrap();
    support::get_text(&format!("{}/api/v1/suite-runs/{id}/log?path={path}&attempt={attempt}", serving.url))
}

/// What a run tested, as `class name outcome`.
fn tests(kennel: &Kennel, run: &Value) -> String {
    let id = run["id"].as_str().unwrap();
    kennel.expect(0, &["suite", "show", id, "--junit", "-"])
}

#[test]
fn pytest_and_robot_framework_show_test_by_test() {
    let kennel = kennel();
    let serving = kennel.serve();
    let suite = "
version: 1
name: menu
agents: [menu]
steps:
  - {name: unit, command: pytest, continue_on_failure: true}
  - {name: acceptance, command: robot, arguments: [menu.robot]}
";
    let run = run(&serving, suite);
    assert_eq!(run["verdict"], "failed", "{run:#}");
    let counts = json!({ "passed": 3, "failed": 2, "error": 0, "skipped": 1 });
    assert_eq!(run["tests"], counts, "{run:#}");
    let (unit, acceptance) = (step(&run, "unit", 1), step(&run, "acceptance", 1));
    assert_eq!(unit["agent"], "local");
    assert!(unit["message"].as_str().unwrap().starts_with("1 of 4 tests failed: test_menu.test_dish"), "{unit:#}");
    assert!(acceptance["message"].as_str().unwrap().contains("Nobody ordered soup: soup != salad"), "{acceptance:#}");
    assert!(log(&serving, &run, "steps/0", 1).contains("no salad today"));
    assert!(log(&serving, &run, "steps/1", 1).contains("Salad Is Served"));
    let xml = tests(&kennel, &run);
    for part in ["tests=\"6\"", "skipped=\"1\"", "failures=\"2\"", "test_adds", "Salad Is Served", "closed on Mondays"]
    {
        assert!(xml.contains(part), "{part} is missing:\n{xml}");
    }
    let shown = kennel.expect(1, &["suite", "show", run["id"].as_str().unwrap()]);
    assert!(shown.contains("Verdict: FAILED") && shown.contains("acceptance"), "{shown}");
}

#[test]
fn a_command_that_no_configuration_names_is_refused() {
    let kennel = kennel();
    let serving = kennel.serve();
    let suite = "{version: 1, name: x, steps: [{name: a, command: 'rm -rf /'}]}";
    let (status, answer) = serving.post("/suite-runs", &json!({ "source": suite }));
    assert_eq!(status, 422, "{answer:#}");
    let told = answer["problems"][0]["message"].as_str().unwrap();
    assert_eq!(told, "no agent for this suite offers a command `rm -rf /`");
    assert!(answer["problems"][0]["expected"].as_str().unwrap().contains("`pytest`"), "{answer:#}");
    let suite = "{version: 1, name: x, agents: [moon], steps: [{name: a, command: pytest}]}";
    let (status, answer) = serving.post("/suite-runs", &json!({ "source": suite }));
    assert_eq!(status, 422, "an agent that does not carry the label is not asked: {answer:#}");
    let agents = serving.get("/agents");
    assert_eq!(agents[0]["labels"], json!(["linux", "menu"]));
    assert_eq!(agents[0]["commands"][0], json!({ "name": "pytest", "description": "The menu's tests" }));
}

#[test]
fn a_step_that_takes_too_long_is_ended_with_everything_it_started() {
    let kennel = kennel();
    let serving = kennel.serve();
    let run = run(&serving, "{version: 1, name: x, steps: [{name: hang, command: hangs, timeout: 1s}]}");
    let hang = step(&run, "hang", 1);
    assert_eq!((&run["verdict"], &hang["outcome"]), (&json!("failed"), &json!("failed")), "{run:#}");
    assert!(hang["message"].as_str().unwrap().contains("not over after 1s"), "{hang:#}");
    assert!(log(&serving, &run, "steps/0", 1).contains("ready"));
    let script = kennel.dir().join("scripts/hangs.sh").display().to_string();
    assert_eq!(processes_mentioning(&script), [""; 0]);
    assert_eq!(own_sleepers(&kennel), [0; 0]);
}

/// Sleepers that a script of this Kennel started: they hold its output folder as working directory.
fn own_sleepers(kennel: &Kennel) -> Vec<i32> {
    let inside =
        |pid: i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(kennel.dir()));
    let sleepers = ["sleep 987001", "sleep 987002"].into_iter().flat_map(processes_mentioning);
    let pids = sleepers.filter_map(|line| line.split(' ').next()?.parse().ok());
    pids.filter(|pid| inside(*pid)).collect()
}

#[test]
fn killing_the_server_leaves_no_process_of_a_command() {
    let kennel = kennel();
    let serving = kennel.serve();
    let id = start(
        &serving,
        "{version: 1, name: x, steps: [{name: hang, command: hangs}], tear_down: [{name: w, wait: 1s}]}",
    );
    eventually("the command's children run", OVER, || (own_sleepers(&kennel).len() == 2).then_some(()));
    serving.process.signal(Signal::SIGKILL);
    let script = kennel.dir().join("scripts/hangs.sh").display().to_string();
    eventually("nothing of the command is left", Duration::from_secs(20), || {
        (own_sleepers(&kennel).is_empty() && processes_mentioning(&script).is_empty()).then_some(())
    });
    drop(serving);
    let serving = kennel.serve();
    let run = serving.get(&format!("/suite-runs/{id}"));
    assert_eq!((&run["state"], &run["verdict"]), (&json!("ended"), &json!("error")), "{run:#}");
    assert!(run["reasons"][0].as_str().unwrap().starts_with("interrupted"), "{run:#}");
    assert_eq!(step(&run, "hang", 1)["outcome"], "error");
    assert_eq!(step(&run, "w", 1)["outcome"], "skipped");
}

#[test]
fn a_failed_step_is_tried_again_and_every_attempt_is_shown() {
    let kennel = kennel();
    let serving = kennel.serve();
    let count = kennel.dir().join("count");
    let suite = format!(
        "{{version: 1, name: x, steps: [{{name: flaky, command: flaky, arguments: ['3', '{}'], retries: 4, retry_delay: 50ms}}]}}",
        count.display()
    );
    let run = run(&serving, &suite);
    assert_eq!(run["verdict"], "passed", "{run:#}");
    let outcomes: Vec<_> = run["steps"].as_array().unwrap().iter().map(|step| step["outcome"].clone()).collect();
    assert_eq!(outcomes, ["failed", "failed", "passed"]);
    assert!(log(&serving, &run, "steps/0", 2).contains("try 2 of 3"));
    let reasons = run["reasons"].to_string();
    assert!(reasons.contains("step “flaky” passed on attempt 3"), "{reasons}");
    // A run that failed passes as its own second attempt.
    std::fs::write(&count, "0").unwrap();
    let once = suite.replace("retries: 4, retry_delay: 50ms", "continue_on_failure: true").replace("'3'", "'2'");
    let file = kennel.file("once.yaml", &once);
    let failed: Value =
        serde_json::from_str(&kennel.expect(1, &["suite", "run", file.to_str().unwrap(), "--json"])).unwrap();
    let again: Value = serde_json::from_str(&kennel.expect(0, &["suite", "rerun", "--failed", "--json"])).unwrap();
    assert_eq!((&again["attempt"], &again["rerun_of"]), (&json!(2), &failed["id"]));
    assert!(again["reasons"][0].as_str().unwrap().starts_with("passed on attempt 2"), "{again:#}");
    let (status, _) =
        serving.post(&format!("/suite-runs/{}/rerun", again["id"].as_str().unwrap()), &json!({ "which": "failed" }));
    assert_eq!(status, 409, "nothing failed in it");
}

#[test]
fn parallel_steps_overlap_and_serial_ones_do_not() {
    let kennel = kennel();
    let serving = kennel.serve();
    let file = kennel.dir().join("marks");
    let mark = |name: &str, seconds: &str| {
        format!("{{name: {name}, command: mark, arguments: [{name}, '{}', '{seconds}']}}", file.display())
    };
    let suite = format!(
        "{{version: 1, name: x, steps: [{}, {{name: both, parallel: [{}, {}]}}, {}]}}",
        mark("first", "0"),
        mark("left", "1"),
        mark("right", "1"),
        mark("last", "0")
    );
    let run = run(&serving, &suite);
    assert_eq!(run["verdict"], "passed", "{run:#}");
    let moment = |name: &str, field: &str| step(&run, name, 1)[field].as_str().unwrap().to_owned();
    let starts_within = |a: &str, b: &str| {
        moment(a, "started_at") <= moment(b, "started_at") && moment(b, "started_at") < moment(a, "ended_at")
    };
    assert!(starts_within("left", "right") || starts_within("right", "left"), "{run:#}");
    assert!(moment("first", "ended_at") <= moment("both", "started_at"));
    assert!(moment("both", "ended_at") <= moment("last", "started_at"));
    let marks = std::fs::read_to_string(file).unwrap();
    assert_eq!((marks.lines().next(), marks.lines().last()), (Some("first"), Some("last")));
}

#[test]
fn a_cancelled_suite_still_cleans_up() {
    let kennel = kennel();
    let serving = kennel.serve();
    let file = kennel.dir().join("cleaned");
    let suite = format!(
        "{{version: 1, name: x, steps: [{{name: hang, command: hangs}}, {{name: never, wait: 1s}}], tear_down: [{{name: clean, command: mark, arguments: [clean, '{}']}}]}}",
        file.display()
    );
    let id = start(&serving, &suite);
    eventually("the command runs", OVER, || (own_sleepers(&kennel).len() == 2).then_some(()));
    let (status, _) = serving.post(&format!("/suite-runs/{id}/cancel"), &Value::Null);
    assert_eq!(status, 202);
    let run = over(&serving, &id);
    assert_eq!(run["verdict"], "halted", "{run:#}");
    assert_eq!(run["reasons"][0], "cancelled by local");
    assert_eq!(step(&run, "hang", 1)["message"], "cancelled");
    assert_eq!(step(&run, "never", 1)["outcome"], "skipped");
    assert_eq!(step(&run, "clean", 1)["outcome"], "passed");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "clean\n");
    assert_eq!(own_sleepers(&kennel), [0; 0]);
    let (status, _) = serving.post(&format!("/suite-runs/{id}/cancel"), &Value::Null);
    assert_eq!(status, 409);
}

#[test]
fn ctrl_c_cancels_a_suite_of_the_command_line() {
    let kennel = kennel();
    let file = kennel.dir().join("cleaned");
    let suite = kennel.file(
        "hang.yaml",
        &format!(
            "{{version: 1, name: x, steps: [{{name: hang, command: hangs}}], tear_down: [{{name: clean, command: mark, arguments: [clean, '{}']}}]}}",
            file.display()
        ),
    );
    let mut command = kennel.command(&["suite", "run", suite.to_str().unwrap()]);
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    eventually("the command runs", OVER, || (own_sleepers(&kennel).len() == 2).then_some(()));
    running.signal(Signal::SIGINT);
    assert_eq!(running.code(OVER), Some(130));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "clean\n");
    assert_eq!(own_sleepers(&kennel), [0; 0]);
    let shown = text(&kennel.run(&["suite", "show", "last"]).stdout);
    assert!(shown.contains("Verdict: HALTED") && shown.contains("cancelled by"), "{shown}");
}

#[test]
fn a_queued_suite_survives_a_restart_and_one_under_way_is_marked() {
    let (kennel, http) = (kennel(), HttpProcess::start());
    let serving = kennel.serve();
    let suite = |wait: &str| {
        format!(
            "{{version: 1, name: x, target: {}, steps: [{{name: w, wait: {wait}}}, {{name: up, check: {{url: /version}}}}]}}",
            http.target("")
        )
    };
    let first = start(&serving, &suite("10m"));
    until(&serving, &first, "the first runs", |run| run["state"] == "running");
    let second = start(&serving, &suite("10ms"));
    assert_eq!(serving.get(&format!("/suite-runs/{second}"))["state"], "queued", "one at a time on a target");
    serving.process.signal(Signal::SIGKILL);
    drop(serving);
    let serving = kennel.serve();
    assert_eq!(over(&serving, &first)["verdict"], "error");
    let second = over(&serving, &second);
    assert_eq!(second["verdict"], "passed", "{second:#}");
    assert_eq!(step(&second, "up", 1)["outcome"], "passed");
}

#[test]
fn limits_hold_a_command() {
    let kennel = kennel();
    let serving = kennel.serve();
    let suite = "
version: 1
name: limits
steps:
  - {name: writes, command: greedy, arguments: [-c, \"open('big', 'wb').write(bytes(2 << 20))\"], continue_on_failure: true}
  - {name: eats, command: hungry, arguments: [-c, 'bytearray(512 << 20)'], continue_on_failure: true}
  - {name: spins, command: hungry, arguments: [-c, 'while True: pass'], continue_on_failure: true}
  - {name: leaves, command: stale}
";
    kennel.file("tests/old-results.xml", "<testsuite><testcase classname='a' name='b'/></testsuite>");
    let run = run(&serving, suite);
    let told = |name: &str| step(&run, name, 1)["message"].as_str().unwrap().to_owned();
    assert!(
        log(&serving, &run, "steps/0", 1).contains("File too large") || told("writes").contains("SIGXFSZ"),
        "{run:#}"
    );
    assert!(log(&serving, &run, "steps/1", 1).contains("MemoryError"), "{run:#}");
    assert!(told("spins").contains("SIGKILL") || told("spins").contains("SIGXCPU"), "{run:#}");
    assert!(told("leaves").contains("it wrote no results"), "results of another day are not believed: {run:#}");
    assert_eq!(step(&run, "leaves", 1)["outcome"], "error");
}

#[test]
fn an_experiment_is_a_step_with_its_objectives_as_tests() {
    let (kennel, http) = (kennel(), HttpProcess::start());
    let serving = kennel.serve();
    let experiment = format!(
        "version: 1\nname: versions\ntarget: {}\nload: {{model: closed, users: 1, duration: 2s}}\nscenarios: [{{name: s, steps: [{{name: version, path: /version}}]}}]\nobjectives: [error_rate <= 0%, 'p50 < 1us']\n",
        http.target("")
    );
    let (status, answer) = serving.put("/files/experiment/versions", &json!({ "source": experiment }));
    assert!((200..300).contains(&status), "{answer:#}");
    let suite = format!(
        "
version: 1
name: load
target: {}
steps:
  - name: side by side
    parallel:
      - {{name: load, experiment: versions, with: {{/load/duration: 3s}}}}
      - {{name: probe, check: {{url: /version, expect: {{status: 200, contains: [version]}}}}}}
",
        http.target("")
    );
    let run = run(&serving, &suite);
    assert_eq!(run["verdict"], "failed", "{run:#}");
    let load = step(&run, "load", 1);
    let child = serving.get(&format!("/runs/{}", load["run"].as_str().unwrap()));
    assert_eq!((&child["planned_s"], &child["verdict"]), (&json!(3.0), &json!("failed")), "{child:#}");
    assert_eq!(step(&run, "probe", 1)["outcome"], "passed");
    let xml = tests(&kennel, &run);
    for part in ["classname=\"load\"", "error_rate &lt;= 0%", "p50 &lt; 1us", "name=\"probe\"", "failures=\"1\""] {
        assert!(xml.contains(part), "{part} is missing:\n{xml}");
    }
    assert!(log(&serving, &run, "steps/0/parallel/0", 1).contains("steady"), "the experiment's course is its log");
}

#[test]
fn a_suites_live_stream_tells_steps_and_logs() {
    let kennel = kennel();
    let serving = kennel.serve();
    let file = kennel.dir().join("m");
    let suite = format!(
        "{{version: 1, name: x, steps: [{{name: w, wait: 1s}}, {{name: m, command: mark, arguments: [hello, '{}']}}]}}",
        file.display()
    );
    let id = start(&serving, &suite);
    let stream = support::get_text(&format!("{}/api/v1/suite-runs/{id}/live", serving.url));
    let events: Vec<Value> =
        stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok()).collect();
    assert_eq!(events[0]["event"], "run");
    assert!(
        events.iter().any(|e| e["event"] == "log" && e["path"] == "steps/1" && e["text"].to_string().contains("hello")),
        "{stream}"
    );
    assert!(
        events.iter().any(|e| e["event"] == "step" && e["step"]["outcome"] == "passed" && e["step"]["name"] == "m")
    );
    assert_eq!(events.last().unwrap()["run"]["verdict"], "passed", "{stream}");
}

#[test]
fn the_library_and_bad_input_are_told_by_the_command() {
    let kennel = kennel();
    let list: Value = serde_json::from_str(&kennel.expect(0, &["suite", "list", "--json"])).unwrap();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|suite| suite["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["nightly", "smoke"]);
    let output = kennel.run(&["suite", "run", "no such"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("there is no suite `no such`; Kennel knows `smoke`, `nightly`"),
        "{output:?}"
    );
    let bad = kennel.file("bad.yaml", "version: 1\nname: x\nsteps: [{name: a}, {name: a, wait: soon}]\n");
    let out = kennel.expect(2, &["validate", bad.to_str().unwrap()]);
    for part in ["step `a` does nothing", "a second step named `a`", "`soon` is not valid here"] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    let good = kennel.file("good.yaml", "version: 1\nname: x\nsteps: [{name: a, wait: 1s}]\n");
    assert!(kennel.expect(0, &["validate", good.to_str().unwrap()]).contains("`x` is a valid suite of 1 step"));
    let output = kennel.run(&["suite", "run", good.to_str().unwrap(), "--set", "nothing=1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the suite has no such parameter"), "{}", text(&output.stderr));
    let agent = kennel.dir().join("agent/agent.yaml");
    assert!(kennel.expect(0, &["validate", agent.to_str().unwrap()]).contains("valid configuration of an agent"));
    std::fs::write(Path::new(&agent), "version: 1\ncommands: [{name: a}]\n").unwrap();
    let output = kennel.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("missing field `program`"), "{}", text(&output.stderr));
}
