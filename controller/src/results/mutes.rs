//! Mutes (who, why, until when) and joins of renamed tests.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use kennel_model::api::{JoinRequest, MuteRequest, MuteView};

use crate::store::moment as moment_text;
use crate::{Caller, Controller, StoreError};

/// Longest mute: what nobody mends in a year is to be deleted.
const LONGEST_DAYS: i64 = 366;
/// Longest reason or owner, in characters.
const LONGEST_TEXT: usize = 1_000;

/// A test could not be muted.
#[derive(Debug, thiserror::Error)]
pub enum MuteError {
    /// There is no such test.
    #[error("there is no test {test}; GET /api/v1/tests lists them")]
    NoSuchTest {
        /// Its number.
        test: i64,
    },
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// Which: `reason`, `owner` or `expires`.
        field: &'static str,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Two tests could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no such test.
    #[error("there is no test {test}; GET /api/v1/tests lists them")]
    NoSuchTest {
        /// Its number.
        test: i64,
    },
    /// A test cannot be its own earlier name.
    #[error("test {test} cannot be joined with itself; name the test under its earlier name")]
    Same {
        /// Its number.
        test: i64,
    },
    /// Tests of two suites are not the same test.
    #[error("tests of two suites cannot be joined: one is of {suite}, the other of {other}")]
    OtherSuite {
        /// Suite of the test.
        suite: String,
        /// Suite of the test that it is to have been.
        other: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// Mutes a test: it still runs and is counted, but its failures do not fail its suite, until the mute expires.
    ///
    /// # Errors
    /// When there is no such test, a field is wrong, or the store cannot be written.
    pub async fn mute(&self, caller: &Caller, test: i64, request: &MuteRequest) -> Result<MuteView, MuteError> {
        let standing = self.inner.store.test(test).await?.ok_or(MuteError::NoSuchTest { test })?;
        let now = Timestamp::now();
        let reason = written("reason", &request.reason)?;
        let owner = match request.owner.as_deref().map(str::trim) {
            None | Some("") => caller.name.clone(),
            Some(owner) => written("owner", owner)?,
        };
        let expires = expiry(&request.expires, now)?;
        let mute = MuteView {
            reason,
            owner,
            expires_at: moment_text(expires),
            created_at: moment_text(now),
            created_by: caller.name.clone(),
        };
        self.inner.store.mute(test, &mute).await?;
        let detail = format!("until {}, owner {}: {}", mute.expires_at, mute.owner, mute.reason);
        self.record(caller, "mute", &standing.test.full_name(), &detail).await?;
        Ok(mute)
    }

    /// Ends a mute now; answers whether there was one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn unmute(&self, caller: &Caller, test: i64) -> Result<bool, StoreError> {
        let ended = self.inner.store.unmute(test, &moment_text(Timestamp::now())).await?;
        if ended {
            let name = self.inner.store.test_name(test).await?.map(|test| test.full_name()).unwrap_or_default();
            self.record(caller, "unmute", &name, "").await?;
        }
        Ok(ended)
    }

    /// Joins a test with the one that it was before it was renamed: the earlier history becomes its own, and results
    /// that still come under the earlier name too. This cannot be undone.
    ///
    /// # Errors
    /// When one of them does not exist, both are the same or of two suites, or the store cannot be written.
    pub async fn join_tests(&self, caller: &Caller, test: i64, request: &JoinRequest) -> Result<(), JoinError> {
        if test == request.earlier {
            return Err(JoinError::Same { test });
        }
        let store = &self.inner.store;
        let find = async |test: i64| match store.joined_into(test).await? {
            Some(_) => Err(JoinError::NoSuchTest { test }),
            None => store.test_name(test).await?.ok_or(JoinError::NoSuchTest { test }),
        };
        let (now, earlier) = (find(test).await?, find(request.earlier).await?);
        if now.suite != earlier.suite {
            return Err(JoinError::OtherSuite { suite: now.suite, other: earlier.suite });
        }
        store.join_tests(&now, &earlier).await?;
        let detail = format!("was {} {}", earlier.class, earlier.full_name());
        self.record(caller, "join tests", &now.full_name(), &detail).await?;
        Ok(())
    }
}

fn written(field: &'static str, text: &str) -> Result<String, MuteError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(MuteError::Field { field, why: "is empty; whoever finds the mute needs it".to_owned() });
    }
    if text.chars().count() > LONGEST_TEXT {
        return Err(MuteError::Field { field, why: format!("is longer than {LONGEST_TEXT} characters") });
    }
    Ok(text.to_owned())
}

/// When a mute ends: a moment, the end of a day in UTC, or a time from now.
fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, MuteError> {
    let text = text.trim();
    let wrong = |why: String| MuteError::Field { field: "expires", why };
    let unclear = || {
        wrong(format!(
            "`{text}` is no end; expected a day such as 2026-12-31, a moment such as 2026-12-31T18:00:00Z, or a time from now such as 14d"
        ))
    };
    let moment = if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else if let Ok(day) = text.parse::<Date>() {
        // The named day is the last one.
        let next = day.checked_add(1.day()).map_err(|_| unclear())?;
        next.to_zoned(TimeZone::UTC).map_err(|_| unclear())?.timestamp()
    } else {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: i64 = digits.parse().map_err(|_| unclear())?;
        let hours = match &text[digits.len()..] {
            "h" => 1,
            "d" => 24,
            "w" => 7 * 24,
            _ => return Err(unclear()),
        };
        let age = number.checked_mul(hours).filter(|hours| *hours <= 100_000).ok_or_else(unclear)?;
        now.checked_add(SignedDuration::from_hours(age)).map_err(|_| unclear())?
    };
    if moment <= now {
        return Err(wrong(format!("{moment} is over; a mute ends in the future")));
    }
    if moment.duration_since(now) > SignedDuration::from_hours(24 * LONGEST_DAYS) {
        return Err(wrong("is more than a year away; mute for less, or delete the test".to_owned()));
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_day_a_moment_or_a_time_from_now() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for (text, end) in [
            ("2026-12-31", "2027-01-01T00:00:00Z"),
            ("2026-11-23", "2026-11-24T00:00:00Z"),
            ("2026-12-31T18:00:00+01:00", "2026-12-31T17:00:00Z"),
            (" 14d ", "2026-12-07T10:00:00Z"),
            ("2w", "2026-12-07T10:00:00Z"),
            ("5h", "2026-11-23T15:00:00Z"),
        ] {
            assert_eq!(expiry(text, now).unwrap().to_string(), end, "{text}");
        }
        for (text, why) in [
            ("", "`` is no end; expected a day"),
            ("soon", "is no end"),
            ("14", "is no end"),
            ("-3d", "is over; a mute ends in the future"),
            ("2026-11-22", "is over"),
            ("400d", "more than a year away"),
            ("2999-12-31", "more than a year away"),
            ("99999999999999999999d", "is no end"),
        ] {
            let error = expiry(text, now).unwrap_err().to_string();
            assert!(error.starts_with("expires: ") && error.contains(why), "{text}: {error}");
        }
    }
}
