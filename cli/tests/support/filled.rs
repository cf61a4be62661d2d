//! A `kennel serve` with something on every page, filled over its own API.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "each test uses its own part")]

use std::time::Duration;

use serde_json::json;

use crate::browser::Browser;
use crate::support::{HttpProcess, Kennel, Serving, eventually, test_tools};

/// Routes of the site that answer with something other than a page.
pub const NOT_PAGES: &[&str] =
    &["/static/{digest}/{*path}", "/favicon.ico", "/audit-log.csv", "/login/sign-on", "/login/sign-on/back"];

/// Pages for those who are not logged in; whoever is in is led on to others.
pub const BEFORE_LOGIN: &[&str] = &["/login", "/setup", "/invitations/{secret}"];

/// The password of everybody in a full house who has one.
pub const PASSWORD: &str = "seven unrelated words";

/// The name, as it stands in addresses, under which a file of each kind is kept.
const FILE: &str = "kept%20%3Cb%3Efile%3C%2Fb%3E";

/// Keeps an experiment, a target and a suite, in two versions each.
fn keep_files(serving: &Serving, server: &HttpProcess) {
    let name = json!("kept <b>file</b>").to_string();
    let keep = |kind: &str, source: &str| {
        for source in [source.to_owned(), format!("{source}# a second thought\n")] {
            let (status, answer) = serving
                .put(&format!("/files/{kind}/{FILE}"), &json!({ "source": source, "message": "a <i>reason</i>" }));
            assert_eq!(status, 200, "{answer:#}");
        }
    };
    let port = server.port;
    let target = format!(
        "name: {name}\nbase_url: http://127.0.0.1:{port}\nallowed_hosts: ['127.0.0.1']\nservices: [{{ name: a, instances: [{{ name: a-1, process: {{ listening_port: {port}, supervised: true }} }}] }}]\nlinks: [{{ from: a, to: b, listen: '127.0.0.1:1', upstream: '127.0.0.1:2' }}]\nlimits: {{ faults: [latency, pause, kill] }}\n"
    );
    keep("target", &target);
    keep("experiment", &experiment(server, &name, "p99(home page) < 5s during steady"));
    keep(
        "suite",
        &format!(
            "version: 1\nname: {name}\ntarget: {name}\nparameters: [{{ name: path, default: / }}]\nsteps:\n  - {{ name: home, check: {{ url: '${{path}}', expect: {{ status: 200 }} }} }}\n  - {{ name: load, experiment: {name} }}\n  - {{ name: together, parallel: [{{ name: one, wait: 1s }}, {{ name: two, wait: 1s }}] }}\n"
        ),
    );
}

/// Tests of which one fails every other time and one has a hostile name.
const TESTS: &str = "
import pathlib, pytest
runs = pathlib.Path(__file__).with_name('runs')
count = len(runs.read_text()) if runs.exists() else 0
runs.write_text('x' * (count + 1))

class TestBasket:
    def test_is_empty_at_first(self):
        assert [] == []

    def test_adds_up(self):
        assert count % 2 == 1, f'expected 3 items, found {count}'

    @pytest.mark.parametrize('word', ['<script>alert(1)</script>', 'ü \" quoted', 'x' * 180])
    def test_keeps_names(self, word):
        assert word

class TestPayment:
    def test_refuses_expired_cards(self):
        raise ValueError('connect to 127.0.0.1:9: connection refused')

    @pytest.mark.skip(reason='the bank is closed')
    def test_asks_the_bank(self):
        pass
";

/// What the agent offers: pytest, as `./test` installs it.
fn offer_pytest(kennel: &Kennel) {
    kennel.file("shop/test_shop.py", TESTS);
    let python = test_tools().join("python/bin/python");
    assert!(python.exists(), "run ./test once: it installs the test tools");
    let config = json!({
        "version": 1,
        "labels": ["berlin"],
        "commands": [{
            "name": "unit tests",
            "description": "pytest over the shop",
            "program": python,
            "arguments": ["-m", "pytest", "-p", "no:cacheprovider", "--junitxml=${output}/junit.xml", kennel.dir().join("shop")],
            "results": ["junit.xml"],
            "artifacts": ["*.xml"],
        }],
    });
    kennel.file("agent/agent.yaml", &config.to_string());
}

