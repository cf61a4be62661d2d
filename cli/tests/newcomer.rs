//! The proof that nobody needs documentation: a newcomer in a real browser begins at the first page, follows what it
//! says, builds a suite of three steps, schedules it for every night, runs it now, watches it end and reads the log of
//! the step that failed. No address is typed but the first, and nothing is found but by the words on the page.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/filled.rs"]
mod filled;
#[path = "support/person.rs"]
mod person;
mod support;

use std::time::Duration;

use browser::Browser;
use support::{HttpProcess, Kennel};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_builds_schedules_and_runs_a_suite_and_finds_the_failed_steps_log() {
    let (kennel, shop) = (Kennel::new(), HttpProcess::start());
    let serving = kennel.serve();
    let browser = Browser::open().await;
    filled::log_in(&serving, &browser).await;
    browser.client.goto(&serving.url).await.unwrap();

    // A suite of three steps: one check that holds, a pause, and one check that does not hold.
    browser.choose_in("header", "Suites").await;
    browser.choose_in("main", "New suite").await;
    browser.enter("Name", "shop by night").await;
    browser.enter("System under test", "declared in this file").await;
    let host = format!("127.0.0.1:{}", shop.port);
    browser.enter("Base URL", &format!("http://{host}")).await;
    browser.choose(&format!("Allow {host}")).await;
    browser.choose_in("#section-steps", "Add Check").await;
    browser.enter_in("#f-steps-0", "Name", "the shop answers").await;
    browser.enter_in("#f-steps-0", "Path or URL", "/version").await;
    browser.choose_in("#section-steps > .body > .add-step", "Add Wait").await;
    browser.enter_in("#f-steps-1", "For", "1s").await;
    browser.choose_in("#section-steps > .body > .add-step", "Add Check").await;
    browser.enter_in("#f-steps-2", "Name", "the basket is there").await;
    browser.enter_in("#f-steps-2", "Path or URL", "/basket").await;
    browser.reads("Valid", SOON).await;
    browser.picture("newcomer-1-editor").await;

    // Every night: one preset, and the page says in words what that means.
    browser.choose("Save and schedule").await;
    browser.choose("Nightly").await;
    browser.reads("02:30", SOON).await;
    browser.picture("newcomer-2-schedule").await;
    browser.choose("Save the schedule").await;
    browser.reads("It has not been due yet", SOON).await;
    browser.picture("newcomer-3-scheduled").await;
    browser.choose_in("header", "Schedules").await;
    browser.reads("shop by night", SOON).await;

    // And now.
    browser.choose_in("header", "Suites").await;
    browser.choose_in("main", "shop by night").await;
    browser.choose_in("main", "Run now").await;
    browser.reads("running", SOON).await;
    browser.picture("newcomer-4-live").await;

    // It ends by itself in front of the newcomer's eyes, without a reload, and says which step it was.
    browser.script("window.sameVisit = true").await;
    browser.reads("failed", Duration::from_secs(60)).await;
    assert_eq!(browser.script("return window.sameVisit === true").await, true, "the page was loaded anew");
    browser.choose("Log of “the basket is there”").await;
    browser.choose_in("main", "Whole log of the basket is there").await;
    browser.reads("404", SOON).await;
    browser.picture("newcomer-5-log").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}
