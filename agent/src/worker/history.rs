//! The history of a load's writes, for audits: what was sent, when, and whether it is known to have happened.
//!
//! One JSON object per line: `t_invoke_us`, `t_done_us` (microseconds since 1970), `method`, `path`, `key` (the
//! idempotency key), `outcome`, `status` (absent without an answer) and the wanted fields of the `answer`. The outcomes
//! are those of Jepsen: `ok` (acknowledged), `fail` (refused before any effect), `info` (nobody knows: a timeout, a
//! broken connection, a server's error).

use std::io::{BufWriter, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use kennel_model::target::AuditHistory;
use kennel_scenarios::client::Request;
use serde::Serialize;
use serde_json::{Map, Value};

use super::HistoryFile;
use super::connection::Response;

/// An open history.
#[derive(Debug)]
pub(super) struct History {
    wanted: AuditHistory,
    sink: Mutex<Sink>,
}

#[derive(Debug)]
struct Sink {
    file: BufWriter<std::fs::File>,
    /// A history with holes would accuse the target wrongly, so the first failure is kept.
    failed: Option<std::io::Error>,
}

#[derive(Serialize)]
struct Line<'a> {
    t_invoke_us: u64,
    t_done_us: u64,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    answer: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Fail,
    Info,
}

impl Outcome {
    fn of(answer: &Result<Response, String>) -> Self {
        match answer {
            Ok(response) => match response.status {
                200..=299 => Self::Ok,
                // A server that gave up may have done it all the same.
                500.. | 408 => Self::Info,
                _ => Self::Fail,
            },
            // Nothing was sent.
            Err(kind) if matches!(kind.as_str(), "connection refused" | "connect timeout" | "malformed path") => {
                Self::Fail
            }
            Err(_) => Self::Info,
        }
    }
}

impl History {
    pub(super) fn create(file: &HistoryFile) -> std::io::Result<Self> {
        let created = BufWriter::with_capacity(1 << 16, std::fs::File::create(&file.path)?);
        Ok(Self { wanted: file.wanted.clone(), sink: Mutex::new(Sink { file: created, failed: None }) })
    }

    /// Whether a request belongs in it.
    pub(super) fn wants(request: &Request<'_>) -> bool {
        !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// Adds a write that was sent `took` ago.
    pub(super) fn add(&self, request: &Request<'_>, took: Duration, answer: &Result<Response, String>) {
        let done = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let key = request.headers.iter().find(|(name, _)| name.as_str().eq_ignore_ascii_case(&self.wanted.key_header));
        let line = Line {
            t_invoke_us: micros(done.saturating_sub(took)),
            t_done_us: micros(done),
            method: request.method.as_str(),
            path: request.path,
            key: key.and_then(|(_, value)| value.to_str().ok()),
            outcome: Outcome::of(answer),
            status: answer.as_ref().ok().map(|response| response.status),
            answer: answer.as_ref().map(|response| self.kept(&response.body)).unwrap_or_default(),
        };
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = sink.file.write_all(&text) {
            sink.failed.get_or_insert(error);
        }
    }

    fn kept(&self, body: &[u8]) -> Map<String, Value> {
        if self.wanted.answer.is_empty() {
            return Map::new();
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(mut answer)) => {
                answer.retain(|field, _| self.wanted.answer.contains(field));
                answer
            }
            _ => Map::new(),
        }
    }

    /// Writes what is still in memory. Fails when any line was lost.
    pub(super) fn close(&self) -> std::io::Result<()> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.failed.take().map_or(Ok(()), Err)?;
        sink.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Result<Response, String> {
        Ok(Response { status, body: bytes::Bytes::new(), bytes: 0 })
    }

    #[test]
    fn only_what_is_known_is_said() {
        for (status, outcome) in [
            (200, Outcome::Ok),
            (202, Outcome::Ok),
            (409, Outcome::Fail),
            (404, Outcome::Fail),
            (408, Outcome::Info),
            (500, Outcome::Info),
            (504, Outcome::Info),
        ] {
            assert_eq!(Outcome::of(&answer(status)), outcome, "{status}");
        }
        for (kind, outcome) in
            [("connection refused", Outcome::Fail), ("timeout", Outcome::Info), ("connection reset", Outcome::Info)]
        {
            assert_eq!(Outcome::of(&Err(kind.to_owned())), outcome, "{kind}");
        }
    }

    #[test]
    fn a_line_holds_the_key_and_the_wanted_fields_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.jsonl");
        let wanted = AuditHistory { key_header: "Idempotency-Key".to_owned(), answer: vec!["id".to_owned()] };
        let history = History::create(&HistoryFile { path: path.display().to_string(), wanted }).unwrap();
        let headers = [(http::HeaderName::from_static("idempotency-key"), http::HeaderValue::from_static("k-1"))];
        let post = Request::post(0, "/things", None);
        assert!(History::wants(&post) && !History::wants(&Request::get(0, "/things")));
        let body = bytes::Bytes::from_static(br#"{"id":"7","secret":"s"}"#);
        let answer = Ok(Response { status: 201, body, bytes: 0 });
        history.add(&post.with_headers(&headers), Duration::from_millis(5), &answer);
        history.close().unwrap();
        let line: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&line["key"], &line["outcome"], &line["status"]), (&"k-1".into(), &"ok".into(), &201.into()));
        assert_eq!(line["answer"], serde_json::json!({ "id": "7" }));
        assert_eq!(line["t_done_us"].as_u64().unwrap() - line["t_invoke_us"].as_u64().unwrap(), 5_000);
    }
}
