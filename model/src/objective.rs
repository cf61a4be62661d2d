//! Objectives: pass/fail criteria on a metric over a phase, such as `p99(create order) < 150ms during fault`.
//!
//! ```text
//! objective = metric ["(" request name ")"] comparison value ["during" scope] ["over" duration]
//! metric    = "p" percentile | "max" | "mean" | "error_rate" | "rate" | "dropped"
//! comparison= "<" | "<=" | ">" | ">="
//! value     = duration | number ["%"] | number "/s"
//! scope     = "warm-up" | "steady" | "fault" | "recovery" | "run" | the name of a fault
//! ```
//! `over` belongs to guards: the sliding window in which they are watched.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::run::Phase;
use crate::units::{format_duration, parse_duration};

/// What an objective must look like; shown to users beside a bad one.
pub const OBJECTIVE_EXPECTED: &str =
    "an objective such as `p99(create order) < 150ms during fault`, `error_rate < 1%` or `rate >= 300/s during steady`";

/// A pass/fail criterion on a metric over a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// What is measured.
    pub metric: Metric,
    /// Of which request name; all together when absent.
    pub request: Option<String>,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what, in the metric's unit: milliseconds for times, a share between 0 and 1 for `error_rate`,
    /// events per second for `rate`, a count for `dropped`.
    pub bound: f64,
    /// Over which seconds of the run.
    pub scope: Scope,
    /// For guards, the length of the sliding window.
    pub window: Option<Duration>,
}

/// What an objective measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// A percentile of response time, 0 to 100.
    Percentile(f64),
    /// Longest response time.
    Max,
    /// Mean response time.
    Mean,
    /// Failed requests over all requests.
    ErrorRate,
    /// Requests per second.
    Rate,
    /// Arrivals that found no user in time.
    Dropped,
}

impl Metric {
    /// Whether its value is a time in milliseconds.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::Percentile(_) | Self::Max | Self::Mean)
    }

    /// A value of this metric as people read it.
    #[must_use]
    pub fn format(self, value: f64) -> String {
        match self {
            Self::Percentile(_) | Self::Max | Self::Mean if value.fract() == 0.0 => format!("{value} ms"),
            Self::Percentile(_) | Self::Max | Self::Mean => format!("{value:.1} ms"),
            Self::ErrorRate => format!("{:.2} %", value * 100.0),
            Self::Rate => format!("{value:.1}/s"),
            Self::Dropped => format!("{value:.0}"),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(p) => write!(f, "p{p}"),
            Self::Max => f.write_str("max"),
            Self::Mean => f.write_str("mean"),
            Self::ErrorRate => f.write_str("error_rate"),
            Self::Rate => f.write_str("rate"),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

/// How a measured value is compared with its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// Whether `value` meets `bound`.
    #[must_use]
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Below => value < bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::AtLeast => value >= bound,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// The seconds of a run over which an objective is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything but warm-up.
    Run,
    /// One phase.
    Phase(Phase),
    /// While the fault of this name is active.
    Fault(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Phase(phase) => phase.fmt(f),
            Self::Fault(name) => f.write_str(name),
        }
    }
}

/// Why an objective could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {problem}; expected {OBJECTIVE_EXPECTED}")]
pub struct ObjectiveError {
    /// The objective as written.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |problem: String| ObjectiveError { text: text.to_owned(), problem };
        let at = text.find(['<', '>']).ok_or_else(|| fail("no comparison (<, <=, >, >=)".into()))?;
        let (left, right) = text.split_at(at);
        let (comparison, right) = match () {
            () if right.starts_with("<=") => (Comparison::AtMost, &right[2..]),
            () if right.starts_with(">=") => (Comparison::AtLeast, &right[2..]),
            () if right.starts_with('<') => (Comparison::Below, &right[1..]),
            () => (Comparison::Above, &right[1..]),
        };
        let left = left.trim();
        let (metric, request) = match left.split_once('(') {
            Some((metric, rest)) => {
                let request = rest.strip_suffix(')').ok_or_else(|| fail("`(` without `)`".into()))?.trim();
                if request.is_empty() {
                    return Err(fail("no request name between `(` and `)`".into()));
                }
                (metric.trim(), Some(request.to_owned()))
            }
            None => (left, None),
        };
        let metric = parse_metric(metric).ok_or_else(|| fail(format!("unknown metric `{metric}`")))?;
        if metric == Metric::Dropped && request.is_some() {
            return Err(fail("`dropped` counts arrivals, not requests, and takes no request name".into()));
        }
        let (right, window) = match right.rsplit_once(" over ") {
            Some((right, window)) => {
                let window = parse_duration(window).map_err(|e| fail(e.to_string()))?;
                if window < Duration::from_secs(1) {
                    return Err(fail("a window must be at least 1s".into()));
                }
                (right, Some(window))
            }
            None => (right, None),
        };
        if right.trim_end().ends_with(" during") {
            return Err(fail("no phase or fault after `during`".into()));
        }
        let (value, scope) = match right.split_once(" during ") {
            Some((value, scope)) => (value, parse_scope(scope.trim())),
            None => (right, Scope::Run),
        };
        let bound = parse_bound(metric, value.trim()).map_err(fail)?;
        Ok(Self { metric, request, comparison, bound, scope, window })
    }
}

