//! A cron expression in a time zone: when it is due.

use std::fmt;

use croner::JobType;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kennel_model::api::FieldProblem;

use crate::problem;

/// What a cron expression looks like.
const CRON_EXPECTED: &str = "five fields: minute, hour, day of the month, month, day of the week (`30 2 * * MON-FRI`), or `@daily` and its like";
/// What a zone looks like.
const ZONE_EXPECTED: &str = "the name of an IANA time zone, for instance `Europe/Berlin` or `UTC`";
/// Longest expression that is read.
const LONGEST: usize = 200;

/// A cron expression in a time zone. Days on which clocks change are handled as Vixie cron does: an occurrence at a fixed
/// time that falls into a gap runs when the gap ends, and runs once where an hour comes twice; others follow the clock. A
/// day that a zone leaves out (Samoa's 30 December 2011) has no occurrence.
#[derive(Clone)]
pub struct Cron {
    cron: croner::Cron,
    expression: String,
    zone: TimeZone,
    zone_name: String,
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({} {})", self.expression, self.zone_name)
    }
}

/// The time zone of this name.
///
/// # Errors
/// When there is none; the problem is of `field`.
pub fn zone(field: &str, name: &str) -> Result<TimeZone, FieldProblem> {
    // Shorter names for fixed offsets (`+02`) are no zones, and an empty one would be this machine's.
    let known = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
    let found = if known { TimeZone::get(name).ok() } else { None };
    found.ok_or_else(|| problem(field, format!("there is no time zone `{name}`"), ZONE_EXPECTED))
}

/// Names of all time zones, sorted.
#[must_use]
pub fn zones() -> Vec<String> {
    let mut names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    names.retain(|name| {
        name == "UTC" || (name.contains('/') && !name.starts_with("Etc/") && !name.starts_with("SystemV/"))
    });
    names.sort();
    names.dedup();
    names
}

impl Cron {
    /// Reads an expression and a zone.
    ///
    /// # Errors
    /// What is wrong with the field `cron` or `zone`; also an expression that names a day that never comes.
    pub fn parse(expression: &str, zone_name: &str) -> Result<Self, FieldProblem> {
        let expression = expression.trim();
        let refused = |why: &str| problem("cron", format!("`{expression}`: {why}"), CRON_EXPECTED);
        if expression.chars().count() > LONGEST {
            return Err(problem("cron", format!("an expression of more than {LONGEST} characters"), CRON_EXPECTED));
        }
        if expression.is_empty() {
            return Err(problem("cron", "it is empty", CRON_EXPECTED));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| refused(&cause(&error)))?;
        let zone = zone("zone", zone_name)?;
        let this = Self { cron, expression: expression.to_owned(), zone, zone_name: zone_name.to_owned() };
        // An impossible day only shows when it is asked for. Leap days are at most eight years apart.
        let from = Timestamp::UNIX_EPOCH.to_zoned(this.zone.clone());
        match this.cron.find_next_occurrence(&from, false) {
            Ok(_) => Ok(this),
            Err(_) => Err(refused("it names a day that never comes")),
        }
    }

    /// The expression as written.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Its time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Name of its time zone.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The same expression in another zone.
    pub(crate) fn in_zone(&self, zone: TimeZone) -> Self {
        Self { zone, ..self.clone() }
    }

    /// Whether it runs at one time of the day: then it runs once on days on which clocks change.
    pub(crate) fn is_fixed_time(&self) -> bool {
        self.cron.determine_job_type() == JobType::FixedTime
    }

    /// The expression as the cron library describes it.
    pub(crate) fn described(&self) -> String {
        let said = self.cron.describe();
        said.trim_end_matches('.').replace("At on minute", "at minute")
    }

    /// The first occurrence after a moment; `None` when there is none before the end of time.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let found = |from: Timestamp, inclusive: bool| {
            let due = self.cron.find_next_occurrence(&from.to_zoned(self.zone.clone()), inclusive).ok()?.timestamp();
            (due > after).then_some(due)
        };
        // The library gives up at gaps of many hours (a zone that crosses the date line): go on from the change.
        found(after, false)
            .or_else(|| {
                let changes = self.zone.following(after).take(4);
                changes.filter_map(|change| found(change.timestamp(), true)).next()
            })
            .and_then(|due| if self.is_of_left_out_day(due) { self.next(due) } else { Some(due) })
    }

    /// Whether an occurrence belongs to a day that the zone leaves out: the library puts those of its last hours off to the
    /// moment when the next day begins.
    fn is_of_left_out_day(&self, due: Timestamp) -> bool {
        let local = due.to_zoned(self.zone.clone());
        let before = (due - jiff::SignedDuration::from_secs(1)).to_zoned(self.zone.clone());
        before.date().tomorrow().is_ok_and(|next| next < local.date())
            && !self.cron.is_time_matching(&local).unwrap_or(true)
    }

    /// Occurrences after one moment up to and including another, in order, as they are asked for.
    pub fn iter(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next(after), |due| self.next(*due)).take_while(move |due| *due <= until)
    }

    /// At most `limit` occurrences after one moment up to and including another.
    #[must_use]
    pub fn between(&self, after: Timestamp, until: Timestamp, limit: usize) -> Vec<Timestamp> {
        self.iter(after, until).take(limit).collect()
    }
}

