//! One's own account at `/account`: password and sessions.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use kennel_controller::Caller;
use kennel_controller::people::{Browser, PeopleError, Visit};
use kennel_model::api::{AccountView, Password, SessionView};
use serde::Deserialize;

use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/account", get(show))
        .route("/account/password", post(change_password))
        .route("/account/sessions", post(end_sessions))
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    layout: Layout,
    /// Absent while there are no accounts.
    account: Option<AccountView>,
    sessions: Vec<SessionView>,
    done: &'static str,
    present_error: String,
    new_error: String,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    done: Option<String>,
}

async fn page(web: &Web, visit: &Visit, browser: &Browser) -> Result<AccountPage, Problem> {
    let (account, sessions) = if visit.is_person() {
        let account = web.controller.account(visit.owner()).await?;
        (Some(account), web.controller.sessions(visit.owner(), Some(browser)).await?)
    } else {
        (None, Vec::new())
    };
    let none = String::new;
    Ok(AccountPage { layout: web.layout.at(""), account, sessions, done: "", present_error: none(), new_error: none() })
}

async fn show(
    State(web): State<Web>,
    visit: Visit,
    browser: Browser,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let done = match wanted.done.as_deref() {
        Some("password") => "Your password is changed. Every other session has ended.",
        Some("sessions") => "Every other session has ended.",
        _ => "",
    };
    Ok(fill(&AccountPage { done, ..page(&web, &visit, &browser).await? })?.into_response())
}

/// What the form sends.
#[derive(Deserialize)]
struct Change {
    #[serde(default = "no_password")]
    present: Password,
    new: Password,
    again: Password,
}

fn no_password() -> Password {
    Password(String::new())
}

async fn change_password(
    State(web): State<Web>,
    visit: Visit,
    caller: Caller,
    browser: Browser,
    Form(change): Form<Change>,
) -> Result<Response, Problem> {
    let (present_error, new_error) = if change.new == change.again {
        match web.controller.change_own_password(&caller, change.present, change.new).await {
            Ok(()) => {
                // Every session has ended, and this one begins anew.
                browser.enter(&web.controller.account(&caller.name).await?).await?;
                return Ok(Redirect::to("/account?done=password").into_response());
            }
            Err(error @ (PeopleError::WrongPassword | PeopleError::Wait(_))) => (error.to_string(), String::new()),
            Err(error @ PeopleError::Password(_)) => (String::new(), error.to_string()),
            Err(error) => return Err(error.into()),
        }
    } else {
        (String::new(), "The two passwords are not the same.".to_owned())
    };
    let page = AccountPage { present_error, new_error, ..page(&web, &visit, &browser).await? };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
}

async fn end_sessions(
    State(web): State<Web>,
    visit: Visit,
    caller: Caller,
    browser: Browser,
) -> Result<Redirect, Problem> {
    web.controller.end_sessions(&caller, visit.owner(), Some(&browser)).await?;
    Ok(Redirect::to("/account?done=sessions"))
}
