//! What callers say and see: specifications of proxies and toxics, and views of them as they are.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The direction of data that a toxic acts on, seen from the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// From the client to the upstream.
    Upstream,
    /// From the upstream to the client; the default.
    #[default]
    Downstream,
}

impl Stream {
    /// The name used by the Toxiproxy API.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Upstream => "upstream",
            Stream::Downstream => "downstream",
        }
    }

    /// Reads the name used by the Toxiproxy API, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        [Stream::Upstream, Stream::Downstream].into_iter().find(|stream| stream.as_str().eq_ignore_ascii_case(name))
    }
}

/// A proxy to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySpec {
    /// The name that later calls use; must not be empty.
    pub name: String,
    /// `host:port` to listen on. Port 0 takes a free port; an empty string means loopback and a free port;
    /// an empty host means every interface.
    pub listen: String,
    /// `host:port` to connect to, resolved anew for each connection; must not be empty.
    pub upstream: String,
    /// Whether the proxy starts at once.
    pub enabled: bool,
}

impl ProxySpec {
    /// An enabled proxy.
    pub fn new(name: impl Into<String>, listen: impl Into<String>, upstream: impl Into<String>) -> Self {
        Self { name: name.into(), listen: listen.into(), upstream: upstream.into(), enabled: true }
    }
}

/// A change to a proxy; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyUpdate {
    /// A new address to listen on. The same address in other words changes nothing.
    pub listen: Option<String>,
    /// A new upstream.
    pub upstream: Option<String>,
    /// Start or stop the proxy.
    pub enabled: Option<bool>,
}

/// A toxic to add.
#[derive(Clone, Debug, PartialEq)]
pub struct ToxicSpec {
    /// Unique within its proxy; `<kind>_<stream>` when `None`.
    pub name: Option<String>,
    /// What it does, such as `latency`.
    pub kind: String,
    /// The direction it acts on.
    pub stream: Stream,
    /// The share of connections it acts on, 0 to 1; drawn once per connection.
    pub toxicity: f32,
    /// Parameters of the kind, such as `latency` and `jitter` in milliseconds. What is absent has its default.
    pub attributes: Map<String, Value>,
}

impl ToxicSpec {
    /// A toxic on every connection, downstream, with all parameters at their defaults.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { name: None, kind: kind.into(), stream: Stream::default(), toxicity: 1.0, attributes: Map::new() }
    }

    /// The same toxic under a name of its own.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same toxic on another direction.
    pub fn on(mut self, stream: Stream) -> Self {
        self.stream = stream;
        self
    }

    /// The same toxic on a share of connections, 0 to 1.
    pub fn toxicity(mut self, toxicity: f32) -> Self {
        self.toxicity = toxicity;
        self
    }

    /// The same toxic with one parameter set.
    pub fn with(mut self, attribute: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.insert(attribute.into(), value.into());
        self
    }
}

/// A change to a toxic; attributes that are absent stay as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToxicUpdate {
    /// A new share of connections, 0 to 1. Each connection keeps the number it drew.
    pub toxicity: Option<f32>,
    /// Parameters to change.
    pub attributes: Map<String, Value>,
}

/// A proxy as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxyView {
    /// The name of the proxy.
    pub name: String,
    /// The address it is bound to, or as it was given if it never started.
    pub listen: String,
    /// The upstream as it was given.
    pub upstream: String,
    /// Whether it listens.
    pub enabled: bool,
    /// Its toxics in the order in which they act, upstream ones first.
    pub toxics: Vec<ToxicView>,
}

/// A toxic as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToxicView {
    /// Every parameter of its kind.
    pub attributes: Map<String, Value>,
    /// The name of the toxic.
    pub name: String,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: String,
    /// The direction it acts on.
    pub stream: Stream,
    /// The share of connections it acts on.
    pub toxicity: f32,
}
