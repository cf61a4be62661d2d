//! Schedules at work, by a clock that is set by hand: what is due starts once and becomes an occurrence, whatever stops
//! Kennel meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kennel_controller::{Caller, Clock, Controller, ScheduleError};
use kennel_model::api::{
    CalendarDraft, CalendarMode, CalendarUse, CalendarWindow, FileKind, FreezeDraft, MissedPolicy, OccurrenceState,
    OccurrenceView, OverlapPolicy, Pause, QueueKind, SaveFile, ScheduleDraft, ScheduleId, StartSuite, SuiteRunFilter,
    WindowRule,
};
use kennel_model::{RunId, Verdict};
use serde_json::json;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::stage::{DEADLINE, LEASE, Stage, open_by};

/// A controller whose schedules go by a clock that stands.
struct Hours {
    dir: TempDir,
    clock: Clock,
    controller: Controller,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Hours {
    async fn new(now: &str) -> Self {
        let hours = Self::on(TempDir::new().unwrap(), now).await;
        for (name, wait) in [("quick", "10ms"), ("slow", "600s")] {
            let source = format!("version: 1\nname: {name}\nsteps:\n  - {{name: breathe, wait: {wait}}}\n");
            let file = SaveFile { source, ..SaveFile::default() };
            hours.controller.save_file(&Caller::local(), FileKind::Suite, None, file).await.unwrap();
        }
        hours
    }

    async fn on(dir: TempDir, now: &str) -> Self {
        let clock = Clock::standing_at(at(now));
        let controller = open_by(dir.path(), LEASE, clock.clone()).await.unwrap();
        Self { dir, clock, controller }
    }

    /// Kennel stops, and starts again at another moment.
    async fn down_until(self, now: &str) -> Self {
        let dir = self.close().await;
        Self::on(dir, now).await
    }

    async fn close(self) -> TempDir {
        self.controller.close().await;
        self.dir
    }

    async fn schedule(&self, name: &str, suite: &str, cron: &str, zone: &str) -> ScheduleId {
        self.save(ScheduleDraft::new(name.into(), QueueKind::Suite, suite.into(), cron.into(), zone.into())).await
    }

    async fn save(&self, draft: ScheduleDraft) -> ScheduleId {
        self.controller.save_schedule(None, draft, &Caller::local()).await.unwrap()
    }

    /// What became of a schedule's occurrences, the earliest first.
    async fn occurrences(&self, id: ScheduleId) -> Vec<OccurrenceView> {
        let all = self.controller.occurrences(Some(id), Timestamp::UNIX_EPOCH, at("2100-01-01T00:00:00Z"), 1_000);
        let mut all = all.await.unwrap();
        all.reverse();
        all
    }

    /// The occurrences once they are as wanted.
    async fn until(&self, id: ScheduleId, wanted: impl Fn(&[OccurrenceView]) -> bool) -> Vec<OccurrenceView> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let all = self.occurrences(id).await;
            if wanted(&all) {
                return all;
            }
            assert!(Instant::now() < deadline, "never as wanted: {all:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sets the clock and waits until so many occurrences stand.
    async fn then(&self, now: &str, id: ScheduleId, count: usize) -> Vec<OccurrenceView> {
        self.clock.set(at(now));
        self.until(id, |all| all.len() >= count && all.iter().all(|one| one.state != OccurrenceState::Starting)).await
    }

    async fn suite_runs(&self) -> usize {
        self.controller.suite_runs(&SuiteRunFilter::default()).await.unwrap().len()
    }
}

fn states(all: &[OccurrenceView]) -> Vec<&'static str> {
    all.iter().map(|one| one.state.word()).collect()
}

#[tokio::test]
async fn what_is_due_starts_once_and_its_occurrence_tells_its_verdict() {
    let hours = Hours::new("2026-11-23T01:29:00Z").await;
    let id = hours.schedule("nightly", "quick", "30 2 * * *", "Europe/Berlin").await;
    let view = hours.controller.schedule("nightly").await.unwrap().unwrap();
    assert_eq!(view.next.unwrap().local, "Mon 2026-11-23 02:30 +01:00");
    hours.clock.set(at("2026-11-23T01:30:00Z"));
    let all = hours.until(id, |all| all.first().is_some_and(|one| one.verdict.is_some())).await;
    assert_eq!((states(&all), all[0].verdict), (vec!["started"], Some(Verdict::Passed)));
    assert_eq!((all[0].due_at.as_str(), all[0].reason.as_str()), ("2026-11-23T01:30:00Z", ""));
    let run = hours.controller.suite_runs(&SuiteRunFilter::default()).await.unwrap().remove(0);
    assert_eq!((Some(run.id), run.started_by.as_str(), run.origin.word()), (all[0].run, "nightly", "schedule"));
    // The next night comes, and a clock that went back brings nothing twice.
    hours.then("2026-11-24T01:30:20Z", id, 2).await;
    hours.clock.set(at("2026-11-24T01:29:50Z"));
    hours.clock.set(at("2026-11-25T01:30:00Z"));
    let all = hours.until(id, |all| all.len() == 3).await;
    assert_eq!(all.iter().map(|one| &one.due_at[8..10]).collect::<Vec<_>>(), ["23", "24", "25"]);
    hours.close().await;
}

#[tokio::test]
async fn what_came_while_kennel_was_down_is_treated_as_the_policy_says() {
    let hours = Hours::new("2026-11-23T09:30:00Z").await;
    let mut ids = Vec::new();
    for (name, missed) in
        [("skip", MissedPolicy::Skip), ("once", MissedPolicy::Once), ("catch up", MissedPolicy::CatchUp)]
    {
        let draft = ScheduleDraft::new(name.into(), QueueKind::Suite, "quick".into(), "0 * * * *".into(), "UTC".into());
        ids.push(hours.save(ScheduleDraft { missed, catch_up_limit: 2, ..draft }).await);
    }
    let hours = hours.down_until("2026-11-23T13:10:00Z").await;
    let settled = |all: &[OccurrenceView]| {
        all.len() == 4
            && all.iter().all(|one| one.run.is_none() && one.state == OccurrenceState::Missed || one.verdict.is_some())
    };
    assert_eq!(states(&hours.until(ids[0], settled).await), ["missed"; 4]);
    assert_eq!(states(&hours.until(ids[1], settled).await), ["missed", "missed", "missed", "started"]);
    let caught_up = hours.until(ids[2], settled).await;
    assert_eq!(states(&caught_up), ["missed", "missed", "started", "started"]);
    assert!(caught_up.iter().all(|one| !one.reason.is_empty()), "{caught_up:#?}");
    assert_eq!(hours.suite_runs().await, 3);
    hours.close().await;
}

#[tokio::test]
async fn a_night_that_lacks_the_hour_and_one_that_has_it_twice_run_once() {
    let hours = Hours::new("2027-03-27T00:00:00Z").await;
    let id = hours.schedule("spring", "quick", "30 2 * * *", "Europe/Berlin").await;
    let moments = ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"];
    for (at, moment) in moments.iter().enumerate() {
        hours.clock.set(self::at(moment));
        hours.until(id, |all| all.len() == at + 1 && all[at].verdict.is_some()).await;
    }
    let hours = hours.down_until("2027-10-30T12:00:00Z").await;
    let id_autumn = hours.schedule("autumn", "quick", "30 2 * * *", "Europe/Berlin").await;
    hours.then("2027-10-31T00:30:00Z", id_autumn, 1).await;
    // The same time on the clock once more, an hour later.
    hours.clock.set(at("2027-10-31T01:30:00Z"));
    let all = hours.then("2027-11-01T01:30:00Z", id_autumn, 2).await;
    let due: Vec<&str> = all.iter().map(|one| one.due_at.as_str()).collect();
    assert_eq!(due, ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]);
    let spring = hours.occurrences(id).await;
    let started =
        spring.iter().filter(|one| one.state == OccurrenceState::Started && one.due_at.starts_with("2027-03"));
    assert_eq!(started.map(|one| one.due_at.as_str()).collect::<Vec<_>>(), moments);
    hours.close().await;
}

