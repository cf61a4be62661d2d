//! Logging in at `/login`, with a password or by the sign-on provider, and logging out.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use kennel_controller::people::{Brought, Browser, Visit};
use kennel_model::api::Password;
use serde::Deserialize;

use crate::Web;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// The routes of these pages.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/login", get(show).post(submit))
        .route("/login/sign-on", get(begin))
        .route("/login/sign-on/back", get(finish))
        .route("/logout", post(log_out))
}

#[derive(Template, Default)]
#[template(path = "login.html")]
struct LoginPage {
    layout: Layout,
    name: String,
    error: String,
    /// Where to go after the login; a path of this Kennel.
    next: String,
    /// What the sign-on provider is called, where there is one.
    provider: Option<String>,
    /// Whether somebody has just logged out, and where to do the same at the provider.
    left: bool,
    provider_left: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    next: String,
    left: Option<String>,
}

/// A path of this Kennel to go on to, whatever an address says: never another site.
fn onwards(next: &str) -> &str {
    let harmless = next.starts_with('/')
        // `//host` and `/\host` are other hosts to a browser, which also drops control characters.
        && !next[1..].starts_with(['/', '\\'])
        && !next.chars().any(|c| c.is_control() || c == '\\')
        && !["/login", "/logout", "/setup"].iter().any(|path| next.starts_with(path));
    if harmless { next } else { "/" }
}

async fn show(
    State(web): State<Web>,
    visit: Visit,
    browser: Browser,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let next = onwards(&wanted.next).to_owned();
    if visit.known().is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    let left = wanted.left.is_some();
    let provider = provider(&web, &browser).await?;
    let provider_left =
        if left && provider.is_some() { browser.end_session(&web.controller).await.map(Into::into) } else { None };
    let page = LoginPage { layout: web.layout.at(""), next, provider, left, provider_left, ..LoginPage::default() };
    Ok(fill(&page)?.into_response())
}

async fn provider(web: &Web, browser: &Browser) -> Result<Option<String>, Problem> {
    let settings = web.controller.sign_on(browser.entrance()).await?;
    Ok(settings.map(|settings| settings.shown_as().to_owned()))
}

/// What the form sends.
#[derive(Deserialize)]
struct Sent {
    name: String,
    password: Password,
    #[serde(default)]
    next: String,
}

async fn submit(State(web): State<Web>, browser: Browser, Form(sent): Form<Sent>) -> Result<Response, Problem> {
    let next = onwards(&sent.next).to_owned();
    let error = match web.controller.log_in(&sent.name, sent.password, browser.address()).await {
        Ok(account) => {
            browser.enter(&account).await?;
            return Ok(Redirect::to(&next).into_response());
        }
        Err(error) if error.status().is_server_error() => return Err(error.into()),
        Err(error) => error,
    };
    let page = LoginPage {
        layout: web.layout.at(""),
        name: sent.name,
        error: error.to_string(),
        next,
        provider: provider(&web, &browser).await?,
        ..LoginPage::default()
    };
    let retry = error.retry_after_s().map(|seconds| [(header::RETRY_AFTER, seconds.to_string())]);
    Ok((error.status(), retry, fill(&page)?).into_response())
}

/// `GET /login/sign-on`: to the provider. A link, not a form: forms may not lead elsewhere.
async fn begin(State(web): State<Web>, browser: Browser, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    match browser.begin_sign_on(&web.controller, onwards(&wanted.next)).await {
        Ok(url) => Ok(Redirect::to(url.as_str()).into_response()),
        Err(error) => told(&web, &browser, error.status(), error.to_string()).await,
    }
}

/// What the provider sends the browser back with.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    iss: Option<String>,
}

/// Longest text of a provider that is shown.
const LONGEST_REASON: usize = 300;

impl From<Answer> for Brought {
    fn from(answer: Answer) -> Self {
        let why = answer.error_description.or(answer.error).unwrap_or_else(|| "it sent no code".to_owned());
        let code = answer.code.ok_or_else(|| why.chars().take(LONGEST_REASON).collect());
        Self { state: answer.state, code, issuer: answer.iss }
    }
}

async fn finish(State(web): State<Web>, browser: Browser, Query(answer): Query<Answer>) -> Result<Response, Problem> {
    match browser.finish_sign_on(&web.controller, answer.into()).await {
        Ok(next) => Ok(Redirect::to(onwards(&next)).into_response()),
        Err(error) => told(&web, &browser, error.status(), error.to_string()).await,
    }
}

/// The login page, with what went wrong.
async fn told(web: &Web, browser: &Browser, status: StatusCode, error: String) -> Result<Response, Problem> {
    let provider = provider(web, browser).await?;
    let page = LoginPage { layout: web.layout.at(""), error, provider, ..LoginPage::default() };
    Ok((status, fill(&page)?).into_response())
}

async fn log_out(State(web): State<Web>, visit: Visit, browser: Browser) -> Result<Response, Problem> {
    if let Some(caller) = visit.known().filter(|_| visit.is_person()) {
        web.controller.record(caller, "log out", &format!("account {}", caller.name), "").await?;
    }
    browser.leave(&web.controller).await?;
    Ok(Redirect::to("/login?left=1").into_response())
}

#[cfg(test)]
mod tests {
    use super::onwards;

    #[test]
    fn a_login_leads_to_this_kennel_only() {
        for here in ["/", "/suites/nightly?tab=history", "/runs/1#faults", "/a%2F%2Fb"] {
            assert_eq!(onwards(here), here);
        }
        for elsewhere in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/a\r\nset-cookie: b=c",
            "javascript:alert(1)",
            "evil.example",
            "/login?next=/login",
            "/logout",
        ] {
            assert_eq!(onwards(elsewhere), "/", "{elsewhere:?}");
        }
    }
}
