//! `kennel schedule …`: what runs when, as in the pages.

use std::process::ExitCode;

use kennel_model::api::{
    CalendarMode, CalendarUse, CalendarView, Due, FreezeDraft, FreezeState, MissedPolicy, OccurrenceView,
    OverlapPolicy, Pause, QueueKind, ScheduleDraft, ScheduleView, Started,
};

use super::suite::unique;
use crate::arguments::ScheduleArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json, say};
use crate::places::Places;

pub(super) async fn run(places: &Places, command: ScheduleArguments) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let done = carry_out(&client, command).await;
    if done.is_ok() && client.page_at("/").is_none() {
        say("note: no `kennel serve` is running on this data directory; schedules only start things while one is");
    }
    client.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(client: &Client, command: ScheduleArguments) -> Result<(), Failure> {
    match command {
        ScheduleArguments::List { json } => {
            let schedules: Vec<ScheduleView> = client.get("/schedules").await?;
            if json {
                print_json(&schedules);
            } else if schedules.is_empty() {
                print("no schedules; `kennel schedule add nightly --suite SUITE --cron '30 2 * * *'` makes one");
            } else {
                let state: FreezeState = client.get("/freeze").await?;
                schedules.iter().for_each(|schedule| print(&line(schedule, &state)));
                tell_freeze(&state);
            }
        }
        ScheduleArguments::Show { schedule, json } => {
            let shown: ScheduleView = client.get(&format!("/schedules/{}", part(&schedule))).await?;
            if json {
                print_json(&shown);
            } else {
                let state: FreezeState = client.get("/freeze").await?;
                print(&line(&shown, &state));
                rules(&shown.draft).iter().for_each(|rule| print(&format!("  {rule}")));
                tell_freeze(&state);
                shown.latest.iter().for_each(|one| print(&format!("  {}", became(one))));
            }
        }
        ScheduleArguments::Add {
            name,
            suite,
            experiment,
            cron,
            zone,
            parameters,
            missed,
            catch_up_limit,
            overlap,
            not_during,
            only_during,
            priority,
            json,
        } => {
            let (kind, subject) = match (suite, experiment) {
                (Some(suite), _) => (QueueKind::Suite, suite),
                (None, experiment) => (QueueKind::Experiment, experiment.unwrap_or_default()),
            };
            let uses = |names: Vec<String>, mode| names.into_iter().map(move |calendar| CalendarUse { calendar, mode });
            let calendars =
                uses(not_during, CalendarMode::Exclude).chain(uses(only_during, CalendarMode::Include)).collect();
            let usual = ScheduleDraft::new(name, kind, subject, cron, zone);
            let draft = ScheduleDraft {
                parameters: unique(parameters)?,
                missed: missed.unwrap_or(MissedPolicy::Skip),
                catch_up_limit: catch_up_limit.unwrap_or(usual.catch_up_limit),
                overlap: overlap.unwrap_or(OverlapPolicy::Forbid),
                calendars,
                priority,
                ..usual
            };
            let made: ScheduleView = client.post("/schedules", &draft).await?;
            tell(client, &made, json).await?;
        }
        ScheduleArguments::Pause { schedule, until, json } => {
            let path = format!("/schedules/{}/pause", part(&schedule));
            tell(client, &client.post(&path, &Pause { until }).await?, json).await?;
        }
        ScheduleArguments::Resume { schedule, json } => {
            let path = format!("/schedules/{}/resume", part(&schedule));
            tell(client, &client.post(&path, &()).await?, json).await?;
        }
        ScheduleArguments::Remove { schedule } => {
            client.remove(&format!("/schedules/{}", part(&schedule))).await?;
            say(&format!("removed `{schedule}`"));
        }
        ScheduleArguments::Next { schedule, count, json } => {
            let due: Vec<Due> = client.get(&format!("/schedules/{}/next?count={count}", part(&schedule))).await?;
            if json {
                print_json(&due);
            } else {
                for due in due {
                    print(format!("{}  {}", due.local, due.note).trim_end());
                }
            }
        }
        ScheduleArguments::Run { schedule, json } => {
            let started: Started = client.post(&format!("/schedules/{}/run", part(&schedule)), &()).await?;
            if json { print_json(&started) } else { print(&format!("started run {}", started.id)) }
        }
        ScheduleArguments::Calendars { json } => {
            let calendars: Vec<CalendarView> = client.get("/calendars").await?;
            if json {
                print_json(&calendars);
            } else if calendars.is_empty() {
                print(
                    "no calendars; one is made under Schedules › Blackouts and holidays, or with POST /api/v1/calendars",
                );
            } else {
                calendars.iter().for_each(|calendar| print(&calendar_line(calendar)));
            }
        }
        ScheduleArguments::Freeze { reason, until, json } => {
            let state: FreezeState = client.put("/freeze", &FreezeDraft { reason, until }).await?;
            if json { print_json(&state) } else { tell_freeze(&state) }
        }
        ScheduleArguments::Thaw => {
            client.remove("/freeze").await?;
            say("schedules run again");
        }
    }
    Ok(())
}

