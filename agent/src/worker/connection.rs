//! The fast path: one HTTP/1.1 connection per user, kept alive, reconnected when the server closes it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kennel_scenarios::client::Request;
use tokio::net::TcpStream;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a user's requests go: the checked addresses and what to write in the `host` header.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) host: HeaderValue,
}

/// One user's connection.
#[derive(Debug)]
pub(super) struct Connection {
    destination: Destination,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Bytes,
    pub(super) bytes: u64,
}

impl Connection {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, sender: None }
    }

    /// Sends a request and reads the whole answer. The error is the failure kind under which it is counted.
    pub(super) async fn send(&mut self, request: &Request<'_>) -> Result<Response, String> {
        let mut message = self.message(request)?;
        loop {
            let reused = self.sender.as_ref().is_some_and(SendRequest::is_ready);
            let sender = match self.sender.as_mut() {
                Some(sender) if reused => sender,
                _ => self.connect().await?,
            };
            match sender.try_send_request(message).await {
                Ok(response) => {
                    let answer = read(response, request.keep_body).await;
                    if answer.is_err() {
                        self.sender = None;
                    }
                    return answer;
                }
                Err(mut failed) => {
                    self.sender = None;
                    // A kept-alive connection that the server had closed: hyper gives back what it never sent.
                    match failed.take_message() {
                        Some(unsent) if reused => message = unsent,
                        _ => return Err(describe(failed.error())),
                    }
                }
            }
        }
    }

    fn message(&self, request: &Request<'_>) -> Result<http::Request<Full<Bytes>>, String> {
        let uri = Uri::try_from(request.path).map_err(|_| "malformed path".to_owned())?;
        let mut message = http::Request::new(Full::new(request.body.clone().unwrap_or_default()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = uri;
        let headers = message.headers_mut();
        headers.insert(header::HOST, self.destination.host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static("kennel"));
        if request.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in request.headers {
            headers.insert(name.clone(), value.clone());
        }
        Ok(message)
    }

    async fn connect(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&*self.destination.addresses))
            .await
            .map_err(|_| "connect timeout".to_owned())?
            .map_err(|error| io_kind(&error))?;
        stream.set_nodelay(true).map_err(|error| io_kind(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| describe(&error))?;
        // The task ends when its sender is dropped or the server closes; errors reach the sender.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(self.sender.insert(sender))
    }
}

async fn read(response: http::Response<hyper::body::Incoming>, keep: bool) -> Result<Response, String> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    if keep {
        let body = body.collect().await.map_err(|error| describe(&error))?.to_bytes();
        let bytes = body.len() as u64;
        return Ok(Response { status, body, bytes });
    }
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.map_err(|error| describe(&error))?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(Response { status, body: Bytes::new(), bytes })
}

fn describe(error: &hyper::Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io_kind(io);
        }
        source = inner.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "connection closed".to_owned()
    } else if error.is_parse() {
        "malformed answer".to_owned()
    } else {
        "broken answer".to_owned()
    }
}

fn io_kind(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        std::io::ErrorKind::TimedOut => "connect timeout".to_owned(),
        kind => kind.to_string(),
    }
}
