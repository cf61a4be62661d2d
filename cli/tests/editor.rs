//! The editor in headless Chromium: bars are dragged and moved by keys, fields change the YAML and the YAML the fields,
//! errors stand beside their field, versions are compared and restored, and a suite is built from nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::time::Duration;

use browser::Browser;
use fantoccini::actions::{InputSource as _, MOUSE_BUTTON_LEFT, MouseActions, PointerAction};
use serde_json::{Value, json};
use support::{Kennel, Serving};

const SOON: Duration = Duration::from_secs(20);
const RIGHT: &str = "\u{e014}";
const SHIFT_RIGHT: &str = "\u{e008}\u{e014}\u{e000}";

const TARGET: &str = "
name: shop
base_url: http://127.0.0.1:9
allowed_hosts: ['127.0.0.1']
services: [{ name: orders, instances: [{ name: orders-1, process: { listening_port: 9, supervised: true } }] }]
links: [{ from: gateway, to: orders, listen: '127.0.0.1:1', upstream: '127.0.0.1:2' }]
audits: [{ name: books, url: 'http://127.0.0.1:9/audit' }]
limits: { faults: [latency, kill] }
";

const EXPERIMENT: &str = "\
# Written by hand: this line stays.
version: 1
name: late orders
target: shop # the shop of the south

load:
  model: open
  stages:
    - { rate: 20/s, duration: 60s } # an ordinary day
  warm_up: 5s

scenarios:
  - name: visitor
    steps: [{ name: home, path: / }]

faults:
  # The one that hurt us in March.
  - name: orders answer late
    kind: latency
    selector: { link: gateway -> orders }
    parameters: { latency: 200ms }
    start: 10s
    duration: 10s

objectives:
  - error_rate < 1%
";

const COMMENTS: [&str; 4] = [
    "# Written by hand: this line stays.",
    "# the shop of the south",
    "# an ordinary day",
    "# The one that hurt us in March.",
];

fn put(serving: &Serving, kind: &str, name: &str, source: &str) {
    let (status, answer) = serving.put(&format!("/files/{kind}/{name}"), &json!({ "source": source }));
    assert_eq!(status, 200, "{answer:#}");
}

async fn open(browser: &Browser, url: &str) {
    browser.client.goto(url).await.unwrap();
    browser.until("the editor is ready", SOON, "return document.body.dataset.editor === 'ready'").await;
}

async fn yaml(browser: &Browser) -> String {
    browser.script("return document.getElementById('source').value").await.as_str().unwrap().to_owned()
}

/// The number at a place in the YAML as the page shows it.
async fn until_yaml(browser: &Browser, what: &str, part: &str) {
    let part = serde_json::to_string(part).unwrap();
    browser.until(what, SOON, &format!("return document.getElementById('source').value.includes({part})")).await;
}

async fn comments_stand(browser: &Browser) {
    let text = yaml(browser).await;
    for comment in COMMENTS {
        assert!(text.contains(comment), "`{comment}` is lost:\n{text}");
    }
}

/// Types into a field of the form in place of what it held.
async fn fill(browser: &Browser, id: &str, text: &str) {
    let script = format!(
        "const e = document.getElementById('{id}'); e.focus(); e.value = {}; e.dispatchEvent(new Event('input', {{ bubbles: true }}))",
        Value::from(text)
    );
    browser.script(&script).await;
}

/// Drags from one place to another, both seen from the middle of an element.
async fn drag(browser: &Browser, css: &str, from: (f64, f64), by: (f64, f64)) {
    let script = format!(
        "const e = document.querySelector('{css}'); e.scrollIntoView({{ block: 'center' }}); const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]"
    );
    let middle = browser.script(&script).await;
    let (x, y) = (middle[0].as_f64().unwrap() + from.0, middle[1].as_f64().unwrap() + from.1);
    #[allow(clippy::cast_possible_truncation, reason = "places on a screen")]
    let to = |x: f64, y: f64| PointerAction::MoveTo { duration: Some(Duration::from_millis(60)), x, y };
    let actions = MouseActions::new("mouse".to_owned())
        .then(to(x, y))
        .then(PointerAction::Down { button: MOUSE_BUTTON_LEFT })
        .then(to(x + by.0 / 2.0, y + by.1 / 2.0))
        .then(to(x + by.0, y + by.1))
        .then(PointerAction::Up { button: MOUSE_BUTTON_LEFT });
    browser.client.perform_actions(actions).await.unwrap();
}

