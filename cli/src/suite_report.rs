//! How suites and their runs are written on a terminal.

use kennel_model::api::{OutcomeCounts, StepState, SuiteRunDetail, SuiteSummary};

use crate::report::table;

/// The known suites.
pub(crate) fn suites(suites: &[SuiteSummary]) -> String {
    if suites.is_empty() {
        return "No suite yet: run a file with `kennel suite run FILE`.".to_owned();
    }
    let mut table = table(&["suite", "from", "steps", "last verdict", "description"], usize::MAX);
    for suite in suites {
        let last = suite.last_runs.first().map(|run| match run.verdict {
            Some(verdict) => verdict.to_string(),
            None => run.state.to_string(),
        });
        let told = match (&suite.problem, &suite.needs) {
            (Some(problem), _) => format!("cannot run: {problem}"),
            (None, Some(needs)) => format!("{} Needs {needs}.", suite.description).trim_start().to_owned(),
            (None, None) => suite.description.clone(),
        };
        table.add_row([
            suite.name.clone(),
            suite.origin.to_string(),
            suite.steps.to_string(),
            last.unwrap_or_else(|| "–".to_owned()),
            told,
        ]);
    }
    table.to_string()
}

/// One run with its steps.
pub(crate) fn run(detail: &SuiteRunDetail, page: Option<&str>) -> String {
    let run = &detail.summary;
    let mut out = format!("Suite {} · run {}", run.suite, run.id.short());
    if run.attempt > 1 {
        out.push_str(&format!(" · attempt {}", run.attempt));
    }
    out.push('\n');
    let mut table = table(&["step", "attempt", "outcome", "what came of it"], usize::MAX);
    for step in &detail.steps {
        let outcome = step.outcome.map_or_else(|| step.state.to_string(), |outcome| outcome.to_string());
        let indent = if step.path.contains("/parallel/") { "  " } else { "" };
        let message = step.message.lines().next().unwrap_or_default().to_owned();
        table.add_row([format!("{indent}{}", step.name), step.attempt.to_string(), outcome, message]);
    }
    out.push_str(&table.to_string());
    out.push_str(&format!("\nTests: {}\n", counts(&run.tests)));
    match run.verdict {
        Some(verdict) => out.push_str(&format!("Verdict: {}\n", verdict.word().to_uppercase())),
        None if run.state == StepState::Queued => out.push_str("It waits for its turn.\n"),
        None => out.push_str("It is under way.\n"),
    }
    for reason in &run.reasons {
        out.push_str(&format!("  {reason}\n"));
    }
    if let Some(page) = page {
        out.push_str(&format!("{page}\n"));
    }
    out.truncate(out.trim_end().len());
    out
}

fn counts(counts: &OutcomeCounts) -> String {
    let all =
        [(counts.passed, "passed"), (counts.failed, "failed"), (counts.error, "error"), (counts.skipped, "skipped")];
    let some: Vec<String> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}
