//! Channels, rules and deliveries.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kennel_model::api::{
    ApiProblem, ChannelView, DeliveryDetail, DeliveryState, DeliveryView, DigestView, NotificationEvent,
    NotificationSettings, RuleView, WriteChannel, WriteRule,
};
use kennel_model::document::PlacedProblem;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use crate::caller::Caller;
use crate::notifications::{DeliveryQuery, NotificationError};

/// Deliveries in a list unless asked otherwise.
const PAGE: u32 = 50;
/// Most deliveries in a list.
const LONGEST_PAGE: u32 = 500;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(channels, add_channel))
        .routes(routes!(channel, change_channel, remove_channel))
        .routes(routes!(try_channel))
        .routes(routes!(rules, add_rule))
        .routes(routes!(rule, change_rule, remove_rule))
        .routes(routes!(digest))
        .routes(routes!(deliveries))
        .routes(routes!(delivery))
        .routes(routes!(send_again))
        .routes(routes!(settings, change_settings))
}

impl From<NotificationError> for Refusal {
    fn from(error: NotificationError) -> Self {
        match error {
            NotificationError::Invalid(problems) => {
                let placed = problems.0.into_iter();
                let placed = placed.map(|problem| PlacedProblem::of_field(problem.field, problem.message, ""));
                Self::unprocessable("what was sent cannot be kept as it is", placed.collect())
            }
            NotificationError::NotFound { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            NotificationError::ChannelGone | NotificationError::SwitchedOff { .. } => {
                problem(StatusCode::CONFLICT, error.to_string())
            }
            NotificationError::Store(error) => error.into(),
        }
    }
}

/// List channels
#[utoipa::path(
    get, path = "/notifications/channels", tag = "notifications",
    responses((status = 200, body = Vec<ChannelView>), (status = 403, body = ApiProblem))
)]
pub(super) async fn channels(State(state): State<ApiState>) -> Result<Json<Vec<ChannelView>>, Refusal> {
    Ok(Json(state.controller.channels().await?))
}

/// Add a channel
#[utoipa::path(
    post, path = "/notifications/channels", tag = "notifications", request_body = WriteChannel,
    responses(
        (status = 201, body = ChannelView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 403, body = ApiProblem),
        (status = 422, description = "The channel is not valid", body = ApiProblem),
    )
)]
pub(super) async fn add_channel(
    State(state): State<ApiState>,
    caller: Caller,
    Body(written): Body<WriteChannel>,
) -> Result<(StatusCode, Json<ChannelView>), Refusal> {
    Ok((StatusCode::CREATED, Json(state.controller.save_channel(&caller, None, written).await?)))
}

/// Read a channel
#[utoipa::path(
    get, path = "/notifications/channels/{id}", tag = "notifications", params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, body = ChannelView), (status = 400, body = ApiProblem), (status = 403, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn channel(State(state): State<ApiState>, Path(id): Path<i64>) -> Result<Json<ChannelView>, Refusal> {
    Ok(Json(state.controller.channel(id).await?))
}

/// Change a channel; secrets that are not given stay as they are
#[utoipa::path(
    put, path = "/notifications/channels/{id}", tag = "notifications", request_body = WriteChannel,
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, body = ChannelView),
        (status = 400, body = ApiProblem),
        (status = 403, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "The channel is not valid", body = ApiProblem),
    )
)]
pub(super) async fn change_channel(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(written): Body<WriteChannel>,
) -> Result<Json<ChannelView>, Refusal> {
    Ok(Json(state.controller.save_channel(&caller, Some(id), written).await?))
}

/// Remove a channel with its rules
#[utoipa::path(
    delete, path = "/notifications/channels/{id}", tag = "notifications", params(("id" = i64, Path, description = "Its number")),
    responses((status = 204), (status = 400, body = ApiProblem), (status = 403, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn remove_channel(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<StatusCode, Refusal> {
    state.controller.remove_channel(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test message; the answer says what came of it
#[utoipa::path(
    post, path = "/notifications/channels/{id}/test", tag = "notifications", params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, body = DeliveryView),
        (status = 400, body = ApiProblem),
        (status = 403, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "The channel is switched off", body = ApiProblem),
    )
)]
pub(super) async fn try_channel(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<Json<DeliveryView>, Refusal> {
    Ok(Json(state.controller.try_channel(&caller, id).await?))
}

/// List rules
#[utoipa::path(
    get, path = "/notifications/rules", tag = "notifications",
    responses((status = 200, body = Vec<RuleView>), (status = 403, body = ApiProblem))
)]
pub(super) async fn rules(State(state): State<ApiState>) -> Result<Json<Vec<RuleView>>, Refusal> {
    Ok(Json(state.controller.notification_rules().await?))
}

/// Add a rule
#[utoipa::path(
    post, path = "/notifications/rules", tag = "notifications", request_body = WriteRule,
    responses(
        (status = 201, body = RuleView),
        (status = 400, description = "The body is not JSON", body = ApiProblem),
        (status = 403, body = ApiProblem),
        (status = 422, description = "The rule is not valid", body = ApiProblem),
    )
)]
pub(super) async fn add_rule(
    State(state): State<ApiState>,
    caller: Caller,
    Body(written): Body<WriteRule>,
) -> Result<(StatusCode, Json<RuleView>), Refusal> {
    Ok((StatusCode::CREATED, Json(state.controller.save_notification_rule(&caller, None, written).await?)))
}