/// Keeps suites and runs them: three times to their end, then one that goes on and one that waits behind it.
fn run_suites(serving: &Serving, server: &HttpProcess) -> (Vec<String>, Vec<String>) {
    let target = server.target("");
    let keep = |name: &str, steps: &str| {
        let source = format!(
            "version: 1\nname: {name}\ndescription: What a customer must be able to do, whatever else happens\nlabels: [nightly, shop]\ntarget: {target}\nparameters: [{{ name: path, default: /version, description: The page to begin with }}]\nsteps:\n{steps}"
        );
        let (status, answer) = serving.put(&format!("/files/suite/{name}"), &json!({ "source": source }));
        assert_eq!(status, 200, "{answer:#}");
    };
    keep(
        "checkout",
        "  - { name: the shop answers, check: { url: '${path}', expect: { status: 200, within: 5s } } }
  - { name: the basket opens, check: { url: /basket }, retries: 1, continue_on_failure: true }
  - { name: unit tests, command: unit tests, continue_on_failure: true }
  - { name: at the same time, parallel: [{ name: a moment, wait: 100ms }, { name: search answers, check: { url: /proxies } }] }
",
    );
    keep("long-watch", "  - { name: the shop answers, check: { url: '${path}' } }\n  - { name: watch, wait: 20m }\n");
    let start = |suite: &str| {
        let (status, answer) = serving.post("/suite-runs", &json!({ "suite": suite, "labels": ["release 7"] }));
        assert_eq!(status, 201, "{answer:#}");
        answer["id"].as_str().unwrap().to_owned()
    };
    let over: Vec<String> = (0..3)
        .map(|_| {
            let id = start("checkout");
            eventually("the suite's run is over", Duration::from_secs(90), || {
                (serving.get(&format!("/suite-runs/{id}"))["state"] == "ended").then_some(())
            });
            id
        })
        .collect();
    (over, vec![start("long-watch"), start("long-watch")])
}

/// Channels of each kind, rules, and deliveries that failed and that arrived.
fn tell_people(serving: &Serving, server: &HttpProcess) {
    let make = |path: &str, body: &serde_json::Value| {
        let (status, answer) = serving.post(path, body);
        assert!((200..300).contains(&status), "{path}: {answer:#}");
        answer
    };
    let hook = format!("http://127.0.0.1:{}/version", server.port);
    let channel = |name: &str, destination: serde_json::Value| {
        let body = json!({ "name": name, "destination": destination, "allow_private_addresses": true });
        make("/notifications/channels", &body)["id"].as_i64().unwrap()
    };
    let ops = channel(
        "ops <b>bell</b>",
        json!({ "kind": "webhook", "url": hook, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }),
    );
    let gone = channel("nobody listens", json!({ "kind": "slack", "url": "http://127.0.0.1:9/services/T/B/x" }));
    for events in [json!(["first-failure", "recovery"]), json!(["every-failure"])] {
        make("/notifications/rules", &json!({ "channel": ops, "events": events, "only": { "suite": "checkout" } }));
    }
    for id in [ops, gone] {
        let (status, _) = serving.post(&format!("/notifications/channels/{id}/test"), &json!({}));
        assert!(status < 500, "{status}");
    }
}

/// Schedules of which one is paused, and a calendar.
fn plan(serving: &Serving) {
    let make = |path: &str, body: &serde_json::Value| {
        let (status, answer) = serving.post(path, body);
        assert!((200..300).contains(&status), "{path}: {answer:#}");
        answer
    };
    let weekend = json!({ "name": "release weekend", "zone": "Europe/Berlin", "windows": [{ "name": "the release", "type": "once", "from": "2030-03-02T00:00", "to": "2030-03-04T00:00" }] });
    make("/calendars", &weekend);
    for (name, cron, zone) in [("every night", "30 2 * * *", "Europe/Berlin"), ("<i>hourly</i>", "0 * * * *", "UTC")] {
        make(
            "/schedules",
            &json!({ "name": name, "kind": "suite", "subject": "checkout", "cron": cron, "zone": zone }),
        );
    }
}

