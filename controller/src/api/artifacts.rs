//! Artifacts: list those of a run, download one, how long they stay.

use axum::Json;
use axum::body::{Body as Stream, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use kennel_model::RunId;
use kennel_model::api::{ApiProblem, ArtifactView, Retention, StorageView};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use super::tests::suite_run;
use crate::{ArtifactError, Caller};

/// Bytes that are sent at once.
const CHUNK: usize = 64 << 10;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(download)).routes(routes!(storage, set_retention))
}

/// List the artifacts of a suite's run
#[utoipa::path(
    get, path = "/suite-runs/{id}/artifacts", tag = "artifacts",
    params(("id" = String, Path, description = "The run's whole id")),
    responses((status = 200, body = Vec<ArtifactView>), (status = 404, body = ApiProblem))
)]
async fn list(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<Vec<ArtifactView>>, Refusal> {
    let run = suite_run(&state, &id).await?;
    Ok(Json(state.controller.artifacts(run).await?))
}

/// How to send an artifact.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct How {
    /// To be shown, where it is a picture or text; everything else is only ever downloaded.
    #[serde(default)]
    show: bool,
}

/// Download an artifact
#[utoipa::path(
    get, path = "/artifacts/{id}", tag = "artifacts", params(("id" = String, Path), How),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
    )
)]
async fn download(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(how): Query<How>,
) -> Result<Response, Refusal> {
    let missing = || {
        problem(StatusCode::NOT_FOUND, format!("there is no artifact `{id}`; it may have been let go by the retention"))
    };
    let artifact: RunId = id.parse().map_err(|_| missing())?;
    let (artifact, file) = state.controller.open_artifact(artifact).await?.ok_or_else(missing)?;
    let shown = shown_as(&artifact.media_type).filter(|_| how.show);
    let place = if shown.is_some() { "inline" } else { "attachment" };
    let mut headers = HeaderMap::new();
    let media_type = shown.unwrap_or("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(artifact.bytes));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Whatever it is, it runs nothing and loads nothing.
    let nothing = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    if let Ok(value) = HeaderValue::from_str(&disposition(place, &artifact.name)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    let chunks = futures::stream::unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(count) => {
                chunk.truncate(count);
                Some((Ok(Bytes::from(chunk)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    Ok((headers, Stream::from_stream(chunks)).into_response())
}

/// Media types that a browser shows without running anything.
fn shown_as(media_type: &str) -> Option<&'static str> {
    match media_type {
        "image/png" => Some("image/png"),
        "image/jpeg" => Some("image/jpeg"),
        "image/gif" => Some("image/gif"),
        "image/webp" => Some("image/webp"),
        text if text.starts_with("text/")
            || matches!(text, "application/json" | "application/xml" | "application/yaml") =>
        {
            Some("text/plain; charset=utf-8")
        }
        _ => None,
    }
}

/// RFC 6266: a name of plain letters for everybody, and the whole one for those who understand it.
fn disposition(place: &str, name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || " ._-".contains(c) { c } else { '_' }).collect();
    let whole: String = name
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"._-".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    format!("{place}; filename=\"{plain}\"; filename*=UTF-8''{whole}")
}

/// How long artifacts stay, and how many there are
#[utoipa::path(get, path = "/storage", tag = "artifacts", responses((status = 200, body = StorageView)))]
async fn storage(State(state): State<ApiState>) -> Result<Json<StorageView>, Refusal> {
    Ok(Json(state.controller.storage().await?))
}

/// Change how long artifacts stay
///
/// What is beyond that is let go at once; artifacts of pinned runs stay.
#[utoipa::path(
    put, path = "/storage", tag = "artifacts", request_body = Retention,
    responses((status = 200, body = StorageView), (status = 400, body = ApiProblem), (status = 422, body = ApiProblem))
)]
async fn set_retention(
    State(state): State<ApiState>,
    caller: Caller,
    Body(retention): Body<Retention>,
) -> Result<Json<StorageView>, Refusal> {
    if retention.days == Some(0) {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "days: expected 1 or more, or null for ever"));
    }
    state.controller.set_retention(&caller, retention).await?;
    Ok(Json(state.controller.storage().await?))
}

impl From<ArtifactError> for Refusal {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::TooLarge { .. } => problem(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            ArtifactError::Disk { .. } => {
                tracing::error!(%error, "an artifact could not be read");
                problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            ArtifactError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_header() {
        assert_eq!(
            disposition("attachment", "log.html"),
            "attachment; filename=\"log.html\"; filename*=UTF-8''log.html"
        );
        assert_eq!(
            disposition("inline", "a\"; x=\"\r\nü"),
            "inline; filename=\"a__ x_____\"; filename*=UTF-8''a%22%3B%20x%3D%22%0D%0A%C3%BC"
        );
    }

    #[test]
    fn nothing_active_is_ever_shown() {
        for active in
            ["text/html", "image/svg+xml", "application/xhtml+xml", "application/pdf", "application/javascript"]
        {
            assert!(shown_as(active).is_none_or(|shown| shown.starts_with("text/plain")), "{active}");
        }
    }
}
