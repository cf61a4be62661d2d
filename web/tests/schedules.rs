//! Pages of schedules, calendars and the queue as a browser without scripts gets them.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use std::time::Duration;

use kennel_controller::Caller;
use kennel_model::api::{CalendarDraft, CalendarWindow, LibraryEntry, QueueKind, ScheduleDraft, WindowRule};
use reqwest::StatusCode;
use support::browsing::{get, submit};
use support::scripted_agent::Script;
use support::{House, experiment};

const HOSTILE: &str = "<script>alert(1)</script>\"'";

/// A house that knows one experiment, `short`.
async fn house() -> House {
    let script = Script { rush: 0, pace: Duration::from_millis(20), audit_examples: Vec::new() };
    let entry =
        LibraryEntry { name: "short".to_owned(), description: "Short".to_owned(), source: experiment("short", 4) };
    House::open(script, 0, vec![entry]).await
}

fn nightly(name: &str) -> ScheduleDraft {
    ScheduleDraft::new(name.into(), QueueKind::Experiment, "short".into(), "30 2 * * *".into(), "Europe/Berlin".into())
}

#[tokio::test]
async fn an_empty_list_teaches_and_a_schedule_takes_two_clicks() {
    let house = house().await;
    get(&house, "/schedules").await.holds(&["No schedule yet", "href=\"/schedules/new\""]);
    let form = get(&house, "/schedules/new?experiment=short").await;
    form.holds(&["value=\"short, nightly\"", "value=\"experiment:short\" selected", "every day at 02:30 (UTC)"]);
    // What the form holds as it is served.
    let saved = submit(
        &house,
        "/schedules/new",
        &[
            ("subject", "experiment:short"),
            ("name", "short, nightly"),
            ("cron", "30 2 * * *"),
            ("zone", "Europe/Berlin"),
            ("missed", "skip"),
            ("catch_up_limit", "5"),
            ("overlap", "forbid"),
            ("priority", "0"),
            ("parameters", ""),
            ("action", "save"),
        ],
    )
    .await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    let page = get(&house, &saved.location).await;
    page.holds(&["every day at 02:30 (Europe/Berlin)", "It has not been due yet.", "clocks go"]);
    get(&house, "/schedules").await.holds(&["short, nightly", "every day at 02:30 (Europe/Berlin)", "nothing yet"]);
    get(&house, "/schedules?q=other").await.holds(&["None of these names"]).lacks(&["short, nightly"]);
    house.close().await;
}

