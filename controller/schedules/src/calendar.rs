//! Calendars: windows of time in which nothing may run, or in which alone things may run.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use kennel_model::api::{CalendarDraft, CalendarWindow, Day, FieldProblem, WindowRule};

use crate::cron::{Cron, zone};
use crate::problem;

/// Most windows of one calendar.
const MOST_WINDOWS: usize = 500;
/// Longest window that a cron expression may open, in minutes: a week.
const LONGEST_MINUTES: u32 = 7 * 24 * 60;
/// Most windows that are listed of one rule.
const MOST_LISTED: usize = 2_000;

/// A calendar whose windows were read.
#[derive(Debug, Clone)]
pub struct Calendar {
    name: String,
    zone: TimeZone,
    everywhere: bool,
    windows: Vec<(CalendarWindow, Rule)>,
}

#[derive(Debug, Clone)]
enum Rule {
    Once { from: DateTime, to: DateTime },
    Weekly { days: Vec<Weekday>, from: Time, to: Time },
    Cron { cron: Box<Cron>, lasts: SignedDuration },
    Date(Date),
    Yearly { month: i8, day: i8 },
}

impl Calendar {
    /// Reads a calendar.
    ///
    /// # Errors
    /// Every field that cannot be read.
    pub fn parse(draft: &CalendarDraft) -> Result<Self, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let name = draft.name.trim();
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            problems.push(problem(
                "name",
                format!("`{}` is no name", name.escape_debug()),
                "1 to 100 printable characters",
            ));
        }
        if draft.windows.len() > MOST_WINDOWS {
            let message = format!("{} windows", draft.windows.len());
            problems.push(problem("windows", message, &format!("at most {MOST_WINDOWS}")));
        }
        let zone = match zone("zone", &draft.zone) {
            Ok(zone) => zone,
            Err(wrong) => {
                problems.push(wrong);
                TimeZone::UTC
            }
        };
        let mut windows = Vec::new();
        for (at, window) in draft.windows.iter().enumerate() {
            match read(at, window, &draft.zone) {
                Ok(rule) => windows.push((window.clone(), rule)),
                Err(wrong) => problems.extend(wrong),
            }
        }
        // A wrong zone is told once, not again by each window.
        problems.dedup_by(|later, earlier| later.field == "zone" && earlier.field == "zone");
        if problems.is_empty() {
            Ok(Self { name: draft.name.clone(), zone, everywhere: draft.everywhere, windows })
        } else {
            Err(problems)
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether every schedule keeps out of it, named or not.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.everywhere
    }

    /// The first of its windows that covers a moment: from its beginning until before its end.
    #[must_use]
    pub fn covering(&self, at: Timestamp) -> Option<&CalendarWindow> {
        self.windows.iter().find(|(_, rule)| self.covers(rule, at)).map(|(window, _)| window)
    }

    fn covers(&self, rule: &Rule, at: Timestamp) -> bool {
        match rule {
            Rule::Cron { cron, lasts } => {
                let began = at.checked_sub(*lasts).unwrap_or(Timestamp::MIN);
                cron.next(began).is_some_and(|from| from <= at)
            }
            _ => {
                let day = at.to_zoned(self.zone.clone()).date();
                let yesterday = day.yesterday().unwrap_or(day);
                [yesterday, day]
                    .into_iter()
                    .filter_map(|day| self.on(rule, day))
                    .any(|(from, to)| from <= at && at < to)
                    || matches!(rule, Rule::Once { .. } if self.once(rule).is_some_and(|(from, to)| from <= at && at < to))
            }
        }
    }

    /// Its windows that reach into a stretch of time, in order of their beginning; bounded.
    #[must_use]
    pub fn windows(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Timestamp, &CalendarWindow)> {
        let mut found = Vec::new();
        for (window, rule) in &self.windows {
            let stretches: Vec<(Timestamp, Timestamp)> = match rule {
                Rule::Once { .. } => self.once(rule).into_iter().collect(),
                Rule::Cron { cron, lasts } => {
                    let after = from.checked_sub(*lasts).unwrap_or(Timestamp::MIN);
                    let begins = cron.between(after, to, MOST_LISTED);
                    begins.into_iter().filter_map(|begin| Some((begin, begin.checked_add(*lasts).ok()?))).collect()
                }
                _ => {
                    let first = from.to_zoned(self.zone.clone()).date();
                    let last = to.to_zoned(self.zone.clone()).date();
                    let first = first.yesterday().unwrap_or(first);
                    let days = first.series(1.day()).take_while(|day| *day <= last).take(MOST_LISTED);
                    days.filter_map(|day| self.on(rule, day)).collect()
                }
            };
            found.extend(stretches.into_iter().filter(|(b, e)| *b < to && *e > from).map(|(b, e)| (b, e, window)));
        }
        found.sort_by_key(|(begin, end, _)| (*begin, *end));
        found
    }

    fn once(&self, rule: &Rule) -> Option<(Timestamp, Timestamp)> {
        let Rule::Once { from, to } = rule else { return None };
        Some((self.moment(*from)?, self.moment(*to)?))
    }

    /// The window of a rule that begins on a day.
    fn on(&self, rule: &Rule, day: Date) -> Option<(Timestamp, Timestamp)> {
        let (from, to) = match rule {
            Rule::Weekly { days, from, to } if days.contains(&day.weekday()) => {
                let end = if to > from { day } else { day.tomorrow().ok()? };
                (day.to_datetime(*from), end.to_datetime(*to))
            }
            Rule::Date(date) if *date == day => whole(day)?,
            Rule::Yearly { month, day: of_month } if (*month, *of_month) == (day.month(), day.day()) => whole(day)?,
            _ => return None,
        };
        Some((self.moment(from)?, self.moment(to)?))
    }

    /// A moment of the calendar's zone; in a gap of the clocks, the moment after it.
    fn moment(&self, at: DateTime) -> Option<Timestamp> {
        self.zone.to_ambiguous_zoned(at).compatible().ok().map(|at| at.timestamp())
    }
}

