//! Accounts, and what one can ask about oneself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{
    AccountView, AddedAccount, ApiProblem, CallerView, ChangeAccount, EndedSessions, Invitation, NewAccount, Password,
    SessionView, SetPassword,
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Refusal};
use crate::Caller;
use crate::people::{Browser, Visit};

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(change_own_password))
        .routes(routes!(own_sessions, end_own_sessions))
        .routes(routes!(list, add))
        .routes(routes!(change))
        .routes(routes!(set_password))
        .routes(routes!(invite))
        .routes(routes!(end_sessions))
}

/// Tell who asks
#[utoipa::path(
    get, path = "/me", tag = "people",
    responses((status = 200, body = CallerView), (status = 401, body = ApiProblem))
)]
async fn me(visit: Visit, caller: Caller) -> Json<CallerView> {
    Json(CallerView { name: caller.name, role: caller.role, open: visit.is_open() })
}

/// A request to change one's own password.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOwnPassword {
    /// The present one.
    present: Password,
    /// The new one.
    new: Password,
}

/// Change one's own password
///
/// Every session of the account ends, the one that asks too.
#[utoipa::path(
    put, path = "/me/password", tag = "people", request_body = ChangeOwnPassword,
    responses(
        (status = 204),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 409, description = "Who asks has no account", body = ApiProblem),
        (status = 422, description = "The present password is wrong, or the new one weak", body = ApiProblem),
        (status = 429, description = "Too many attempts", body = ApiProblem),
    )
)]
async fn change_own_password(
    State(state): State<ApiState>,
    caller: Caller,
    Body(change): Body<ChangeOwnPassword>,
) -> Result<StatusCode, Refusal> {
    state.controller.change_own_password(&caller, change.present, change.new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List one's own sessions
#[utoipa::path(get, path = "/me/sessions", tag = "people", responses((status = 200, body = Vec<SessionView>)))]
async fn own_sessions(
    State(state): State<ApiState>,
    visit: Visit,
    browser: Browser,
) -> Result<Json<Vec<SessionView>>, Refusal> {
    Ok(Json(state.controller.sessions(visit.owner(), Some(&browser)).await?))
}

/// Log out everywhere else
#[utoipa::path(delete, path = "/me/sessions", tag = "people", responses((status = 200, body = EndedSessions)))]
async fn end_own_sessions(
    State(state): State<ApiState>,
    visit: Visit,
    caller: Caller,
    browser: Browser,
) -> Result<Json<EndedSessions>, Refusal> {
    let ended = state.controller.end_sessions(&caller, visit.owner(), Some(&browser)).await?;
    Ok(Json(EndedSessions { ended }))
}

/// List accounts
#[utoipa::path(
    get, path = "/people", tag = "people",
    responses((status = 200, body = Vec<AccountView>), (status = 403, body = ApiProblem))
)]
async fn list(State(state): State<ApiState>) -> Result<Json<Vec<AccountView>>, Refusal> {
    Ok(Json(state.controller.accounts().await?))
}

/// Add an account
///
/// Without a password the answer holds the path of a page where its owner chooses one, once. The first account must be
/// an admin; from then on everybody has to log in.
#[utoipa::path(
    post, path = "/people", tag = "people", request_body = NewAccount,
    responses(
        (status = 201, body = AddedAccount),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 409, description = "The name is taken, or the first account would be no admin", body = ApiProblem),
        (status = 422, description = "The name or the password will not do", body = ApiProblem),
    )
)]
async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    Body(new): Body<NewAccount>,
) -> Result<(StatusCode, Json<AddedAccount>), Refusal> {
    Ok((StatusCode::CREATED, Json(state.controller.add_account(&caller, new).await?)))
}

/// Change an account's role, disable or enable it
///
/// Its sessions end.
#[utoipa::path(
    patch, path = "/people/{name}", tag = "people", request_body = ChangeAccount,
    params(("name" = String, Path, description = "The account")),
    responses(
        (status = 200, body = AccountView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "No admin would be left", body = ApiProblem),
        (status = 422, description = "The body is not valid", body = ApiProblem),
    )
)]
async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Body(change): Body<ChangeAccount>,
) -> Result<Json<AccountView>, Refusal> {
    Ok(Json(state.controller.change_account(&caller, &name, &change).await?))
}

/// Give an account a password
///
/// Its sessions end.
#[utoipa::path(
    put, path = "/people/{name}/password", tag = "people", request_body = SetPassword,
    params(("name" = String, Path, description = "The account")),
    responses(
        (status = 204),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "The password will not do", body = ApiProblem),
    )
)]
async fn set_password(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Body(set): Body<SetPassword>,
) -> Result<StatusCode, Refusal> {
    state.controller.set_password(&caller, &name, set.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a link with which an account's owner chooses a password
///
/// It works once, for a week; earlier ones stop working.
#[utoipa::path(
    post, path = "/people/{name}/invitation", tag = "people",
    params(("name" = String, Path, description = "The account")),
    responses((status = 201, body = Invitation), (status = 404, body = ApiProblem))
)]
async fn invite(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Invitation>), Refusal> {
    Ok((StatusCode::CREATED, Json(state.controller.invite(&caller, &name).await?)))
}

/// Log an account out everywhere
#[utoipa::path(
    delete, path = "/people/{name}/sessions", tag = "people",
    params(("name" = String, Path, description = "The account")),
    responses((status = 200, body = EndedSessions), (status = 404, body = ApiProblem))
)]
async fn end_sessions(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<EndedSessions>, Refusal> {
    let account = state.controller.account(&name).await?;
    let ended = state.controller.end_sessions(&caller, &account.name, None).await?;
    Ok(Json(EndedSessions { ended }))
}
