//! Serves the pages with a scripted agent behind them, to look at them: `cargo run -p kennel-web --example look -- 8090`.
//!
//! Two finished runs of one experiment, one of another, a live run that goes on for five minutes, and forty runs of a
//! suite of tests.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "made for tests; not all of it is needed to look at pages")]
mod support;

use std::time::Duration;

use kennel_controller::{Caller, ImportRequest};
use kennel_model::api::{FileKind, LibraryEntry, MuteRequest, SaveFile, TestFilter};
use serde_json::json;
use support::scripted_agent::Script;
use support::{House, experiment};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where to look")]
async fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let empty = std::env::args().nth(2).is_some_and(|word| word == "empty");
    let library = [
        ("order-demo", "Two minutes of shoppers while the order service answers late and then dies."),
        ("registry-gap", "An instance vanishes from discovery though it lives: does traffic move on and come back?"),
        ("soak", "One quiet hour at a steady rate: leaks, drift and slow growth."),
    ];
    let library = library.map(|(name, description)| LibraryEntry {
        name: name.to_owned(),
        description: description.to_owned(),
        source: experiment(name, 120),
    });
    let script = Script {
        rush: 120,
        pace: Duration::from_secs(1),
        audit_examples: vec![
            "order 7f3a91c2: paid 12.50, unknown to shipping".to_owned(),
            "order 90bb12aa: paid 8.00, unknown to shipping".to_owned(),
        ],
    };
    let house = House::open(script, port, library.to_vec()).await;
    println!("http://{}", house.address);
    if !empty {
        keep_files(&house).await;
        tell_people(&house).await;
        run_suites(&house).await;
        import_results(&house).await;
        house.run(&experiment("order-demo", 120)).await;
        house.run(&experiment("<script>alert(1)</script>", 20)).await;
        house.run(&experiment("order-demo", 120)).await;
        // Its first two minutes come at once, then one second a second.
        house.start(&experiment("order-demo", 300)).await;
    }
    let _ = tokio::signal::ctrl_c().await;
    house.close().await;
}

