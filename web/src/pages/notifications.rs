//! Channels, rules and deliveries at `/notifications`.

mod channels;
mod deliveries;
mod rules;

use askama::Template;
use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use kennel_controller::{Caller, DeliveryQuery, NotificationError};
use kennel_model::api::{ChannelView, DeliveryState, DeliveryView, NotificationEvent, NotificationSettings, RuleView};
use serde::Deserialize;

use crate::address::with_choices;
use crate::form_errors::FormErrors;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// Deliveries on one page.
const PAGE: u32 = 50;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/notifications", get(show))
        .route("/notifications/settings", post(save_settings))
        .route("/notifications/digest", get(deliveries::digest))
        .route("/notifications/channels", post(channels::add))
        .route("/notifications/channels/new", get(channels::new))
        .route("/notifications/channels/{id}", get(channels::edit).post(channels::change))
        .route("/notifications/channels/{id}/test", post(channels::test))
        .route("/notifications/channels/{id}/remove", post(channels::remove))
        .route("/notifications/rules", post(rules::add))
        .route("/notifications/rules/new", get(rules::new))
        .route("/notifications/rules/{id}", get(rules::edit).post(rules::change))
        .route("/notifications/rules/{id}/remove", post(rules::remove))
        .route("/notifications/deliveries/{id}", get(deliveries::show))
        .route("/notifications/deliveries/{id}/retry", post(deliveries::send_again))
}

/// Everything but what a form shows beside its fields.
fn broken(error: NotificationError) -> Problem {
    let what = error.to_string();
    match error {
        NotificationError::NotFound { .. } => Problem::NoSuchPage,
        NotificationError::Store(error) => error.into(),
        NotificationError::Invalid(_) => Problem::Unusable { what, next: "Go back and change it." },
        NotificationError::ChannelGone => Problem::Unusable { what, next: "Its text is still in the log." },
        NotificationError::SwitchedOff { .. } => {
            Problem::Unusable { what, next: "Switch it on in the channel's form, then try again." }
        }
    }
}

/// What a form shows beside its fields; anything else is a problem of its own.
fn form_errors(error: NotificationError) -> Result<FormErrors, Problem> {
    match error {
        NotificationError::Invalid(problems) => {
            Ok(problems.0.into_iter().map(|problem| (problem.field, problem.message)).collect())
        }
        other => Err(broken(other)),
    }
}

/// A delivery's state as a badge shows it.
fn state_class(state: &DeliveryState) -> &'static str {
    match state {
        DeliveryState::Waiting => "queued",
        DeliveryState::Sent => "passed",
        DeliveryState::Failed => "failed",
    }
}

fn state_glyph(state: &DeliveryState) -> &'static str {
    match state {
        DeliveryState::Waiting => "○",
        DeliveryState::Sent => "✓",
        DeliveryState::Failed => "✕",
    }
}

#[derive(Template)]
#[template(path = "notifications.html")]
struct NotificationsPage {
    layout: Layout,
    channels: Vec<ChannelView>,
    rules: Vec<RuleView>,
    deliveries: Vec<DeliveryView>,
    wanted: Wanted,
    /// Whether anything is filtered.
    filtered: bool,
    newest: String,
    older: String,
    settings: NotificationSettings,
    errors: FormErrors,
    now: Timestamp,
}

/// What the page shows; all of it is in its address.
#[derive(Debug, Clone, Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    before: String,
}

impl Wanted {
    fn query(&self) -> DeliveryQuery {
        DeliveryQuery {
            channel: self.channel.parse().ok(),
            state: self.state.parse().ok(),
            event: self.event.parse().ok(),
            text: self.text.trim().to_owned(),
            before: Some(self.before.clone()).filter(|before| !before.is_empty()),
            limit: PAGE + 1,
        }
    }

    /// The address of these deliveries, older than `before`.
    fn address(&self, before: &str) -> String {
        let choices = [
            ("channel", self.channel.as_str()),
            ("state", &self.state),
            ("event", &self.event),
            ("text", &self.text),
            ("before", before),
        ];
        with_choices("/notifications", &choices) + "#log"
    }
}

/// `GET /notifications`
async fn show(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let settings = web.controller.notification_settings();
    overview(&web, StatusCode::OK, wanted, settings, FormErrors::default()).await
}

async fn overview(
    web: &Web,
    status: StatusCode,
    wanted: Wanted,
    settings: NotificationSettings,
    errors: FormErrors,
) -> Result<Response, Problem> {
    let mut deliveries = web.controller.deliveries(wanted.query()).await?;
    let more = deliveries.len() > PAGE as usize;
    deliveries.truncate(PAGE as usize);
    let older = deliveries.last().filter(|_| more).map(|last| wanted.address(&last.id)).unwrap_or_default();
    let newest = if wanted.before.is_empty() { String::new() } else { wanted.address("") };
    let filtered = wanted.address("") != Wanted::default().address("");
    let page = NotificationsPage {
        layout: web.layout.at("settings"),
        channels: web.controller.channels().await?,
        rules: web.controller.notification_rules().await?,
        deliveries,
        wanted,
        filtered,
        newest,
        older,
        settings,
        errors,
        now: Timestamp::now(),
    };
    Ok((status, fill(&page)?).into_response())
}

/// What the form of the settings sends.
#[derive(Debug, Deserialize)]
struct WrittenSettings {
    #[serde(default)]
    public_url: String,
}

/// `POST /notifications/settings`
async fn save_settings(
    State(web): State<Web>,
    caller: Caller,
    Form(written): Form<WrittenSettings>,
) -> Result<Response, Problem> {
    let settings = NotificationSettings { public_url: Some(written.public_url), ..NotificationSettings::default() };
    match web.controller.save_notification_settings(&caller, &settings).await {
        Ok(_) => Ok(Redirect::to("/notifications#settings").into_response()),
        Err(error) => {
            let errors = form_errors(error)?;
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let settings = NotificationSettings { given_at_start: web.controller.is_public_url_given(), ..settings };
            overview(&web, status, Wanted::default(), settings, errors).await
        }
    }
}
