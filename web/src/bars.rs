//! Bar charts over runs, drawn by the server so that they need no script: geometry only, the template draws.

use kennel_model::api::{Outcome, TestHistory, TrendPoint};

use crate::notation;

/// Height of a chart, in its own units.
pub(crate) const HEIGHT: u32 = 100;
/// Width of a bar with its gap, in the same units.
const STEP: u32 = 10;

/// A chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Bars {
    pub(crate) title: &'static str,
    pub(crate) legend: &'static str,
    /// The chart in a sentence, for whoever does not see it.
    pub(crate) summary: String,
    pub(crate) width: u32,
    pub(crate) bars: Vec<Bar>,
    /// What the tallest bar stands for.
    pub(crate) most: String,
    /// When the first run was, and the last.
    pub(crate) from: String,
    pub(crate) to: String,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) x: u32,
    pub(crate) width: u32,
    pub(crate) parts: Vec<Part>,
    pub(crate) title: String,
    pub(crate) href: String,
}

/// One colour of a bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) class: &'static str,
    pub(crate) y: String,
    pub(crate) height: String,
}

/// What a bar is made of: its parts from the bottom, with their class.
struct Column {
    at: String,
    values: Vec<(&'static str, f64)>,
    title: String,
    href: String,
}

impl Bars {
    /// How long a test took in its runs, oldest first, by outcome.
    pub(crate) fn of_test(history: &TestHistory) -> Self {
        let columns = history.results.iter().rev().map(|result| Column {
            at: result.at.clone(),
            values: vec![(result.outcome.word(), result.duration_ms)],
            title: format!(
                "{}: {}, {}",
                notation::moment(&result.at),
                result.outcome,
                notation::ms(&result.duration_ms)
            ),
            href: format!("/suite-runs/{}/tests/{}", result.suite_run, history.standing.test.id),
        });
        let passed = history.results.iter().filter(|result| result.outcome == Outcome::Passed).count();
        let summary = format!("{passed} of the last {} results passed", history.results.len());
        Self::drawn("Duration", "height: time taken; colour: how it ended", summary, columns.collect(), |ms| {
            notation::ms(&ms)
        })
    }

    /// Tests by outcome in a suite's runs, oldest first.
    pub(crate) fn of_outcomes(trend: &[TrendPoint]) -> Self {
        let columns = trend.iter().map(|point| {
            let tests = point.tests;
            let failed = tests.failed + tests.error;
            Column {
                at: point.at.clone(),
                values: vec![
                    ("passed", f64::from(tests.passed)),
                    ("skipped", f64::from(tests.skipped)),
                    ("failed", f64::from(failed)),
                ],
                title: format!(
                    "{}: {} passed, {failed} failed, {} skipped",
                    notation::moment(&point.at),
                    tests.passed,
                    tests.skipped
                ),
                href: format!("/suite-runs/{}", point.run),
            }
        });
        let green = trend.iter().filter(|point| point.tests.failed + point.tests.error == 0).count();
        let summary = format!("{green} of the last {} runs had no failed test", trend.len());
        let legend = "from below: passed, skipped, failed";
        Self::drawn("Tests by outcome", legend, summary, columns.collect(), |tests| notation::count(&(tests as u64)))
    }

    /// How long a suite's runs took, oldest first.
    pub(crate) fn of_durations(trend: &[TrendPoint]) -> Self {
        let columns = trend.iter().map(|point| {
            let bad = point.tests.failed + point.tests.error > 0;
            Column {
                at: point.at.clone(),
                values: vec![(if bad { "failed" } else { "passed" }, point.duration_s)],
                title: format!("{}: {}", notation::moment(&point.at), notation::duration(&point.duration_s)),
                href: format!("/suite-runs/{}", point.run),
            }
        });
        let longest = trend.iter().map(|point| point.duration_s).fold(0.0, f64::max);
        let summary = format!("the longest of {} runs took {}", trend.len(), notation::duration(&longest));
        Self::drawn("Duration", "height: time taken; colour: whether tests failed", summary, columns.collect(), |s| {
            notation::duration(&s)
        })
    }

    fn drawn(
        title: &'static str,
        legend: &'static str,
        summary: String,
        columns: Vec<Column>,
        write: impl Fn(f64) -> String,
    ) -> Self {
        let total = |column: &Column| column.values.iter().map(|(_, value)| value).sum::<f64>();
        let most = columns.iter().map(total).fold(0.0, f64::max);
        let scale = if most > 0.0 { f64::from(HEIGHT) / most } else { 0.0 };
        let day = |column: Option<&Column>| column.map(|column| notation::moment(&column.at)).unwrap_or_default();
        let (from, to) = (day(columns.first()), day(columns.last()));
        // At least so many places as a strip has, so that the first runs are not drawn as walls.
        let places = u32::try_from(columns.len()).unwrap_or(u32::MAX).max(30);
        let bars = columns.into_iter().enumerate().map(|(index, column)| {
            let mut top = f64::from(HEIGHT);
            let parts = column.values.iter().filter(|(_, value)| *value > 0.0).map(|(class, value)| {
                // What happened is to be seen, however short it was.
                let height = (value * scale).max(2.0);
                top -= height;
                Part { class, y: format!("{:.1}", top.max(0.0)), height: format!("{height:.1}") }
            });
            let parts = parts.collect();
            let x = u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(STEP);
            Bar { x, width: STEP - 2, parts, title: column.title, href: column.href }
        });
        Self { title, legend, summary, width: places * STEP, bars: bars.collect(), most: write(most), from, to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::RunId;
    use kennel_model::api::OutcomeCounts;

    fn point(passed: u32, failed: u32, duration_s: f64) -> TrendPoint {
        let tests = OutcomeCounts { passed, failed, ..OutcomeCounts::default() };
        TrendPoint { run: RunId::new(), at: "2026-11-23T10:00:00Z".to_owned(), duration_s, tests }
    }

    #[test]
    fn the_tallest_bar_fills_the_chart_and_parts_stand_on_each_other() {
        let bars = Bars::of_outcomes(&[point(3, 1, 1.0), point(2, 0, 1.0)]);
        assert_eq!((bars.most.as_str(), bars.bars.len()), ("4", 2));
        let parts = &bars.bars[0].parts;
        assert_eq!((parts[0].class, parts[0].y.as_str(), parts[0].height.as_str()), ("passed", "25.0", "75.0"));
        assert_eq!((parts[1].class, parts[1].y.as_str(), parts[1].height.as_str()), ("failed", "0.0", "25.0"));
        assert_eq!(bars.summary, "1 of the last 2 runs had no failed test");
    }

    #[test]
    fn no_run_and_no_time_are_drawn_without_harm() {
        assert_eq!(Bars::of_durations(&[]).bars, []);
        assert_eq!(Bars::of_durations(&[point(1, 0, 0.0)]).bars[0].parts, []);
    }
}
