//! Headless Chromium for tests: what a person does with a page, what axe-core says about it, pictures of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "each test uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use crate::support::{Running, eventually, free_port, test_tools};

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

/// What chromedriver's console log holds.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

/// Where pictures of the pages are kept, if they are: `KENNEL_SCREENSHOTS`.
pub fn screenshots() -> Option<PathBuf> {
    std::env::var_os("KENNEL_SCREENSHOTS").map(PathBuf::from)
}

/// The source of axe-core, as `./test` installs it.
fn axe() -> String {
    let file = test_tools().join("node/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(file).expect("run ./test once: it installs the test tools")
}

/// Chromium driven over WebDriver; both end with the test.
pub struct Browser {
    pub client: Client,
    _driver: Running,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub async fn open() -> Self {
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
            "--force-color-profile=srgb".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "SEVERE" },
        });
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
    pub async fn resize(&self, width: u32, height: u32) {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        let body = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": parameters });
        self.client.issue_cmd(DevTools(body)).await.unwrap();
    }

    pub async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    pub async fn click(&self, css: &str) {
        let element = self.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css)).await;
        element.unwrap_or_else(|e| panic!("{css}: {e}")).click().await.unwrap_or_else(|e| panic!("{css}: {e}"));
    }

    pub async fn text(&self, css: &str) -> String {
        let element = self.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css)).await;
        element.unwrap_or_else(|e| panic!("{css}: {e}")).text().await.unwrap()
    }

    /// Polls a script until it answers something true.
    pub async fn until(&self, what: &str, within: Duration, script: &str) -> Value {
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

    /// Types into whatever has the focus, as a person would.
    pub async fn press(&self, keys: &str) {
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// Drags a file from outside over an element and lets it go there.
    pub async fn drop_file(&self, css: &str, file: &Path) {
        let place = format!(
            "const element = document.querySelector('{css}'); element.scrollIntoView({{ block: 'center' }});
             const box = element.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2];"
        );
        let place = self.script(&place).await;
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({ "items": [], "files": [file], "dragOperationsMask": 1 });
            let parameters = json!({ "type": kind, "x": place[0], "y": place[1], "data": data });
            let body = json!({ "cmd": "Input.dispatchDragEvent", "params": parameters });
            self.client.issue_cmd(DevTools(body)).await.unwrap();
        }
    }

    /// Fills a field by its CSS selector, in place of what it held.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css)).await;
        let element = element.unwrap_or_else(|e| panic!("{css}: {e}"));
        element.clear().await.unwrap_or_else(|e| panic!("{css}: {e}"));
        element.send_keys(text).await.unwrap_or_else(|e| panic!("{css}: {e}"));
    }

    /// What the page's scripts and its security policy complained about since this was asked last.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.client.issue_cmd(ConsoleLog).await.unwrap();
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until the page and everything that it asked for at first are there.
    pub async fn complete(&self) {
        let ready = "return document.readyState === 'complete' && !document.querySelector('.plot .waiting')";
        self.until("the page is loaded", Duration::from_secs(20), ready).await;
    }

    /// Pretends to be in a time zone.
    pub async fn time_zone(&self, zone: &str) {
        let body = json!({ "cmd": "Emulation.setTimezoneOverride", "params": { "timezoneId": zone } });
        self.client.issue_cmd(DevTools(body)).await.unwrap();
    }

    /// Shows the page as it is printed, or as it is on a screen again.
    pub async fn print_media(&self, on: bool) {
        let body = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "media": if on { "print" } else { "" } } });
        self.client.issue_cmd(DevTools(body)).await.unwrap();
    }

    /// Chooses a theme for the page that is open.
    pub async fn theme(&self, theme: &str) {
        self.script(&format!(
            "document.documentElement.dataset.theme = '{theme}'; document.dispatchEvent(new CustomEvent('kennel:theme'))"
        ))
        .await;
    }

    /// By how many pixels the page is wider than its window.
    pub async fn sticks_out(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.script(script).await.as_i64().unwrap()
    }

    /// A picture of the whole page, from its top to its end.
    pub async fn whole_page(&self, file: &Path) {
        let parameters = json!({ "captureBeyondViewport": true, "format": "png" });
        let answer =
            self.client.issue_cmd(DevTools(json!({ "cmd": "Page.captureScreenshot", "params": parameters }))).await;
        let picture = answer.unwrap()["data"].as_str().unwrap().to_owned();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, base64::engine::general_purpose::STANDARD.decode(picture).unwrap()).unwrap();
    }

    /// Violations of WCAG 2.2 A and AA that axe-core finds on the page that is open, one line each.
    pub async fn violations(&self) -> Vec<String> {
        if self.script("return typeof axe === 'undefined'").await == true {
            self.script(&format!("{}; window.axe = axe;", axe())).await;
        }
        let script = "
            const done = arguments[arguments.length - 1];
            const options = {
              runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa'] },
              rules: { 'target-size': { enabled: true } },
              resultTypes: ['violations'],
            };
            axe.run(document, options).then(
              (found) => done(found.violations.flatMap((rule) => rule.nodes.map(
                (node) => `${rule.id}: ${node.html.slice(0, 160)} (${node.failureSummary.replaceAll('\\n', ' ').slice(0, 240)})`))),
              (problem) => done([`axe failed: ${problem}`]));";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        found.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    /// Keeps a picture at desktop and phone width, and checks that nothing sticks out of the page.
    pub async fn picture(&self, name: &str) {
        for (width, height) in [(1440, 900), (390, 844)] {
            self.resize(width, height).await;
            let overflow = self.sticks_out().await;
            assert!(overflow <= 0, "{name} at {width} px: the page scrolls sideways by {overflow} px");
            if let Some(dir) = screenshots() {
                self.whole_page(&dir.join(format!("{name}-{width}.png"))).await;
            }
        }
        self.resize(1440, 900).await;
    }

    pub async fn close(self) {
        self.client.close().await.unwrap();
    }
}
