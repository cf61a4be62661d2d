//! Muted tests with real results: they run and are counted, fail nothing until the mute expires, and stand in the digest
//! that a real receiver gets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/database.rs"]
mod database;
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use database::Database;
use jiff::{Timestamp, ToSpan as _};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Kennel, Serving, eventually, test_tools, text};

const OVER: Duration = Duration::from_secs(60);

const TESTS: &str = "
def test_soup():
    pass

def test_salad():
    assert 'salad' == 'soup', 'no salad today'
";

/// A Kennel with a suite `menu` of which one pytest test fails.
fn kennel() -> Kennel {
    let kennel = Kennel::new();
    let dir = kennel.dir().display().to_string();
    kennel.file("tests/test_menu.py", TESTS);
    let pytest = test_tools().join("python/bin/pytest");
    assert!(pytest.exists(), "run ./test once: it installs the test tools");
    let config = format!(
        "version: 1
commands:
  - name: pytest
    program: {}
    arguments: [-q, -p, 'no:cacheprovider', '--junitxml=${{output}}/junit.xml']
    directory: {dir}/tests
    environment: {{PYTHONDONTWRITEBYTECODE: '1'}}
    results: ['${{output}}/junit.xml']
",
        pytest.display()
    );
    kennel.file("agent/agent.yaml", &config);
    let suite = kennel.file("menu.yaml", "{version: 1, name: menu, steps: [{name: unit, command: pytest}]}");
    kennel.expect(0, &["file", "put", "suite", "menu", suite.to_str().unwrap()]);
    kennel
}

fn run(kennel: &Kennel, code: i32) -> Value {
    serde_json::from_str(&kennel.expect(code, &["suite", "run", "menu", "--json"])).unwrap()
}

fn failing_test(serving: &Serving) -> i64 {
    let failing = serving.get("/tests?failing=true");
    failing["tests"][0]["id"].as_i64().unwrap_or_else(|| panic!("{failing:#}"))
}

fn mute(serving: &Serving, test: i64, expires: &str) {
    let request = json!({ "reason": "salad is out of season", "owner": "kitchen", "expires": expires });
    let (status, answer) = serving.put(&format!("/tests/{test}/mute"), &request);
    assert!((200..300).contains(&status), "{answer:#}");
}

#[test]
fn a_muted_test_is_counted_and_fails_nothing_until_its_mute_expires() {
    let kennel = kennel();
    let serving = kennel.serve();
    assert_eq!(run(&kennel, 1)["verdict"], "failed");
    let test = failing_test(&serving);
    mute(&serving, test, "7d");

    let muted = run(&kennel, 0);
    assert_eq!(muted["verdict"], "passed", "{muted:#}");
    assert_eq!(muted["tests"], json!({ "passed": 1, "failed": 1, "error": 0, "skipped": 0 }), "it is still counted");
    assert!(muted["reasons"].to_string().contains("1 test that is muted failed"), "{muted:#}");
    let shown = kennel.expect(0, &["suite", "show", "last"]);
    for part in ["1 passed, 1 failed", "Verdict: PASSED", "1 test that is muted failed"] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    let xml = kennel.expect(0, &["suite", "show", "last", "--junit", "-"]);
    assert!(xml.contains("failures=\"1\""), "others get it as it was:\n{xml}");
    let listed = serving.get("/tests?muted=true");
    assert_eq!(
        (&listed["tests"][0]["id"], &listed["tests"][0]["mute"]["owner"]),
        (&json!(test), &json!("kitchen")),
        "{listed:#}"
    );

    let soon = Timestamp::now().checked_add(1.second()).unwrap().to_string();
    mute(&serving, test, &soon);
    eventually("the mute is over", OVER, || (serving.get("/tests?muted=true")["total"] == 0).then_some(()));
    let failed = run(&kennel, 1);
    assert_eq!(failed["verdict"], "failed", "{failed:#}");
    assert!(!failed["reasons"].to_string().contains("muted"), "{failed:#}");
}

#[test]
fn a_digest_made_of_real_results_tells_of_the_muted_test() {
    let kennel = kennel();
    let serving = kennel.serve();
    let (address, posts) = receiver();
    let channel = json!({
        "name": "team", "allow_private_addresses": true,
        "destination": { "kind": "webhook", "url": format!("http://{address}/hook"), "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" },
    });
    let (status, channel) = serving.post("/notifications/channels", &channel);
    assert_eq!(status, 201, "{channel:#}");
    let rule = json!({
        "channel": channel["id"], "events": ["first-failure", "recovery", "regression"],
        "timing": { "when": "weekly", "day": "monday", "hour": 8, "zone": "UTC" },
    });
    let (status, rule) = serving.post("/notifications/rules", &rule);
    assert_eq!(status, 201, "{rule:#}");
    run(&kennel, 1);
    mute(&serving, failing_test(&serving), "7d");
    run(&kennel, 0);
    serving.process.signal(Signal::SIGTERM);
    drop(serving);
    // The Monday comes while Kennel is down.
    let due = Timestamp::now() - 1.hour();
    let changed = Database::open(kennel.dir()).execute(&format!(
        "UPDATE notification_rules SET next_digest_at = '{}'",
        due.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    ));
    assert_eq!(changed, 1);

    let _serving = kennel.serve();
    let digest: Value = serde_json::from_str(&posts.recv_timeout(OVER).expect("the digest is posted")).unwrap();
    assert_eq!(digest["type"], "digest", "{digest:#}");
    let sections = digest["data"]["sections"].as_array().unwrap_or_else(|| panic!("{digest:#}"));
    let section = |heading: &str| {
        let found = sections.iter().find(|section| section["heading"] == heading);
        found.unwrap_or_else(|| panic!("no `{heading}`: {digest:#}"))["lines"].to_string()
    };
    let muted = section("Muted tests");
    for part in ["menu: ", "test_salad", "by kitchen", "salad is out of season", "until "] {
        assert!(muted.contains(part), "{part} is missing: {muted}");
    }
    assert!(section("What ran").contains("menu: 2 runs, 1 passed, 1 failed"), "{digest:#}");
    assert!(section("What changed").contains("menu failed"), "{digest:#}");
    assert!(!sections.iter().any(|section| section["heading"] == "Failing"), "it passes, muted as it is: {digest:#}");
    assert!(posts.recv_timeout(Duration::from_millis(500)).is_err(), "one digest, once");
}

/// An HTTP server that takes posts and gives their bodies.
fn receiver() -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, posts) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = reader.get_mut().write_all(answer);
            if sender.send(text(&body)).is_err() {
                return;
            }
        }
    });
    (address, posts)
}