/// A channel of each kind, with rules; one of them takes what it gets, the others cannot be reached.
async fn tell_people(house: &House) {
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = receiver.local_addr().expect("an address");
    let router = axum::Router::new().route("/hooks/kennel", axum::routing::post(|| async { "queued" }));
    tokio::spawn(async move { axum::serve(receiver, router).await.expect("serving") });
    let local = Caller::local();
    let webhook = json!({"kind": "webhook", "url": format!("http://{address}/hooks/kennel?team=shop"), "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    let email = json!({"kind": "email", "host": "127.0.0.1", "port": 9, "security": "plain", "from": "Kennel <kennel@example.org>", "to": ["ada@example.org", "shop-team@example.org"]});
    let slack = json!({"kind": "slack", "url": "http://127.0.0.1:9/services/T000/B000/secret"});
    for (name, destination, private) in
        [("ci", webhook, true), ("shop team by mail", email, true), ("#shop <script>", slack, false)]
    {
        let channel = json!({"name": name, "destination": destination, "allow_private_addresses": private});
        let channel = serde_json::from_value(channel).expect("a channel");
        house.controller.save_channel(&local, None, channel).await.expect("a valid channel");
    }
    let changes = json!(["first-failure", "recovery", "regression", "run-error"]);
    for rule in [
        json!({"channel": 1, "events": changes}),
        json!({"channel": 2, "events": ["every-failure"], "only": {"experiment": "order-demo"}}),
        json!({"channel": 3, "events": changes, "only": {"suite": "nightly", "branch": "main"}, "quiet_hours": {"from": "22:00", "to": "07:00", "zone": "Europe/Berlin"}}),
        json!({"channel": 2, "events": changes, "timing": {"when": "weekly", "day": "monday", "hour": 8, "zone": "Europe/Berlin"}}),
    ] {
        let rule = serde_json::from_value(rule).expect("a rule");
        house.controller.save_notification_rule(&local, None, rule).await.expect("a valid rule");
    }
    for channel in [1, 3] {
        house.controller.try_channel(&local, channel).await.expect("a channel in use");
    }
}

/// Runs a suite well, badly, and again; another goes on for ten minutes.
async fn run_suites(house: &House) {
    let suite = |command: &str, path: &str| {
        format!(
            "version: 1
name: checkout
description: What customers need on a busy evening, from the menu to the receipt
labels: [nightly, shop]
target: shop
parameters: [{{name: dish, default: soup, description: What is ordered}}]
set_up: [{{name: seed the kitchen, check: {{method: POST, url: /seed}}}}]
steps:
  - {{name: menu, check: {{url: '/menu/${{dish}}'}}}}
  - name: at the same time
    parallel:
      - {{name: acceptance, command: acceptance, arguments: [{command}], continue_on_failure: true}}
      - {{name: stock, check: {{url: {path}}}, retries: 2}}
  - {{name: report, command: pytest, arguments: [--report]}}
tear_down: [{{name: close the kitchen, check: {{method: POST, url: /close}}}}]
"
        )
    };
    for (command, path) in [("--all", "/stock"), ("--all", "/stock"), ("--all", "/broken"), ("--broken", "/broken")] {
        house.suite(&suite(command, path)).await;
    }
    house
        .start_suite("{version: 1, name: soak, steps: [{name: slow tests, command: pytest, arguments: [--slow]}]}")
        .await;
}

/// Forty runs of a suite of tests: one breaks and stays broken, one swings, one needs retries, one is muted, one comes late.
async fn import_results(house: &House) {
    let dir = tempfile::tempdir().expect("a directory");
    let (local, file) = (Caller::local(), dir.path().join("junit.xml"));
    for round in 0..40_u32 {
        let mut cases = String::new();
        let mut case = |class: &str, name: &str, ms: u32, inner: &str| {
            let seconds = f64::from(ms + round * 7 % 90) / 1000.0;
            cases.push_str(&format!(
                "<testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds}\">{inner}</testcase>"
            ));
        };
        let lost = format!(
            "<failure message=\"order {round} is lost: expected 200 but got 503\">Traceback (most recent call last):\n  File &quot;tests/test_orders.py&quot;, line 42, in test_pay\n    assert answer.status == 200\nAssertionError</failure><system-out>paying order {round}</system-out>"
        );
        for n in 0..12 {
            case("tests.test_catalogue", &format!("test_list_products[page-{n}]"), 20 + n * 9, "");
        }
        case("tests.test_orders", "test_pay[visa]", 140, if round > 33 { &lost } else { "" });
        case("tests.test_orders", "test_pay[invoice]", 160, if round > 35 { &lost } else { "" });
        case(
            "tests.test_orders",
            "test_ship",
            300,
            if round % 3 == 0 { "<failure message=\"timed out after 30 s\"/>" } else { "" },
        );
        case(
            "tests.test_orders",
            "test_refund",
            90,
            if round % 11 == 5 { "<flakyFailure message=\"refused\"/>" } else { "" },
        );
        case(
            "tests.test_mail &lt;script&gt;alert(1)&lt;/script&gt;",
            "test_receipt",
            60,
            if round > 10 { "<error message=\"no mail server\"/>" } else { "" },
        );
        case("tests.test_mail", "test_digest", 60, "<skipped message=\"not before the weekend\"/>");
        if round > 25 {
            case("tests.test_new", "test_gift_card", 2_000, "");
        }
        let document = format!("<testsuites><testsuite name=\"pytest\">{cases}</testsuite></testsuites>");
        std::fs::write(&file, document).expect("a file");
        let labels = vec!["main".to_owned(), format!("build {}", 100 + round)];
        let request = ImportRequest { suite: "nightly".to_owned(), labels, format: None, file: "junit.xml".to_owned() };
        house.controller.import_file(&local, &request, &file).await.expect("readable results");
    }
    let all = TestFilter { text: Some("test_receipt".to_owned()), limit: 1, ..TestFilter::default() };
    let (tests, _) = house.controller.tests(&all).await.expect("a readable store");
    let reason = "The mail server of the lab moves house, see issue 7".to_owned();
    let mute = MuteRequest { reason, owner: Some("ann".to_owned()), expires: "14d".to_owned() };
    house.controller.mute(&local, tests[0].test.id, &mute).await.expect("a test to mute");
}

/// Keeps an experiment in three versions, a target and a suite.
async fn keep_files(house: &House) {
    let save = async |kind: FileKind, source: String, message: &str| {
        let request = SaveFile { source, message: message.to_owned(), expected: None };
        house.controller.save_file(&Caller::local(), kind, None, request).await.expect("a valid file");
    };
    for (seconds, message) in [(60, "first try"), (120, "longer, to see the recovery"), (160, "")] {
        save(FileKind::Experiment, format!("# Asked for by support.\n{}", experiment("order-demo", seconds)), message)
            .await;
    }
    save(FileKind::Target, "name: store\nbase_url: http://127.0.0.1:9\nallowed_hosts: ['127.0.0.1']\nservices:\n  - name: db\n    instances: [{ name: db-1, process: { listening_port: 9, supervised: true } }]\nlinks: [{ from: web, to: db, listen: '127.0.0.1:1', upstream: '127.0.0.1:2' }]\nlimits: { max_rate: 100/s, faults: [latency, kill] }\n".to_owned(), "").await;
    save(FileKind::Suite, "version: 1\nname: nightly\ndescription: Every night before the delivery\ntarget: store\nsteps:\n  - { name: home answers, check: { url: /, expect: { status: 200, within: 2s } } }\n  - { name: load, experiment: order-demo, retries: 1 }\n  - name: together\n    parallel:\n      - { name: settle, wait: 10s }\n      - { name: look, check: { url: /health, expect: { contains: [ok] } } }\n".to_owned(), "").await;
}
