//! The pages, one a file, each with its template of the same name beside it in `templates/`.

pub(crate) mod artifacts;
pub(crate) mod calendars;
pub(crate) mod compare;
pub(crate) mod experiments;
pub(crate) mod failing;
pub(crate) mod file_editor;
pub(crate) mod file_history;
pub(crate) mod file_list;
pub(crate) mod file_place;
pub(crate) mod imports;
pub(crate) mod new_run;
pub(crate) mod notifications;
pub(crate) mod people;
pub(crate) mod problem;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod suite_editor;
pub(crate) mod suite_runs;
pub(crate) mod suites;
pub(crate) mod targets;
pub(crate) mod tests;

use askama::Template;
use axum::response::Html;

use crate::pages::problem::Problem;

/// Fills a template.
fn fill(page: &impl Template) -> Result<Html<String>, Problem> {
    page.render().map(Html).map_err(|error| Problem::Broken { what: error.to_string() })
}
