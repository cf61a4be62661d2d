//! What handlers take from a request, with refusals in our own error shape.
//!
//! No text may hold a NUL character: PostgreSQL refuses it, which would take every write of the same commit with it.

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
        let bytes = body_of(request, state).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))
    }
}

/// The bytes of a JSON body without NUL characters.
pub(crate) async fn body_of<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Failure> {
    let bytes =
        Bytes::from_request(request, state).await.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    if has_nul(&bytes) { Err(Failure::invalid("the body has a NUL character (\\u0000)")) } else { Ok(bytes) }
}

/// Whether a JSON text has an escaped NUL character; JSON allows no other.
fn has_nul(json: &[u8]) -> bool {
    const NUL: &[u8] = br"\u0000";
    json.windows(NUL.len()).enumerate().any(|(at, part)| {
        // After an odd number of backslashes, this one is a character itself.
        part == NUL && json[..at].iter().rev().take_while(|byte| **byte == b'\\').count().is_multiple_of(2)
    })
}

/// Refuses an address with an encoded NUL character.
fn refuse_nul(parts: &Parts) -> Result<(), Failure> {
    let address = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if address.contains("%00") { Err(Failure::invalid("the address has a NUL character (%00)")) } else { Ok(()) }
}

/// The path's variables.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        refuse_nul(parts)?;
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
        refuse_nul(parts)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_character_is_seen_however_many_backslashes_are_before_it() {
        for (text, nul) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"a":"x\\\u0000"}"#, true),
            (r#"{"a":"\\u0000"}"#, false),
            (r#"{"a":"\u0001"}"#, false),
            ("", false),
        ] {
            assert_eq!(has_nul(text.as_bytes()), nul, "{text}");
            let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
            let said = parsed.is_some_and(|value| value["a"].as_str().is_some_and(|text| text.contains('\0')));
            assert_eq!(said, nul, "{text}");
        }
    }
}
