//! The history of a load's writes, for audits: what was sent, when, and whether it is known to have happened; and, for
//! those that ask for it, what the load read of things that have a wanted field.
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

/// The status of a read that found nothing.
const NOT_FOUND: u16 = 404;

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
    pub(super) fn wants(&self, request: &Request<'_>) -> bool {
        match request.method {
            Method::GET => self.wanted.reads,
            Method::HEAD | Method::OPTIONS => false,
            _ => true,
        }
    }

    /// Adds a request that was sent `took` ago; a read that tells nothing is left out.
    pub(super) fn add(&self, request: &Request<'_>, took: Duration, answer: &Result<Response, String>) {
        let kept = answer.as_ref().map(|response| self.kept(&response.body)).unwrap_or_default();
        let missing = answer.as_ref().is_ok_and(|response| response.status == NOT_FOUND);
        if request.method == Method::GET && kept.is_empty() && !missing {
            return;
        }
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
            answer: kept,
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
        let (key_header, answer) = ("Idempotency-Key".to_owned(), vec!["id".to_owned()]);
        let wanted = AuditHistory { key_header, answer, reads: false };
        let history = History::create(&HistoryFile { path: path.display().to_string(), wanted }).unwrap();
        let headers = [(http::HeaderName::from_static("idempotency-key"), http::HeaderValue::from_static("k-1"))];
        let post = Request::post(0, "/things", None);
        assert!(history.wants(&post) && !history.wants(&Request::get(0, "/things")));
        let body = bytes::Bytes::from_static(br#"{"id":"7","secret":"s"}"#);
        let answer = Ok(Response { status: 201, body, bytes: 0 });
        history.add(&post.with_headers(&headers), Duration::from_millis(5), &answer);
        history.close().unwrap();
        let line: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&line["key"], &line["outcome"], &line["status"]), (&"k-1".into(), &"ok".into(), &201.into()));
        assert_eq!(line["answer"], serde_json::json!({ "id": "7" }));
        assert_eq!(line["t_done_us"].as_u64().unwrap() - line["t_invoke_us"].as_u64().unwrap(), 5_000);
    }

    #[test]
    fn reads_are_told_where_they_are_wanted_and_tell_something() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.jsonl");
        let wanted = AuditHistory { key_header: "k".to_owned(), answer: vec!["version".to_owned()], reads: true };
        let history = History::create(&HistoryFile { path: path.display().to_string(), wanted }).unwrap();
        let read = Request::get(0, "/things/7");
        assert!(history.wants(&read));
        for (status, body) in [(200, r#"{"version":3}"#), (200, "[]"), (503, "{}"), (404, r#"{"error":"none"}"#)] {
            let answer = Response { status, body: bytes::Bytes::from_static(body.as_bytes()), bytes: 0 };
            history.add(&read, Duration::ZERO, &Ok(answer));
        }
        history.add(&read, Duration::ZERO, &Err("timeout".to_owned()));
        history.close().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = told.iter().map(|line| (&line["method"], &line["status"], &line["answer"])).collect();
        let (get, three) = (Value::from("GET"), serde_json::json!({ "version": 3 }));
        assert_eq!(told, [(&get, &200.into(), &three), (&get, &404.into(), &Value::Null)]);
    }
}
