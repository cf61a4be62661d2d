//! What takes up room, and how long artifacts stay, at `/settings/storage`.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Form, Router};
use kennel_controller::Caller;
use kennel_model::api::{Retention, StorageView};
use serde::Deserialize;

use crate::form_errors::FormErrors;
use crate::layout::{Layout, origin};
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of this page.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/settings/storage", get(show).post(set_retention))
}

#[derive(Template)]
#[template(path = "storage.html")]
struct StoragePage {
    layout: Layout,
    storage: StorageView,
    days: String,
    gigabytes: String,
    errors: FormErrors,
    saved: bool,
    command: String,
}

/// The page with what is kept now.
async fn page(web: &Web) -> Result<StoragePage, Problem> {
    let storage = web.controller.storage().await?;
    Ok(StoragePage {
        layout: web.layout.at("settings"),
        days: storage.retention.days.map(|days| days.to_string()).unwrap_or_default(),
        gigabytes: storage.retention.total_bytes.map(|bytes| (bytes as f64 / 1e9).to_string()).unwrap_or_default(),
        storage,
        errors: FormErrors::default(),
        saved: false,
        command: format!(
            "curl -X PUT {}/api/v1/storage -H 'content-type: application/json' -d '{{\"days\": 90, \"total_bytes\": 20000000000}}'",
            origin()
        ),
    })
}

/// `GET /settings/storage`
async fn show(State(web): State<Web>) -> Result<Html<String>, Problem> {
    fill(&page(&web).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RetentionForm {
    days: String,
    gigabytes: String,
}

impl RetentionForm {
    fn read(&self) -> Result<Retention, (&'static str, String)> {
        let days = match self.days.trim() {
            "" => None,
            text => Some(text.parse().ok().filter(|days| (1..=36_500).contains(days)).ok_or_else(|| {
                ("days", format!("`{text}` is no number of days; expected 1 to 36500, or nothing for ever"))
            })?),
        };
        let total_bytes = match self.gigabytes.trim() {
            "" => None,
            text => {
                let size: Option<f64> = text.parse().ok().filter(|size| (0.001..=1e6).contains(size));
                let why =
                    || ("gigabytes", format!("`{text}` is no size; expected 0.001 or more, or nothing for no limit"));
                Some((size.ok_or_else(why)? * 1e9) as u64)
            }
        };
        Ok(Retention { days, total_bytes })
    }
}

/// `POST /settings/storage`
async fn set_retention(
    State(web): State<Web>,
    caller: Caller,
    Form(form): Form<RetentionForm>,
) -> Result<Response, Problem> {
    match form.read() {
        Ok(retention) => {
            web.controller.set_retention(&caller, retention).await?;
            let page = StoragePage { saved: true, ..page(&web).await? };
            Ok(fill(&page)?.into_response())
        }
        Err(error) => {
            let page = StoragePage {
                days: form.days,
                gigabytes: form.gigabytes,
                errors: FormErrors::from_iter([error]),
                ..page(&web).await?
            };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
    }
}