/// Read a rule
#[utoipa::path(
    get, path = "/notifications/rules/{id}", tag = "notifications", params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, body = RuleView), (status = 400, body = ApiProblem), (status = 403, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn rule(State(state): State<ApiState>, Path(id): Path<i64>) -> Result<Json<RuleView>, Refusal> {
    Ok(Json(state.controller.notification_rule(id).await?))
}

/// Change a rule
#[utoipa::path(
    put, path = "/notifications/rules/{id}", tag = "notifications", request_body = WriteRule,
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, body = RuleView),
        (status = 400, body = ApiProblem),
        (status = 403, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "The rule is not valid", body = ApiProblem),
    )
)]
pub(super) async fn change_rule(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(written): Body<WriteRule>,
) -> Result<Json<RuleView>, Refusal> {
    Ok(Json(state.controller.save_notification_rule(&caller, Some(id), written).await?))
}

/// Remove a rule
#[utoipa::path(
    delete, path = "/notifications/rules/{id}", tag = "notifications", params(("id" = i64, Path, description = "Its number")),
    responses((status = 204), (status = 400, body = ApiProblem), (status = 403, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn remove_rule(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<StatusCode, Refusal> {
    state.controller.remove_notification_rule(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which digest to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedDigest {
    /// Number of a rule; everything in the last week without it.
    rule: Option<i64>,
}

/// Show what a digest would say now
#[utoipa::path(
    get, path = "/notifications/digest", tag = "notifications", params(WantedDigest),
    responses((status = 200, body = DigestView), (status = 400, body = ApiProblem), (status = 403, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn digest(
    State(state): State<ApiState>,
    Query(wanted): Query<WantedDigest>,
) -> Result<Json<DigestView>, Refusal> {
    Ok(Json(state.controller.preview_digest(wanted.rule).await?))
}

/// Which deliveries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedDeliveries {
    /// Number of a channel.
    channel: Option<i64>,
    /// Where they are in their life.
    state: Option<DeliveryState>,
    /// What they tell.
    event: Option<NotificationEvent>,
    /// Part of what they are about.
    #[serde(default)]
    text: String,
    /// Only those older than this one.
    before: Option<String>,
    /// How many at most, up to 500; 50 unless given.
    limit: Option<u32>,
}

/// List deliveries, newest first
#[utoipa::path(
    get, path = "/notifications/deliveries", tag = "notifications", params(WantedDeliveries),
    responses((status = 200, body = Vec<DeliveryView>), (status = 400, body = ApiProblem), (status = 403, body = ApiProblem))
)]
pub(super) async fn deliveries(
    State(state): State<ApiState>,
    Query(wanted): Query<WantedDeliveries>,
) -> Result<Json<Vec<DeliveryView>>, Refusal> {
    let query = DeliveryQuery {
        channel: wanted.channel,
        state: wanted.state,
        event: wanted.event,
        text: wanted.text,
        before: wanted.before,
        limit: wanted.limit.unwrap_or(PAGE).min(LONGEST_PAGE),
    };
    Ok(Json(state.controller.deliveries(query).await?))
}

/// Read a delivery with exactly what is sent
#[utoipa::path(
    get, path = "/notifications/deliveries/{id}", tag = "notifications",
    params(("id" = String, Path, description = "Its identity, as in the header `webhook-id`")),
    responses((status = 200, body = DeliveryDetail), (status = 403, body = ApiProblem), (status = 404, body = ApiProblem))
)]
pub(super) async fn delivery(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<DeliveryDetail>, Refusal> {
    Ok(Json(state.controller.delivery(&id).await?))
}

/// Send a delivery again, now
#[utoipa::path(
    post, path = "/notifications/deliveries/{id}/retry", tag = "notifications",
    params(("id" = String, Path, description = "Its identity, as in the header `webhook-id`")),
    responses(
        (status = 202, body = DeliveryView),
        (status = 403, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "Its channel is gone or switched off", body = ApiProblem),
    )
)]
pub(super) async fn send_again(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<DeliveryView>), Refusal> {
    Ok((StatusCode::ACCEPTED, Json(state.controller.send_again(&caller, &id).await?)))
}

/// Read what all notifications have in common
#[utoipa::path(
    get, path = "/notifications/settings", tag = "notifications",
    responses((status = 200, body = NotificationSettings), (status = 403, body = ApiProblem))
)]
pub(super) async fn settings(State(state): State<ApiState>) -> Result<Json<NotificationSettings>, Refusal> {
    Ok(Json(state.controller.notification_settings()))
}

/// Change what all notifications have in common
#[utoipa::path(
    put, path = "/notifications/settings", tag = "notifications", request_body = NotificationSettings,
    responses(
        (status = 200, body = NotificationSettings),
        (status = 400, body = ApiProblem),
        (status = 403, body = ApiProblem),
        (status = 422, description = "The URL is none, or another one was given at start", body = ApiProblem),
    )
)]
pub(super) async fn change_settings(
    State(state): State<ApiState>,
    caller: Caller,
    Body(settings): Body<NotificationSettings>,
) -> Result<Json<NotificationSettings>, Refusal> {
    Ok(Json(state.controller.save_notification_settings(&caller, &settings).await?))
}
