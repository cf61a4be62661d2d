//! Moments as people ask for them: a day, a moment, a time ago; as the first identity that a run could have had then.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kennel_model::RunId;

/// The identity before all of runs since `text`: a day (`2026-11-23`, from its beginning in UTC), a moment, or a time
/// ago (`12h`, `7d`, `2w`).
///
/// # Errors
/// When it is none of these; says what was expected.
pub fn since(text: &str) -> Result<RunId, String> {
    moment(text, Timestamp::now()).map(first_run_at)
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    let unclear = || {
        format!(
            "`{text}` is no beginning; expected a day such as 2026-11-23, a moment such as 2026-11-23T18:00:00Z, or a time ago such as 7d"
        )
    };
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(day) = text.parse::<Date>() {
        return Ok(day.to_zoned(TimeZone::UTC).map_err(|_| unclear())?.timestamp());
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let hours = match &text[digits.len()..] {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return Err(unclear()),
    };
    let count: i64 = digits.parse().map_err(|_| unclear())?;
    let age = count.checked_mul(hours).filter(|hours| (0..=1_000_000).contains(hours)).ok_or_else(unclear)?;
    now.checked_sub(SignedDuration::from_hours(age)).map_err(|_| unclear())
}

/// RFC 9562, section 5.7: a UUID of version 7 begins with 48 bits of milliseconds.
fn first_run_at(moment: Timestamp) -> RunId {
    let ms = u128::try_from(moment.as_millisecond()).unwrap_or_default();
    let hex = format!("{:032x}", ms << 80);
    hex.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_day_a_moment_or_a_time_ago() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T12:00:00+01:00", "2026-11-20T11:00:00Z"),
            (" 7d", "2026-11-16T10:00:00Z"),
            ("12h", "2026-11-22T22:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap().to_string(), expected);
        }
        for text in ["", "d", "-1d", "yesterday", "7", "99999999999999d"] {
            assert!(moment(text, now).unwrap_err().contains("is no beginning"), "{text}");
        }
    }

    #[test]
    fn runs_sort_after_the_beginning_of_their_time() {
        let before = first_run_at(Timestamp::now());
        let run = RunId::new();
        let after = first_run_at(Timestamp::now() + SignedDuration::from_secs(1));
        assert!(before.to_string() <= run.to_string() && run.to_string() < after.to_string());
    }
}