async fn overlapping(overlap: OverlapPolicy) -> (Hours, ScheduleId) {
    let hours = Hours::new("2026-11-23T09:00:30Z").await;
    let draft = ScheduleDraft::new("each".into(), QueueKind::Suite, "slow".into(), "* * * * *".into(), "UTC".into());
    let id = hours.save(ScheduleDraft { overlap, ..draft }).await;
    assert_eq!(states(&hours.then("2026-11-23T09:01:00Z", id, 1).await), ["started"]);
    (hours, id)
}

#[tokio::test]
async fn an_occurrence_is_forbidden_while_the_earlier_run_is_on() {
    let (hours, id) = overlapping(OverlapPolicy::Forbid).await;
    let all = hours.then("2026-11-23T09:02:00Z", id, 2).await;
    assert_eq!(states(&all), ["started", "forbidden"]);
    assert_eq!(all[1].reason, "the earlier run was still on");
    hours.close().await;
}

#[tokio::test]
async fn an_occurrence_waits_for_the_earlier_run_and_the_latest_of_those_that_wait_goes() {
    let (hours, id) = overlapping(OverlapPolicy::Queue).await;
    hours.then("2026-11-23T09:02:00Z", id, 2).await;
    let all = hours.then("2026-11-23T09:03:00Z", id, 3).await;
    assert_eq!(states(&all), ["started", "replaced", "waiting"]);
    hours.controller.cancel_suite(all[0].run.unwrap(), "somebody").await.unwrap();
    let all = hours.until(id, |all| all[2].state == OccurrenceState::Started).await;
    assert!(all[2].run.is_some() && all[0].verdict.is_some(), "{all:#?}");
    hours.close().await;
}