/// A running house with data, and what its addresses need to be named.
pub struct Filled {
    serving: Serving,
    kennel: Kennel,
    server: HttpProcess,
    runs: Vec<String>,
    /// Runs of suites that are over.
    suite_runs: Vec<String>,
    /// One that is under way, and one that waits.
    live: Vec<String>,
}

/// Lets the browser in as an administrator; while there are no accounts everybody is in.
pub async fn log_in(serving: &Serving, browser: &Browser) {
    if serving.get("/me")["open"] == false {
        log_in_as(serving, browser, "ada").await;
    }
}

/// Logs the browser in.
pub async fn log_in_as(serving: &Serving, browser: &Browser, name: &str) {
    browser.client.delete_all_cookies().await.unwrap();
    browser.client.goto(&format!("{}/login", serving.url)).await.unwrap();
    browser.fill("#name", name).await;
    browser.fill("#password", PASSWORD).await;
    browser.click(".login form .button").await;
    browser.until("the login", Duration::from_secs(20), "return document.querySelector('.who a') !== null").await;
}

/// Adds people of each role and state, and tokens of each kind; from then on everybody has to log in.
pub fn add_people(serving: &Serving) {
    let make = |path: &str, body: &serde_json::Value| {
        let (status, answer) = serving.post(path, body);
        assert_eq!(status, 201, "{path}: {answer:#}");
        answer
    };
    for (name, role) in
        [("ada", "admin"), ("vic", "viewer"), ("a-person-with-quite-a-long-name@example.org", "operator")]
    {
        make("/people", &json!({ "name": name, "role": role, "password": PASSWORD }));
    }
    for name in ["bob", "zoe"] {
        make("/people", &json!({ "name": name, "role": "operator" }));
    }
    assert_eq!(serving.ask("PATCH", "/people/zoe", Some(&json!({ "disabled": true }))).0, 200);
    for (name, scope, days) in [("<b>nightly</b> import", "import", 30), ("wallboard", "read", 0), ("old", "all", 1)] {
        let made = make("/tokens", &json!({ "name": name, "role": "operator", "scope": scope, "days": days }));
        if name == "old" {
            let id = made["id"].as_str().unwrap();
            assert_eq!(serving.ask("DELETE", &format!("/tokens/{id}"), None).0, 200);
        }
    }
}

/// The address of a page in a house that holds nothing yet.
pub fn address_when_empty(route: &str) -> String {
    match route {
        "/compare" => "/compare?a=1&b=2".to_owned(),
        _ => route.to_owned(),
    }
}

fn experiment(server: &HttpProcess, name: &str, objective: &str) -> String {
    let services = format!(
        ", services: [{{ name: http, instances: [{{ name: http-1, process: {{ listening_port: {} }} }}] }}]",
        server.port
    );
    format!(
        "version: 1
name: {name}
description: Whether customers notice when the shop freezes for a moment
target: {}
load: {{ model: open, stages: [{{ rate: 40/s, duration: 4s }}] }}
scenarios: [{{ name: visitors, steps: [{{ name: home page, path: /version }}, {{ name: search, path: /proxies }}] }}]
faults: [{{ name: shop freezes, kind: pause, selector: {{ service: http, instance: http-1 }}, start: 1s, duration: 1s }}]
objectives: ['{objective}', 'error_rate < 1%']
guards: ['error_rate < 90% over 3s']
",
        server.target(&services)
    )
}

