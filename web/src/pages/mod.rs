//! The pages, one a file, each with its template of the same name beside it in `templates/`.

pub(crate) mod compare;
pub(crate) mod new_run;
pub(crate) mod problem;
pub(crate) mod run;
pub(crate) mod runs;

use askama::Template;
use axum::response::Html;

use crate::pages::problem::Problem;

/// Fills a template.
fn fill(page: &impl Template) -> Result<Html<String>, Problem> {
    page.render().map(Html).map_err(|error| Problem::Broken { what: error.to_string() })
}
