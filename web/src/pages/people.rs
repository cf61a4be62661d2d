//! Who may use this Kennel, at `/people`: invite, change a role, disable.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use kennel_controller::Caller;
use kennel_controller::people::PeopleError;
use kennel_model::Role;
use kennel_model::api::{AccountView, ChangeAccount, Invitation, NewAccount};
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/people", get(show).post(add))
        .route("/people/{name}", post(change))
        .route("/people/{name}/invitation", post(invite))
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePage {
    layout: Layout,
    accounts: Vec<AccountView>,
    /// An invitation that was just made.
    invitation: Option<Invitation>,
    called: String,
    name_error: String,
    /// What could not be done to an account that is there.
    error: String,
}

async fn page(web: &Web) -> Result<PeoplePage, Problem> {
    Ok(PeoplePage {
        layout: web.layout.at("settings"),
        accounts: web.controller.accounts().await?,
        invitation: None,
        called: String::new(),
        name_error: String::new(),
        error: String::new(),
    })
}

async fn show(State(web): State<Web>) -> Result<Response, Problem> {
    Ok(fill(&page(&web).await?)?.into_response())
}

/// What the form for a new account sends.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    role: Role,
}

/// The link is on the page that answers, and on no other.
async fn add(State(web): State<Web>, caller: Caller, Form(wanted): Form<Wanted>) -> Result<Response, Problem> {
    let new = NewAccount { name: wanted.name.clone(), role: wanted.role, password: None };
    match web.controller.add_account(&caller, new).await {
        Ok(added) => {
            let page = PeoplePage { invitation: added.invitation, ..page(&web).await? };
            Ok((StatusCode::CREATED, fill(&page)?).into_response())
        }
        Err(error @ (PeopleError::Name(_) | PeopleError::Taken { .. } | PeopleError::FirstIsAdmin)) => {
            let page = PeoplePage { called: wanted.name, name_error: error.to_string(), ..page(&web).await? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// What a row's forms send: a role, or whether the account is disabled.
#[derive(Deserialize)]
struct Changed {
    role: Option<Role>,
    disabled: Option<bool>,
}

async fn change(
    State(web): State<Web>,
    caller: Caller,
    Path(name): Path<String>,
    Form(changed): Form<Changed>,
) -> Result<Response, Problem> {
    let change = ChangeAccount { role: changed.role, disabled: changed.disabled };
    match web.controller.change_account(&caller, &name, &change).await {
        Ok(_) => Ok(Redirect::to("/people").into_response()),
        Err(error @ PeopleError::LastAdmin { .. }) => {
            let page = PeoplePage { error: error.to_string(), ..page(&web).await? };
            Ok((error.status(), fill(&page)?).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn invite(State(web): State<Web>, caller: Caller, Path(name): Path<String>) -> Result<Response, Problem> {
    let invitation = web.controller.invite(&caller, &name).await?;
    let page = PeoplePage { invitation: Some(invitation), ..page(&web).await? };
    Ok((StatusCode::CREATED, fill(&page)?).into_response())
}
