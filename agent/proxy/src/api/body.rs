//! Reads request bodies as Go reads them: unknown fields, `null` and what follows the first value are ignored.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ProxyError;
use crate::spec::{ProxySpec, ProxyUpdate, Stream, ToxicSpec, ToxicUpdate};

#[derive(Default, Deserialize)]
struct ProxyBody {
    name: Option<String>,
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

#[derive(Default, Deserialize)]
struct ToxicBody {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    stream: Option<String>,
    toxicity: Option<f32>,
    attributes: Option<Map<String, Value>>,
}

impl From<ProxyBody> for ProxySpec {
    fn from(body: ProxyBody) -> Self {
        Self {
            name: body.name.unwrap_or_default(),
            listen: body.listen.unwrap_or_default(),
            upstream: body.upstream.unwrap_or_default(),
            enabled: body.enabled.unwrap_or(true),
        }
    }
}

/// The first value of the body, whatever its content type.
fn first_value<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ProxyError> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Option<T>>();
    match values.next() {
        Some(Ok(value)) => Ok(value.unwrap_or_default()),
        Some(Err(error)) => Err(ProxyError::bad_body(error)),
        None => Err(ProxyError::bad_body("EOF")),
    }
}

pub(super) fn proxy(body: &[u8]) -> Result<ProxySpec, ProxyError> {
    first_value::<ProxyBody>(body).map(ProxySpec::from)
}

pub(super) fn proxies(body: &[u8]) -> Result<Vec<ProxySpec>, ProxyError> {
    let bodies = first_value::<Vec<ProxyBody>>(body)?;
    Ok(bodies.into_iter().map(ProxySpec::from).collect())
}

pub(super) fn proxy_update(body: &[u8]) -> Result<ProxyUpdate, ProxyError> {
    let ProxyBody { listen, upstream, enabled, .. } = first_value(body)?;
    Ok(ProxyUpdate { listen, upstream, enabled })
}

pub(super) fn toxic(body: &[u8]) -> Result<ToxicSpec, ProxyError> {
    let body: ToxicBody = first_value(body)?;
    let stream = match body.stream {
        Some(name) => Stream::parse(&name).ok_or(ProxyError::InvalidStream { stream: name })?,
        None => Stream::default(),
    };
    Ok(ToxicSpec {
        name: body.name,
        kind: body.kind.unwrap_or_default(),
        stream,
        toxicity: body.toxicity.unwrap_or(1.0),
        attributes: body.attributes.unwrap_or_default(),
    })
}

pub(super) fn toxic_update(body: &[u8]) -> Result<ToxicUpdate, ProxyError> {
    let ToxicBody { toxicity, attributes, .. } = first_value(body)?;
    Ok(ToxicUpdate { toxicity, attributes: attributes.unwrap_or_default() })
}