impl Filled {
    /// With something of everything.
    pub fn new() -> Self {
        let mut filled = Self::with_runs();
        keep_files(&filled.serving, &filled.server);
        tell_people(&filled.serving, &filled.server);
        (filled.suite_runs, filled.live) = run_suites(&filled.serving, &filled.server);
        plan(&filled.serving);
        add_people(&filled.serving);
        filled
    }

    /// With a few runs of experiments and nothing else, which is faster.
    pub fn with_runs() -> Self {
        let (kennel, server) = (Kennel::new(), HttpProcess::start());
        offer_pytest(&kennel);
        let serving = kennel.serve();
        let mut runs = Vec::new();
        for (name, objective) in
            [("frozen shop", "p99 < 5s"), ("frozen shop", "p50 < 1us"), ("\"><script>alert(1)</script>", "p99 < 5s")]
        {
            let quoted = serde_json::to_string(name).unwrap();
            runs.push(serving.start(&experiment(&server, &quoted, objective)));
        }
        for id in &runs {
            eventually("the run is judged", Duration::from_secs(90), || {
                (serving.get(&format!("/runs/{id}"))["state"] == "judged").then_some(())
            });
        }
        Self { serving, kennel, server, runs, suite_runs: Vec::new(), live: Vec::new() }
    }

    pub fn url(&self) -> &str {
        &self.serving.url
    }

    pub async fn log_in(&self, browser: &Browser) {
        log_in(&self.serving, browser).await;
    }

    /// Names and addresses of the pages that are made to be printed.
    pub fn reports(&self) -> Vec<(String, String)> {
        let run = ("run".to_owned(), format!("/runs/{}", self.runs[0]));
        vec![run, ("suite-run".to_owned(), format!("/suite-runs/{}", self.suite_runs[2]))]
    }

    /// The number of a test that fails.
    fn failing_test(&self) -> String {
        let tests = self.serving.get("/tests?outcome=failed");
        let tests = tests.as_array().or_else(|| tests["tests"].as_array()).unwrap_or_else(|| panic!("{tests:#}"));
        let test = tests.iter().find(|test| test["outcome"] == "failed").unwrap_or_else(|| panic!("{tests:#?}"));
        test["test"]["id"].as_i64().or_else(|| test["id"].as_i64()).unwrap_or_else(|| panic!("{test:#}")).to_string()
    }

    /// The id of the first thing in a list of the API.
    fn first(&self, path: &str) -> String {
        let list = self.serving.get(path);
        let first = list
            .as_array()
            .or_else(|| list.as_object()?.values().find_map(|value| value.as_array()))
            .unwrap_or_else(|| panic!("{path}: {list:#}"))[0]
            .clone();
        first["id"].as_str().map_or_else(|| first["id"].to_string(), str::to_owned)
    }

