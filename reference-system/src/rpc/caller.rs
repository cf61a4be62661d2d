//! Calls to other roles: one pooled HTTP/1.1 client, an instance from the directory, a timeout from
//! the ladder.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::failure::FailureBody;
use super::guards::{Guards, Kept};
use super::{Budget, Directory};
use crate::config::Timeouts;
use crate::switches::{ConnectRetry, InForce};

/// Why a call gave no answer that the caller can use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no instance of {service} is known")]
    NoInstance { service: String },
    #[error("{instance} refused the connection")]
    Refused { instance: String },
    #[error("the connection to {instance} was lost during the call")]
    Lost { instance: String },
    #[error("{service} did not answer in time")]
    Timeout { service: String },
    #[error("{service} answered {status}: {error}", error = .body.error)]
    Answer { service: String, status: StatusCode, body: FailureBody },
    #[error("{service} failed too often lately; calls to it are refused for a moment")]
    Open { service: String },
    #[error("too many calls to {service} are under way")]
    Full { service: String },
    #[error("{service} gave an answer that cannot be read: {why}")]
    Body { service: String, why: String },
}

impl CallError {
    /// The status of an answer, if there was one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answer { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A client of HTTP/1.1 that keeps its connections.
pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A role's calls.
#[derive(Clone)]
pub(crate) struct Caller {
    client: HttpClient,
    directory: Arc<Directory>,
    timeouts: Timeouts,
    guards: Arc<Guards>,
    /// The gateway passes its whole budget on; others give each try its own share.
    passes_budget_on: bool,
}

impl Caller {
    /// The calls of `service`.
    pub(crate) fn new(service: &str, directory: Arc<Directory>, timeouts: Timeouts) -> Self {
        Self {
            client: http_client(Duration::from_millis(timeouts.connect_ms)),
            directory,
            timeouts,
            guards: Arc::default(),
            passes_budget_on: service == "gw",
        }
    }

    /// How long the historic gateway waited: 1 s, while the order service has 1.2 s.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.timeouts.order_ms * 5 / 6)
    }

    /// The switches as they are in force here.
    pub(crate) fn in_force(&self) -> InForce {
        self.directory.in_force()
    }

    fn time_for(&self, service: &str, budget: &Budget) -> Duration {
        // The broker is asked for long polls, and bounds them itself.
        let most = if self.passes_budget_on || service == "mq" {
            Duration::MAX
        } else if service.starts_with("st-") {
            Duration::from_millis(self.timeouts.store_ms)
        } else if service.starts_with("eos-") {
            Duration::from_millis(self.timeouts.order_ms)
        } else {
            Duration::from_millis(self.timeouts.dependency_ms)
        };
        let most = most.saturating_add(budget.waits);
        // A soft timeout is only measured: what a request still does when its time is over, it does.
        if most == Duration::MAX || self.in_force().hard_timeout { most.min(budget.left()) } else { most }
    }

