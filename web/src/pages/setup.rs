//! First things first at `/setup`: the first administrator. Gone as soon as there is one.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Form, Router};
use kennel_controller::people::{Browser, PeopleError};
use kennel_model::api::Password;
use serde::Deserialize;

use crate::Web;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// The routes of this page.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/setup", get(show).post(submit))
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    layout: Layout,
    called: String,
    name_error: String,
    password_error: String,
}

async fn show(State(web): State<Web>) -> Result<Response, Problem> {
    if !web.controller.is_open() {
        return Ok(Redirect::to("/login").into_response());
    }
    let none = String::new;
    let page =
        SetupPage { layout: web.layout.at("settings"), called: none(), name_error: none(), password_error: none() };
    Ok(fill(&page)?.into_response())
}

/// What the form sends.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    password: Password,
    again: Password,
}

async fn submit(State(web): State<Web>, browser: Browser, Form(wanted): Form<Wanted>) -> Result<Response, Problem> {
    let refused = |name_error: String, password_error: String| -> Result<Response, Problem> {
        let layout = web.layout.at("settings");
        let page = SetupPage { layout, called: wanted.name.clone(), name_error, password_error };
        Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
    };
    if wanted.password != wanted.again {
        return refused(String::new(), "The two passwords are not the same.".to_owned());
    }
    match web.controller.set_up(&wanted.name, wanted.password.clone()).await {
        Ok(account) => {
            browser.enter(&account).await?;
            Ok(Redirect::to("/people").into_response())
        }
        Err(error @ (PeopleError::Name(_) | PeopleError::Taken { .. })) => refused(error.to_string(), String::new()),
        Err(error @ PeopleError::Password(_)) => refused(String::new(), error.to_string()),
        Err(error) => Err(error.into()),
    }
}
