//! API tokens: made, listed, revoked.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{ApiProblem, CreatedToken, NewToken, TokenView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Refusal};
use crate::people::Visit;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// List tokens: an admin sees all, everybody else one's own
#[utoipa::path(get, path = "/tokens", tag = "people", responses((status = 200, body = Vec<TokenView>)))]
async fn list(State(state): State<ApiState>, visit: Visit) -> Result<Json<Vec<TokenView>>, Refusal> {
    Ok(Json(state.controller.tokens(&visit).await?))
}

/// Make a token
///
/// Its secret is in the answer and nowhere else. It never may do more than whoever made it.
#[utoipa::path(
    post, path = "/tokens", tag = "people", request_body = NewToken,
    responses(
        (status = 201, body = CreatedToken),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 403, description = "It would do more than whoever makes it", body = ApiProblem),
        (status = 422, description = "Its name or length of life will not do", body = ApiProblem),
    )
)]
async fn create(
    State(state): State<ApiState>,
    visit: Visit,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    Ok((StatusCode::CREATED, Json(state.controller.create_token(&visit, new).await?)))
}

/// Revoke a token; it stops working at once
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "people", params(("id" = String, Path, description = "The token's id")),
    responses((status = 200, body = TokenView), (status = 404, body = ApiProblem))
)]
async fn revoke(
    State(state): State<ApiState>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, Refusal> {
    Ok(Json(state.controller.revoke_token(&visit, &id).await?))
}