fn start_of(text: &str, field: &str) -> f64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{field}: "))).unwrap();
    line.trim().trim_start_matches(&format!("{field}: ")).trim_end_matches('s').parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_dragged_typed_undone_saved_compared_and_restored() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    put(&serving, "target", "shop", TARGET);
    put(&serving, "experiment", "late%20orders", EXPERIMENT);
    let url = serving.url.clone();
    let browser = Browser::open().await;
    open(&browser, &format!("{url}/experiments/late%20orders/edit")).await;
    browser.until("it is valid", SOON, "return document.getElementById('valid') !== null").await;
    assert_eq!(yaml(&browser).await, EXPERIMENT, "opening changes nothing");
    browser.picture("editor-experiment").await;

    // A bar is moved with the mouse, then resized at its end.
    drag(&browser, "#bar-0", (0.0, 0.0), (80.0, 0.0)).await;
    browser
        .until("the bar moved", SOON, "return !document.getElementById('source').value.includes('start: 10s')")
        .await;
    let moved = start_of(&yaml(&browser).await, "start");
    assert!(moved > 10.0, "{moved}");
    assert!(yaml(&browser).await.contains("duration: 10s"), "moving does not resize");
    drag(&browser, "#bar-0 .grip.end", (0.0, 0.0), (60.0, 0.0)).await;
    browser
        .until("the bar grew", SOON, "return !document.getElementById('source').value.includes('duration: 10s')")
        .await;
    let grown = start_of(&yaml(&browser).await, "duration");
    assert!(grown > 10.0, "{grown}");
    comments_stand(&browser).await;

    // The same by keyboard, and it is said aloud.
    browser.script("document.getElementById('bar-0').focus()").await;
    browser.press(RIGHT).await;
    until_yaml(&browser, "one step later", &format!("start: {}s", moved + 1.0)).await;
    browser.press(SHIFT_RIGHT).await;
    until_yaml(&browser, "one step longer", &format!("duration: {}s", grown + 1.0)).await;
    let said = browser.text("#said").await;
    let said = if said.is_empty() {
        browser.script("return document.getElementById('said').textContent").await.to_string()
    } else {
        said
    };
    assert!(said.contains("orders answer late from"), "{said}");
    assert_eq!(browser.script("return document.activeElement.id").await, "bar-0", "the focus stays on the bar");

    // A field changes the YAML and nothing else in it.
    fill(&browser, "f-faults-0-parameters-latency", "350ms").await;
    until_yaml(&browser, "the field's value", "parameters: { latency: 350ms }").await;
    comments_stand(&browser).await;

    // Undo takes the last change back, in the form and in the text.
    browser.script("document.getElementById('undo').click()").await;
    until_yaml(&browser, "the value before", "parameters: { latency: 200ms }").await;
    assert_eq!(browser.script("return document.getElementById('f-faults-0-parameters-latency').value").await, "200ms");

    // The YAML changes the form, and the curve.
    let curve = browser.script("return document.getElementById('load-curve').dataset.points").await;
    let script = "const e = document.getElementById('source'); e.focus(); e.value = e.value.replace('rate: 20/s, duration: 60s', 'from: 5/s, rate: 40/s, duration: 90s').replace('name: late orders', 'name: later orders'); e.dispatchEvent(new Event('input', { bubbles: true }))";
    browser.script(script).await;
    browser.until("the form shows the rate", SOON, "return document.getElementById('f-load-stages-0-rate').value === '40/s' && document.getElementById('f-name').value === 'later orders'").await;
    assert_ne!(browser.script("return document.getElementById('load-curve').dataset.points").await, curve);

    // What is wrong stands beside its field, on top, and leads there.
    fill(&browser, "f-load-stages-0-rate", "fast").await;
    browser.until("the error beside the field", SOON, "return document.querySelector('#f-load-stages-0-rate[aria-invalid=true]') && document.getElementById('f-load-stages-0-rate-error')?.textContent.includes('fast')").await;
    assert!(browser.text("#problems").await.contains("load.stages[0].rate"));
    browser.picture("editor-problems").await;
    browser.click("#problems a[data-field]").await;
    assert_eq!(browser.script("return document.activeElement.id").await, "f-load-stages-0-rate");
    // Even so nothing is lost when it is submitted.
    browser.click("#save").await;
    browser.until("the problems of the server", SOON, "return document.body.dataset.editor === 'ready' && document.getElementById('source').value.includes('rate: fast')").await;
    fill(&browser, "f-load-stages-0-rate", "40/s").await;
    browser.until("it is valid again", SOON, "return document.getElementById('valid') !== null").await;

    // Saved under its new name; the difference shows what was changed.
    browser.fill("#message", "later and longer").await;
    browser.click("#save").await;
    browser
        .until("it is saved", SOON, "return document.getElementById('saved')?.textContent.includes('version 2')")
        .await;
    assert!(browser.script("return location.pathname").await.as_str().unwrap().contains("later%20orders"));
    browser.client.goto(&format!("{url}/experiments/later%20orders/history")).await.unwrap();
    let page = browser.text("main").await;
    assert!(page.contains("later and longer") && page.contains("name: later orders"), "{page}");
    browser.picture("editor-history").await;
    browser.click("#restore-1").await;
    browser
        .until("version 3", SOON, "return document.getElementById('saved')?.textContent.includes('version 3')")
        .await;
    assert!(yaml(&browser).await.contains("start: 10s"));
    // The page that shows what was refused is answered with 422, which the console tells.
    let complaints: Vec<String> =
        browser.complaints().await.into_iter().filter(|line| !line.contains("status of 422")).collect();
    assert_eq!(complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_is_built_from_nothing_with_buttons_keys_and_the_mouse() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    put(&serving, "target", "shop", TARGET);
    put(&serving, "experiment", "late%20orders", EXPERIMENT);
    let url = serving.url.clone();
    let browser = Browser::open().await;
    open(&browser, &format!("{url}/suites/new")).await;
    fill(&browser, "f-name", "nightly").await;
    for kind in ["check", "experiment", "wait"] {
        browser.click(&format!("#section-steps [data-add={kind}]")).await;
    }
    browser.until("it is valid", SOON, "return document.getElementById('valid') !== null").await;
    let names = "return [...document.querySelectorAll('#section-steps > .body > ol > li')].map((card) => card.querySelector('input').value).join()";
    assert_eq!(browser.script(names).await, "Home page answers,Run late orders,Wait");
    browser.picture("editor-suite").await;

    // Up by keyboard: the focus goes along with the card.
    browser.script("document.getElementById('f-steps-2-up').focus()").await;
    browser.press("\u{e007}").await;
    browser.until("moved up", SOON, "return document.activeElement.id === 'f-steps-1-up'").await;
    assert_eq!(browser.script(names).await, "Home page answers,Wait,Run late orders");
    // Down with the mouse, past the last card.
    drag(&browser, "#f-steps-1 .handle", (0.0, 0.0), (0.0, 260.0)).await;
    let script = format!("return (() => {{ {names} }})() === 'Home page answers,Run late orders,Wait'");
    browser.until("dragged to the end", SOON, &script).await;
    // A copy has a name of its own; a group holds steps.
    browser.click("#f-steps-0 > .item-head button[aria-label^='Duplicate']").await;
    browser.click("#section-steps > .body > .add-step [data-add=parallel]").await;
    browser.until("it is valid still", SOON, "return document.getElementById('valid') !== null && document.getElementById('f-steps-4-parallel-1-name') !== null").await;
    fill(&browser, "f-steps-1-check-expect-status", "abc").await;
    browser.until("an inline error", SOON, "return document.querySelector('#f-steps-1 .error') !== null").await;
    fill(&browser, "f-steps-1-check-expect-status", "204").await;
    browser.until("it is valid at last", SOON, "return document.getElementById('valid') !== null").await;
    browser.click("#save").await;
    browser.until("it is saved", SOON, "return document.getElementById('saved') !== null").await;
    let saved = serving.get("/files/suite/nightly");
    assert!(saved["source"].as_str().unwrap().contains("status: 204"), "{saved:#}");
    // An older server knows no agents.
    let complaints: Vec<String> =
        browser.complaints().await.into_iter().filter(|line| !line.contains("/api/v1/agents")).collect();
    assert_eq!(complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_declared_with_one_press_for_its_host() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    let browser = Browser::open().await;
    open(&browser, &format!("{}/targets/new", serving.url)).await;
    fill(&browser, "f-name", "store").await;
    fill(&browser, "f-base_url", "http://127.0.0.1:4711").await;
    browser.until("what is wrong", SOON, "return document.getElementById('f-base_url-error') !== null").await;
    browser
        .client
        .find(fantoccini::Locator::XPath("//button[contains(., 'Allow 127.0.0.1:4711')]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.until("it is valid", SOON, "return document.getElementById('valid') !== null").await;
    browser.click("#section-services button[id$='-add']").await;
    browser.until("a service", SOON, "return document.getElementById('f-services-0-name') !== null").await;
    browser.picture("editor-target").await;
    assert!(yaml(&browser).await.contains("# Traffic and faults reach these hosts and nothing else."));
    browser.click("#save").await;
    browser.until("it is saved", SOON, "return document.getElementById('saved') !== null").await;
    assert_eq!(serving.get("/surroundings")["targets"][0]["name"], "store");
    browser.close().await;
}