/// What is wrong, without the words that only its authors understand.
fn cause(error: &CronError) -> String {
    match error {
        CronError::EmptyPattern => "it is empty".to_owned(),
        CronError::InvalidPattern(why) | CronError::IllegalCharacters(why) | CronError::ComponentError(why) => {
            let mut letters = why.trim_end_matches('.').chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(cron: &Cron, from: &str, count: usize) -> Vec<String> {
        let from: Timestamp = from.parse().unwrap();
        cron.between(from, Timestamp::MAX, count)
            .into_iter()
            .map(|due| due.to_zoned(cron.zone().clone()).strftime("%m-%d %H:%M %:z").to_string())
            .collect()
    }

    #[test]
    fn a_fixed_time_in_the_missing_hour_runs_when_the_hour_ends() {
        let cron = Cron::parse("30 2 * * *", "Europe/Berlin").unwrap();
        let days = local(&cron, "2027-03-27T00:00:00Z", 3);
        assert_eq!(days, ["03-27 02:30 +01:00", "03-28 03:00 +02:00", "03-29 02:30 +02:00"]);
    }

    #[test]
    fn a_fixed_time_in_the_doubled_hour_runs_once() {
        let cron = Cron::parse("30 2 * * *", "Europe/Berlin").unwrap();
        let days = local(&cron, "2026-10-24T00:00:00Z", 3);
        assert_eq!(days, ["10-24 02:30 +02:00", "10-25 02:30 +02:00", "10-26 02:30 +01:00"]);
    }

    #[test]
    fn a_day_that_a_zone_leaves_out_ends_nothing() {
        // Samoa crossed the date line: 30 December 2011 never was.
        for cron in ["30 12 * * *", "0 0 * * *", "*/30 * * * *", "30 2,14 * * *", "0 22 * * *"] {
            let cron = Cron::parse(cron, "Pacific/Apia").unwrap();
            let (from, to) = ("2011-12-28T00:00:00Z".parse().unwrap(), "2012-01-02T00:00:00Z".parse().unwrap());
            let due = cron.between(from, to, 1_000);
            assert!(due.last().is_some_and(|last| to.duration_since(*last).as_hours() < 24), "{cron:?}: {due:?}");
            assert!(due.is_sorted());
        }
    }

    #[test]
    fn the_hours_of_a_day_that_was_left_out_are_not_made_up_for() {
        for hour in 0..24 {
            let cron = Cron::parse(&format!("15 {hour} * * *"), "Pacific/Apia").unwrap();
            let days = local(&cron, "2011-12-29T09:59:00Z", 3);
            let days: Vec<&str> = days.iter().map(|due| &due[..5]).collect();
            assert_eq!(days, ["12-29", "12-31", "01-01"], "{hour}");
        }
    }

    #[test]
    fn half_hours_follow_the_clock() {
        let cron = Cron::parse("*/30 * * * *", "Europe/Berlin").unwrap();
        let doubled = local(&cron, "2026-10-24T23:59:00Z", 5);
        assert_eq!(
            doubled,
            [
                "10-25 02:00 +02:00",
                "10-25 02:30 +02:00",
                "10-25 02:00 +01:00",
                "10-25 02:30 +01:00",
                "10-25 03:00 +01:00"
            ]
        );
        let missing = local(&cron, "2027-03-28T00:29:00Z", 3);
        assert_eq!(missing, ["03-28 01:30 +01:00", "03-28 03:00 +02:00", "03-28 03:30 +02:00"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        for (cron, zone, says) in [
            ("", "UTC", "cron: it is empty; expected five fields"),
            ("0 0 31 2 *", "UTC", "cron: `0 0 31 2 *`: it names a day that never comes"),
            ("61 * * * *", "UTC", "cron: `61 * * * *`: "),
            ("* * * *", "UTC", "cron: `* * * *`: "),
            ("0 0 0 * * *", "UTC", "cron: `0 0 0 * * *`: "),
            ("0 2 * * *", "Mars/Olympus", "zone: there is no time zone `Mars/Olympus`; expected the name"),
            ("0 2 * * *", "", "zone: there is no time zone ``"),
            ("0 2 * * *", "../../etc/passwd", "zone: there is no time zone"),
        ] {
            let error = Cron::parse(cron, zone).unwrap_err().to_string();
            assert!(error.starts_with(says), "{cron} in {zone}: {error}");
        }
        assert!(Cron::parse("0 0 29 2 *", "UTC").is_ok());
        assert!(Cron::parse("@daily", "Asia/Kathmandu").is_ok());
        assert!(Cron::parse("0 9 * * MON#1", "UTC").is_ok());
        assert!(Cron::parse("0 9 L * *", "UTC").is_ok());
    }

    #[test]
    fn zones_are_there_without_a_database_on_this_machine() {
        let zones = zones();
        assert!(zones.len() > 300, "{}", zones.len());
        for name in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"] {
            assert!(zones.iter().any(|zone| zone == name), "{name}");
        }
    }
}
