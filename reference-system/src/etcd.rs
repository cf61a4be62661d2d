//! A client of etcd's v3 API over its JSON gateway: the calls that the registry needs.
//!
//! Keys and values are base64 and 64-bit numbers are text there
//! (<https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::rpc::caller::{Broken, exchange, http_client};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why etcd did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    #[error("etcd at {url} does not answer")]
    Away { url: String },
    #[error("etcd refused: {why}")]
    Refused { why: String },
}

/// A key with its value, as of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// `None`: the key was removed, or its lease ended.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) revision: i64,
}

/// A server, or a cluster behind one address.
#[derive(Clone)]
pub(crate) struct Etcd {
    url: String,
    /// Before every key: others may use the server, too.
    prefix: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    mod_revision: String,
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_default()
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64.decode(text).unwrap_or_default()
}

/// The first key after all that begin with `prefix`.
fn end_of(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    BASE64.encode(bytes)
}

impl Etcd {
    /// The server at `url`, such as `http://127.0.0.1:2379`, and there the keys that begin with `prefix`.
    pub(crate) fn new(url: &str, prefix: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), prefix: prefix.to_owned(), client: http_client(PATIENCE) }
    }

    /// A key as the server knows it, in its encoding.
    fn key(&self, key: &str) -> String {
        BASE64.encode(format!("{}{key}", self.prefix))
    }

    /// The first key after all that begin with `prefix`.
    fn end_of(&self, prefix: &str) -> String {
        end_of(&format!("{}{prefix}", self.prefix))
    }

    fn entry(&self, kv: KeyValue, removed: bool) -> Entry {
        let key = String::from_utf8_lossy(&decoded(&kv.key)).into_owned();
        Entry {
            key: key.strip_prefix(&self.prefix).map(str::to_owned).unwrap_or(key),
            value: (!removed).then(|| decoded(&kv.value)),
            revision: number(&kv.mod_revision),
        }
    }

    fn away(&self) -> EtcdError {
        EtcdError::Away { url: self.url.clone() }
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, EtcdError> {
        let uri = format!("{}/v3/{path}", self.url);
        let asked = exchange(&self.client, Method::POST, &uri, body.to_string().into(), |_| {});
        let (status, answer) = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Broken::Refused | Broken::Lost)) | Err(_) => return Err(self.away()),
        };
        let refused = |why: String| EtcdError::Refused { why };
        if !status.is_success() {
            return Err(refused(format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer))));
        }
        serde_json::from_slice(&answer).map_err(|error| refused(format!("{path} answered something else: {error}")))
    }

    /// Whether it answers.
    pub(crate) async fn answers(&self) -> bool {
        self.range("/").await.is_ok()
    }

    /// A lease of this many seconds; etcd makes very short ones longer.
    pub(crate) async fn grant(&self, seconds: u64) -> Result<String, EtcdError> {
        #[derive(Deserialize)]
        struct Granted {
            #[serde(rename = "ID")]
            id: String,
        }
        let granted: Granted = self.ask("lease/grant", &json!({ "TTL": seconds.to_string() })).await?;
        Ok(granted.id)
    }

    /// Renews a lease; `false` when it has ended.
    pub(crate) async fn keep_alive(&self, lease: &str) -> Result<bool, EtcdError> {
        #[derive(Deserialize)]
        struct Kept {
            result: Renewed,
        }
        #[derive(Deserialize)]
        struct Renewed {
            #[serde(rename = "TTL")]
            ttl: Option<String>,
        }
        let kept: Kept = self.ask("lease/keepalive", &json!({ "ID": lease })).await?;
        Ok(kept.result.ttl.is_some_and(|ttl| number(&ttl) > 0))
    }

    /// Writes a key, bound to a lease if there is one. Gives the revision.
    pub(crate) async fn put(&self, key: &str, value: &[u8], lease: Option<&str>) -> Result<i64, EtcdError> {
        #[derive(Deserialize)]
        struct Put {
            header: Header,
        }
        let body = json!({ "key": self.key(key), "value": BASE64.encode(value), "lease": lease.unwrap_or("0") });
        let put: Put = self.ask("kv/put", &body).await?;
        Ok(number(&put.header.revision))
    }

    /// Removes a key. Gives the revision.
    pub(crate) async fn remove(&self, key: &str) -> Result<i64, EtcdError> {
        #[derive(Deserialize)]
        struct Removed {
            header: Header,
        }
        let removed: Removed = self.ask("kv/deleterange", &json!({ "key": self.key(key) })).await?;
        Ok(number(&removed.header.revision))
    }

    /// Removes every key that begins with `prefix`.
    pub(crate) async fn remove_under(&self, prefix: &str) -> Result<(), EtcdError> {
        let range = json!({ "key": self.key(prefix), "range_end": self.end_of(prefix) });
        self.ask::<serde::de::IgnoredAny>("kv/deleterange", &range).await.map(drop)
    }

    /// Every key that begins with `prefix`, and the revision as of which that is so.
    pub(crate) async fn range(&self, prefix: &str) -> Result<(Vec<Entry>, i64), EtcdError> {
        #[derive(Deserialize)]
        struct Range {
            header: Header,
            #[serde(default)]
            kvs: Vec<KeyValue>,
        }
        let range: Range =
            self.ask("kv/range", &json!({ "key": self.key(prefix), "range_end": self.end_of(prefix) })).await?;
        let entries = range.kvs.into_iter().map(|kv| self.entry(kv, false)).collect();
        Ok((entries, number(&range.header.revision)))
    }

    /// Tells every change under `prefix` from `revision` on, until the stream breaks.
    pub(crate) async fn watch(
        &self,
        prefix: &str,
        revision: i64,
        mut tell: impl FnMut(Entry),
    ) -> Result<(), EtcdError> {
        #[derive(Deserialize)]
        struct Message {
            result: Changes,
        }
        #[derive(Deserialize)]
        struct Changes {
            #[serde(default)]
            canceled: bool,
            #[serde(default)]
            events: Vec<Event>,
        }
        #[derive(Deserialize)]
        struct Event {
            #[serde(rename = "type", default)]
            kind: String,
            kv: KeyValue,
        }
        let create = json!({ "create_request": {
            "key": self.key(prefix), "range_end": self.end_of(prefix), "start_revision": revision.to_string(),
        } });
        let mut request = Request::new(Full::new(Bytes::from(create.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}/v3/watch", self.url).parse().map_err(|_| self.away())?;
        let response = self.client.request(request).await.map_err(|_| self.away())?;
        let mut body = response.into_body();
        let mut text = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| self.away())?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], AsRef::as_ref));
            // One JSON object per line.
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line = text.split_to(end + 1);
                let message: Message = serde_json::from_slice(&line).map_err(|error| EtcdError::Refused {
                    why: format!("a watch told {}: {error}", String::from_utf8_lossy(&line).trim()),
                })?;
                if message.result.canceled {
                    return Err(EtcdError::Refused { why: "the watch was cancelled".to_owned() });
                }
                for event in message.result.events {
                    let removed = event.kind == "DELETE";
                    tell(self.entry(event.kv, removed));
                }
            }
        }
        Err(self.away())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_byte() {
        assert_eq!(decoded(&end_of("/svc/")), b"/svc0");
    }
}
