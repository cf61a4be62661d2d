//! What can go wrong in a call, worded as Toxiproxy words it.

use crate::spec::ProxyView;

/// A call to the fault proxy that failed. Messages are those of Toxiproxy, because clients compare them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The body of a request, or the attributes of a toxic, could not be read.
    #[error("bad request body: {reason}")]
    BadBody {
        /// What the parser says.
        reason: String,
    },
    /// A field that has no default is absent or empty.
    #[error("missing required field: {field}")]
    MissingField {
        /// The field, and in a list its place.
        field: String,
    },
    /// A stream other than `upstream` and `downstream`.
    #[error("stream was invalid, can be either upstream or downstream")]
    InvalidStream {
        /// What was given.
        stream: String,
    },
    /// A kind of toxic that is not registered.
    #[error("invalid toxic type")]
    InvalidToxicType {
        /// What was given.
        kind: String,
    },
    /// No proxy has this name.
    #[error("proxy not found")]
    ProxyNotFound {
        /// The name asked for.
        proxy: String,
    },
    /// A proxy of this name exists.
    #[error("proxy already exists")]
    ProxyAlreadyExists {
        /// The name asked for.
        proxy: String,
    },
    /// The proxy has no toxic of this name.
    #[error("toxic not found")]
    ToxicNotFound {
        /// The name asked for.
        toxic: String,
    },
    /// The proxy has a toxic of this name, in either direction.
    #[error("toxic already exists")]
    ToxicAlreadyExists {
        /// The name asked for.
        toxic: String,
    },
    /// The listen address could not be resolved or bound.
    #[error("listen tcp{} {address}: {reason}", if *resolved { "" } else { ": address" })]
    Listen {
        /// The address, as bound or as given.
        address: String,
        /// Whether `address` is an address already, or text that could not be made one.
        resolved: bool,
        /// What the system says.
        reason: String,
    },
    /// The upstream is not on the allow-list.
    #[error("upstream not allowed: {upstream}")]
    UpstreamNotAllowed {
        /// The upstream asked for.
        upstream: String,
    },
    /// The fault proxy is shutting down and takes no more changes.
    #[error("fault proxy is shutting down")]
    ShuttingDown,
}

impl ProxyError {
    /// The HTTP status under which the API reports this error.
    pub fn status(&self) -> u16 {
        match self {
            ProxyError::BadBody { .. }
            | ProxyError::MissingField { .. }
            | ProxyError::InvalidStream { .. }
            | ProxyError::InvalidToxicType { .. } => 400,
            ProxyError::UpstreamNotAllowed { .. } => 403,
            ProxyError::ProxyNotFound { .. } | ProxyError::ToxicNotFound { .. } => 404,
            ProxyError::ProxyAlreadyExists { .. } | ProxyError::ToxicAlreadyExists { .. } => 409,
            ProxyError::Listen { .. } => 500,
            ProxyError::ShuttingDown => 503,
        }
    }

    pub(crate) fn bad_body(reason: impl ToString) -> Self {
        ProxyError::BadBody { reason: reason.to_string() }
    }
}

/// Populating stopped at a proxy that could not be made; those before it stay.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct PopulateError {
    /// Why it stopped.
    pub error: ProxyError,
    /// The proxies added, replaced or kept before that.
    pub done: Vec<ProxyView>,
}
