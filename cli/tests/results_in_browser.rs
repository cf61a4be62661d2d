//! Results in a real browser: walking a long history by keyboard, dropping a file of results on the page.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::time::Duration;

use browser::Browser;
use support::{Kennel, fill};

const SOON: Duration = Duration::from_secs(30);
const UP: &str = "\u{E013}";
const RIGHT: &str = "\u{E014}";
const DOWN: &str = "\u{E015}";
const LEFT: &str = "\u{E012}";
const END: &str = "\u{E010}";

/// Row and column of the focused link, the part of the history that is shown, and where the link leads.
const PLACE: &str = "
    const link = document.activeElement, row = link.closest('tbody tr');
    if (!row) return null;
    const query = new URLSearchParams(location.search);
    return [[...row.parentElement.rows].indexOf(row), link.closest('th, td').cellIndex,
            Number(query.get('offset')), Number(query.get('skip'))].join(' ');";

async fn until_at(browser: &Browser, place: &str) {
    let reached = format!("const place = (() => {{ {PLACE} }})(); return place === '{place}';");
    browser.until(&format!("the walk is at {place}"), SOON, &reached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_keys_walk_over_a_history_of_ten_thousand_runs() {
    let kennel = Kennel::new();
    // Seven of ten are runs of the suite, with more tests than one part holds.
    fill(&kennel, 10_000, 1, 51);
    let serving = kennel.serve();
    let browser = Browser::open().await;
    let suite = format!("{}/suites/checkout-smoke-000/results", serving.url);
    browser.client.goto(&suite).await.unwrap();
    browser.complete().await;
    assert_eq!(
        browser.script("return document.querySelector('#matrix-caption').textContent.includes('7000 runs')").await,
        true
    );
    // However long the history, the page holds one part of it.
    let cells = browser.script("return document.querySelectorAll('.matrix td').length").await.as_i64().unwrap();
    assert_eq!(cells, 50 * 30);
    let stops = browser.script("return document.querySelectorAll('.matrix tbody a[tabindex=\"0\"]').length").await;
    assert_eq!(stops, 1, "the tab key stops once in the grid");

    browser.script("document.querySelector('.matrix tbody a[tabindex=\"0\"]').focus()").await;
    until_at(&browser, "0 0 0 0").await;
    browser.press(RIGHT).await;
    until_at(&browser, "0 1 0 0").await;
    browser.press(DOWN).await;
    browser.press(DOWN).await;
    until_at(&browser, "2 1 0 0").await;
    browser.press(UP).await;
    browser.press(LEFT).await;
    until_at(&browser, "1 0 0 0").await;

    // Past the last run the older ones come, on the same test; and back.
    browser.press(END).await;
    until_at(&browser, "1 30 0 0").await;
    browser.press(RIGHT).await;
    until_at(&browser, "1 1 0 30").await;
    browser.press(LEFT).await;
    until_at(&browser, "1 0 0 30").await;
    browser.press(LEFT).await;
    until_at(&browser, "1 30 0 0").await;

    // Below the last test the others come, in the same run.
    browser.script("document.querySelector('.matrix tbody tr:last-child td:nth-child(4) a').focus()").await;
    until_at(&browser, "49 3 0 0").await;
    browser.press(DOWN).await;
    until_at(&browser, "0 3 50 0").await;
    browser.press(UP).await;
    until_at(&browser, "49 3 0 0").await;

    // Enter opens the attempt.
    let leads = browser.script("return document.activeElement.getAttribute('href')").await;
    browser.press("\u{E007}").await;
    let there = format!("return location.pathname === {leads}");
    browser.until("the attempt is open", SOON, &there).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_results_is_dropped_on_the_page_and_imported() {
    let kennel = Kennel::new();
    let results = kennel.file(
        "results.xml",
        "<testsuite><testcase classname=\"shop\" name=\"pays once\"/><testcase classname=\"shop\" name=\"ships\">\
         <failure message=\"nobody came\"/></testcase></testsuite>",
    );
    let serving = kennel.serve();
    let browser = Browser::open().await;
    browser.client.goto(&format!("{}/import", serving.url)).await.unwrap();
    browser.complete().await;
    browser.drop_file("#drop", &results).await;
    browser
        .until("the file is chosen", SOON, "return document.getElementById('file').files[0]?.name === 'results.xml'")
        .await;
    browser.picture("import-dropped").await;
    // The name of the suite is all that is still missing, and the next thing typed.
    browser.until("the suite is asked for", SOON, "return document.activeElement.id === 'suite'").await;
    browser.press("by hand\u{E007}").await;
    browser.until("the run is shown", SOON, "return location.pathname.startsWith('/suite-runs/')").await;
    browser.complete().await;
    let text = browser.text("main").await;
    assert!(text.contains("by hand") && text.contains("ships") && text.contains("nobody came"), "{text}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}
