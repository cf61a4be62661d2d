//! Two runs side by side at `/compare?a=…&b=…`.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use kennel_model::RunId;
use kennel_model::api::{ComparisonRow, RunSummary};

use crate::layout::Layout;
use crate::pages::problem::Problem;
use crate::pages::{compare_suites, fill};
use crate::{Web, notation};

/// Changes within this share of run A's number are not called better or worse.
const NOTEWORTHY: f64 = 0.05;

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage<'a> {
    layout: Layout,
    a: &'a RunSummary,
    b: &'a RunSummary,
    warnings: &'a [String],
    names: Vec<&'a str>,
    /// The only request shown; empty for every one.
    request: &'a str,
    groups: Vec<Group<'a>>,
}

/// One request name in one phase.
struct Group<'a> {
    request: &'a str,
    phase: &'static str,
    rows: Vec<Row>,
}

/// One compared number as it is shown.
#[derive(Debug, PartialEq)]
struct Row {
    metric: &'static str,
    a: String,
    b: String,
    change: String,
    class: &'static str,
}

/// `GET /compare`. The list of runs names the two as `run` twice; the lasting address is by `a` and `b`.
pub(crate) async fn show(
    State(web): State<Web>,
    Query(wanted): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let value = |name: &str| wanted.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let picked: Vec<&str> = wanted.iter().filter(|(key, _)| key == "run").map(|(_, value)| value.as_str()).collect();
    if let [first, second] = picked[..] {
        let (first, second) = (web.controller.find_run(first).await?, web.controller.find_run(second).await?);
        let (a, b) = (first.min(second), first.max(second));
        return Ok(Redirect::to(&format!("/compare?a={a}&b={b}")).into_response());
    }
    let (Some(a), Some(b)) = (value("a"), value("b")) else {
        return Err(Problem::Unusable {
            what: format!("A comparison takes two runs; {}.", named(&wanted)),
            next: "Go to the list of runs, select two of them, and press Compare.",
        });
    };
    if let (Ok(a), Ok(b)) = (a.parse::<RunId>(), b.parse::<RunId>())
        && let Some(comparison) = web.controller.compare_suite_runs(a, b).await?
    {
        return Ok(compare_suites::show(&web, &comparison)?.into_response());
    }
    let (a, b) = (web.controller.find_run(a).await?, web.controller.find_run(b).await?);
    let comparison = web.controller.compare(a, b).await?.ok_or_else(|| Problem::NoSuchRun {
        what: format!("There is no run {a} or no run {b}."),
        matches: Vec::new(),
    })?;
    let mut names: Vec<&str> = comparison.rows.iter().map(|row| row.request.as_str()).collect();
    names.sort_by_key(|name| (*name != "all", *name));
    names.dedup();
    let request = value("request").unwrap_or("all");
    let page = ComparePage {
        layout: web.layout.at(""),
        a: &comparison.a,
        b: &comparison.b,
        warnings: &comparison.warnings,
        names,
        request,
        groups: grouped(&comparison.rows, request),
    };
    Ok(fill(&page)?.into_response())
}

/// How many runs an address names, in words.
fn named(wanted: &[(String, String)]) -> String {
    match wanted.iter().filter(|(key, _)| matches!(key.as_str(), "a" | "b" | "run")).count() {
        0 => "none was named".to_owned(),
        1 => "one was named".to_owned(),
        count => format!("{count} were named"),
    }
}

/// Rows of the request asked for by request and phase, `all` and the whole run first.
fn grouped<'a>(rows: &'a [ComparisonRow], request: &str) -> Vec<Group<'a>> {
    let mut ordered: Vec<&ComparisonRow> =
        rows.iter().filter(|row| request.is_empty() || row.request == request).collect();
    ordered.sort_by(|a, b| (a.request != "all", &a.request, a.phase).cmp(&(b.request != "all", &b.request, b.phase)));
    ordered
        .chunk_by(|a, b| (&a.request, a.phase) == (&b.request, b.phase))
        .map(|rows| Group {
            request: &rows[0].request,
            phase: rows[0].phase.map_or("whole run", |phase| phase.word()),
            rows: rows.iter().map(|row| shown(row)).collect(),
        })
        .collect()
}