#[tokio::test]
async fn a_form_that_is_wrong_says_so_beside_its_fields_and_keeps_what_was_typed() {
    let house = house().await;
    let answer = submit(
        &house,
        "/schedules/new",
        &[
            ("subject", ""),
            ("name", HOSTILE),
            ("cron", "0 0 31 2 *"),
            ("zone", "Mars/Olympus"),
            ("priority", "high"),
            ("parameters", "no equals sign"),
        ],
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    answer.holds(&["`high` is no whole number", "has no `=`", "value=\"0 0 31 2 *\"", "value=\"Mars/Olympus\""]);
    answer.lacks(&["<script>alert"]);
    let answer =
        submit(&house, "/schedules/new", &[("subject", ""), ("name", " "), ("cron", "0 0 31 2 *"), ("zone", "UTC")])
            .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    answer.holds(&["it names a day that never comes", "id=\"subject-error\"", "id=\"name-error\""]);
    assert!(house.controller.schedules().await.unwrap().is_empty(), "nothing half-done stays");
    house.close().await;
}

#[tokio::test]
async fn a_preset_fills_the_form_without_saving() {
    let house = house().await;
    let answer = submit(
        &house,
        "/schedules/new",
        &[
            ("subject", "experiment:short"),
            ("name", "mine"),
            ("cron", "1 1 1 1 1"),
            ("zone", "UTC"),
            ("preset", "0 7 * * MON-FRI"),
        ],
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.holds(&["value=\"0 7 * * MON-FRI\"", "on weekdays (Monday to Friday) at 07:00 (UTC)", "value=\"mine\""]);
    assert!(house.controller.schedules().await.unwrap().is_empty());
    house.close().await;
}

#[tokio::test]
async fn a_schedule_is_paused_resumed_run_and_removed_by_its_buttons() {
    let house = house().await;
    let id = house.controller.save_schedule(None, nightly("night"), &Caller::local()).await.unwrap();
    let page = format!("/schedules/{id}");
    assert_eq!(submit(&house, &format!("{page}/pause"), &[("until", "2199-01-01")]).await.location, page);
    get(&house, &page).await.holds(&["Paused until", "2198-12-31T23:00:00Z", "Resume"]);
    let wrong = submit(&house, &format!("{page}/pause"), &[("until", "someday")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    submit(&house, &format!("{page}/resume"), &[]).await;
    get(&house, &page).await.lacks(&["Paused until"]);
    let ran = submit(&house, &format!("{page}/run"), &[]).await;
    assert!(ran.location.starts_with("/runs/"), "{}", ran.location);
    assert_eq!(get(&house, &ran.location).await.status, StatusCode::OK);
    assert_eq!(submit(&house, &format!("{page}/remove"), &[]).await.location, "/schedules");
    assert_eq!(get(&house, &page).await.status, StatusCode::NOT_FOUND);
    house.close().await;
}

#[tokio::test]
async fn the_month_shows_what_is_due_and_what_keeps_it_from_running() {
    let house = house().await;
    let caller = Caller::local();
    let calendar = CalendarDraft {
        name: HOSTILE.into(),
        description: String::new(),
        zone: "Europe/Berlin".into(),
        everywhere: true,
        windows: vec![CalendarWindow { name: "Christmas".into(), when: WindowRule::Yearly { day: "12-25".into() } }],
    };
    house.controller.save_calendar(None, calendar, &caller).await.unwrap();
    house.controller.save_schedule(None, nightly("night"), &caller).await.unwrap();
    let year = jiff::Zoned::now().year() + 1;
    let page = get(&house, &format!("/schedules/calendar?month={year}-12&zone=Europe/Berlin")).await;
    page.holds(&["December", ">night<", "02:30", "Christmas", "blackout"]).lacks(&["<script>alert"]);
    assert!(page.body.matches(">night<").count() >= 31);
    for wrong in ["month=2026-13", "month=x", "zone=Nowhere", "month=99999-01"] {
        let answer = get(&house, &format!("/schedules/calendar?{wrong}")).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    house.close().await;
}

#[tokio::test]
async fn calendars_are_made_refused_changed_and_removed_and_everything_is_frozen() {
    let house = house().await;
    get(&house, "/calendars").await.holds(&["No calendar yet", "Not frozen"]);
    let row = |kind: &'static str, name: &'static str| {
        [
            ("name", "holidays"),
            ("zone", "UTC"),
            ("row.0.name", name),
            ("row.0.kind", kind),
            ("row.0.date", "2026-12-25"),
        ]
    };
    let refused = submit(&house, "/calendars/new", &row("yearly", "Christmas")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused.holds(&["a day of the year such as", "value=\"2026-12-25\"", "value=\"Christmas\""]);
    assert_eq!(submit(&house, "/calendars/new", &row("date", "Christmas")).await.location, "/calendars");
    get(&house, "/calendars").await.holds(&["holidays", "all day on 2026-12-25"]);
    let again = submit(&house, "/calendars/new", &row("date", "Christmas")).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(submit(&house, "/calendars/holidays/remove", &[]).await.location, "/calendars");

    submit(&house, "/calendars/freeze", &[("reason", "Black Friday"), ("until", "2199-01-01T00:00")]).await;
    get(&house, "/calendars").await.holds(&["Everything is frozen", "Black Friday", "Lift the freeze"]);
    get(&house, "/schedules").await.holds(&["Everything is frozen:"]);
    submit(&house, "/calendars/thaw", &[]).await;
    get(&house, "/calendars").await.lacks(&["Everything is frozen</strong>"]);
    house.close().await;
}

#[tokio::test]
async fn the_queue_says_who_waits_for_what_and_lets_go() {
    let house = house().await;
    get(&house, "/queue").await.holds(&["Nothing runs and nothing waits"]);
    let slow = experiment("long", 600);
    let first = house.start(&slow).await;
    house.until(first, |state| state != kennel_model::RunState::Queued).await;
    let second = house.start(&experiment(HOSTILE, 600)).await;
    let third = house.start(&slow).await;
    let page = get(&house, "/queue").await;
    page.holds(&["target `shop` is used by", &format!("/queue/{third}/front"), &format!("/queue/{second}/cancel")]);
    page.lacks(&["<script>alert"]);
    submit(&house, &format!("/queue/{third}/front"), &[]).await;
    get(&house, "/queue").await.holds(&["moved to the front"]);
    submit(&house, &format!("/queue/{second}/cancel"), &[]).await;
    house.until(second, |state| state.is_over()).await;
    get(&house, "/queue").await.lacks(&[&second.to_string()]);
    let gone = submit(&house, &format!("/queue/{second}/cancel"), &[]).await;
    assert_eq!(gone.status, StatusCode::UNPROCESSABLE_ENTITY);
    house.close().await;
}
