//! Posting over HTTP: one connection to an address that was looked at, one request, no redirect followed, no more of
//! the answer read than is shown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::address::{Resolve, Unreachable, connect};
use crate::message::line;

/// How long a whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most of an answer's body that is read, in bytes.
const MOST_ANSWER: usize = 2_048;

/// What the other side answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The beginning of its body, on one line.
    pub(crate) text: String,
    /// How long it asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// Where it would send the request instead.
    pub(crate) location: Option<String>,
}

/// Nothing was answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// The address is none.
    #[error("`{0}` is no address to post to")]
    Address(String),
    /// Nobody can or may be reached there.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// No encrypted connection came about.
    #[error("no encrypted connection to `{host}`: {why}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// The exchange broke off.
    #[error("`{host}` did not answer as HTTP asks: {source}")]
    Http {
        /// The host.
        host: String,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
}

impl PostError {
    /// Whether trying again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Unreachable(error) => error.is_final(),
            Self::Tls { .. } | Self::Http { .. } | Self::Slow => false,
        }
    }
}

/// Headers of a post of JSON, with `more`.
pub(crate) fn headers(more: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Kennel/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in more {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Headers as people read them.
pub(crate) fn shown(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or_default())).collect()
}

/// Posts `body` to `url`.
pub(crate) async fn post(
    url: &str,
    headers: HeaderMap,
    body: &str,
    allow_private: bool,
    resolve: &Resolve,
    tls: &Arc<ClientConfig>,
) -> Result<Answer, PostError> {
    timeout(PATIENCE, exchange(url, headers, body, allow_private, resolve, tls)).await.map_err(|_| PostError::Slow)?
}

async fn exchange(
    url: &str,
    headers: HeaderMap,
    body: &str,
    allow_private: bool,
    resolve: &Resolve,
    tls: &Arc<ClientConfig>,
) -> Result<Answer, PostError> {
    let no_address = || PostError::Address(url.split(['?', '#']).next().unwrap_or_default().to_owned());
    let url = Url::parse(url).map_err(|_| no_address())?;
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(no_address)?;
    let request = request(&url, headers, body).ok_or_else(no_address)?;
    let stream = connect(resolve, host, port, allow_private).await?;
    if url.scheme() != "https" {
        return converse(TokioIo::new(stream), request, host).await;
    }
    let unencrypted = |why: String| PostError::Tls { host: host.to_owned(), why };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|error| unencrypted(error.to_string()))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
    let stream = stream.map_err(|error| unencrypted(error.to_string()))?;
    converse(TokioIo::new(stream), request, host).await
}

fn request(url: &Url, headers: HeaderMap, body: &str) -> Option<Request<Full<Bytes>>> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let mut request = Request::builder().method(Method::POST).uri(target).body(body).ok()?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(HOST, HeaderValue::from_str(&authority).ok()?);
    Some(request)
}

async fn converse<S>(stream: TokioIo<S>, request: Request<Full<Bytes>>, host: &str) -> Result<Answer, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |source: hyper::Error| PostError::Http { host: host.to_owned(), source };
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    // The connection lives only as long as this exchange: nothing is left running behind it.
    let driving = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answer {
            status,
            text: beginning(answer.into_body()).await,
            retry_after: header(&headers, &RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs),
            location: header(&headers, &LOCATION),
        })
    };
    tokio::select! {
        answer = exchange => answer,
        () = driving => unreachable!("it is pending for ever"),
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(line(headers.get(name)?.to_str().ok()?))
}

/// The beginning of a body; what follows is not read.
async fn beginning(mut body: hyper::body::Incoming) -> String {
    let mut read = Vec::new();
    while read.len() < MOST_ANSWER {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            let room = MOST_ANSWER - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    line(&String::from_utf8_lossy(&read))
}
