//! Results posted by other systems: JUnit XML, Robot output.xml, Robot output.json.

use axum::Json;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use kennel_model::api::{ApiProblem, Imported};
use kennel_results::ReadError;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Query, Refusal, problem};
use crate::{Caller, ImportError, ImportRequest, Upload};

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    // Uploads have a limit of their own, told in words: see [`Upload`].
    OpenApiRouter::new().routes(routes!(import)).layer(DefaultBodyLimit::disable())
}

/// What the results are to be kept as.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Name of the suite whose history they belong to.
    suite: String,
    /// Labels of the run, separated by commas.
    #[serde(default)]
    labels: String,
    /// `junit`, `robot` or `robot-json`; looked at when absent.
    format: Option<String>,
    /// Name of the file, for people.
    #[serde(default)]
    file: String,
}

/// Import results
///
/// The body is the document itself, or a form (`multipart/form-data`) with one file. It is read whole before anything
/// is kept; a document that cannot be read leaves nothing behind. Up to 200 MB.
#[utoipa::path(
    post, path = "/imports", tag = "imports", params(Wanted),
    request_body(content((String = "application/xml"), (String = "application/json"), (Object = "multipart/form-data"))),
    responses(
        (status = 201, body = Imported),
        (status = 400, body = ApiProblem),
        (status = 413, description = "The document is too large", body = ApiProblem),
        (status = 422, description = "The document cannot be read, or a field is wrong", body = ApiProblem),
    )
)]
async fn import(
    State(state): State<ApiState>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Result<Response, Refusal> {
    let format = wanted.format.filter(|format| !format.is_empty()).map(|format| format.parse()).transpose();
    let format = format.map_err(|error: String| problem(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let labels = wanted.labels.split(',').map(str::to_owned).collect();
    let mut import = ImportRequest { suite: wanted.suite, labels, format, file: wanted.file };
    let mut upload = Upload::new(&state.controller).await?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        let unreadable = |error: axum::extract::multipart::MultipartError| problem(error.status(), error.body_text());
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|error| problem(error.status(), error.body_text()))?;
        let mut found = false;
        while let Some(mut part) = form.next_field().await.map_err(unreadable)? {
            let Some(name) = part.file_name().map(str::to_owned) else { continue };
            if import.file.is_empty() {
                import.file = name;
            }
            while let Some(bytes) = part.chunk().await.map_err(unreadable)? {
                upload.write(&bytes).await?;
            }
            found = true;
            break;
        }
        if !found {
            return Err(problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the form has no file; send one as a part with a file name",
            ));
        }
    } else {
        receive(request.into_body(), &mut upload).await?;
    }
    let imported = state.controller.import_file(&caller, &import, upload.finish().await?).await?;
    Ok((StatusCode::CREATED, Json::<Imported>(imported)).into_response())
}

async fn receive(body: Body, upload: &mut Upload) -> Result<(), Refusal> {
    let mut stream = body.into_data_stream();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|error| problem(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
        upload.write(&bytes).await?;
    }
    Ok(())
}

impl From<ImportError> for Refusal {
    fn from(error: ImportError) -> Self {
        let text = error.to_string();
        match error {
            ImportError::Unreadable { error: ReadError::TooLarge { .. }, .. } | ImportError::TooLarge { .. } => {
                problem(StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            ImportError::Field { .. } | ImportError::Unreadable { .. } | ImportError::NoTests { .. } => {
                problem(StatusCode::UNPROCESSABLE_ENTITY, text)
            }
            ImportError::Disk(error) => {
                tracing::error!(%error, "an upload could not be set aside");
                problem(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            ImportError::Store(error) => error.into(),
        }
    }
}