    /// Reads and parses.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        service: &str,
        path: &str,
        budget: &Budget,
    ) -> Result<T, CallError> {
        self.expect(service, Method::GET, path, Bytes::new(), budget).await
    }

    /// Posts JSON and parses the answer.
    pub(crate) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        service: &str,
        path: &str,
        body: &B,
        budget: &Budget,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CallError::Body { service: service.to_owned(), why: error.to_string() })?;
        self.expect(service, Method::POST, path, body.into(), budget).await
    }

    async fn expect<T: DeserializeOwned>(
        &self,
        service: &str,
        method: Method,
        path: &str,
        body: Bytes,
        budget: &Budget,
    ) -> Result<T, CallError> {
        let (status, answer) = self.send(service, method, path, body, budget).await?;
        if status.is_success() {
            return serde_json::from_slice(&answer)
                .map_err(|error| CallError::Body { service: service.to_owned(), why: error.to_string() });
        }
        let body = serde_json::from_slice(&answer).unwrap_or_else(|_| FailureBody {
            error: String::from_utf8_lossy(&answer).into_owned(),
            code: "unreadable".into(),
        });
        Err(CallError::Answer { service: service.to_owned(), status, body })
    }

    /// What the guards of the dependencies know, for `/debug/state`.
    pub(crate) fn describe_guards(&self) -> serde_json::Value {
        self.guards.describe()
    }

    /// Sends to an instance of `service` and gives whatever it answers. The gateway is guarded by the services behind
    /// it; everybody else has a breaker and a compartment for each dependency.
    pub(crate) async fn send(
        &self,
        service: &str,
        method: Method,
        path: &str,
        body: Bytes,
        budget: &Budget,
    ) -> Result<(StatusCode, Bytes), CallError> {
        if self.passes_budget_on {
            return self.send_unguarded(service, method, path, body, budget).await;
        }
        let in_force = self.directory.in_force();
        let admitted = self.guards.admit(service, &in_force, Instant::now()).map_err(|kept| match kept {
            Kept::Open => CallError::Open { service: service.to_owned() },
            Kept::Full => CallError::Full { service: service.to_owned() },
        })?;
        let sent = self.send_unguarded(service, method, path, body, budget).await;
        let succeeded = sent.as_ref().is_ok_and(|(status, _)| !status.is_server_error());
        admitted.ended(succeeded, &in_force, Instant::now());
        sent
    }

    /// A refused connection is tried once more on another instance where the policy allows; a
    /// read that was lost or late at a dependency is tried once more within the budget.
    async fn send_unguarded(
        &self,
        service: &str,
        method: Method,
        path: &str,
        body: Bytes,
        budget: &Budget,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let reads = method == Method::GET;
        let mut tried: Option<String> = None;
        loop {
            let target = self
                .directory
                .choose(service, tried.as_deref(), Instant::now())
                // The only instance is worth a second try, too.
                .or_else(|| self.directory.choose(service, None, Instant::now()))
                .ok_or_else(|| CallError::NoInstance { service: service.to_owned() })?;
            let time = self.time_for(service, budget);
            if time.is_zero() {
                return Err(CallError::Timeout { service: service.to_owned() });
            }
            let uri = format!("http://{}{path}", target.address);
            let call = self.directory.call(&target.instance, Instant::now());
            let attempt = exchange(&self.client, method.clone(), &uri, body.clone(), |headers| {
                budget.write(time, headers);
            });
            let error = match tokio::time::timeout(time, attempt).await {
                Ok(Ok(answer)) => {
                    call.ended(true, Instant::now());
                    return Ok(answer);
                }
                Ok(Err(Broken::Refused)) => CallError::Refused { instance: target.instance.clone() },
                Ok(Err(Broken::Lost)) => CallError::Lost { instance: target.instance.clone() },
                Err(_) => CallError::Timeout { service: service.to_owned() },
            };
            call.ended(false, Instant::now());
            let again = match (&error, self.directory.in_force().connect_retry) {
                (CallError::Refused { .. }, ConnectRetry::All) => true,
                (CallError::Refused { .. }, ConnectRetry::Reads) => reads,
                (CallError::Refused { .. }, ConnectRetry::Off) => false,
                _ => reads && !self.passes_budget_on,
            };
            if tried.is_some() || !again || budget.left().is_zero() {
                return Err(error);
            }
            tried = Some(target.instance);
        }
    }
}

/// The one way to make an HTTP client here.
pub(crate) fn http_client(connect: Duration) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .build(connector)
}

/// How an exchange broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No connection.
    Refused,
    /// The connection ended before the answer.
    Lost,
}

/// One request and its whole answer.
pub(crate) async fn exchange(
    client: &HttpClient,
    method: Method,
    uri: &str,
    body: Bytes,
    headers: impl FnOnce(&mut http::HeaderMap),
) -> Result<(StatusCode, Bytes), Broken> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().map_err(|_| Broken::Refused)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers(request.headers_mut());
    let response = client
        .request(request)
        .await
        .map_err(|error| if error.is_connect() { Broken::Refused } else { Broken::Lost })?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|_| Broken::Lost)?.to_bytes();
    Ok((status, body))
}
