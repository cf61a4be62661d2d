//! The HTTP API of Toxiproxy 2.12 over a [`FaultProxy`]: requests become calls, answers and errors become JSON.
//!
//! Checked against the server of Toxiproxy 2.12, status by status. Where it answers errors as `text/plain` with a
//! JSON body, this says `application/json`; a list without proxies is `[]` where it says `null`.

mod body;

use std::collections::BTreeMap;
use std::io;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, serve as serve_http};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{PopulateError, ProxyError};
use crate::proxies::FaultProxy;
use crate::spec::{ProxyView, ToxicView};

/// The version that the API reports: the Toxiproxy it is compatible with, and who answers.
pub const VERSION: &str = concat!("2.12.0+kennel.", env!("CARGO_PKG_VERSION"));

/// Serves the API on `listener` until `shutdown`; requests under way are answered. The proxies live on.
///
/// # Errors
///
/// If the listener fails for good.
pub async fn serve(listener: TcpListener, proxy: FaultProxy, shutdown: CancellationToken) -> io::Result<()> {
    serve_http(listener, router(proxy)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The routes of the API, to be served by another server.
pub fn router(proxy: FaultProxy) -> Router {
    Router::new()
        .route("/proxies", get(list_proxies).post(create_proxy))
        .route("/proxies/{proxy}", get(show_proxy).post(update_proxy).patch(update_proxy).delete(delete_proxy))
        .route("/proxies/{proxy}/toxics", get(list_toxics).post(create_toxic))
        .route(
            "/proxies/{proxy}/toxics/{toxic}",
            get(show_toxic).post(update_toxic).patch(update_toxic).delete(delete_toxic),
        )
        .route("/populate", post(populate))
        .route("/reset", post(reset))
        .route("/version", get(version))
        .fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"))
        .layer(middleware::from_fn(refuse_browsers))
        .with_state(proxy)
}

/// Any web page can make a browser send requests to a local port, and must not drive the proxy that way.
async fn refuse_browsers(request: Request, next: Next) -> Response {
    let agent = request.headers().get(header::USER_AGENT).map(HeaderValue::as_bytes);
    let mut response = if agent.is_some_and(|agent| agent.starts_with(b"Mozilla/")) {
        (StatusCode::FORBIDDEN, "User agent not allowed\n").into_response()
    } else {
        next.run(request).await
    };
    let id = HeaderValue::try_from(format!("{:016x}", rand::random::<u64>()));
    if let Ok(id) = id {
        response.headers_mut().insert("x-toxiproxy-request-id", id);
    }
    response
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
    status: u16,
}

impl From<&ProxyError> for ErrorBody {
    fn from(error: &ProxyError) -> Self {
        Self { error: error.to_string(), status: error.status() }
    }
}

fn status_of(error: &ProxyError) -> StatusCode {
    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl IntoResponse for ProxyError {
    fn into_response(self) -> Response {
        (status_of(&self), Json(ErrorBody::from(&self))).into_response()
    }
}

impl IntoResponse for PopulateError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            #[serde(flatten)]
            error: ErrorBody,
            proxies: Vec<ProxyView>,
        }
        let body = Body { error: (&self.error).into(), proxies: self.done };
        (status_of(&self.error), Json(body)).into_response()
    }
}

type Answer<T> = Result<T, ProxyError>;

async fn list_proxies(State(proxies): State<FaultProxy>) -> Json<BTreeMap<String, ProxyView>> {
    Json(proxies.list().into_iter().map(|view| (view.name.clone(), view)).collect())
}

async fn create_proxy(State(proxies): State<FaultProxy>, body: Bytes) -> Answer<(StatusCode, Json<ProxyView>)> {
    let view = proxies.create(body::proxy(&body)?).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn show_proxy(State(proxies): State<FaultProxy>, Path(proxy): Path<String>) -> Answer<Json<ProxyView>> {
    proxies.get(&proxy).map(Json)
}

async fn update_proxy(
    State(proxies): State<FaultProxy>,
    Path(proxy): Path<String>,
    body: Bytes,
) -> Answer<Json<ProxyView>> {
    // An unknown name is reported before an unreadable body.
    proxies.get(&proxy)?;
    proxies.update(&proxy, body::proxy_update(&body)?).await.map(Json)
}

async fn delete_proxy(State(proxies): State<FaultProxy>, Path(proxy): Path<String>) -> Answer<StatusCode> {
    proxies.delete(&proxy).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_toxics(State(proxies): State<FaultProxy>, Path(proxy): Path<String>) -> Answer<Json<Vec<ToxicView>>> {
    proxies.toxics(&proxy).map(Json)
}

/// Answers 200 and not 201, as the server of Toxiproxy does.
async fn create_toxic(
    State(proxies): State<FaultProxy>,
    Path(proxy): Path<String>,
    body: Bytes,
) -> Answer<Json<ToxicView>> {
    proxies.get(&proxy)?;
    proxies.add_toxic(&proxy, body::toxic(&body)?).map(Json)
}

async fn show_toxic(
    State(proxies): State<FaultProxy>,
    Path((proxy, toxic)): Path<(String, String)>,
) -> Answer<Json<ToxicView>> {
    proxies.toxic(&proxy, &toxic).map(Json)
}

async fn update_toxic(
    State(proxies): State<FaultProxy>,
    Path((proxy, toxic)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Json<ToxicView>> {
    proxies.toxic(&proxy, &toxic)?;
    proxies.update_toxic(&proxy, &toxic, body::toxic_update(&body)?).map(Json)
}

async fn delete_toxic(
    State(proxies): State<FaultProxy>,
    Path((proxy, toxic)): Path<(String, String)>,
) -> Answer<StatusCode> {
    proxies.remove_toxic(&proxy, &toxic)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn populate(State(proxies): State<FaultProxy>, body: Bytes) -> Response {
    let specs = match body::proxies(&body) {
        Ok(specs) => specs,
        Err(error) => {
            return PopulateError { error, done: Vec::new() }.into_response();
        }
    };
    match proxies.populate(specs).await {
        Ok(done) => (StatusCode::CREATED, Json(json!({ "proxies": done }))).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn reset(State(proxies): State<FaultProxy>) -> Answer<StatusCode> {
    proxies.reset().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn version() -> impl IntoResponse {
    let body = format!("{{\"version\": \"{VERSION}\"}}\n");
    ([(header::CONTENT_TYPE, "application/json;charset=utf-8")], body)
}
