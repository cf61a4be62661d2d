//! The one-time link at `/invitations/{secret}`: whoever was invited chooses a password.

use askama::Template;
use axum::extract::{Path, State};
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
    Router::new().route("/invitations/{secret}", get(show).post(submit))
}

#[derive(Template)]
#[template(path = "invitation.html")]
struct InvitationPage {
    layout: Layout,
    name: String,
    error: String,
}

/// Looking at the page does not use the link up: mail programs look at every link.
async fn show(State(web): State<Web>, Path(secret): Path<String>) -> Result<Response, Problem> {
    let name = web.controller.invited(&secret).await?;
    Ok(fill(&InvitationPage { layout: web.layout.at(""), name, error: String::new() })?.into_response())
}

/// What the form sends.
#[derive(Deserialize)]
struct Sent {
    password: Password,
    again: Password,
}

async fn submit(
    State(web): State<Web>,
    browser: Browser,
    Path(secret): Path<String>,
    Form(sent): Form<Sent>,
) -> Result<Response, Problem> {
    let name = web.controller.invited(&secret).await?;
    let error = if sent.password == sent.again {
        match web.controller.accept_invitation(&secret, sent.password).await {
            Ok(account) => {
                browser.enter(&account).await?;
                return Ok(Redirect::to("/").into_response());
            }
            Err(error @ PeopleError::Password(_)) => error.to_string(),
            Err(error) => return Err(error.into()),
        }
    } else {
        "The two passwords are not the same.".to_owned()
    };
    let page = InvitationPage { layout: web.layout.at(""), name, error };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, fill(&page)?).into_response())
}
