//! How numbers, durations, moments and results are written, the same on every page (and in `static/numbers.js`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use kennel_model::api::{FaultEffect, FaultView, Outcome, RequestRow, RunSummary, SuiteRunSummary};
use kennel_model::fault::FaultState;
use kennel_model::protocol::AuditVerdict;
use kennel_model::run::Verdict;

/// Seconds of load after a fault's reversal that tell whether the load was back.
const OBSERVED_S: u32 = 3;

/// Written where there is no number.
pub(crate) const NONE: &str = "–";

/// A number with thousands separated: `12,345.6`.
fn grouped(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    if value < 0.0 && text.bytes().any(|digit| matches!(digit, b'1'..=b'9')) {
        out.push('−');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// How many: `12,345`.
pub(crate) fn count(value: &u64) -> String {
    grouped(*value as f64, 0)
}

/// Milliseconds: one decimal below 100, none above.
pub(crate) fn ms(value: &f64) -> String {
    format!("{} ms", grouped(*value, usize::from(*value < 99.95)))
}

/// Microseconds, as [`ms`].
pub(crate) fn us(value: &f64) -> String {
    format!("{} µs", grouped(*value, usize::from(*value < 99.95)))
}

/// A response time of a row; nothing where no request ended.
pub(crate) fn time_of(row: &RequestRow, value: &f64) -> String {
    if row.count == 0 { NONE.to_owned() } else { ms(value) }
}

/// Per second, one decimal.
pub(crate) fn rate(value: &f64) -> String {
    format!("{} /s", grouped(*value, 1))
}

/// A share (0 to 1) as percent with two decimals.
pub(crate) fn share(value: &f64) -> String {
    format!("{} %", grouped(*value * 100.0, 2))
}

/// A relative change with its sign: `+12.5 %`.
pub(crate) fn change(value: f64) -> String {
    let text = grouped(value * 100.0, 1);
    format!("{}{text} %", if value > 0.0 && text != "0.0" { "+" } else { "" })
}

/// A difference of two shares (0 to 1) in percentage points, with its sign: `+1.25 pp`.
pub(crate) fn points(value: f64) -> String {
    let text = grouped(value * 100.0, 2);
    format!("{}{text} pp", if value > 0.0 && text != "0.00" { "+" } else { "" })
}

/// Bytes in the unit that fits.
pub(crate) fn bytes(value: &u64) -> String {
    let mut size = *value as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    format!("{} {unit}", grouped(size, usize::from(unit != "B")))
}

/// Seconds as people say them: `45 s`, `1 min 30 s`, `1 h 5 min`.
pub(crate) fn duration(value: &f64) -> String {
    let whole = value.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole % 3600 / 60, whole % 60);
    match (hours, minutes, seconds) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// As [`duration`], of measured seconds.
pub(crate) fn seconds(value: &u32) -> String {
    duration(&f64::from(*value))
}

/// Length of a run's load: what was planned, and what was measured where that is less.
pub(crate) fn length(run: &RunSummary) -> String {
    let planned = duration(&run.planned_s);
    if f64::from(run.measured_s) + 1.0 >= run.planned_s {
        planned
    } else {
        format!("{} of {planned}", seconds(&run.measured_s))
    }
}

/// A time within a run: `12.3 s`.
pub(crate) fn moment_in_run(value: &Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |s| format!("{} s", grouped(s, 1)))
}

/// When a fault is due and for how long: `10.0 s for 5 s`.
pub(crate) fn planned(fault: &FaultView) -> String {
    let start = moment_in_run(&Some(fault.planned_start_s));
    match fault.planned_duration_s {
        Some(length) => format!("{start} for {}", duration(&length)),
        None => start,
    }
}

/// How long after a fault's reversal the load was well again.
pub(crate) fn recovered(effect: &FaultEffect, fault: &FaultView) -> String {
    match effect.recovered_after_s {
        Some(seconds) => moment_in_run(&Some(seconds)),
        None if fault.state.is_over() && effect.observed_after_s < OBSERVED_S => "recovery not observed".to_owned(),
        None if fault.state.is_over() => "not recovered".to_owned(),
        None => NONE.to_owned(),
    }
}

/// Failures by kind, most frequent first: `status 503 ×12, timeout ×3`.
pub(crate) fn kinds(failures: &BTreeMap<String, u64>) -> String {
    let mut listed: Vec<_> = failures.iter().filter(|(_, times)| **times > 0).collect();
    listed.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    listed.iter().map(|(kind, times)| format!("{kind} ×{}", count(times))).collect::<Vec<_>>().join(", ")
}

/// A moment in UTC, for browsers without script: `2026-11-23 15:04:05 UTC`.
pub(crate) fn moment(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// How long ago a moment was.
pub(crate) fn ago(text: &str, now: &Timestamp) -> String {
    let Ok(moment) = text.parse::<Timestamp>() else {
        return String::new();
    };
    match now.as_second() - moment.as_second() {
        ..5 => "just now".to_owned(),
        s @ 5..60 => format!("{s} s ago"),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..86_400 => format!("{} h ago", s / 3600),
        s @ 86_400..172_800 => format!("{} day ago", s / 86_400),
        s => format!("{} days ago", s / 86_400),
    }
}

/// When a run's load began, or when it was handed in.
pub(crate) fn beginning(run: &RunSummary) -> &str {
    run.started_at.as_deref().unwrap_or(&run.created_at)
}

/// A sign for a verdict, beside its colour.
pub(crate) fn verdict_glyph(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "✓",
        Verdict::Failed => "✕",
        Verdict::Inconclusive => "?",
        Verdict::Invalid => "⊘",
        Verdict::Halted => "■",
        Verdict::Error => "!",
    }
}

/// The sign of an outcome, so that it does not hang on colour.
#[allow(dead_code, reason = "until the first page shows an outcome")]
pub(crate) fn outcome_glyph(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "✓",
        Outcome::Failed => "✕",
        Outcome::Error => "!",
        Outcome::Skipped => "–",
    }
}

