//! A month of schedules at `/schedules/calendar`: what is due, what ran, and when nothing may.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use kennel_model::api::{OccurrenceView, QueueKind, WindowView};
use serde::Deserialize;

use super::{class, glyph, link, word};
use crate::Web;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// Most occurrences of a month that are read.
const MOST: u32 = 5_000;
/// Most entries that one day shows; the rest is counted.
const SHOWN: usize = 6;

#[derive(Template)]
#[template(path = "schedules/month.html")]
struct MonthPage {
    layout: Layout,
    /// `November 2026`.
    title: String,
    previous: String,
    next: String,
    /// Name of the zone in which days begin.
    zone: String,
    /// Whole weeks, from Monday.
    weeks: Vec<Vec<Day>>,
    is_empty: bool,
}

/// One day of the grid.
struct Day {
    date: Date,
    is_inside: bool,
    is_today: bool,
    entries: Vec<Entry>,
    /// How many more there are than are shown.
    more: usize,
    windows: Vec<String>,
}

impl Day {
    fn label(&self) -> String {
        self.date.strftime("%A, %-d %B").to_string()
    }
}

/// Something on a day.
struct Entry {
    at: String,
    moment: String,
    name: String,
    href: String,
    class: &'static str,
    glyph: &'static str,
    word: String,
}

/// Which of the tabs these pages are.
fn tab() -> &'static str {
    "month"
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// `2026-11`.
    #[serde(default)]
    month: String,
    /// Zone in which days begin.
    #[serde(default)]
    zone: String,
}

/// `GET /schedules/calendar`
pub(super) async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let unusable =
        |what: String| Problem::Unusable { what, next: "Open the calendar without it, and go on from there." };
    let zone_name = if wanted.zone.trim().is_empty() { "UTC" } else { wanted.zone.trim() };
    let zone = TimeZone::get(zone_name).map_err(|_| unusable(format!("There is no time zone `{zone_name}`.")))?;
    let now = Timestamp::now();
    let today = now.to_zoned(zone.clone()).date();
    let first = match wanted.month.trim() {
        "" => today.first_of_month(),
        month => format!("{month}-01")
            .parse::<Date>()
            .ok()
            .filter(|date| (1970..=2200).contains(&date.year()))
            .ok_or_else(|| unusable(format!("`{month}` is no month; expected one such as 2026-11.")))?,
    };
    let cannot = |_: jiff::Error| unusable(format!("`{}` is too far away.", wanted.month));
    let last = first.last_of_month();
    let monday = first.checked_sub(i64::from(first.weekday().to_monday_zero_offset()).days()).map_err(cannot)?;
    let sunday = last.checked_add(i64::from(6 - last.weekday().to_monday_zero_offset()).days()).map_err(cannot)?;
    let moment = |date: Date| date.to_zoned(zone.clone()).map(|at| at.timestamp()).map_err(cannot);
    let (from, to) = (moment(monday)?, moment(sunday.tomorrow().map_err(cannot)?)?);

    let mut days: BTreeMap<Date, Vec<Entry>> = BTreeMap::new();
    let mut take = |at: &str, entry: &dyn Fn(String) -> Entry| {
        if let Ok(at) = at.parse::<Timestamp>() {
            let local = at.to_zoned(zone.clone());
            days.entry(local.date()).or_default().push(entry(local.strftime("%H:%M").to_string()));
        }
    };
    let past = web.controller.occurrences(None, from, to, MOST).await?;
    for occurrence in &past {
        take(&occurrence.due_at, &|at| ran(occurrence, at));
    }
    if to > now {
        for planned in web.controller.planned(now.max(from), to).await? {
            take(&planned.due.due_at, &|at| Entry {
                at,
                moment: planned.due.due_at.clone(),
                name: planned.name.clone(),
                href: format!("/schedules/{}", planned.schedule),
                class: if planned.due.note.is_empty() { "queued" } else { "skipped" },
                glyph: if planned.due.note.is_empty() { "○" } else { "–" },
                word: if planned.due.note.is_empty() { "due".to_owned() } else { planned.due.note.clone() },
            });
        }
    }
    let windows = web.controller.calendar_windows(from, to).await?;
    let is_empty = days.is_empty() && windows.is_empty();
    let mut weeks = Vec::new();
    let mut date = monday;
    while date <= sunday {
        let mut week = Vec::new();
        for _ in 0..7 {
            let (begins, ends) = (moment(date)?, moment(date.tomorrow().map_err(cannot)?)?);
            let mut entries = days.remove(&date).unwrap_or_default();
            entries.sort_by(|a, b| (&a.moment, &a.name).cmp(&(&b.moment, &b.name)));
            let more = entries.len().saturating_sub(SHOWN);
            entries.truncate(SHOWN);
            week.push(Day {
                date,
                is_inside: date.month() == first.month(),
                is_today: date == today,
                entries,
                more,
                windows: on(&windows, begins, ends),
            });
            date = date.tomorrow().map_err(cannot)?;
        }
        weeks.push(week);
    }
    let address = |month: Date| format!("/schedules/calendar?month={}&zone={}", month.strftime("%Y-%m"), zone_name);
    let before = first.yesterday().map_err(cannot)?.first_of_month();
    let after = last.tomorrow().map_err(cannot)?;
    fill(&MonthPage {
        layout: web.layout.at("schedules"),
        title: first.strftime("%B %Y").to_string(),
        previous: address(before),
        next: address(after),
        zone: zone_name.to_owned(),
        weeks,
        is_empty,
    })
}

fn ran(occurrence: &OccurrenceView, at: String) -> Entry {
    let what = match occurrence.kind {
        QueueKind::Suite => "suite",
        QueueKind::Experiment => "experiment",
    };
    let reason = if occurrence.reason.is_empty() { String::new() } else { format!(": {}", occurrence.reason) };
    Entry {
        at,
        moment: occurrence.due_at.clone(),
        name: occurrence.name.clone(),
        href: link(occurrence),
        class: class(occurrence),
        glyph: glyph(occurrence),
        word: format!("{} ({what}){reason}", word(occurrence)),
    }
}

/// Names of the windows that reach into a day.
fn on(windows: &[WindowView], begins: Timestamp, ends: Timestamp) -> Vec<String> {
    let read = |text: &str| text.parse::<Timestamp>().ok();
    let mut names: Vec<String> = windows
        .iter()
        .filter(|window| {
            read(&window.from).is_some_and(|from| from < ends) && read(&window.to).is_some_and(|to| to > begins)
        })
        .map(|window| window.name.clone())
        .collect();
    names.dedup();
    names
}
