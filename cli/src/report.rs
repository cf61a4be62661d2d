//! Runs and comparisons as tables for a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use kennel_model::api::{ComparisonRow, ComparisonView, FaultView, ObjectiveView, RequestRow, RunDetail, RunSummary};
use kennel_model::run::{Phase, Verdict};

/// A line under the header and no other: rows are read across, not framed.
const LINES: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A finished run: numbers per request name and phase, faults, objectives, audits, verdict.
pub(crate) fn run(run: &RunDetail, page: Option<&str>) -> String {
    let mut out = String::new();
    let summary = &run.summary;
    let _ = writeln!(out, "{} on {} · run {}", summary.name, summary.target, summary.id);
    if !run.requests.is_empty() {
        let _ = writeln!(out, "\nRequests (response times in ms)\n{}", requests(&run.requests));
    }
    for row in run.arrivals.iter().filter(|row| row.dropped > 0) {
        let _ = writeln!(
            out,
            "{}: {} of {} arrivals were dropped: no user was free in time",
            row.scenario, row.dropped, row.scheduled
        );
    }
    if !run.faults.is_empty() {
        let _ = writeln!(out, "\nFaults\n{}", faults(&run.faults));
    }
    let judged: Vec<&ObjectiveView> =
        run.objectives.iter().chain(run.guards.iter().filter(|guard| guard.met == Some(false))).collect();
    if !judged.is_empty() {
        let _ = writeln!(out, "\nObjectives\n{}", objectives(&judged));
    }
    for audit in &run.audits {
        let checked: u64 = audit.invariants.iter().map(|i| i.checked).sum();
        let _ = writeln!(
            out,
            "\nAudit `{}`: {} ({} invariants, {checked} checks)",
            audit.name,
            audit.verdict.word(),
            audit.invariants.len()
        );
        for invariant in audit.invariants.iter().filter(|i| i.verdict != kennel_model::protocol::AuditVerdict::Valid) {
            let _ = writeln!(
                out,
                "  {} {}: {} ({} violations)",
                invariant.id,
                invariant.title,
                invariant.verdict.word(),
                invariant.violations
            );
            for example in invariant.examples.iter().take(3) {
                let _ = writeln!(out, "    {example}");
            }
        }
        if let Some(problem) = &audit.problem {
            let _ = writeln!(out, "  {problem}");
        }
    }
    for warning in &run.warnings {
        let _ = writeln!(out, "\nWarning: {warning}");
    }
    let _ = writeln!(
        out,
        "\nVerdict: {}",
        summary.verdict.map_or_else(|| format!("none yet ({})", summary.state), verdict_text)
    );
    for reason in &summary.reasons {
        let _ = writeln!(out, "  - {reason}");
    }
    if let Some(page) = page {
        let _ = writeln!(out, "{page}");
    }
    out.trim_end().to_owned()
}

fn verdict_text(verdict: Verdict) -> String {
    verdict.word().to_uppercase()
}