fn whole(day: Date) -> Option<(DateTime, DateTime)> {
    Some((day.to_datetime(Time::midnight()), day.tomorrow().ok()?.to_datetime(Time::midnight())))
}

fn read(at: usize, window: &CalendarWindow, zone: &str) -> Result<Rule, Vec<FieldProblem>> {
    let field = |name: &str| format!("windows[{at}].{name}");
    let mut problems = Vec::new();
    if window.name.trim().is_empty() || window.name.chars().count() > 100 {
        problems.push(problem(&field("name"), "a window needs a name", "1 to 100 characters"));
    }
    let rule = match &window.when {
        WindowRule::Once { from, to } => {
            let begin =
                read_as::<DateTime>(&field("from"), from, "a date and time such as `2026-12-24T12:00`", &mut problems);
            let end =
                read_as::<DateTime>(&field("to"), to, "a date and time such as `2026-12-27T06:00`", &mut problems);
            begin.zip(end).and_then(|(from, to)| {
                if to <= from {
                    problems.push(problem(&field("to"), format!("`{to}` is not after `{from}`"), "a later moment"));
                    return None;
                }
                Some(Rule::Once { from, to })
            })
        }
        WindowRule::Weekly { days, from, to } => {
            if days.is_empty() {
                problems.push(problem(&field("days"), "no day is chosen", "at least one day of the week"));
            }
            let begin = read_as::<Time>(&field("from"), from, "a time such as `22:00`", &mut problems);
            let end = read_as::<Time>(&field("to"), to, "a time such as `06:00`", &mut problems);
            let days: Vec<Weekday> = days.iter().map(|day| weekday(*day)).collect();
            begin.zip(end).filter(|_| !days.is_empty()).map(|(from, to)| Rule::Weekly { days, from, to })
        }
        WindowRule::Cron { cron, minutes } => {
            if !(1..=LONGEST_MINUTES).contains(minutes) {
                let expected = format!("1 to {LONGEST_MINUTES} minutes");
                problems.push(problem(&field("minutes"), format!("{minutes} minutes"), &expected));
            }
            match Cron::parse(cron, zone) {
                Ok(cron) => {
                    Some(Rule::Cron { cron: Box::new(cron), lasts: SignedDuration::from_mins(i64::from(*minutes)) })
                }
                Err(wrong) if wrong.field == "zone" => None,
                Err(wrong) => {
                    problems.push(FieldProblem { field: field("cron"), ..wrong });
                    None
                }
            }
        }
        WindowRule::Date { date } => {
            read_as::<Date>(&field("date"), date, "a day such as `2026-12-25`", &mut problems).map(Rule::Date)
        }
        WindowRule::Yearly { day } => {
            // A leap year, so that 29 February may be said.
            read_as::<Date>(&field("day"), &format!("2024-{day}"), "a day of the year such as `12-25`", &mut problems)
                .map(|date| Rule::Yearly { month: date.month(), day: date.day() })
        }
    };
    match rule {
        Some(rule) if problems.is_empty() => Ok(rule),
        // A wrong zone was told already.
        _ => Err(problems),
    }
}

