//! The pages in headless Chromium: start an experiment, see the chart move, halt, open the finished run, compare two.
//!
//! `KENNEL_SCREENSHOTS=DIR` keeps a picture of every page at desktop and phone width.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::time::Duration;

use browser::Browser;
use support::{HttpProcess, Kennel};

fn experiment(server: &HttpProcess, seconds: u32) -> String {
    let services = format!(
        ", services: [{{ name: http, instances: [{{ name: http-1, process: {{ listening_port: {} }} }}] }}]",
        server.port
    );
    format!(
        "version: 1
name: browser walk
target: {}
load: {{ model: open, stages: [{{ rate: 60/s, duration: {seconds}s }}] }}
scenarios: [{{ name: version, steps: [{{ name: version, path: /version }}] }}]
faults: [{{ name: frozen, kind: pause, selector: {{ service: http, instance: http-1 }}, start: 2s, duration: 1s }}]
objectives: ['p50 < 5s']
",
        server.target(&services)
    )
}

async fn start(browser: &Browser, url: &str, yaml: &str) -> String {
    browser.client.goto(&format!("{url}/runs/new")).await.unwrap();
    let quoted = serde_json::to_string(yaml).unwrap();
    browser
        .script(&format!("const e = document.getElementById('experiment'); e.value = {quoted}; e.dispatchEvent(new Event('input', {{ bubbles: true }}))"))
        .await;
    browser.click("#start").await;
    browser
        .until(
            "the run's page",
            Duration::from_secs(20),
            "return document.getElementById('run')?.dataset.runId ?? null",
        )
        .await
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_starts_watches_halts_opens_and_compares() {
    let (kennel, server) = (Kennel::new(), HttpProcess::start());
    let serving = kennel.serve();
    let url = serving.url.clone();
    let browser = Browser::open().await;

    browser.client.goto(&url).await.unwrap();
    assert!(browser.text("main").await.contains("demo"), "an empty list teaches what to do");
    browser.picture("runs-empty").await;

    // A wrong file is refused in place.
    browser.client.goto(&format!("{url}/runs/new?from=demo")).await.unwrap();
    browser.picture("new-run").await;
    browser.click("#validate").await;
    let problems = browser
        .until("problems", Duration::from_secs(10), "return document.getElementById('problems')?.textContent ?? null")
        .await;
    assert!(problems.as_str().unwrap().contains("unknown target"), "{problems}");
    browser.picture("new-run-problems").await;

    // The live chart moves by itself, and the red button stops everything.
    let halted = start(&browser, &url, &experiment(&server, 60)).await;
    let points = "return Number(document.body.dataset.points ?? 0)";
    browser
        .until(
            "three seconds are drawn",
            Duration::from_secs(30),
            "return Number(document.body.dataset.points ?? 0) >= 3",
        )
        .await;
    let some = browser.script(points).await.as_i64().unwrap();
    browser
        .until(
            "the chart moved on",
            Duration::from_secs(10),
            &format!("return Number(document.body.dataset.points ?? 0) > {some}"),
        )
        .await;
    browser.picture("run-live").await;
    browser.click("#halt").await;
    let verdict = "return document.getElementById('verdict')?.textContent.trim() || null";
    let told = browser.until("the verdict", Duration::from_secs(20), verdict).await;
    assert!(told.as_str().unwrap().to_lowercase().contains("halted"), "{told}");

    // A second run, to its end.
    let finished = start(&browser, &url, &experiment(&server, 6)).await;
    let told = browser.until("the verdict", Duration::from_secs(60), verdict).await;
    assert!(told.as_str().unwrap().to_lowercase().contains("passed"), "{told}");
    browser.client.goto(&format!("{url}/runs/{finished}")).await.unwrap();
    browser
        .until(
            "the finished run is drawn",
            Duration::from_secs(10),
            "return Number(document.body.dataset.points ?? 0) >= 5",
        )
        .await;
    let page = browser.text("main").await;
    for word in ["frozen", "version", "p50 < 5s"] {
        assert!(page.contains(word), "{word} is missing on the run's page:\n{page}");
    }
    browser.picture("run-finished").await;

    // Both in the list; two ticks and a button compare them.
    browser.client.goto(&url).await.unwrap();
    browser.picture("runs").await;
    for id in [&halted, &finished] {
        browser.click(&format!("#pick-{}", id)).await;
    }
    browser.click("#compare-button").await;
    browser
        .until(
            "the comparison is drawn",
            Duration::from_secs(20),
            "return Number(document.body.dataset.points ?? 0) >= 3",
        )
        .await;
    let page = browser.text("main").await;
    assert!(page.contains("version") && page.contains("p99"), "{page}");
    browser.picture("compare").await;

    browser.client.goto(&format!("{url}/runs/no-such-run")).await.unwrap();
    assert!(browser.text("main").await.contains("no-such-run"));
    browser.picture("not-found").await;
    browser.close().await;
}
