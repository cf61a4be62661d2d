//! Schedules, calendars and what is due.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::QueueKind;
use crate::run::{RunId, Verdict};
use crate::words::words;

/// Identity of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "019ab4c6-6f0e-7cc1-8a43-0f6a1c2a7b11")]
pub struct ScheduleId(pub Uuid);

impl ScheduleId {
    /// A new identity.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for ScheduleId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ScheduleId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

words! {
    /// What becomes of occurrences that came while Kennel could not act on them.
    MissedPolicy {
        /// They are noted as missed, and nothing runs.
        Skip = "skip",
        /// One run makes up for all of them.
        Once = "once",
        /// Each is run, the oldest first, up to a limit.
        CatchUp = "catch-up",
    }
}

words! {
    /// What becomes of an occurrence while the schedule's earlier run is still on.
    OverlapPolicy {
        /// It is noted and does not run.
        Forbid = "forbid",
        /// It waits until the earlier run is over.
        Queue = "queue",
        /// The earlier run is halted, then it runs.
        Replace = "replace",
    }
}

words! {
    /// What a calendar means to a schedule.
    CalendarMode {
        /// Nothing runs while it covers the moment.
        Exclude = "exclude",
        /// Things run only while it covers the moment.
        Include = "include",
    }
}

words! {
    /// What became of an occurrence.
    OccurrenceState {
        /// It is being handed in.
        Starting = "starting",
        /// It waits until the schedule's earlier run is over.
        Waiting = "waiting",
        /// It was handed in: the run tells the rest.
        Started = "started",
        /// A blackout, a holiday, a freeze or a pause kept it from running.
        Skipped = "skipped",
        /// Kennel could not act on it in time.
        Missed = "missed",
        /// The schedule's earlier run was still on.
        Forbidden = "forbidden",
        /// It waited, and a later occurrence took its place.
        Replaced = "replaced",
        /// It could not be handed in.
        Failed = "failed",
    }
}

words! {
    /// A day of the week.
    Day {
        /// Monday.
        Monday = "monday",
        /// Tuesday.
        Tuesday = "tuesday",
        /// Wednesday.
        Wednesday = "wednesday",
        /// Thursday.
        Thursday = "thursday",
        /// Friday.
        Friday = "friday",
        /// Saturday.
        Saturday = "saturday",
        /// Sunday.
        Sunday = "sunday",
    }
}

/// What a schedule runs and when: what is sent to make or change one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDraft {
    /// Its name; no other schedule has it.
    pub name: String,
    /// Whether it runs a suite or an experiment.
    pub kind: QueueKind,
    /// Name of the suite or experiment.
    pub subject: String,
    /// Values of a suite's parameters that differ from their defaults.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Five fields: minute, hour, day of the month, month, day of the week; or `@daily` and its like.
    #[schema(example = "30 2 * * MON-FRI")]
    pub cron: String,
    /// IANA time zone in which the fields are read.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
    /// Calendars that it obeys, beside those that every schedule obeys.
    #[serde(default)]
    pub calendars: Vec<CalendarUse>,
    /// What becomes of occurrences that Kennel could not act on in time.
    #[serde(default = "skip")]
    pub missed: MissedPolicy,
    /// Most missed occurrences that are caught up with, for `missed: catch-up`: 1 to 50.
    #[serde(default = "catch_up_limit")]
    pub catch_up_limit: u32,
    /// What happens while its earlier run is still on.
    #[serde(default = "forbid")]
    pub overlap: OverlapPolicy,
    /// Higher goes first in the queue: -100 to 100.
    #[serde(default)]
    pub priority: i32,
}

fn skip() -> MissedPolicy {
    MissedPolicy::Skip
}

fn catch_up_limit() -> u32 {
    5
}

fn forbid() -> OverlapPolicy {
    OverlapPolicy::Forbid
}

impl ScheduleDraft {
    /// A schedule with every choice left as it is unless said otherwise.
    #[must_use]
    pub fn new(name: String, kind: QueueKind, subject: String, cron: String, zone: String) -> Self {
        Self {
            name,
            kind,
            subject,
            parameters: BTreeMap::new(),
            cron,
            zone,
            calendars: Vec::new(),
            missed: skip(),
            catch_up_limit: catch_up_limit(),
            overlap: forbid(),
            priority: 0,
        }
    }
}

/// A calendar that a schedule obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarUse {
    /// Name of the calendar.
    pub calendar: String,
    /// What it means to the schedule.
    pub mode: CalendarMode,
}

/// Something wrong with one field of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// The field: `cron`, `zone`, `windows[0].from`.
    pub field: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What would be accepted.
    pub expected: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)?;
        if self.expected.is_empty() { Ok(()) } else { write!(f, "; expected {}", self.expected) }
    }
}