fn parse_metric(text: &str) -> Option<Metric> {
    Some(match text {
        "max" => Metric::Max,
        "mean" => Metric::Mean,
        "error_rate" => Metric::ErrorRate,
        "rate" => Metric::Rate,
        "dropped" => Metric::Dropped,
        _ => {
            let percentile: f64 = text.strip_prefix('p')?.parse().ok()?;
            (percentile > 0.0 && percentile < 100.0).then_some(Metric::Percentile(percentile))?
        }
    })
}

fn parse_scope(text: &str) -> Scope {
    match text.parse::<Phase>() {
        Ok(phase) => Scope::Phase(phase),
        Err(_) if text == "run" => Scope::Run,
        Err(_) => Scope::Fault(text.to_owned()),
    }
}

fn parse_bound(metric: Metric, text: &str) -> Result<f64, String> {
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative"));
    }
    let number = |text: &str| {
        text.trim()
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite() && *n >= 0.0)
            .ok_or_else(|| format!("`{text}` is not a number"))
    };
    match metric {
        Metric::Percentile(_) | Metric::Max | Metric::Mean => {
            parse_duration(text).map(|d| d.as_secs_f64() * 1e3).map_err(|e| e.to_string())
        }
        Metric::ErrorRate => match text.strip_suffix('%') {
            Some(percent) => number(percent).map(|n| n / 100.0),
            None => number(text),
        }
        .and_then(|share| {
            if share <= 1.0 { Ok(share) } else { Err(format!("`{text}` is more than 100 %; write a share such as 1%")) }
        }),
        Metric::Rate => number(text.strip_suffix("/s").unwrap_or(text)),
        Metric::Dropped => number(text),
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.metric)?;
        if let Some(request) = &self.request {
            write!(f, "({request})")?;
        }
        write!(f, " {} ", self.comparison.sign())?;
        match self.metric {
            Metric::Percentile(_) | Metric::Max | Metric::Mean => {
                f.write_str(&format_duration(Duration::from_secs_f64(self.bound / 1e3)))?;
            }
            Metric::ErrorRate => write!(f, "{}%", (self.bound * 1e6).round() / 1e4)?,
            Metric::Rate => write!(f, "{}/s", self.bound)?,
            Metric::Dropped => write!(f, "{}", self.bound)?,
        }
        if self.scope != Scope::Run {
            write!(f, " during {}", self.scope)?;
        }
        if let Some(window) = self.window {
            write!(f, " over {}", format_duration(window))?;
        }
        Ok(())
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Objective {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Objective".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": OBJECTIVE_EXPECTED, "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_design_shows() {
        let objective: Objective = "p99(create order) < 150ms during fault".parse().unwrap();
        assert_eq!(objective.metric, Metric::Percentile(99.0));
        assert_eq!(objective.request.as_deref(), Some("create order"));
        assert_eq!(objective.bound, 150.0);
        assert_eq!(objective.scope, Scope::Phase(Phase::Fault));
        assert_eq!("error_rate < 1%".parse::<Objective>().unwrap().bound, 0.01);
        let guard: Objective = "error_rate <= 50% over 5s".parse().unwrap();
        assert_eq!(guard.window, Some(Duration::from_secs(5)));
        let named: Objective = "p50 >= 1.5s during slow users".parse().unwrap();
        assert_eq!(named.scope, Scope::Fault("slow users".into()));
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "p99(create order) < 150ms during fault",
            "p99.9 <= 2s",
            "error_rate < 1%",
            "error_rate < 0.05% during recovery",
            "rate >= 300/s during steady",
            "dropped <= 0",
            "max < 1500ms during slow users over 5s",
        ] {
            assert_eq!(text.parse::<Objective>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_objectives_name_the_problem() {
        for (text, problem) in [
            ("p99 150ms", "no comparison"),
            ("p101 < 5ms", "unknown metric `p101`"),
            ("latency < 5ms", "unknown metric `latency`"),
            ("p99(create < 5ms", "without `)`"),
            ("p99() < 5ms", "no request name"),
            ("p99 < 5", "is not a duration"),
            ("error_rate < many", "is not a number"),
            ("error_rate < 5", "more than 100 %"),
            ("dropped(x) < 1", "takes no request name"),
            ("p99 < 5ms over 10ms", "at least 1s"),
            ("dropped < -5", "`-5` is negative"),
            ("p99 < -5ms", "`-5ms` is negative"),
            ("p99 < 5ms during", "no phase or fault after `during`"),
            ("p99 < 5ms during  over 5s", "no phase or fault after `during`"),
        ] {
            let error = text.parse::<Objective>().unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("expected an objective"), "{text}: {error}");
        }
    }
}