/// The colour of what explains a verdict.
pub(crate) fn tone(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "good",
        Verdict::Failed | Verdict::Error => "bad",
        Verdict::Inconclusive | Verdict::Invalid | Verdict::Halted => "warn",
    }
}

/// A sign for a fault's state.
pub(crate) fn fault_glyph(state: &FaultState) -> &'static str {
    match state {
        FaultState::Planned | FaultState::Armed => "○",
        FaultState::Injecting | FaultState::Active | FaultState::Reverting => "●",
        FaultState::Reverted => "✓",
        FaultState::Failed => "✕",
        FaultState::Stuck => "!",
    }
}

/// Whether an objective was met, in a word.
pub(crate) fn met_word(met: &Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "not measured",
    }
}

/// The same as a class.
pub(crate) fn met_class(met: &Option<bool>) -> &'static str {
    if met.is_some() { met_word(met) } else { "" }
}

/// The same as a sign.
pub(crate) fn met_glyph(met: &Option<bool>) -> &'static str {
    match met {
        Some(true) => "✓",
        Some(false) => "✕",
        None => NONE,
    }
}

/// Class of an audit's verdict.
pub(crate) fn audit_class(verdict: &AuditVerdict) -> &'static str {
    match verdict {
        AuditVerdict::Valid => "valid",
        AuditVerdict::Unknown => "unknown",
        AuditVerdict::Invalid => "audit-invalid",
    }
}

/// A sign for an audit's verdict.
pub(crate) fn audit_glyph(verdict: &AuditVerdict) -> &'static str {
    match verdict {
        AuditVerdict::Valid => "✓",
        AuditVerdict::Unknown => "?",
        AuditVerdict::Invalid => "✕",
    }
}

/// When a suite's run began, or when it was handed in.
pub(crate) fn beginning_of(run: &SuiteRunSummary) -> &str {
    run.started_at.as_deref().unwrap_or(&run.created_at)
}

/// Runs in a suite's strip.
pub(crate) const STRIP: usize = 20;

/// The class of a run's mark in a strip.
pub(crate) fn mark(run: &SuiteRunSummary) -> &'static str {
    run.verdict.map_or("running", Verdict::word)
}

/// A strip of runs in words: `Last 20: 18 passed, 2 failed`.
pub(crate) fn strip_words(runs: &[SuiteRunSummary]) -> String {
    let counted = Verdict::ALL.iter().filter_map(|verdict| {
        let times = runs.iter().filter(|run| run.verdict == Some(*verdict)).count();
        (times > 0).then(|| format!("{times} {verdict}"))
    });
    let under_way = runs.iter().filter(|run| run.verdict.is_none()).count();
    let under_way = (under_way > 0).then(|| format!("{under_way} not over"));
    format!("Last {}: {}", runs.len(), counted.chain(under_way).collect::<Vec<_>>().join(", "))
}

/// How long something took that began and ended then, or has taken until now: `4.2 s`, `1 min 30 s`.
pub(crate) fn took(began: &Option<String>, ended: &Option<String>, now: &Timestamp) -> String {
    let moment = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(began) = moment(began) else { return NONE.to_owned() };
    let ended = moment(ended).unwrap_or(*now);
    let ms = (ended.as_millisecond() - began.as_millisecond()).max(0) as f64;
    match ms {
        ..9_950.0 => format!("{} s", grouped(ms / 1e3, 1)),
        _ => duration(&(ms / 1e3)),
    }
}

