//! Files that Kennel keeps: list, read, save, rename, remove, restore, compare versions, carry in and out.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kennel_model::api::{
    ApiProblem, FileConflict, FileDiff, FileKind, FileSummary, FileVersion, RenameFile, RestoreFile, SaveFile,
    SurroundingsView,
};
use kennel_model::naming;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::{Body, Path, Query, Refusal, problem};
use crate::{Caller, FileError};

/// Longest text of a file, in bytes.
const LONGEST_FILE: usize = 1 << 20;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        .routes(routes!(read, save, remove))
        .routes(routes!(rename))
        .routes(routes!(restore))
        .routes(routes!(versions))
        .routes(routes!(version))
        .routes(routes!(diff))
        .routes(routes!(download))
        .routes(routes!(surroundings))
        // JSON may say a byte in six.
        .layer(DefaultBodyLimit::max(6 * LONGEST_FILE))
}

/// Which files to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those that were removed and can be restored, instead of those that are there.
    #[serde(default)]
    removed: bool,
}

/// List files of a kind, by name
#[utoipa::path(
    get, path = "/files/{kind}", tag = "files", params(("kind" = FileKind, Path), Which),
    responses((status = 200, body = Vec<FileSummary>), (status = 400, body = ApiProblem))
)]
async fn list(
    State(state): State<ApiState>,
    Path(kind): Path<FileKind>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<FileSummary>>, Refusal> {
    let controller = &state.controller;
    Ok(Json(if which.removed { controller.removed_files(kind).await? } else { controller.files(kind).await? }))
}

/// How to take an uploaded file.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Upload {
    /// Follow the file that has its name, if there is one, instead of refusing.
    #[serde(default)]
    replace: bool,
    /// Why, in the author's words.
    #[serde(default)]
    message: String,
}

/// Upload a file
///
/// Its text is the body, or the first file of a form (`multipart/form-data`). It is kept under the name that it says.
#[utoipa::path(
    post, path = "/files/{kind}", tag = "files", params(("kind" = FileKind, Path), Upload),
    request_body(content(
        (String = "application/yaml"),
        (Object = "multipart/form-data"),
    )),
    responses(
        (status = 201, body = FileVersion),
        (status = 400, body = ApiProblem),
        (status = 409, description = "A file of this name is there", body = FileConflict),
        (status = 413, description = "The file is too long", body = ApiProblem),
        (status = 422, description = "The file is not valid", body = ApiProblem),
    )
)]
async fn upload(
    State(state): State<ApiState>,
    caller: Caller,
    Path(kind): Path<FileKind>,
    Query(how): Query<Upload>,
    request: Request,
) -> Result<Response, Refusal> {
    let source = uploaded(request).await?;
    let expected = if how.replace { None } else { Some(0) };
    let request = SaveFile { source, message: how.message, expected };
    match state.controller.save_file(&caller, kind, None, request).await {
        Ok(saved) => Ok((StatusCode::CREATED, tag(saved.version), Json(saved)).into_response()),
        Err(error) => refuse(error),
    }
}

/// Read a file
///
/// `ETag` is its version.
#[utoipa::path(
    get, path = "/files/{kind}/{name}", tag = "files",
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`")),
    responses(
        (status = 200, body = FileVersion),
        (status = 304, description = "It is the version in `If-None-Match`"),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
    )
)]
async fn read(
    State(state): State<ApiState>,
    Path((kind, name)): Path<(FileKind, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = state.controller.file(kind, &name).await?;
    let tag = tag(file.version);
    if headers.get(header::IF_NONE_MATCH) == Some(&tag[0].1) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(file)).into_response())
}

/// Save a file
///
/// It is checked whole and kept as a new version. `expected` in the body or a version in `If-Match` refuses the save
/// when somebody else was faster.
#[utoipa::path(
    put, path = "/files/{kind}/{name}", tag = "files", request_body = SaveFile,
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`")),
    responses(
        (status = 200, body = FileVersion),
        (status = 400, body = ApiProblem),
        (status = 409, description = "Another version is current; both texts", body = FileConflict),
        (status = 413, description = "The file is too long", body = ApiProblem),
        (status = 422, description = "The file or the body is not valid", body = ApiProblem),
    )
)]
async fn save(
    State(state): State<ApiState>,
    caller: Caller,
    Path((kind, name)): Path<(FileKind, String)>,
    headers: HeaderMap,
    Body(mut request): Body<SaveFile>,
) -> Result<Response, Refusal> {
    if request.source.len() > LONGEST_FILE {
        return Err(too_long());
    }
    if let Some(wanted) = headers.get(header::IF_MATCH) {
        request.expected = Some(wanted_version(wanted)?);
    }
    // A new file is kept under the name it says; one that is there may say another and so be renamed.
    let is_new = matches!(state.controller.file(kind, &name).await, Err(FileError::NotFound { .. }));
    if is_new
        && let Some(written) = naming::field(&request.source, "name")
        && written != name
        && naming::check_name(&written).is_ok()
    {
        // What else is wrong with it is told first.
        state.controller.check_file(kind, &name, &request.source).await?;
        return refuse(FileError::OtherName { written, wanted: name });
    }
    match state.controller.save_file(&caller, kind, Some(&name), request).await {
        Ok(saved) => Ok((tag(saved.version), Json(saved)).into_response()),
        Err(error) => refuse(error),
    }
}