    /// Names and addresses of the pages that a route leads to; several where it has several faces.
    pub fn addresses(&self, route: &str) -> Vec<(String, String)> {
        let run = &self.runs[0];
        let one = |name: &'static str| vec![(name, route.to_owned())];
        let pages: Vec<(&str, String)> = match route {
            "/" => vec![("runs", "/".to_owned())],
            "/runs/new" => vec![("run-new", "/runs/new".to_owned()), ("run-again", format!("/runs/new?run={run}"))],
            "/runs/{id}" => vec![("run", format!("/runs/{run}")), ("run-failed", format!("/runs/{}", self.runs[1]))],
            "/experiments" => vec![("experiments", "/experiments".to_owned())],
            "/experiments/new" => vec![
                ("experiment-new", "/experiments/new".to_owned()),
                ("experiment-template", "/experiments/new?template=demo".to_owned()),
            ],
            "/experiments/{name}/edit" => vec![("experiment-edit", format!("/experiments/{FILE}/edit"))],
            "/experiments/{name}/history" => vec![("experiment-history", format!("/experiments/{FILE}/history"))],
            "/targets" => vec![("targets", "/targets".to_owned())],
            "/targets/new" => vec![("target-new", "/targets/new".to_owned())],
            "/targets/{name}/edit" => vec![("target-edit", format!("/targets/{FILE}/edit"))],
            "/targets/{name}/history" => vec![("target-history", format!("/targets/{FILE}/history"))],
            "/suites/new" => vec![("suite-new", "/suites/new".to_owned())],
            "/suites/{name}/edit" => vec![("suite-edit", format!("/suites/{FILE}/edit"))],
            "/suites/{name}/history" => vec![("suite-history", format!("/suites/{FILE}/history"))],
            "/notifications" => one("notifications"),
            "/notifications/digest" => one("digest"),
            "/notifications/channels/new" => vec![
                ("channel-webhook", "/notifications/channels/new?kind=webhook".to_owned()),
                ("channel-email", "/notifications/channels/new?kind=email".to_owned()),
            ],
            "/notifications/channels/{id}" => vec![("channel", "/notifications/channels/1".to_owned())],
            "/notifications/rules/new" => one("rule-new"),
            "/notifications/rules/{id}" => vec![("rule", "/notifications/rules/1".to_owned())],
            "/notifications/deliveries/{id}" => {
                vec![("delivery", format!("/notifications/deliveries/{}", self.first("/notifications/deliveries")))]
            }
            "/suites" => {
                vec![("suites", "/suites".to_owned()), ("suites-none", "/suites?q=nothing+like+this".to_owned())]
            }
            "/suites/{name}" => {
                vec![("suite", "/suites/checkout".to_owned()), ("suite-file", format!("/suites/{FILE}"))]
            }
            "/suites/{name}/results" => vec![("suite-results", "/suites/checkout/results".to_owned())],
            "/suite-runs/{id}" => vec![
                ("suite-run", format!("/suite-runs/{}", self.suite_runs[2])),
                ("suite-run-live", format!("/suite-runs/{}", self.live[0])),
                ("suite-run-waiting", format!("/suite-runs/{}", self.live[1])),
            ],
            "/suite-runs/{id}/log" => {
                vec![("log", format!("/suite-runs/{}/log?path=steps/1&attempt=2", self.suite_runs[2]))]
            }
            "/suite-runs/{id}/artifacts" => {
                vec![("artifacts", format!("/suite-runs/{}/artifacts", self.suite_runs[2]))]
            }
            "/suite-runs/{run}/tests/{id}" => {
                vec![("attempt", format!("/suite-runs/{}/tests/{}", self.suite_runs[2], self.failing_test()))]
            }
            "/settings/storage" => one("storage"),
            "/failing" => {
                vec![("failing", "/failing".to_owned()), ("failing-suite", "/failing?suite=checkout".to_owned())]
            }
            "/import" => one("import"),
            "/tests" => vec![("tests", "/tests".to_owned()), ("tests-none", "/tests?q=nothing+like+this".to_owned())],
            "/muted" => one("muted"),
            "/tests/{id}" => vec![("test", format!("/tests/{}", self.failing_test()))],
            "/audit-log" => one("audit-log"),
            "/settings/sign-on" => one("sign-on"),
            "/account" => one("account"),
            "/tokens" => one("tokens"),
            "/people" => one("people"),
            "/settings" => one("settings"),
            "/schedules" => one("schedules"),
            "/schedules/calendar" => one("schedules-month"),
            "/schedules/{id}" => vec![("schedule", format!("/schedules/{}", self.first("/schedules")))],
            "/schedules/{id}/edit" => vec![("schedule-edit", format!("/schedules/{}/edit", self.first("/schedules")))],
            "/calendars/new" => one("calendar-new"),
            "/calendars/{name}" => vec![("calendar", "/calendars/release%20weekend".to_owned())],
            "/calendars" => one("calendars"),
            "/queue" => one("queue"),
            "/schedules/new" => vec![("schedule-new", "/schedules/new?suite=checkout".to_owned())],
            "/compare" => vec![("compare", format!("/compare?a={run}&b={}", self.runs[1]))],
            _ => Vec::new(),
        };
        pages.into_iter().map(|(name, address)| (name.to_owned(), address)).collect()
    }
}
