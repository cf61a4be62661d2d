//! API tokens at `/tokens`: one's own; an admin sees all.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use jiff::Timestamp;
use kennel_controller::people::{PeopleError, Visit};
use kennel_model::Role;
use kennel_model::api::{CreatedToken, NewToken, TokenScope, TokenView};
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of this page.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/tokens", get(show).post(create)).route("/tokens/{id}/revoke", post(revoke))
}

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    layout: Layout,
    tokens: Vec<TokenRow>,
    /// The token that was just made, with its secret.
    created: Option<CreatedToken>,
    called: String,
    error: String,
}

struct TokenRow {
    token: TokenView,
    /// Why it does not work any more; empty while it does.
    over: &'static str,
}

impl TokensPage {
    async fn of(web: &Web, visit: &Visit) -> Result<Self, Problem> {
        let now = Timestamp::now();
        let rows = web.controller.tokens(visit).await?.into_iter().map(|token| {
            let expired = token.expires_at.as_deref().and_then(|moment| moment.parse::<Timestamp>().ok());
            let over = if token.revoked_at.is_some() {
                "revoked"
            } else if expired.is_some_and(|moment| moment <= now) {
                "expired"
            } else {
                ""
            };
            TokenRow { token, over }
        });
        Ok(Self {
            layout: web.layout.at("settings"),
            tokens: rows.collect(),
            created: None,
            called: String::new(),
            error: String::new(),
        })
    }
}

async fn show(State(web): State<Web>, visit: Visit) -> Result<Response, Problem> {
    Ok(fill(&TokensPage::of(&web, &visit).await?)?.into_response())
}

/// What the form sends.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    role: Role,
    scope: TokenScope,
    days: u32,
}

/// The secret is on the page that answers, and on no other.
async fn create(State(web): State<Web>, visit: Visit, Form(wanted): Form<Wanted>) -> Result<Response, Problem> {
    let new =
        NewToken { name: wanted.name.clone(), role: Some(wanted.role), scope: wanted.scope, days: Some(wanted.days) };
    match web.controller.create_token(&visit, new).await {
        Ok(created) => {
            let page = TokensPage { created: Some(created), ..TokensPage::of(&web, &visit).await? };
            Ok((StatusCode::CREATED, fill(&page)?).into_response())
        }
        Err(error @ (PeopleError::TokenName | PeopleError::TokenDays { .. } | PeopleError::TokenRole { .. })) => {
            let page =
                TokensPage { called: wanted.name, error: error.to_string(), ..TokensPage::of(&web, &visit).await? };
            Ok((error.status(), fill(&page)?).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn revoke(State(web): State<Web>, visit: Visit, Path(id): Path<String>) -> Result<Redirect, Problem> {
    web.controller.revoke_token(&visit, &id).await?;
    Ok(Redirect::to("/tokens"))
}