/// Which version is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Expected {
    /// The version that was seen; another current one refuses.
    expected: Option<u32>,
}

/// Remove a file
///
/// Its versions stay, so that it can be restored.
#[utoipa::path(
    delete, path = "/files/{kind}/{name}", tag = "files",
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`"), Expected),
    responses(
        (status = 204, description = "Removed"),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, body = FileConflict),
    )
)]
async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path((kind, name)): Path<(FileKind, String)>,
    Query(which): Query<Expected>,
) -> Result<Response, Refusal> {
    match state.controller.remove_file(&caller, kind, &name, which.expected).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => refuse(error),
    }
}

/// Rename a file
///
/// Its versions go with it.
#[utoipa::path(
    post, path = "/files/{kind}/{name}/rename", tag = "files", request_body = RenameFile,
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`")),
    responses(
        (status = 200, body = FileVersion),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 409, description = "The name is taken, or another version is current", body = FileConflict),
        (status = 422, body = ApiProblem),
    )
)]
async fn rename(
    State(state): State<ApiState>,
    caller: Caller,
    Path((kind, name)): Path<(FileKind, String)>,
    Body(request): Body<RenameFile>,
) -> Result<Response, Refusal> {
    let why = (request.message, request.expected);
    match state.controller.rename_file(&caller, kind, &name, &request.to, why).await {
        Ok(saved) => Ok((tag(saved.version), Json(saved)).into_response()),
        Err(error) => refuse(error),
    }
}

/// Bring back an earlier version, or a removed file
///
/// The text of that version becomes a new version.
#[utoipa::path(
    post, path = "/files/{kind}/{name}/restore", tag = "files", request_body = RestoreFile,
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`")),
    responses(
        (status = 200, body = FileVersion),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
        (status = 422, description = "That version is not valid any more", body = ApiProblem),
    )
)]
async fn restore(
    State(state): State<ApiState>,
    caller: Caller,
    Path((kind, name)): Path<(FileKind, String)>,
    Body(request): Body<RestoreFile>,
) -> Result<Response, Refusal> {
    match state.controller.restore_file(&caller, kind, &name, request).await {
        Ok(saved) => Ok((tag(saved.version), Json(saved)).into_response()),
        Err(error) => refuse(error),
    }
}

/// List the versions of a file, newest first
#[utoipa::path(
    get, path = "/files/{kind}/{name}/versions", tag = "files",
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`")),
    responses(
        (status = 200, body = Vec<FileSummary>),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
    )
)]
async fn versions(
    State(state): State<ApiState>,
    Path((kind, name)): Path<(FileKind, String)>,
) -> Result<Json<Vec<FileSummary>>, Refusal> {
    Ok(Json(state.controller.file_versions(kind, &name).await?))
}

/// Read a version of a file
#[utoipa::path(
    get, path = "/files/{kind}/{name}/versions/{version}", tag = "files",
    params(
        ("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`"),
        ("version" = u32, Path),
    ),
    responses((status = 200, body = FileVersion), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
async fn version(
    State(state): State<ApiState>,
    Path((kind, name, version)): Path<(FileKind, String, u32)>,
) -> Result<Json<FileVersion>, Refusal> {
    Ok(Json(state.controller.file_version(kind, &name, version).await?))
}

/// Which versions to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pair {
    /// The earlier version; 0 is the empty file, the one before `to` when absent.
    from: Option<u32>,
    /// The other; the last one when absent.
    to: Option<u32>,
}

