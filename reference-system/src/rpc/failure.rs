//! The error body of every endpoint: a status, a code for programs and a sentence for people.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::CallError;
use crate::store::StoreError;

/// An error answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) body: FailureBody,
}

/// Its JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FailureBody {
    /// For people.
    pub(crate) error: String,
    /// For programs.
    pub(crate) code: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, error: impl Into<String>) -> Self {
        Self { status, body: FailureBody { error: error.into(), code: code.into() } }
    }

    /// 404.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// 409.
    pub(crate) fn conflict(code: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, why)
    }

    /// 422.
    pub(crate) fn invalid(why: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", why)
    }

    /// 503.
    pub(crate) fn unavailable(code: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, why)
    }

    /// 504.
    pub(crate) fn deadline(what: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", what)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::unavailable("store_failed", error.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Timeout { .. } => Self::deadline(error.to_string()),
            CallError::Answer { status, body, .. } => Self { status, body },
            CallError::NoInstance { .. } => Self::unavailable("no_instance", error.to_string()),
            CallError::Refused { .. } => Self::unavailable("connection_refused", error.to_string()),
            CallError::Lost { .. } => Self::unavailable("connection_lost", error.to_string()),
            CallError::Open { .. } => Self::unavailable("breaker_open", error.to_string()),
            CallError::Full { .. } => Self::unavailable("bulkhead_full", error.to_string()),
            CallError::Body { .. } => Self::unavailable("bad_answer", error.to_string()),
        }
    }
}
