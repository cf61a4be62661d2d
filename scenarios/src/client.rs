//! What a scenario may ask of the load engine: the next iteration, a request, a pause, and randomness.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;

/// One virtual user's way to the target. The load worker implements it; scenarios are generic over it, so that a call
/// costs no allocation and no dynamic dispatch.
pub trait Client: Send {
    /// Waits until it is this user's turn (the next arrival in the open model, think time in the closed model).
    fn next_iteration(&mut self) -> impl Future<Output = ()> + Send;

    /// Sends a request and waits for the answer. It is measured under its name, failed or not.
    ///
    /// # Errors
    /// [`Abandon`] when the request failed or the load is over; the iteration should end, as `?` does.
    fn send(&mut self, request: Request<'_>) -> impl Future<Output = Result<Answer, Abandon>> + Send;

    /// Pauses.
    ///
    /// # Errors
    /// [`Abandon`] when the load is over.
    fn think(&mut self, pause: Duration) -> impl Future<Output = Result<(), Abandon>> + Send;

    /// This user's own seeded source of randomness.
    fn random(&mut self) -> &mut SmallRng;
}

/// The iteration is over before its end: a request failed (and was counted), or the load is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandon;

/// A request to the target's base URL.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Index into the scenario's request names.
    pub name: usize,
    /// HTTP method.
    pub method: http::Method,
    /// Path and query.
    pub path: &'a str,
    /// Extra headers.
    pub headers: &'a [(http::HeaderName, http::HeaderValue)],
    /// Body; sent as JSON unless the headers say otherwise.
    pub body: Option<Bytes>,
    /// Statuses that count as success; any below 400 when empty.
    pub expect_status: &'a [u16],
    /// Whether the answer's body is wanted. Otherwise it is read and only counted.
    pub keep_body: bool,
}

impl<'a> Request<'a> {
    /// A GET whose body is not wanted.
    #[must_use]
    pub fn get(name: usize, path: &'a str) -> Self {
        Self { name, method: http::Method::GET, path, headers: &[], body: None, expect_status: &[], keep_body: false }
    }

    /// A POST of JSON (or of nothing) whose body is not wanted.
    #[must_use]
    pub fn post(name: usize, path: &'a str, body: Option<Bytes>) -> Self {
        Self { method: http::Method::POST, body, ..Self::get(name, path) }
    }

    /// The same request, keeping the answer's body.
    #[must_use]
    pub fn keeping_body(self) -> Self {
        Self { keep_body: true, ..self }
    }

    /// The same request with headers.
    #[must_use]
    pub fn with_headers(self, headers: &'a [(http::HeaderName, http::HeaderValue)]) -> Self {
        Self { headers, ..self }
    }
}

/// An answer that counted as success.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, if it was wanted.
    pub body: Bytes,
}
