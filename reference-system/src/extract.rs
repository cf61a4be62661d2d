//! What handlers take from a request, with refusals in our own error shape.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::rpc::{Budget, Failure};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))
    }
}

/// The path's variables.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// The query's fields.
pub(crate) struct Ask<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Ask<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Budget {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // The frame puts it there for every route of a role.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Failure::unavailable("no_budget", "the request has no budget"))
    }
}
