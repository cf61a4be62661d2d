//! Who did what, at `/audit-log`, and the same as a spreadsheet.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use jiff::civil::Date;
use kennel_controller::ActFilter;
use kennel_controller::people::ACTS_PAGE;
use kennel_model::api::ActView;
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Most lines of a spreadsheet.
const MOST: u32 = 100_000;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/audit-log", get(show)).route("/audit-log.csv", get(export))
}

/// The filter, as it stands in the address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    who: String,
    q: String,
    /// Days, the last one included.
    from: String,
    to: String,
    before: Option<i64>,
}

impl Wanted {
    fn filter(&self) -> ActFilter {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let day_after = self.to.parse::<Date>().ok().and_then(|day| day.tomorrow().ok()).map(|day| day.to_string());
        ActFilter {
            who: text(&self.who),
            text: text(&self.q),
            from: self.from.parse::<Date>().ok().map(|day| day.to_string()),
            to: day_after,
            before: self.before,
        }
    }

    fn is_empty(&self) -> bool {
        [&self.who, &self.q, &self.from, &self.to].iter().all(|text| text.trim().is_empty())
    }

    /// The filter as a query string.
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("who", &self.who), ("q", &self.q), ("from", &self.from), ("to", &self.to)] {
            if !value.trim().is_empty() {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

#[derive(Template)]
#[template(path = "audit_log.html")]
struct AuditLogPage {
    layout: Layout,
    acts: Vec<ActView>,
    actors: Vec<String>,
    wanted: Wanted,
    query: String,
    newest: String,
    older: String,
}

async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let mut acts = web.controller.acts(&wanted.filter(), ACTS_PAGE + 1).await?;
    let more = acts.len() > ACTS_PAGE as usize;
    acts.truncate(ACTS_PAGE as usize);
    let query = wanted.query();
    let with =
        |more: &str| format!("/audit-log?{query}{}{more}", if query.is_empty() || more.is_empty() { "" } else { "&" });
    let older = acts.last().filter(|_| more).map(|act| with(&format!("before={}", act.id))).unwrap_or_default();
    let newest = if wanted.before.is_some() { with("") } else { String::new() };
    fill(&AuditLogPage {
        layout: web.layout.at("settings"),
        acts,
        actors: web.controller.actors().await?,
        query,
        newest,
        older,
        wanted,
    })
}

async fn export(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let acts = web.controller.acts(&wanted.filter(), MOST).await?;
    let mut text = String::from("id,at,who,action,subject,detail\r\n");
    for act in &acts {
        text.push_str(&act.id.to_string());
        for cell in [&act.at, &act.who, &act.action, &act.subject, &act.detail] {
            text.push(',');
            text.push_str(&quoted(cell));
        }
        text.push_str("\r\n");
    }
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"kennel-audit-log.csv\""),
    ];
    Ok((headers, text).into_response())
}

/// A cell (RFC 4180) that no spreadsheet takes for a formula.
fn quoted(cell: &str) -> String {
    let formula = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{formula}{}\"", cell.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_neither_a_formula_nor_the_end_of_its_line() {
        assert_eq!(quoted("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(quoted("=HYPERLINK(1)"), "\"'=HYPERLINK(1)\"");
        assert_eq!(quoted("@a"), "\"'@a\"");
    }

    #[test]
    fn the_last_day_is_included() {
        let wanted = Wanted { to: "2026-02-28".to_owned(), from: "nonsense".to_owned(), ..Wanted::default() };
        let filter = wanted.filter();
        assert_eq!((filter.to.as_deref(), filter.from), (Some("2026-03-01"), None));
    }
}