#[tokio::test]
async fn an_occurrence_replaces_the_earlier_run() {
    let (hours, id) = overlapping(OverlapPolicy::Replace).await;
    hours.clock.set(at("2026-11-23T09:02:00Z"));
    let all = hours.until(id, |all| all.len() == 2 && all[1].state == OccurrenceState::Started).await;
    assert_eq!(all[0].verdict, Some(Verdict::Halted), "{all:#?}");
    assert_eq!((all[1].verdict, hours.suite_runs().await), (None, 2));
    hours.close().await;
}

#[tokio::test]
async fn blackouts_freezes_and_pauses_keep_things_from_running_and_say_so() {
    let hours = Hours::new("2026-12-24T11:00:30Z").await;
    let caller = Caller::local();
    let when = WindowRule::Once { from: "2026-12-24T12:00".into(), to: "2026-12-24T12:30".into() };
    let calendar = CalendarDraft {
        name: "feast".into(),
        description: String::new(),
        zone: "UTC".into(),
        everywhere: false,
        windows: vec![CalendarWindow { name: "Christmas".into(), when }],
    };
    hours.controller.save_calendar(None, calendar, &caller).await.unwrap();
    let draft = ScheduleDraft::new("h".into(), QueueKind::Suite, "quick".into(), "0 * * * *".into(), "UTC".into());
    let used = CalendarUse { calendar: "feast".into(), mode: CalendarMode::Exclude };
    let id = hours.save(ScheduleDraft { calendars: vec![used], ..draft }).await;

    let all = hours.then("2026-12-24T12:00:00Z", id, 1).await;
    assert_eq!((states(&all)[0], all[0].reason.as_str()), ("skipped", "blackout `Christmas` of calendar `feast`"));
    let freeze = FreezeDraft { reason: "release".into(), until: Some("2026-12-24T13:30:00Z".into()) };
    hours.controller.freeze(freeze, &caller).await.unwrap();
    assert_eq!(hours.controller.freeze_state().await.unwrap().freeze.unwrap().by, "local");
    let all = hours.then("2026-12-24T13:00:00Z", id, 2).await;
    assert_eq!((states(&all)[1], all[1].reason.as_str()), ("skipped", "frozen: release"));
    let pause = Pause { until: Some("2026-12-24T14:30:00Z".into()) };
    hours.controller.pause_schedule(id, pause, &caller).await.unwrap();
    let next = hours.controller.schedule("h").await.unwrap().unwrap().next.unwrap();
    assert_eq!(next.due_at, "2026-12-24T15:00:00Z");
    let all = hours.then("2026-12-24T14:00:00Z", id, 3).await;
    assert_eq!(states(&all)[2], "skipped");
    let all = hours.then("2026-12-24T15:00:00Z", id, 4).await;
    assert_eq!(states(&all)[3], "started", "{all:#?}");
    let refused = hours.controller.remove_calendar("feast", &caller).await.unwrap_err();
    assert_eq!(refused.to_string(), "calendar `feast` is used by h; take it out of them first");
    hours.close().await;
}