/// Compare two versions of a file
#[utoipa::path(
    get, path = "/files/{kind}/{name}/diff", tag = "files",
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`"), Pair),
    responses((status = 200, body = FileDiff), (status = 400, body = ApiProblem), (status = 404, body = ApiProblem))
)]
async fn diff(
    State(state): State<ApiState>,
    Path((kind, name)): Path<(FileKind, String)>,
    Query(pair): Query<Pair>,
) -> Result<Json<FileDiff>, Refusal> {
    let to = match pair.to {
        Some(to) => to,
        None => state.controller.file_versions(kind, &name).await?.first().map_or(0, |last| last.version),
    };
    let from = pair.from.unwrap_or(to.saturating_sub(1));
    Ok(Json(state.controller.file_diff(kind, &name, from, to).await?))
}

/// Download a file
#[utoipa::path(
    get, path = "/files/{kind}/{name}/download", tag = "files",
    params(("kind" = FileKind, Path), ("name" = String, Path, description = "Percent-encoded, `/` as `%2F`")),
    responses(
        (status = 200, body = String, content_type = "application/yaml"),
        (status = 400, body = ApiProblem),
        (status = 404, body = ApiProblem),
    )
)]
async fn download(
    State(state): State<ApiState>,
    Path((kind, name)): Path<(FileKind, String)>,
) -> Result<Response, Refusal> {
    let file = state.controller.file(kind, &name).await?;
    let about = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/yaml; charset=utf-8")),
        (header::CONTENT_DISPOSITION, attachment(&file.name)),
    ];
    Ok((about, tag(file.version), file.source).into_response())
}

/// List what files may refer to
///
/// Declared targets, experiments, compiled scenarios and kinds of faults.
#[utoipa::path(get, path = "/surroundings", tag = "files", responses((status = 200, body = SurroundingsView)))]
async fn surroundings(State(state): State<ApiState>) -> Result<Json<SurroundingsView>, Refusal> {
    Ok(Json(state.controller.surroundings().await?))
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        let status = match &error {
            FileError::Invalid(_)
            | FileError::Name(_)
            | FileError::OtherName { .. }
            | FileError::NoPlainName { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            FileError::NotFound { .. } => StatusCode::NOT_FOUND,
            FileError::Conflict { .. }
            | FileError::Taken { .. }
            | FileError::InHistory { .. }
            | FileError::UnderWay { .. } => StatusCode::CONFLICT,
            FileError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        match error {
            FileError::Invalid(problems) => problems.into(),
            FileError::Store(error) => error.into(),
            error => problem(status, error.to_string()),
        }
    }
}

/// The answer to a change that was refused; a conflict shows both texts.
fn refuse(error: FileError) -> Result<Response, Refusal> {
    let sentence = error.to_string();
    match error {
        FileError::Conflict { current, yours, .. } => {
            let conflict = FileConflict { error: sentence, current: current.map(|current| *current), yours };
            Ok((StatusCode::CONFLICT, Json(conflict)).into_response())
        }
        error => Err(error.into()),
    }
}

fn tag(version: u32) -> [(header::HeaderName, HeaderValue); 1] {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    [(header::ETAG, tag)]
}

fn wanted_version(tag: &HeaderValue) -> Result<u32, Refusal> {
    let version = tag.to_str().ok().and_then(|tag| tag.trim_matches('"').parse().ok());
    version.ok_or_else(|| {
        problem(StatusCode::BAD_REQUEST, "`If-Match` is no version; expected the `ETag` of a read, such as \"3\"")
    })
}

fn too_long() -> Refusal {
    problem(StatusCode::PAYLOAD_TOO_LARGE, format!("a file may be {LONGEST_FILE} bytes long at most"))
}

/// How a browser is to name the file: the plain characters of its name, and all of them for those that can (RFC 6266).
fn attachment(name: &str) -> HeaderValue {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_. ".contains(c) { c } else { '_' }).collect();
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}.yaml\"; filename*=UTF-8''{encoded}.yaml"))
        .unwrap_or(HeaderValue::from_static("attachment; filename=\"file.yaml\""))
}

/// The text of an uploaded file: the body itself, or the first file of a form.
async fn uploaded(request: Request) -> Result<String, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let bytes = if kind.starts_with("multipart/") {
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|rejection| problem(rejection.status(), rejection.body_text()))?;
        let broken = |error: axum::extract::multipart::MultipartError| problem(error.status(), error.body_text());
        loop {
            match form.next_field().await.map_err(broken)? {
                Some(field) if field.file_name().is_some() || field.name() == Some("file") => {
                    break field.bytes().await.map_err(broken)?;
                }
                Some(_) => {}
                None => {
                    return Err(problem(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        "the form carries no file; expected a part with a file name, or one named `file`",
                    ));
                }
            }
        }
    } else {
        Bytes::from_request(request, &())
            .await
            .map_err(|rejection| problem(rejection.status(), rejection.body_text()))?
    };
    if bytes.len() > LONGEST_FILE {
        return Err(too_long());
    }
    String::from_utf8(bytes.into())
        .map(|text| text.trim_start_matches('\u{feff}').to_owned())
        .map_err(|_| problem(StatusCode::UNPROCESSABLE_ENTITY, "the file is not text in UTF-8"))
}
