//! Single sign-on at `/settings/sign-on`: which provider, and what its groups may do here.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Form, Router};
use kennel_controller::Caller;
use kennel_controller::people::{Browser, PeopleError, SignOnSettings};
use kennel_model::Role;
use serde::Deserialize;

use crate::Web;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// The routes of this page.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/settings/sign-on", get(show).post(submit))
}

#[derive(Template)]
#[template(path = "sign_on.html")]
struct SignOnPage {
    layout: Layout,
    sent: Sent,
    /// Whether it was given at start and can only be changed there.
    given: bool,
    /// Whether it is set up.
    set_up: bool,
    has_secret: bool,
    back: String,
    saved: bool,
    error: String,
}

/// What the form sends; lists are separated by commas.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Sent {
    action: String,
    issuer: String,
    client_id: String,
    label: String,
    scopes: String,
    claim: String,
    admins: String,
    operators: String,
    viewers: String,
    others: String,
}

impl From<SignOnSettings> for Sent {
    fn from(settings: SignOnSettings) -> Self {
        Self {
            action: String::new(),
            issuer: settings.issuer,
            client_id: settings.client_id,
            label: settings.label,
            scopes: settings.scopes.join(", "),
            claim: settings.claim,
            admins: settings.admins.join(", "),
            operators: settings.operators.join(", "),
            viewers: settings.viewers.join(", "),
            others: settings.others.map(|role| role.to_string()).unwrap_or_default(),
        }
    }
}

impl Sent {
    fn settings(&self) -> SignOnSettings {
        let list = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        SignOnSettings {
            issuer: self.issuer.trim().to_owned(),
            client_id: self.client_id.trim().to_owned(),
            label: self.label.trim().to_owned(),
            scopes: list(&self.scopes),
            claim: self.claim.trim().to_owned(),
            admins: list(&self.admins),
            operators: list(&self.operators),
            viewers: list(&self.viewers),
            others: self.others.parse().ok(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Wanted {
    saved: Option<String>,
}

async fn page(web: &Web, browser: &Browser) -> Result<SignOnPage, Problem> {
    let settings = web.controller.sign_on(browser.entrance()).await?;
    let set_up = settings.is_some();
    let fresh = Sent { scopes: "profile, email".to_owned(), claim: "groups".to_owned(), ..Sent::default() };
    Ok(SignOnPage {
        layout: web.layout.at("settings"),
        sent: settings.map_or(fresh, Sent::from),
        given: browser.entrance().sign_on.is_some(),
        set_up,
        has_secret: browser.entrance().client_secret.is_some(),
        back: format!("{}/login/sign-on/back", browser.origin()),
        saved: false,
        error: String::new(),
    })
}

async fn show(State(web): State<Web>, browser: Browser, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let page = SignOnPage { saved: wanted.saved.is_some(), ..page(&web, &browser).await? };
    Ok(fill(&page)?.into_response())
}

async fn submit(
    State(web): State<Web>,
    caller: Caller,
    browser: Browser,
    Form(sent): Form<Sent>,
) -> Result<Response, Problem> {
    let settings = (sent.action != "remove").then(|| sent.settings());
    match web.controller.set_sign_on(&caller, browser.entrance(), settings).await {
        Ok(()) => Ok(Redirect::to("/settings/sign-on?saved=1").into_response()),
        Err(error @ (PeopleError::SignOn(_) | PeopleError::SignOnGiven)) => {
            let page = SignOnPage { sent, error: error.to_string(), ..page(&web, &browser).await? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
