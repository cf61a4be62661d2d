//! When something is told: quiet hours and the moments of digests, in the zone of whoever wrote the rule. Pure.

use jiff::civil::{Time, Weekday as Day};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use kennel_model::api::{QuietHours, Timing, Weekday};

/// The zone of that name.
///
/// # Errors
/// A sentence, when there is none.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    let unknown = || format!("`{name}` is no time zone; expected an IANA name such as `Europe/Berlin` or `UTC`");
    if name.trim().is_empty() {
        return Err(unknown());
    }
    TimeZone::get(name.trim()).map_err(|_| unknown())
}

/// A time of day.
///
/// # Errors
/// A sentence, when it is none.
pub fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is no time of day; expected HH:MM, from 00:00 to 23:59");
    let (hours, minutes) = text.trim().split_once(':').ok_or_else(wrong)?;
    let is_number = |part: &&str| (1..=2).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit());
    let number = |part: &str| Some(part).filter(is_number)?.parse::<i8>().ok();
    let (hours, minutes) = (number(hours).ok_or_else(wrong)?, number(minutes).ok_or_else(wrong)?);
    Time::new(hours, minutes, 0, 0).map_err(|_| wrong())
}

/// When the quiet hours that hold `now` are over; `None` outside of them.
#[must_use]
pub fn quiet_until(quiet: &QuietHours, now: Timestamp) -> Option<Timestamp> {
    let zone = zone(&quiet.zone).ok()?;
    let (from, to) = (time_of_day(&quiet.from).ok()?, time_of_day(&quiet.to).ok()?);
    let local = now.to_zoned(zone.clone()).datetime();
    let time = local.time();
    let is_quiet = if from < to { from <= time && time < to } else { time >= from || time < to };
    if !is_quiet {
        return None;
    }
    let day = if time < to { local.date() } else { local.date().tomorrow().ok()? };
    // Where that time of day is skipped, the moment after the gap.
    Some(day.to_datetime(to).to_zoned(zone).ok()?.timestamp()).filter(|end| *end > now)
}

/// The next digest after `now`; `None` for rules that tell immediately.
#[must_use]
pub fn next_digest(timing: &Timing, now: Timestamp) -> Option<Timestamp> {
    let (day, hour, name) = match timing {
        Timing::Immediately => return None,
        Timing::Daily { hour, zone } => (None, *hour, zone),
        Timing::Weekly { day, hour, zone } => (Some(weekday(*day)), *hour, zone),
    };
    let zone = zone(name).ok()?;
    let time = Time::new(i8::try_from(hour).ok()?, 0, 0, 0).ok()?;
    let today = now.to_zoned(zone.clone()).date();
    (0..9).find_map(|ahead| {
        let date = today.checked_add(ahead.days()).ok()?;
        if day.is_some_and(|day| date.weekday() != day) {
            return None;
        }
        Some(date.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp()).filter(|moment| *moment > now)
    })
}

fn weekday(day: Weekday) -> Day {
    match day {
        Weekday::Monday => Day::Monday,
        Weekday::Tuesday => Day::Tuesday,
        Weekday::Wednesday => Day::Wednesday,
        Weekday::Thursday => Day::Thursday,
        Weekday::Friday => Day::Friday,
        Weekday::Saturday => Day::Saturday,
        Weekday::Sunday => Day::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn quiet(from: &str, to: &str) -> QuietHours {
        QuietHours { from: from.to_owned(), to: to.to_owned(), zone: "Europe/Berlin".to_owned() }
    }

    #[test]
    fn quiet_hours_go_over_midnight_in_their_zone() {
        let night = quiet("22:00", "07:00");
        // Berlin is an hour ahead of UTC in winter.
        assert_eq!(quiet_until(&night, at("2026-01-10T21:00:00Z")), Some(at("2026-01-11T06:00:00Z")));
        assert_eq!(quiet_until(&night, at("2026-01-11T05:59:59Z")), Some(at("2026-01-11T06:00:00Z")));
        assert_eq!(quiet_until(&night, at("2026-01-11T06:00:00Z")), None);
        assert_eq!(quiet_until(&night, at("2026-01-10T20:59:59Z")), None);
        let lunch = quiet("12:00", "13:30");
        assert_eq!(quiet_until(&lunch, at("2026-07-01T10:15:00Z")), Some(at("2026-07-01T11:30:00Z")));
        assert_eq!(quiet_until(&lunch, at("2026-07-01T09:59:00Z")), None);
    }

    #[test]
    fn quiet_hours_that_end_in_an_hour_that_does_not_exist_end_after_it() {
        // On 29 March 2026 clocks in Berlin go from 02:00 to 03:00.
        let night = quiet("22:00", "02:30");
        assert_eq!(quiet_until(&night, at("2026-03-28T23:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
    }

    #[test]
    fn digests_come_at_their_hour_through_the_year() {
        let daily = Timing::Daily { hour: 8, zone: "Europe/Berlin".to_owned() };
        assert_eq!(next_digest(&daily, at("2026-01-10T06:59:00Z")), Some(at("2026-01-10T07:00:00Z")));
        assert_eq!(next_digest(&daily, at("2026-01-10T07:00:00Z")), Some(at("2026-01-11T07:00:00Z")));
        assert_eq!(next_digest(&daily, at("2026-07-10T07:00:00Z")), Some(at("2026-07-11T06:00:00Z")));
        let weekly = Timing::Weekly { day: Weekday::Monday, hour: 9, zone: "America/New_York".to_owned() };
        assert_eq!(next_digest(&weekly, at("2026-11-23T13:59:00Z")), Some(at("2026-11-23T14:00:00Z")));
        assert_eq!(next_digest(&weekly, at("2026-11-23T14:00:00Z")), Some(at("2026-11-30T14:00:00Z")));
        assert_eq!(next_digest(&Timing::Immediately, at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn bad_zones_and_times_are_told() {
        assert_eq!(
            zone("Mars/Olympus").unwrap_err(),
            "`Mars/Olympus` is no time zone; expected an IANA name such as `Europe/Berlin` or `UTC`"
        );
        for text in ["", "7", "24:00", "12:60", "+1:00", "1200", "12:00:00", "-1:30"] {
            assert!(time_of_day(text).is_err(), "{text}");
        }
        assert!(time_of_day("7:05").is_ok());
    }

    proptest! {
        #[test]
        fn the_end_of_quiet_hours_is_not_quiet_and_within_a_day_or_so(
            from in 0..1440_u32, to in 0..1440_u32, second in 1_700_000_000_i64..1_800_000_000,
        ) {
            prop_assume!(from != to);
            let text = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            let quiet = quiet(&text(from), &text(to));
            let now = Timestamp::from_second(second).unwrap();
            if let Some(end) = quiet_until(&quiet, now) {
                prop_assert!(end > now && end.duration_since(now).as_hours() <= 25, "{} {}", now, end);
            }
        }

        #[test]
        fn there_is_always_a_next_digest_within_eight_days(hour in 0..24_u8, second in 1_700_000_000_i64..1_800_000_000) {
            let now = Timestamp::from_second(second).unwrap();
            let weekly = Timing::Weekly { day: Weekday::Sunday, hour, zone: "Europe/Berlin".to_owned() };
            let next = next_digest(&weekly, now).unwrap();
            prop_assert!(next > now && next.duration_since(now).as_hours() <= 8 * 24);
        }
    }
}
