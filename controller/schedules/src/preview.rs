//! What a cron expression comes to: its next occurrences, and what days on which clocks change do to it.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use kennel_model::api::{CronPreview, Due};

use crate::cron::Cron;

/// How far ahead changes of clocks are looked at.
const AHEAD_HOURS: i64 = 366 * 24;
/// Longest stretch around a change in which occurrences are counted.
const AROUND: SignedDuration = SignedDuration::from_hours(25);

impl Cron {
    /// The next occurrences, in words and one by one, and what changes of clocks do within a year.
    #[must_use]
    pub fn preview(&self, now: Timestamp, count: usize) -> CronPreview {
        let next = self.between(now, Timestamp::MAX, count);
        CronPreview {
            words: self.words(),
            next: next.into_iter().map(|due| self.due(due, String::new())).collect(),
            clock_changes: self.clock_changes(now),
        }
    }

    /// An occurrence with what the clocks of the zone show.
    #[must_use]
    pub fn due(&self, due: Timestamp, note: String) -> Due {
        let local = due.to_zoned(self.zone().clone()).strftime("%a %Y-%m-%d %H:%M %:z").to_string();
        Due { due_at: due.to_string(), local, note }
    }

    /// One sentence for each change of clocks within a year that does something to this expression.
    fn clock_changes(&self, now: Timestamp) -> Vec<String> {
        let until = now.checked_add(AHEAD_HOURS.hours()).unwrap_or(Timestamp::MAX);
        let zone = self.zone();
        let mut sentences = Vec::new();
        let mut before = zone.to_offset(now);
        for transition in zone.following(now).take_while(|transition| transition.timestamp() <= until) {
            let after = transition.offset();
            let change = Change { at: transition.timestamp(), before, after };
            sentences.extend(self.at_change(&change));
            before = after;
        }
        sentences
    }

    fn at_change(&self, change: &Change) -> Option<String> {
        let by = SignedDuration::from_secs(i64::from(change.after.seconds() - change.before.seconds()));
        if by.is_zero() || by.abs() > AROUND {
            return None;
        }
        let old = change.at.to_zoned(TimeZone::fixed(change.before));
        let new = change.at.to_zoned(TimeZone::fixed(change.after));
        let day = new.strftime("%a %Y-%m-%d");
        let (clock, other) = (time(&old), time(&new));
        if by.is_positive() {
            // The wall clock shows nothing between `clock` and `other`; the old offset tells what would have come.
            let lost = self.wall(change.at, change.at + by, change.before);
            let first = lost.first()?;
            let count = lost.len();
            return Some(if self.is_fixed_time() {
                let runs = self.next(change.at - SignedDuration::from_secs(1))?.to_zoned(self.zone().clone());
                format!(
                    "{day}: clocks go from {clock} to {other}; what is due at {} runs at {}.",
                    time(first),
                    time(&runs)
                )
            } else {
                format!(
                    "{day}: clocks go from {clock} to {other}; {} due in between {} not come.",
                    occurrences(count),
                    do_or_does(count)
                )
            });
        }
        // The wall clock shows `other` to `clock` twice.
        let twice = self.wall(change.at, change.at - by, change.after);
        let first = twice.first()?;
        Some(if self.is_fixed_time() {
            let runs = self.between(change.at + by - SignedDuration::from_secs(1), change.at - by, 2);
            let once = if runs.len() == 1 { "runs once, the first time" } else { "runs both times" };
            format!("{day}: clocks go back from {clock} to {other}; {} comes twice and {once}.", time(first))
        } else {
            let count = twice.len();
            format!(
                "{day}: clocks go back from {clock} to {other}; {} within that hour come twice.",
                occurrences(count)
            )
        })
    }

    /// Occurrences from one moment until before another, as if the clocks of the zone had this offset.
    fn wall(&self, from: Timestamp, until: Timestamp, offset: Offset) -> Vec<Zoned> {
        let zone = TimeZone::fixed(offset);
        let second = SignedDuration::from_secs(1);
        let found = self.in_zone(zone.clone()).between(from - second, until - second, 10_000);
        found.into_iter().map(|due| due.to_zoned(zone.clone())).collect()
    }
}

/// A change of a zone's clocks.
struct Change {
    at: Timestamp,
    before: Offset,
    after: Offset,
}

fn time(at: &Zoned) -> String {
    at.strftime("%H:%M").to_string()
}

fn occurrences(count: usize) -> String {
    if count == 1 { "1 occurrence".to_owned() } else { format!("{count} occurrences") }
}

fn do_or_does(count: usize) -> &'static str {
    if count == 1 { "does" } else { "do" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(cron: &str, zone: &str, now: &str) -> Vec<String> {
        Cron::parse(cron, zone).unwrap().preview(now.parse().unwrap(), 5).clock_changes
    }

    #[test]
    fn the_two_odd_days_are_told() {
        assert_eq!(
            changes("30 2 * * *", "Europe/Berlin", "2026-09-01T00:00:00Z"),
            [
                "Sun 2026-10-25: clocks go back from 03:00 to 02:00; 02:30 comes twice and runs once, the first time.",
                "Sun 2027-03-28: clocks go from 02:00 to 03:00; what is due at 02:30 runs at 03:00.",
            ]
        );
        assert_eq!(
            changes("*/30 * * * *", "Europe/Berlin", "2026-09-01T00:00:00Z"),
            [
                "Sun 2026-10-25: clocks go back from 03:00 to 02:00; 2 occurrences within that hour come twice.",
                "Sun 2027-03-28: clocks go from 02:00 to 03:00; 2 occurrences due in between do not come.",
            ]
        );
    }

    #[test]
    fn what_clocks_do_not_touch_is_not_told() {
        assert!(changes("0 12 * * *", "Europe/Berlin", "2026-09-01T00:00:00Z").is_empty());
        assert!(changes("30 2 * * *", "UTC", "2026-09-01T00:00:00Z").is_empty());
        assert!(changes("30 2 * * *", "Asia/Kathmandu", "2026-09-01T00:00:00Z").is_empty());
    }

    #[test]
    fn half_an_hour_counts_too() {
        let told = changes("15 2 * * *", "Australia/Lord_Howe", "2026-09-01T00:00:00Z");
        assert_eq!(told, ["Sun 2026-10-04: clocks go from 02:00 to 02:30; what is due at 02:15 runs at 02:30."]);
    }

    #[test]
    fn occurrences_carry_the_zones_clock_and_offset() {
        let preview =
            Cron::parse("30 2 * * *", "Europe/Berlin").unwrap().preview("2026-11-23T12:00:00Z".parse().unwrap(), 2);
        assert_eq!(preview.words, "every day at 02:30 (Europe/Berlin)");
        assert_eq!(preview.next[0].local, "Tue 2026-11-24 02:30 +01:00");
        assert_eq!(preview.next[0].due_at, "2026-11-24T01:30:00Z");
        assert_eq!(preview.next.len(), 2);
    }
}
