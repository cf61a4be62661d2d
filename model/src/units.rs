//! Quantities as people write them in files: durations such as `200ms` and rates such as `150/s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a duration must look like; shown to users beside a bad one.
pub const DURATION_EXPECTED: &str = "a duration such as 200ms, 5s, 2m or 1h30m";

/// Longest duration that a file may name; sums of a file's durations stay far from overflow.
pub const LONGEST_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

const LONGEST_EXPECTED: &str = "a duration of at most 720h (30 days)";

/// Why a quantity could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct QuantityError {
    /// What was written.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

/// Reads a duration: one or more numbers with a unit each (`us`, `ms`, `s`, `m`, `h`), for instance `1m30s`.
///
/// # Errors
/// When a number or a unit is missing or unknown, or when it is longer than [`LONGEST_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let fail = || QuantityError { value: text.to_owned(), expected: DURATION_EXPECTED };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fail());
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let number: f64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match rest[..letters].trim() {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(fail()),
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST_DURATION)
        .ok_or_else(|| QuantityError { value: text.to_owned(), expected: LONGEST_EXPECTED })
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that keeps it whole.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let us = duration.as_micros();
    match us {
        0 => "0s".to_owned(),
        _ if us.is_multiple_of(3_600_000_000) => format!("{}h", us / 3_600_000_000),
        _ if us.is_multiple_of(60_000_000) => format!("{}m", us / 60_000_000),
        _ if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        _ if us.is_multiple_of(1_000) => format!("{}ms", us / 1_000),
        _ => format!("{us}us"),
    }
}

/// A duration written as text in files; a thin coat over [`Duration`] for serde and JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema)]
#[schemars(transparent, description = "a duration such as 200ms, 5s, 2m or 1h30m")]
pub struct Span(
    #[schemars(with = "String", regex(pattern = r"^\s*(0|([0-9]+(\.[0-9]+)?\s*(us|µs|ms|s|min|m|h)\s*)+)$"))]
    pub  Duration,
);

impl Span {
    /// The plain duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Length in seconds.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_duration(text).map(Self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Events per second, written `150/s`, `600/m` or as a plain number per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(f64);

/// What a rate must look like; shown to users beside a bad one.
pub const RATE_EXPECTED: &str = "a rate such as 150/s or 600/m";

impl Rate {
    /// A rate of `per_second` events a second; negative or non-finite numbers are refused.
    ///
    /// # Errors
    /// When the number is negative, infinite or not a number.
    pub fn per_second(per_second: f64) -> Result<Self, QuantityError> {
        if per_second.is_finite() && per_second >= 0.0 {
            Ok(Self(per_second))
        } else {
            Err(QuantityError { value: per_second.to_string(), expected: RATE_EXPECTED })
        }
    }

    /// Events per second.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || QuantityError { value: text.to_owned(), expected: RATE_EXPECTED };
        let (number, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
        let number: f64 = number.trim().parse().map_err(|_| fail())?;
        let per_second = match unit.trim() {
            "s" => number,
            "m" | "min" => number / 60.0,
            "h" => number / 3600.0,
            _ => return Err(fail()),
        };
        Self::per_second(per_second).map_err(|_| fail())
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Self::per_second(number),
            Written::Text(text) => text.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": RATE_EXPECTED,
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(/\s*(s|m|min|h))?\s*$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [("200ms", 200), ("5s", 5_000), ("2m", 120_000), ("1m30s", 90_000), ("1.5s", 1_500), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn bad_durations_say_what_was_expected() {
        for text in ["", "5", "s", "5 parsecs", "-1s", "1..2s"] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.to_string().contains("200ms"), "{text}: {error}");
        }
    }

    #[test]
    fn rates_read_per_unit() {
        assert_eq!("150/s".parse::<Rate>().unwrap().get(), 150.0);
        assert_eq!("600/m".parse::<Rate>().unwrap().get(), 10.0);
        assert!("fast".parse::<Rate>().is_err());
        assert!("-5/s".parse::<Rate>().is_err());
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back_the_same(us in 0_u64..100_000_000_000) {
            let duration = Duration::from_micros(us);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
