//! Errors of the API: always an [`ApiProblem`] as JSON, whatever went wrong.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kennel_model::api::ApiProblem;
use kennel_model::document::{PlacedProblem, Problems};
use serde::de::DeserializeOwned;

use crate::people::PeopleError;
use crate::{CancelSuiteError, FindError, HaltError, RerunError, StartError, StartSuiteError, StoreError};

/// An error answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: ApiProblem,
    /// Seconds after which the same may be asked again.
    retry_after_s: Option<u64>,
}

/// An error answer with one sentence.
pub(super) fn problem(status: StatusCode, error: impl Into<String>) -> Refusal {
    Refusal { status, body: ApiProblem { error: error.into(), problems: Vec::new() }, retry_after_s: None }
}

impl Refusal {
    /// An error answer with what is wrong field by field.
    pub(super) fn unprocessable(error: impl Into<String>, problems: Vec<PlacedProblem>) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: ApiProblem { error: error.into(), problems },
            retry_after_s: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry = self.retry_after_s.map(|seconds| [(header::RETRY_AFTER, seconds.to_string())]);
        (self.status, retry, Json(self.body)).into_response()
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        let count = problems.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let error = format!("{} has {count} {noun}", problems.file);
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: ApiProblem { error, problems: problems.problems },
            retry_after_s: None,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Invalid(problems) => problems.into(),
            StartError::Closing => problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            StartError::Store(error) => error.into(),
        }
    }
}

impl From<HaltError> for Refusal {
    fn from(error: HaltError) -> Self {
        match error {
            HaltError::NotFound { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            HaltError::AlreadyOver { .. } => problem(StatusCode::CONFLICT, error.to_string()),
            HaltError::Store(error) => error.into(),
        }
    }
}

impl From<PeopleError> for Refusal {
    fn from(error: PeopleError) -> Self {
        if error.status().is_server_error() {
            tracing::error!(%error, "something about people failed");
        }
        Self { retry_after_s: error.retry_after_s(), ..problem(error.status(), error.to_string()) }
    }
}

impl From<FindError> for Refusal {
    fn from(error: FindError) -> Self {
        match error {
            FindError::NotFound { .. } | FindError::Ambiguous { .. } => {
                problem(StatusCode::NOT_FOUND, error.to_string())
            }
            FindError::Store(error) => error.into(),
        }
    }
}

impl From<StartSuiteError> for Refusal {
    fn from(error: StartSuiteError) -> Self {
        let status = match &error {
            StartSuiteError::Unknown { .. } | StartSuiteError::NoSuchRun { .. } => StatusCode::NOT_FOUND,
            StartSuiteError::Closing => StatusCode::SERVICE_UNAVAILABLE,
            StartSuiteError::Unclear | StartSuiteError::NoSuchStep { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            StartSuiteError::Invalid(_) | StartSuiteError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        match error {
            StartSuiteError::Invalid(problems) => problems.into(),
            StartSuiteError::Store(error) => error.into(),
            error => problem(status, error.to_string()),
        }
    }
}

impl From<CancelSuiteError> for Refusal {
    fn from(error: CancelSuiteError) -> Self {
        match error {
            CancelSuiteError::NotFound { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            CancelSuiteError::AlreadyOver { .. } => problem(StatusCode::CONFLICT, error.to_string()),
            CancelSuiteError::Store(error) => error.into(),
        }
    }
}

impl From<RerunError> for Refusal {
    fn from(error: RerunError) -> Self {
        match error {
            RerunError::NotFound { .. } => problem(StatusCode::NOT_FOUND, error.to_string()),
            RerunError::NotOver { .. } | RerunError::Imported { .. } | RerunError::NothingFailed { .. } => {
                problem(StatusCode::CONFLICT, error.to_string())
            }
            RerunError::NoSteps => problem(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            RerunError::Start(error) => error.into(),
            RerunError::Store(error) => error.into(),
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        problem(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        problem(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        problem(rejection.status(), rejection.body_text())
    }
}

/// A JSON body; what is wrong with a bad one is told as JSON too.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        Ok(Self(Json::from_request(request, state).await?.0))
    }
}

/// A query string; what is wrong with a bad one is told as JSON.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self(axum::extract::Query::from_request_parts(parts, state).await?.0))
    }
}

/// A path parameter; what is wrong with a bad one is told as JSON.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self(axum::extract::Path::from_request_parts(parts, state).await?.0))
    }
}