async fn database(dir: &Path) -> SqlitePool {
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(dir.join("kennel.db"))).await.unwrap()
}

/// Leaves an occurrence as Kennel leaves it when it is killed right after noting it.
async fn noted_but_not_started(dir: &Path, schedule: ScheduleId, due_at: &str, run: RunId) {
    let pool = database(dir).await;
    sqlx::query(
        "INSERT INTO occurrences (schedule, due_at, state, reason, kind, run, noted_at)
         VALUES ($1, $2, 'starting', '', 'suite', $3, $2)",
    )
    .bind(schedule.to_string())
    .bind(due_at)
    .bind(run.to_string())
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("UPDATE schedules SET handled_at = $1").bind(due_at).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn an_occurrence_that_was_noted_before_kennel_was_killed_starts_under_its_own_run() {
    let hours = Hours::new("2026-11-23T09:59:00Z").await;
    let id = hours.schedule("hourly", "quick", "0 * * * *", "UTC").await;
    let dir = hours.close().await;
    let run = RunId::new();
    noted_but_not_started(dir.path(), id, "2026-11-23T10:00:00Z", run).await;
    let hours = Hours::on(dir, "2026-11-23T10:00:40Z").await;
    let all = hours.until(id, |all| all[0].verdict.is_some()).await;
    assert_eq!((states(&all), all[0].run), (vec!["started"], Some(run)));
    assert_eq!(hours.suite_runs().await, 1);
    hours.close().await;
}

#[tokio::test]
async fn an_occurrence_that_was_noted_before_a_long_outage_is_missed_and_never_forgotten() {
    let hours = Hours::new("2026-11-23T09:59:00Z").await;
    let id = hours.schedule("hourly", "quick", "0 * * * *", "UTC").await;
    let dir = hours.close().await;
    noted_but_not_started(dir.path(), id, "2026-11-23T10:00:00Z", RunId::new()).await;
    let hours = Hours::on(dir, "2026-11-23T10:30:00Z").await;
    let all = hours.until(id, |all| all[0].state == OccurrenceState::Missed).await;
    assert_eq!(all[0].reason, "Kennel was stopped just before it started, and came back 1800 s late");
    assert_eq!((all.len(), hours.suite_runs().await), (1, 0));
    hours.close().await;
}

#[tokio::test]
async fn a_run_that_was_handed_in_before_kennel_was_killed_is_not_started_again() {
    let hours = Hours::new("2026-11-23T09:59:00Z").await;
    let id = hours.schedule("hourly", "quick", "0 * * * *", "UTC").await;
    hours.clock.set(at("2026-11-23T10:00:00Z"));
    let run = hours.until(id, |all| all.first().is_some_and(|one| one.verdict.is_some())).await[0].run;
    let dir = hours.close().await;
    let pool = database(dir.path()).await;
    sqlx::query("UPDATE occurrences SET state = 'starting'").execute(&pool).await.unwrap();
    pool.close().await;
    let hours = Hours::on(dir, "2026-11-23T10:00:30Z").await;
    let all = hours.until(id, |all| all[0].state == OccurrenceState::Started).await;
    assert_eq!((all[0].run, all.len(), hours.suite_runs().await), (run, 1, 1));
    hours.close().await;
}

#[tokio::test]
async fn what_cannot_be_started_is_noted_with_the_cause() {
    let hours = Hours::new("2026-11-23T09:59:00Z").await;
    let id = hours.schedule("hourly", "quick", "0 * * * *", "UTC").await;
    hours.controller.remove_file(&Caller::local(), FileKind::Suite, "quick", None).await.unwrap();
    let all = hours.then("2026-11-23T10:00:00Z", id, 1).await;
    assert_eq!(states(&all), ["failed"]);
    assert!(all[0].reason.contains("there is no suite `quick`"), "{}", all[0].reason);
    let by_hand = hours.controller.run_schedule_now(id, &Caller::local()).await.unwrap_err();
    assert!(matches!(by_hand, ScheduleError::NotStarted { .. }), "{by_hand}");
    hours.close().await;
}

#[tokio::test]
async fn a_run_by_hand_stands_among_the_occurrences_and_takes_none_away() {
    let hours = Hours::new("2026-11-23T09:59:00Z").await;
    let id = hours.schedule("hourly", "quick", "0 * * * *", "UTC").await;
    hours.clock.set(at("2026-11-23T10:00:00Z"));
    let first = hours.controller.run_schedule_now(id, &Caller::local()).await.unwrap();
    let second = hours.controller.run_schedule_now(id, &Caller::local()).await.unwrap();
    let all = hours.until(id, |all| all.len() == 3 && all.iter().all(|one| one.verdict.is_some())).await;
    assert_eq!((all[0].run, all[1].run), (Some(second), Some(first)));
    assert_eq!((all[2].due_at.as_str(), all[2].reason.as_str()), ("2026-11-23T10:00:00Z", ""));
    hours.close().await;
}

#[tokio::test]
async fn schedules_are_kept_changed_and_refused_over_http() {
    let stage = Stage::new().await;
    let suite = json!({"source": "version: 1\nname: quick\nsteps: [{name: breathe, wait: 10ms}]\n"});
    assert_eq!(stage.put("/files/suite/quick", &suite).await.0, 200);
    let draft =
        json!({"name": "nightly", "kind": "suite", "subject": "quick", "cron": "30 2 * * *", "zone": "Europe/Berlin"});
    let (status, made) = stage.post("/schedules", &draft).await;
    assert_eq!((status, made["words"].is_string(), made["next"]["due_at"].is_string()), (201, true, true), "{made}");
    assert_eq!(stage.post("/schedules", &draft).await.0, 409);
    let bad = json!({"name": "", "kind": "suite", "subject": "gone", "cron": "0 0 31 2 *", "zone": "UTC",
                     "calendars": [{"calendar": "none", "mode": "exclude"}]});
    let (status, refused) = stage.post("/schedules", &bad).await;
    let fields: Vec<&str> =
        refused["problems"].as_array().unwrap().iter().map(|found| found["field"].as_str().unwrap()).collect();
    assert_eq!((status, fields), (422, vec!["name", "cron", "subject", "calendars[0].calendar"]), "{refused}");

    let (status, preview) = stage.get("/schedule-preview?cron=30%202%20*%20*%20*&zone=Europe/Berlin").await;
    assert_eq!((status, preview["next"].as_array().map(Vec::len)), (200, Some(5)), "{preview}");
    assert_eq!(preview["clock_changes"].as_array().map(Vec::len), Some(2), "{preview}");
    assert_eq!(stage.get("/schedule-preview?cron=nonsense").await.0, 422);
    let (_, next) = stage.get("/schedules/nightly/next?count=3").await;
    assert_eq!(next.as_array().map(Vec::len), Some(3));

    let changed = json!({"name": "weekly", "kind": "suite", "subject": "quick", "cron": "@weekly", "zone": "UTC"});
    let id = made["id"].as_str().unwrap();
    let (status, view) = stage.put(&format!("/schedules/{id}"), &changed).await;
    assert_eq!((status, &view["name"], &view["id"]), (200, &json!("weekly"), &made["id"]));
    let (status, view) = stage.post("/schedules/weekly/pause", &json!({})).await;
    assert_eq!((status, &view["pause"], &view["next"]), (200, &json!({"until": null}), &json!(null)));
    assert_eq!(stage.post("/schedules/weekly/pause", &json!({"until": "2020-01-01T00:00:00Z"})).await.0, 422);
    let (status, view) = stage.post("/schedules/weekly/resume", &json!({})).await;
    assert_eq!((status, &view["pause"]), (200, &json!(null)));
    let (status, started) = stage.post("/schedules/weekly/run", &json!({})).await;
    assert_eq!(status, 201, "{started}");
    let (_, all) = stage.get("/schedules/weekly/occurrences").await;
    assert_eq!(all[0]["run"], started["id"], "{all}");
    let (_, plan) = stage.get("/schedule-plan").await;
    assert!((4..=5).contains(&plan.as_array().unwrap().len()), "{plan}");

    let calendar = json!({"name": "feast", "zone": "UTC", "everywhere": true,
                          "windows": [{"name": "New Year", "type": "yearly", "day": "01-01"}]});
    assert_eq!(stage.post("/calendars", &calendar).await.0, 201);
    assert_eq!(stage.get("/calendars/feast").await.1["used_by"], json!([]));
    let (_, windows) = stage.get("/calendar-windows?from=2026-12-01T00:00:00Z&to=2027-02-01T00:00:00Z").await;
    assert_eq!(windows[0]["from"], "2027-01-01T00:00:00Z", "{windows}");
    assert_eq!(stage.delete("/calendars/feast").await, 204);
    assert_eq!(stage.put("/freeze", &json!({"reason": " "})).await.0, 422);
    assert_eq!(stage.put("/freeze", &json!({"reason": "release"})).await.1["freeze"]["reason"], "release");
    assert_eq!(stage.delete("/freeze").await, 204);
    assert_eq!(stage.get("/freeze").await.1["freeze"], json!(null));
    assert_eq!(stage.delete(&format!("/schedules/{id}")).await, 204);
    assert_eq!(stage.get("/schedules/weekly").await.0, 404);
    stage.close().await;
}

#[tokio::test]
async fn a_suite_that_waits_for_its_target_is_in_the_queue_and_can_be_cancelled_there() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let first = stage.start(&crate::stage::experiment("")).await;
    agent.begin().await;
    let source = crate::stage::experiment("").replacen("name: checkout", "name: kept", 1);
    assert_eq!(stage.put("/files/experiment/kept", &json!({"source": source})).await.0, 200);
    let source = "version: 1\nname: loads\nsteps: [{name: load, experiment: kept}]\n".to_owned();
    let request = StartSuite { source: Some(source), parameters: BTreeMap::new(), ..StartSuite::default() };
    let run = stage.controller.start_suite_by(&Caller::local(), request).await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    let waiting = loop {
        if let Some(entry) = stage.controller.queue().waiting.into_iter().next() {
            break entry;
        }
        assert!(Instant::now() < deadline, "the suite never waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((waiting.id, waiting.kind, waiting.requested_by.as_str()), (run, QueueKind::Suite, "local"));
    assert!(waiting.reason.contains("target `shop` is used by experiment `checkout`"), "{}", waiting.reason);
    assert!(
        waiting.expected_start_at.is_some_and(|start| at(&start) > Timestamp::now() - SignedDuration::from_mins(1))
    );
    assert_eq!(stage.delete(&format!("/queue/{run}")).await, 204);
    while !stage.controller.queue().waiting.is_empty() {
        assert!(Instant::now() < deadline, "it still waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stage.delete(&format!("/queue/{run}")).await, 404);
    assert_eq!(stage.controller.active_runs(), [first]);
    // A halted run waits for its agent's confirmation, but not for one that is gone.
    drop(agent);
    stage.close().await;
}
