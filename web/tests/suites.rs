//! Pages of suites and their runs, over a real controller with an agent that plays its steps.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use kennel_controller::Caller;
use kennel_model::api::{FileKind, QueueKind, SaveFile, ScheduleDraft};
use reqwest::StatusCode;
use support::House;
use support::browsing::{get, submit};
use support::scripted_agent::Script;

const HOSTILE: &str = "<script>alert('x')</script> \\\"quoted\\\" ${";

async fn house() -> House {
    House::open(Script::fast(), 0, Vec::new()).await
}

async fn save(house: &House, source: &str) {
    let request = SaveFile { source: source.to_owned(), message: String::new(), expected: None };
    house.controller.save_file(&Caller::local(), FileKind::Suite, None, request).await.expect("a valid suite");
}

async fn page(house: &House, path: &str) -> String {
    let answer = get(house, path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    answer.body
}

fn assert_shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

const BROKEN: &str = "
version: 1
name: shop
description: What customers need
labels: [nightly]
target: shop
parameters:
  - {name: dish, default: soup, description: What is ordered}
  - {name: times, type: number, default: '2'}
steps:
  - {name: menu, check: {url: '/menu/${dish}'}}
  - {name: acceptance, command: pytest, arguments: [--broken], continue_on_failure: true}
  - {name: stock, check: {url: /broken}, retries: 1}
  - {name: report, wait: 1s}
tear_down:
  - {name: clean, command: pytest}
";

#[tokio::test]
async fn the_log_of_a_failed_step_stands_open_on_its_runs_page() {
    let house = house().await;
    let id = house.suite(BROKEN).await;
    let text = page(&house, &format!("/suite-runs/{id}")).await;
    assert_shows(
        &text,
        &[
            "data-verdict=\"failed\"",
            "Log of “acceptance”",
            "href=\"#step-steps-1\"",
            "<details class=\"step-more\" id=\"more-steps-1\" open>",
            "order 7f3a91c2 was paid twice",
            "on all 2 attempts",
            "Attempt 2",
            "not run after that: “report”",
            "Run failed steps again",
            "junit.xml</a>",
            "test_soup &#60;b&#62;of the day",
        ],
    );
    assert!(!text.contains('\u{1b}'), "orders to a terminal are taken out of logs");
    let log = page(&house, &format!("/suite-runs/{id}/log?path=steps/1&attempt=1")).await;
    assert_shows(&log, &["AssertionError: order 7f3a91c2", "Download"]);
    for bad in ["steps/9", "../../kennel.db", "steps/1%00"] {
        let status = get(&house, &format!("/suite-runs/{id}/log?path={bad}")).await.status;
        assert!(status.is_client_error(), "{bad}: {status}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_suite_is_found_run_with_other_values_and_run_again() {
    let house = house().await;
    save(&house, &BROKEN.replace("--broken", "--well").replace("/broken", "/stock").replace("1s", "1ms")).await;
    let list = page(&house, "/suites?q=customers&label=nightly&last=none").await;
    assert_shows(&list, &["href=\"/suites/shop\"", "never ran", "What customers need"]);
    assert!(page(&house, "/suites?q=nothing+of+the+kind").await.contains("No suite fits"));
    let suite = page(&house, "/suites/shop").await;
    assert_shows(&suite, &["GET /menu/soup", "What is ordered", "It has not run yet", "tear-down: command"]);
    let refused = submit(&house, "/suites/shop/run", &[("parameter.dish", "salad"), ("parameter.times", "many")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_shows(
        &refused.body,
        &["`many` is not a value of type number; expected a number", "value=\"salad\"", "value=\"many\""],
    );
    let started = submit(&house, "/suites/shop/run", &[("parameter.dish", "salad"), ("labels", "mine, ")]).await;
    assert_eq!(started.status, StatusCode::SEE_OTHER);
    let run = started.location;
    let id = run.strip_prefix("/suite-runs/").expect("a run's page").parse().expect("a run");
    house.until_suite_is_over(id).await;
    assert_shows(&page(&house, &run).await, &["data-verdict=\"passed\"", "salad", "mine"]);
    let started = submit(&house, &format!("{run}/rerun"), &[("which", "steps"), ("step", "steps/0")]).await;
    assert_eq!(started.status, StatusCode::SEE_OTHER);
    let again = started.location;
    let id = again.strip_prefix("/suite-runs/").expect("a run's page").parse().expect("a run");
    house.until_suite_is_over(id).await;
    let text = page(&house, &again).await;
    assert_shows(&text, &["passed on attempt 2", &format!("href=\"{run}\" aria-label=\"attempt 1, passed\"")]);
    assert!(!text.contains("<h3>acceptance</h3>"), "only what was asked for runs");
    let refused = submit(&house, &format!("{again}/rerun"), &[("which", "failed")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused.holds(&["no step of run"]);
    // The values of last time stand in the form.
    assert!(page(&house, "/suites/shop?start").await.contains("value=\"salad\""));
    house.close().await;
}

#[tokio::test]
async fn hostile_names_are_only_text() {
    let house = house().await;
    let source = format!(
        "version: 1
name: \"{HOSTILE}\"
description: \"{HOSTILE}\"
labels: [\"<b>\"]
target: shop
parameters: [{{name: p, default: \"<i>\"}}]
steps: [{{name: \"<script>alert(2)</script>\", check: {{url: \"/broken?<u>\"}}}}]
"
    );
    let id = house.suite(&source).await;
    let name = "%3Cscript%3Ealert('x')%3C%2Fscript%3E%20%22quoted%22%20%24%7B";
    for path in ["/suites".to_owned(), format!("/suites/{name}"), format!("/suite-runs/{id}")] {
        let text = page(&house, &path).await;
        for raw in ["<script>alert", "<b>", "<i>", "<u>"] {
            assert!(!text.contains(raw), "{raw} stands raw in {path}:\n{text}");
        }
        assert!(text.contains("&#60;script&#62;alert"), "{path}:\n{text}");
    }
    house.close().await;
}

#[tokio::test]
async fn an_empty_list_teaches_and_unknown_suites_say_so() {
    let house = house().await;
    assert_shows(&page(&house, "/suites").await, &["No suite yet", "href=\"/suites/new\""]);
    let missing = get(&house, "/suites/nobody").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    missing.holds(&["There is no suite “nobody”"]);
    house.close().await;
}

#[tokio::test]
async fn a_run_under_way_can_be_cancelled_from_its_page() {
    let house = house().await;
    let id = house
        .start_suite("{version: 1, name: long, steps: [{name: w, wait: 10m}], tear_down: [{name: t, wait: 1ms}]}")
        .await;
    let text = page(&house, &format!("/suite-runs/{id}")).await;
    assert_shows(&text, &["data-follow=\"true\"", "id=\"cancel\""]);
    let cancelled = submit(&house, &format!("/suite-runs/{id}/cancel"), &[]).await;
    let back = format!("/suite-runs/{id}?cancelling=1");
    assert_eq!((cancelled.status, cancelled.location), (StatusCode::SEE_OTHER, back));
    house.until_suite_is_over(id).await;
    assert_shows(&page(&house, &format!("/suite-runs/{id}")).await, &["data-verdict=\"halted\"", "cancelled by local"]);
    house.close().await;
}

#[tokio::test]
async fn the_list_tells_when_a_suite_runs_next() {
    let house = house().await;
    save(&house, BROKEN).await;
    assert_shows(&page(&house, "/suites").await, &["not scheduled"]);
    for (name, cron) in [("yearly", "0 5 1 1 *"), ("each minute", "* * * * *")] {
        let draft = ScheduleDraft::new(name.into(), QueueKind::Suite, "shop".into(), cron.into(), "UTC".into());
        house.controller.save_schedule(None, draft, &Caller::local()).await.expect("a valid schedule");
    }
    let schedules = house.controller.schedules().await.expect("a readable store");
    let soonest = schedules.iter().find(|schedule| schedule.draft.name == "each minute").expect("a schedule");
    let list = page(&house, "/suites").await;
    assert_shows(&list, &[&format!("<a href=\"/schedules/{}\" title=\"Schedule each minute\">", soonest.id)]);
    assert!(!list.contains("yearly"), "only the next occurrence is told:\n{list}");
    house.close().await;
}