async fn tell(client: &Client, schedule: &ScheduleView, json: bool) -> Result<(), Failure> {
    if json {
        print_json(schedule);
    } else {
        print(&line(schedule, &client.get("/freeze").await?));
    }
    Ok(())
}

fn line(schedule: &ScheduleView, state: &FreezeState) -> String {
    let draft = &schedule.draft;
    let next = match (&schedule.pause, &schedule.next) {
        (Some(Pause { until: None }), _) => "paused".to_owned(),
        (Some(Pause { until: Some(until) }), _) => format!("paused until {until}"),
        (None, Some(next)) => format!("next {}", next.local),
        (None, None) if state.freeze.is_some() => "frozen".to_owned(),
        (None, None) => "never due".to_owned(),
    };
    let last = schedule.latest.first().map_or_else(String::new, |last| {
        let outcome = last.verdict.map_or_else(|| last.state.word(), kennel_model::Verdict::word);
        format!("; last {outcome}")
    });
    format!("{}: {} `{}`, {}; {next}{last}", draft.name, draft.kind, draft.subject, schedule.words)
}

/// What holds for a schedule beside its clock, as far as somebody chose it.
fn rules(draft: &ScheduleDraft) -> Vec<String> {
    let mut rules = Vec::new();
    if !draft.parameters.is_empty() {
        let values: Vec<String> = draft.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        rules.push(format!("with {}", values.join(", ")));
    }
    let missed = match draft.missed {
        MissedPolicy::CatchUp => format!("catch-up with up to {}", draft.catch_up_limit),
        other => other.to_string(),
    };
    rules.push(format!("missed: {missed}; overlap: {}; priority {}", draft.overlap, draft.priority));
    rules.extend(draft.calendars.iter().map(|used| match used.mode {
        CalendarMode::Exclude => format!("not during `{}`", used.calendar),
        CalendarMode::Include => format!("only during `{}`", used.calendar),
    }));
    rules
}

/// What became of an occurrence, in a line.
fn became(one: &OccurrenceView) -> String {
    let run = one.run.map_or_else(String::new, |run| format!(", run {}", run.short()));
    let verdict = one.verdict.map_or_else(String::new, |verdict| format!(": {verdict}"));
    let reason = if one.reason.is_empty() { String::new() } else { format!(" ({})", one.reason) };
    format!("{}  {}{run}{verdict}{reason}", one.due_at, one.state)
}

fn calendar_line(calendar: &CalendarView) -> String {
    let draft = &calendar.draft;
    let windows: Vec<&str> = draft.windows.iter().map(|window| window.name.as_str()).collect();
    let scope = match (draft.everywhere, calendar.used_by.is_empty()) {
        (true, _) => "keeps all schedules out".to_owned(),
        (false, true) => "used by none".to_owned(),
        (false, false) => format!("used by {}", calendar.used_by.join(", ")),
    };
    format!("{}: {} ({}); {scope}", draft.name, windows.join(", "), draft.zone)
}

fn tell_freeze(state: &FreezeState) {
    if let Some(freeze) = &state.freeze {
        let until = freeze.until.as_ref().map_or_else(|| "until thawed".to_owned(), |until| format!("until {until}"));
        print(&format!("frozen by {} since {}, {until}: {}", freeze.by, freeze.since, freeze.reason));
    }
}

/// A text as one part of an address.
fn part(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
