//! The pages, one a file, each with its template of the same name beside it in `templates/`.

pub(crate) mod account;
pub(crate) mod artifacts;
pub(crate) mod audit_log;
pub(crate) mod calendars;
pub(crate) mod compare;
mod compare_suites;
pub(crate) mod experiments;
pub(crate) mod failing;
pub(crate) mod file_editor;
pub(crate) mod file_history;
pub(crate) mod file_list;
pub(crate) mod file_place;
pub(crate) mod history;
pub(crate) mod imports;
pub(crate) mod invitation;
pub(crate) mod login;
pub(crate) mod new_run;
pub(crate) mod notifications;
pub(crate) mod people;
pub(crate) mod problem;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod settings;
pub(crate) mod setup;
pub(crate) mod sign_on;
pub(crate) mod storage;
pub(crate) mod suite_editor;
pub(crate) mod suite_runs;
pub(crate) mod suites;
pub(crate) mod targets;
pub(crate) mod tests;
pub(crate) mod tokens;

use askama::Template;
use axum::response::Html;
use kennel_model::api::{FlakyView, MarkView, Outcome};

use crate::pages::problem::Problem;

/// Fills a template.
fn fill(page: &impl Template) -> Result<Html<String>, Problem> {
    page.render().map(Html).map_err(|error| Problem::Broken { what: error.to_string() })
}

/// What makes a test flaky, in words.
const FLAKY: &str = "A test is called flaky when it passed on a retry, or changed three times or more within its last \
    30 results. The score is the share of those results that changed from pass to fail or back, or passed only on a retry.";

/// How flaky a test is, in words.
fn flaky_words(flaky: &FlakyView) -> String {
    let times =
        |count: u32, one: &str, many: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
    format!(
        "{} and {} in {}",
        times(flaky.changes, "change", "changes"),
        times(flaky.on_retry, "pass on a retry", "passes on a retry"),
        times(flaky.results, "result", "results")
    )
}

/// A share as whole percent.
fn percent(share: &f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The last results of a test in words, for whoever does not see their picture.
fn strip_words(strip: &[MarkView]) -> String {
    let passed = strip.iter().filter(|mark| mark.outcome == Outcome::Passed).count();
    let skipped = strip.iter().filter(|mark| mark.outcome == Outcome::Skipped).count();
    let failed = strip.len() - passed - skipped;
    format!("Last {}: {passed} passed, {failed} failed, {skipped} skipped", strip.len())
}

/// The beginning of a text, with a sign where it goes on.
fn short(text: impl AsRef<str>, most: usize) -> String {
    let text = text.as_ref();
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let cut: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}
