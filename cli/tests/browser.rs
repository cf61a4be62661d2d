//! The pages in headless Chromium: start an experiment, see the chart move, halt, open the finished run, compare two.
//!
//! `KENNEL_SCREENSHOTS=DIR` keeps a picture of every page at desktop and phone width.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use support::{HttpProcess, Kennel, Running, eventually, free_port};

/// A command of the DevTools protocol, as chromedriver passes it on.
#[derive(Debug)]
struct DevTools(Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.0.to_string()))
    }
}

/// Chromium driven over WebDriver; both end with the test.
struct Browser {
    client: Client,
    _driver: Running,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn open() -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed by ./test");
        let driver = Running(driver);
        eventually("chromedriver listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({ "goog:chromeOptions": { "args": arguments } });
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let browser = Self { client, _driver: driver, _profile: profile };
        browser.resize(1440, 900).await;
        browser
    }

    /// Sets the size of the page itself, over the DevTools protocol: a headless window cannot be as narrow as a phone.
    async fn resize(&self, width: u32, height: u32) {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        let body = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": parameters });
        self.client.issue_cmd(DevTools(body)).await.unwrap();
    }

    async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    async fn click(&self, css: &str) {
        let element = self.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css)).await;
        element.unwrap_or_else(|e| panic!("{css}: {e}")).click().await.unwrap_or_else(|e| panic!("{css}: {e}"));
    }

    async fn text(&self, css: &str) -> String {
        let element = self.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css)).await;
        element.unwrap_or_else(|e| panic!("{css}: {e}")).text().await.unwrap()
    }

    /// Polls a script until it answers something true.
    async fn until(&self, what: &str, within: Duration, script: &str) -> Value {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let value = self.client.execute(script, Vec::new()).await.unwrap_or_default();
            if value != Value::Null && value != false {
                return value;
            }
            if tokio::time::Instant::now() >= deadline {
                let page = self.client.source().await.unwrap_or_default();
                panic!("not within {within:?}: {what}\n{page}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Keeps a picture at desktop and phone width, and checks that nothing sticks out of the page.
    async fn picture(&self, name: &str) {
        for (width, height) in [(1440, 900), (390, 844)] {
            self.resize(width, height).await;
            let overflow =
                self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
            assert!(
                overflow.as_i64().unwrap() <= 0,
                "{name} at {width} px: the page scrolls sideways by {overflow} px"
            );
            if let Some(dir) = std::env::var_os("KENNEL_SCREENSHOTS") {
                std::fs::create_dir_all(&dir).unwrap();
                let picture = self.client.screenshot().await.unwrap();
                std::fs::write(std::path::Path::new(&dir).join(format!("{name}-{width}.png")), picture).unwrap();
            }
        }
        self.resize(1440, 900).await;
    }

    async fn close(self) {
        self.client.close().await.unwrap();
    }
}

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