/// `set-up: ` or `tear-down: ` for steps of those; nothing for a suite's own.
pub(crate) fn section_word(path: &str) -> &'static str {
    match path.split('/').next() {
        Some("set_up") => "set-up: ",
        Some("tear_down") => "tear-down: ",
        _ => "",
    }
}

/// A log as a page shows it: without colours and other orders to a terminal (ECMA-48), each line as it last stood.
pub(crate) fn plain_log(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(sign) = rest.next() {
        match sign {
            '\u{1b}' => match rest.next() {
                // A control sequence ends with a letter or one of a few signs.
                Some('[') => while rest.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
                // An operating system command ends with a bell or an escape.
                Some(']') => while rest.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                _ => {}
            },
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => plain.truncate(plain.rfind('\n').map_or(0, |end| end + 1)),
            '\n' | '\t' => plain.push(sign),
            sign if sign.is_control() => {}
            sign => plain.push(sign),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_shown_without_orders_to_a_terminal() {
        let log = "\u{1b}[32mPASSED\u{1b}[0m\r\n10 %\r100 %\n\u{1b}]0;title\u{7}<b>\u{0}\u{8}";
        assert_eq!(plain_log(log), "PASSED\n100 %\n<b>");
    }

    #[test]
    fn thousands_are_separated_and_decimals_are_few() {
        assert_eq!(count(&1_234_567), "1,234,567");
        assert_eq!(count(&999), "999");
        assert_eq!(ms(&0.25), "0.2 ms");
        assert_eq!(ms(&12.34), "12.3 ms");
        assert_eq!(ms(&99.96), "100 ms");
        assert_eq!(ms(&61_234.5), "61,234 ms");
        assert_eq!(rate(&1499.96), "1,500.0 /s");
        assert_eq!(share(&0.01234), "1.23 %");
        assert_eq!(bytes(&1_572_864), "1.5 MiB");
        assert_eq!(ms(&f64::NAN), "– ms");
    }

    #[test]
    fn changes_carry_their_sign() {
        assert_eq!(change(0.125), "+12.5 %");
        assert_eq!(change(-0.5), "−50.0 %");
        assert_eq!(change(-0.0001), "0.0 %");
        assert_eq!(change(0.0001), "0.0 %");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (59.4, "59 s"),
            (60.0, "1 min"),
            (90.0, "1 min 30 s"),
            (3900.0, "1 h 5 min"),
            (7200.0, "2 h"),
        ] {
            assert_eq!(duration(&seconds), text);
        }
    }

    #[test]
    fn moments_are_told_in_utc_and_as_a_distance() {
        let now: Timestamp = "2026-11-23T15:04:05Z".parse().unwrap();
        assert_eq!(moment("2026-11-23T15:04:05.123Z"), "2026-11-23 15:04:05 UTC");
        for (text, distance) in [
            ("2026-11-23T15:04:04Z", "just now"),
            ("2026-11-23T15:03:00Z", "1 min ago"),
            ("2026-11-23T13:04:05Z", "2 h ago"),
            ("2026-11-22T10:00:00Z", "1 day ago"),
            ("2026-11-13T15:04:05Z", "10 days ago"),
        ] {
            assert_eq!(ago(text, &now), distance);
        }
    }

    #[test]
    fn the_most_frequent_failure_comes_first() {
        let failures =
            BTreeMap::from([("timeout".to_owned(), 3), ("status 503".to_owned(), 1200), ("none".to_owned(), 0)]);
        assert_eq!(kinds(&failures), "status 503 ×1,200, timeout ×3");
    }

    #[test]
    fn a_recovery_that_nobody_could_see_is_not_called_missing() {
        let told = |recovered_after_s, observed_after_s, state| {
            let effect = FaultEffect {
                failed: 0,
                error_rate: 0.0,
                p50_before: 1.0,
                p50_during: 1.0,
                p99_before: 1.0,
                p99_during: 1.0,
                recovered_after_s,
                observed_after_s,
            };
            let fault = FaultView {
                name: "slow".into(),
                kind: kennel_model::fault::FaultKind::Latency,
                description: String::new(),
                state,
                planned_start_s: 1.0,
                planned_duration_s: None,
                injected_at_s: None,
                reverted_at_s: None,
                detail: String::new(),
                effect: Some(effect),
            };
            recovered(&effect, &fault)
        };
        assert_eq!(told(None, 2, FaultState::Reverted), "recovery not observed");
        assert_eq!(told(None, 3, FaultState::Reverted), "not recovered");
        assert_eq!(told(Some(1.5), 9, FaultState::Reverted), "1.5 s");
        assert_eq!(told(None, 0, FaultState::Active), NONE);
    }
}
