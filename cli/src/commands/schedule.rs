//! `kennel schedule …`: what runs when, as in the pages.

use std::process::ExitCode;

use kennel_model::api::{
    CalendarMode, CalendarUse, Due, MissedPolicy, OverlapPolicy, Pause, QueueKind, ScheduleDraft, ScheduleView, Started,
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
                schedules.iter().for_each(|schedule| print(&line(schedule)));
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
            let draft = ScheduleDraft {
                parameters: unique(parameters)?,
                missed: missed.unwrap_or(MissedPolicy::Skip),
                overlap: overlap.unwrap_or(OverlapPolicy::Forbid),
                calendars,
                priority,
                ..ScheduleDraft::new(name, kind, subject, cron, zone)
            };
            let made: ScheduleView = client.post("/schedules", &draft).await?;
            tell(&made, json);
        }
        ScheduleArguments::Pause { schedule, until, json } => {
            let path = format!("/schedules/{}/pause", part(&schedule));
            tell(&client.post::<_, ScheduleView>(&path, &Pause { until }).await?, json);
        }
        ScheduleArguments::Resume { schedule, json } => {
            let path = format!("/schedules/{}/resume", part(&schedule));
            tell(&client.post::<_, ScheduleView>(&path, &()).await?, json);
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
    }
    Ok(())
}

fn tell(schedule: &ScheduleView, json: bool) {
    if json { print_json(schedule) } else { print(&line(schedule)) }
}

fn line(schedule: &ScheduleView) -> String {
    let draft = &schedule.draft;
    let next = match (&schedule.pause, &schedule.next) {
        (Some(Pause { until: None }), _) => "paused".to_owned(),
        (Some(Pause { until: Some(until) }), _) => format!("paused until {until}"),
        (None, Some(next)) => format!("next {}", next.local),
        (None, None) => "never due".to_owned(),
    };
    let last = schedule.latest.first().map_or_else(String::new, |last| {
        let outcome = last.verdict.map_or_else(|| last.state.word(), kennel_model::Verdict::word);
        format!("; last {outcome}")
    });
    format!("{}: {} `{}`, {}; {next}{last}", draft.name, draft.kind, draft.subject, schedule.words)
}

/// A text as one part of an address.
fn part(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