fn read_as<T: std::str::FromStr>(
    field: &str,
    text: &str,
    expected: &str,
    problems: &mut Vec<FieldProblem>,
) -> Option<T> {
    let read = text.trim().parse().ok();
    if read.is_none() {
        let said = text.trim_start_matches("2024-");
        problems.push(problem(field, format!("`{said}` cannot be read"), expected));
    }
    read
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str, when: WindowRule) -> Result<Calendar, Vec<FieldProblem>> {
        Calendar::parse(&CalendarDraft {
            name: "freeze".to_owned(),
            description: String::new(),
            zone: zone.to_owned(),
            everywhere: false,
            windows: vec![CalendarWindow { name: "window".to_owned(), when }],
        })
    }

    fn covers(calendar: &Calendar, at: &str) -> bool {
        calendar.covering(at.parse().unwrap()).is_some()
    }

    #[test]
    fn a_weekly_window_reaches_over_midnight() {
        let weekly = WindowRule::Weekly { days: vec![Day::Friday], from: "22:00".into(), to: "06:00".into() };
        let calendar = calendar("Europe/Berlin", weekly).unwrap();
        // 2026-11-27 is a Friday; Berlin is an hour ahead.
        assert!(!covers(&calendar, "2026-11-27T20:59:59Z"));
        assert!(covers(&calendar, "2026-11-27T21:00:00Z"));
        assert!(covers(&calendar, "2026-11-28T04:59:59Z"));
        assert!(!covers(&calendar, "2026-11-28T05:00:00Z"));
        assert!(!covers(&calendar, "2026-11-28T21:30:00Z"));
    }

    #[test]
    fn days_once_and_each_year_are_days_of_the_zone() {
        let date = calendar("Pacific/Apia", WindowRule::Date { date: "2026-12-25".into() }).unwrap();
        assert!(covers(&date, "2026-12-24T11:00:00Z"), "Apia is 13 hours ahead");
        assert!(!covers(&date, "2026-12-25T11:00:00Z"));
        let leap = calendar("UTC", WindowRule::Yearly { day: "02-29".into() }).unwrap();
        assert!(covers(&leap, "2028-02-29T12:00:00Z") && !covers(&leap, "2027-03-01T12:00:00Z"));
    }

    #[test]
    fn a_window_of_a_cron_expression_lasts_its_minutes() {
        let cron = calendar("UTC", WindowRule::Cron { cron: "0 2 * * *".into(), minutes: 90 }).unwrap();
        assert!(covers(&cron, "2026-11-23T02:00:00Z") && covers(&cron, "2026-11-23T03:29:59Z"));
        assert!(!covers(&cron, "2026-11-23T03:30:00Z") && !covers(&cron, "2026-11-23T01:59:59Z"));
    }

    #[test]
    fn windows_of_a_month_are_listed() {
        let once = WindowRule::Once { from: "2026-12-24T12:00".into(), to: "2026-12-27T06:00".into() };
        let calendar = calendar("UTC", once).unwrap();
        let (from, to) = ("2026-12-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(calendar.windows(from, to).len(), 1);
        assert!(covers(&calendar, "2026-12-26T00:00:00Z") && !covers(&calendar, "2026-12-27T06:00:00Z"));
        assert!(calendar.windows(to, to + SignedDuration::from_hours(24)).is_empty());
    }

    #[test]
    fn every_field_that_cannot_be_read_is_told() {
        for (when, field) in [
            (WindowRule::Once { from: "tomorrow".into(), to: "2026-12-27T06:00".into() }, "windows[0].from"),
            (WindowRule::Once { from: "2026-12-27T06:00".into(), to: "2026-12-27T06:00".into() }, "windows[0].to"),
            (WindowRule::Weekly { days: vec![], from: "22:00".into(), to: "06:00".into() }, "windows[0].days"),
            (
                WindowRule::Weekly { days: vec![Day::Monday], from: "25:00".into(), to: "06:00".into() },
                "windows[0].from",
            ),
            (WindowRule::Cron { cron: "0 2 * *".into(), minutes: 5 }, "windows[0].cron"),
            (WindowRule::Cron { cron: "0 2 * * *".into(), minutes: 0 }, "windows[0].minutes"),
            (WindowRule::Date { date: "2026-02-30".into() }, "windows[0].date"),
            (WindowRule::Yearly { day: "13-01".into() }, "windows[0].day"),
        ] {
            let problems = calendar("UTC", when.clone()).unwrap_err();
            assert!(problems.iter().any(|problem| problem.field == field), "{when:?}: {problems:?}");
        }
        let problems = calendar("Nowhere", WindowRule::Cron { cron: "0 2 * * *".into(), minutes: 5 }).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), ["zone"]);
    }

    #[test]
    fn what_is_listed_is_what_covers() {
        let from: Timestamp = "2027-03-20T00:00:00Z".parse().unwrap();
        let to = from + SignedDuration::from_hours(24 * 14);
        let weekly =
            WindowRule::Weekly { days: vec![Day::Saturday, Day::Sunday], from: "02:30".into(), to: "02:15".into() };
        let calendar = calendar("Europe/Berlin", weekly).unwrap();
        let listed = calendar.windows(from, to);
        let mut at = from;
        while at < to {
            let is_listed = listed.iter().any(|(begin, end, _)| *begin <= at && at < *end);
            assert_eq!(calendar.covering(at).is_some(), is_listed, "{at}");
            at += SignedDuration::from_mins(15);
        }
    }
}