fn shown(row: &ComparisonRow) -> Row {
    let (metric, write): (_, fn(&f64) -> String) = match row.metric.as_str() {
        "rate" => ("rate", notation::rate),
        "error_rate" => ("error rate", notation::share),
        "p50" => ("p50", notation::ms),
        "p90" => ("p90", notation::ms),
        "p99" => ("p99", notation::ms),
        _ => ("longest", notation::ms),
    };
    let text = |value: Option<f64>| value.map_or_else(|| notation::NONE.to_owned(), |value| write(&value));
    let (change, class) = judged(row);
    Row { metric, a: text(row.a), b: text(row.b), change, class }
}

/// The change in words, with an arrow so that nothing hangs on colour alone.
fn judged(row: &ComparisonRow) -> (String, &'static str) {
    let (Some(a), Some(b)) = (row.a, row.b) else {
        return (notation::NONE.to_owned(), "muted");
    };
    let (text, relative) = match row.change {
        Some(change) => (notation::change(change), change),
        None if a == b => return ("=".to_owned(), "muted"),
        None => ("from nothing".to_owned(), if b > a { f64::INFINITY } else { f64::NEG_INFINITY }),
    };
    // A share of a share misleads: one failure in a thousand against one in ten thousand is not "+900 %".
    let text = if row.metric == "error_rate" { notation::points(b - a) } else { text };
    if relative.abs() <= NOTEWORTHY {
        return (text, "muted");
    }
    // The number stays on one line; its meaning may go to the next.
    let text = text.replace(' ', "\u{a0}");
    let arrow = if relative > 0.0 { "▲" } else { "▼" };
    if (relative > 0.0) == row.higher_is_better {
        (format!("{arrow}\u{a0}{text} better"), "better")
    } else {
        (format!("{arrow}\u{a0}{text} worse"), "worse")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metric: &str, a: f64, b: f64) -> ComparisonRow {
        let change = (a != 0.0).then(|| (b - a) / a);
        let higher_is_better = metric == "rate";
        ComparisonRow {
            request: "all".into(),
            phase: None,
            metric: metric.into(),
            a: Some(a),
            b: Some(b),
            change,
            higher_is_better,
        }
    }

    #[test]
    fn slower_is_worse_and_more_throughput_is_better() {
        assert_eq!(judged(&row("p99", 100.0, 150.0)), ("▲\u{a0}+50.0\u{a0}% worse".to_owned(), "worse"));
        assert_eq!(judged(&row("p99", 100.0, 50.0)), ("▼\u{a0}−50.0\u{a0}% better".to_owned(), "better"));
        assert_eq!(judged(&row("rate", 100.0, 150.0)), ("▲\u{a0}+50.0\u{a0}% better".to_owned(), "better"));
        assert_eq!(judged(&row("rate", 100.0, 90.0)), ("▼\u{a0}−10.0\u{a0}% worse".to_owned(), "worse"));
    }

    #[test]
    fn small_changes_are_told_but_not_judged() {
        assert_eq!(judged(&row("p99", 100.0, 105.0)), ("+5.0 %".to_owned(), "muted"));
        assert_eq!(judged(&row("rate", 100.0, 95.5)), ("−4.5 %".to_owned(), "muted"));
    }

    #[test]
    fn error_rates_differ_by_percentage_points() {
        let (text, class) = judged(&row("error_rate", 0.001, 0.766_842));
        assert_eq!((text.as_str(), class), ("▲\u{a0}+76.58\u{a0}pp worse", "worse"));
        assert_eq!(judged(&row("error_rate", 0.02, 0.01)).0, "▼\u{a0}−1.00\u{a0}pp better");
    }

    #[test]
    fn errors_where_there_were_none_are_worse() {
        assert_eq!(judged(&row("error_rate", 0.0, 0.01)), ("▲\u{a0}+1.00\u{a0}pp worse".to_owned(), "worse"));
        assert_eq!(judged(&row("rate", 0.0, 1.0)), ("▲\u{a0}from\u{a0}nothing better".to_owned(), "better"));
        assert_eq!(judged(&row("error_rate", 0.0, 0.0)), ("=".to_owned(), "muted"));
    }
}