/// A table whose columns from `numbers_from` on hold numbers.
pub(crate) fn table(header: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(LINES).set_content_arrangement(ContentArrangement::Dynamic).set_header(header.to_vec());
    for (at, column) in table.column_iter_mut().enumerate() {
        if at >= numbers_from {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn phase_name(phase: Option<Phase>) -> String {
    phase.map_or_else(|| "whole run".to_owned(), |phase| phase.to_string())
}

fn requests(rows: &[RequestRow]) -> Table {
    let mut table = table(&["request", "phase", "rate/s", "p50", "p90", "p99", "max", "errors"], 2);
    let mut previous = "";
    for row in rows {
        let name = if row.request == previous { String::new() } else { row.request.clone() };
        previous = &row.request;
        let ms = |value: f64| format!("{value:.1}");
        let errors: Vec<String> = row.failures.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        let errors = if errors.is_empty() {
            "–".to_owned()
        } else {
            format!("{:.2} %: {}", row.error_rate * 100.0, errors.join(", "))
        };
        table.add_row(vec![
            name,
            phase_name(row.phase),
            format!("{:.1}", row.rate),
            ms(row.response.p50),
            ms(row.response.p90),
            ms(row.response.p99),
            ms(row.response.max),
            errors,
        ]);
    }
    table
}

fn faults(faults: &[FaultView]) -> Table {
    let mut table = table(&["fault", "what", "state", "injected", "reverted", "effect"], 6);
    for fault in faults {
        let at = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |s| format!("{s:.2} s"));
        let effect = fault.effect.map_or_else(
            || fault.detail.clone(),
            |effect| {
                let recovered = match effect.recovered_after_s {
                    Some(seconds) => format!("recovered after {seconds:.0} s"),
                    None if effect.observed_after_s < 3 => "recovery not observed".to_owned(),
                    None => "not recovered".to_owned(),
                };
                format!(
                    "p50 {:.1} → {:.1} ms, p99 {:.0} → {:.0} ms, {} failed ({:.2} %), {recovered}",
                    effect.p50_before,
                    effect.p50_during,
                    effect.p99_before,
                    effect.p99_during,
                    effect.failed,
                    effect.error_rate * 100.0
                )
            },
        );
        table.add_row(vec![
            fault.name.clone(),
            fault.description.clone(),
            fault.state.to_string(),
            at(fault.injected_at_s),
            at(fault.reverted_at_s),
            effect,
        ]);
    }
    table
}

fn objectives(objectives: &[&ObjectiveView]) -> Table {
    let mut table = table(&["", "objective", "measured"], 3);
    for objective in objectives {
        let met = match objective.met {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "?",
        };
        let text = match objective.role.as_str() {
            "objective" => objective.objective.clone(),
            role => format!("{} ({role})", objective.objective),
        };
        table.add_row(vec![met.to_owned(), text, objective.measured.clone().unwrap_or_else(|| "nothing".to_owned())]);
    }
    table
}

/// The history.
pub(crate) fn runs(runs: &[RunSummary]) -> String {
    if runs.is_empty() {
        return "no runs yet; `kennel demo` makes one".to_owned();
    }
    let mut table = table(&["run", "experiment", "target", "started", "verdict"], 5);
    for run in runs {
        let verdict = run.verdict.map_or_else(|| run.state.to_string(), |verdict| verdict.to_string());
        let started = run.started_at.clone().unwrap_or_else(|| run.created_at.clone());
        table.add_row(vec![run.id.to_string(), run.name.clone(), run.target.clone(), started, verdict]);
    }
    table.to_string()
}

/// Two runs side by side.
/// The comparison as a table: what most look at, or `all` of it.
pub(crate) fn comparison(comparison: &ComparisonView, all: bool) -> String {
    let mut out = String::new();
    for (letter, run) in [("A", &comparison.a), ("B", &comparison.b)] {
        let verdict = run.verdict.map_or_else(|| run.state.to_string(), |verdict| verdict.to_string());
        let _ = writeln!(
            out,
            "{letter}: {} · {verdict} · {} · {}",
            run.name,
            run.started_at.as_deref().unwrap_or(&run.created_at),
            run.id
        );
    }
    for warning in &comparison.warnings {
        let _ = writeln!(out, "Warning: {warning}");
    }
    let mut table = table(&["request", "phase", "metric", "A", "B", "change"], 3);
    let shown: Vec<&ComparisonRow> =
        comparison.rows.iter().filter(|row| all || is_looked_at(row, &comparison.rows)).collect();
    for row in &shown {
        let value = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format_metric(row, value));
        let change = row.change.map_or_else(|| "–".to_owned(), |change| format!("{:+.1} %", change * 100.0));
        table.add_row(vec![
            row.request.clone(),
            phase_name(row.phase),
            row.metric.clone(),
            value(row.a),
            value(row.b),
            change,
        ]);
    }
    let _ = write!(out, "{table}");
    let left_out = comparison.rows.len() - shown.len();
    if left_out > 0 {
        let _ = write!(out, "\n{left_out} more lines of other phases and metrics: --all");
    }
    out
}

/// The warm-up does not count, and the whole run has it in it: where there are other phases, these tell. A single request is
/// told by what its user feels.
fn is_looked_at(row: &ComparisonRow, rows: &[ComparisonRow]) -> bool {
    let counts = |phase: Option<Phase>| !matches!(phase, None | Some(Phase::WarmUp));
    let has_better = || rows.iter().any(|other| other.request == row.request && counts(other.phase));
    let felt = row.request == "all" || ["error_rate", "p50", "p99"].contains(&row.metric.as_str());
    felt && (counts(row.phase) || !has_better())
}

fn format_metric(row: &ComparisonRow, value: f64) -> String {
    match row.metric.as_str() {
        "error_rate" => format!("{:.2} %", value * 100.0),
        "rate" => format!("{value:.1}/s"),
        _ => format!("{value:.1} ms"),
    }
}