/// A schedule as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// Its identity.
    pub id: ScheduleId,
    /// What it runs and when.
    #[serde(flatten)]
    pub draft: ScheduleDraft,
    /// When, in words.
    pub words: String,
    /// Set while it is paused.
    pub pause: Option<Pause>,
    /// Its next occurrence that nothing known today will keep from running; absent when there is none within two years.
    pub next: Option<Due>,
    /// Its latest occurrences, newest first.
    pub latest: Vec<OccurrenceView>,
    /// When it was made.
    pub created_at: String,
    /// Who made or last changed it.
    pub author: String,
}

/// A pause: occurrences are noted and do not run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// When it ends; absent for as long as nobody resumes it.
    #[serde(default)]
    pub until: Option<String>,
}

/// A moment at which a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Due {
    /// When, in UTC.
    pub due_at: String,
    /// When on the clocks of the schedule's zone, with their offset: `Tue 2026-11-24 02:30 +01:00`.
    pub local: String,
    /// What will keep it from running, or what is odd about it; empty where nothing is.
    #[serde(default)]
    pub note: String,
}

/// What a cron expression in a zone comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CronPreview {
    /// In words.
    pub words: String,
    /// The next occurrences.
    pub next: Vec<Due>,
    /// What the days on which clocks change do to it within a year, one sentence each.
    pub clock_changes: Vec<String>,
}

/// An occurrence with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OccurrenceView {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The schedule's name.
    pub name: String,
    /// When it was due.
    pub due_at: String,
    /// What became of it.
    pub state: OccurrenceState,
    /// Why, in a sentence; empty where it simply started.
    pub reason: String,
    /// Whether its run is of a suite or an experiment.
    pub kind: QueueKind,
    /// Its run.
    pub run: Option<RunId>,
    /// How the run ended; absent until it is over.
    pub verdict: Option<Verdict>,
    /// When Kennel decided about it.
    pub noted_at: String,
}

/// A set of windows of time under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarDraft {
    /// Its name; no other calendar has it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// IANA time zone in which its windows are read.
    pub zone: String,
    /// Whether every schedule keeps out of it, named or not.
    #[serde(default)]
    pub everywhere: bool,
    /// Its windows.
    #[serde(default)]
    pub windows: Vec<CalendarWindow>,
}

/// A window of time with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarWindow {
    /// What it is, for people: `Release weekend`.
    pub name: String,
    /// When it is.
    #[serde(flatten)]
    pub when: WindowRule,
}

/// When a window is. Dates and times are those of the calendar's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum WindowRule {
    /// Once, from one moment to another.
    Once {
        /// Beginning: `2026-12-24T12:00`.
        from: String,
        /// End: `2026-12-27T06:00`.
        to: String,
    },
    /// On days of the week.
    Weekly {
        /// The days on which it begins.
        days: Vec<Day>,
        /// Beginning: `22:00`.
        from: String,
        /// End: `06:00`; on the next day when it is not after the beginning.
        to: String,
    },
    /// From each moment of a cron expression, for a while.
    Cron {
        /// Five fields.
        cron: String,
        /// How many minutes.
        minutes: u32,
    },
    /// One whole day.
    Date {
        /// The day: `2026-12-25`.
        date: String,
    },
    /// A whole day each year.
    Yearly {
        /// The day: `12-25`.
        day: String,
    },
}

/// A calendar as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarView {
    /// Its name and windows.
    #[serde(flatten)]
    pub draft: CalendarDraft,
    /// Names of the schedules that name it.
    pub used_by: Vec<String>,
    /// Who last changed it.
    pub author: String,
    /// When it was last changed.
    pub changed_at: String,
}

/// A request to freeze: no schedule starts anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeDraft {
    /// Why.
    pub reason: String,
    /// When it ends; absent for as long as nobody lifts it.
    #[serde(default)]
    pub until: Option<String>,
}

/// A freeze that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreezeView {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// When it ends; absent for as long as nobody lifts it.
    pub until: Option<String>,
    /// Who froze.
    pub by: String,
}

/// Whether schedules are frozen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct FreezeState {
    /// The freeze that is on.
    pub freeze: Option<FreezeView>,
}

/// A moment at which a schedule will be due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedView {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Its name.
    pub name: String,
    /// When, and what will keep it from running.
    pub due: Due,
}

/// A stretch of time that a window of a calendar covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowView {
    /// Name of the calendar.
    pub calendar: String,
    /// Name of the window.
    pub name: String,
    /// Beginning, in UTC.
    pub from: String,
    /// End, in UTC.
    pub to: String,
    /// Whether every schedule keeps out of it.
    pub everywhere: bool,
}
