//! Functional checks: one request to the target, and every assertion about its answer reported one by one.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use kennel_model::api::Outcome;
use kennel_model::protocol::{Assertion, StepReport};
use kennel_model::suite::{Check, Expectation, StatusRule};
use kennel_model::target::Target;
use reqwest::Method;
use reqwest::header::HeaderMap;
use rustls::CertificateError;
use serde_json::Value;
use tokio::time::Instant;

use super::{Work, refused};
use crate::boundary::Boundary;

/// Most bytes of a body that are read; assertions see no more.
const MOST_BODY: usize = 4 << 20;
/// Most bytes of a body that go into the log.
const MOST_LOGGED: usize = 8 << 10;
/// Longest value told in an assertion, in characters.
const LONGEST_TOLD: usize = 300;

/// An answer as far as assertions look at it.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Whether the body went on.
    is_cut: bool,
    took: Duration,
}

/// Sends a check's request and looks at its answer.
pub(super) async fn send(work: &Work<'_>, check: &Check, target: &Target) -> StepReport {
    let url = if check.url.starts_with('/') {
        format!("{}{}", target.base_url.trim_end_matches('/'), check.url)
    } else {
        check.url.clone()
    };
    work.log(format!("{} {url}\n", check.method)).await;
    let answer = match ask(work, check, target, &url).await {
        Ok(answer) => answer,
        Err(why) => {
            work.log(format!("{why}\n")).await;
            return refused(why);
        }
    };
    work.log(told(&answer)).await;
    let assertions = assert(&check.expect, &answer);
    for assertion in &assertions {
        let sign = if assertion.holds { "✓" } else { "✕" };
        work.log(format!("{sign} {}: expected {}, got {}\n", assertion.what, assertion.expected, assertion.actual))
            .await;
    }
    let broken: Vec<&Assertion> = assertions.iter().filter(|assertion| !assertion.holds).collect();
    let (outcome, message) = match broken.first() {
        None => (Outcome::Passed, format!("{} {} in {} ms", check.method, answer.status, answer.took.as_millis())),
        Some(first) => {
            let more = if broken.len() > 1 { format!(" (and {} more)", broken.len() - 1) } else { String::new() };
            (Outcome::Failed, format!("{}: expected {}, got {}{more}", first.what, first.expected, first.actual))
        }
    };
    StepReport { outcome, message, assertions, ran_to_its_end: true }
}

async fn ask(work: &Work<'_>, check: &Check, target: &Target, url: &str) -> Result<Answer, String> {
    let boundary = Boundary::of(target).await.map_err(|error| error.to_string())?;
    let limit = work.assignment.timeout;
    let (client, url) = boundary.http_client(url, limit).await.map_err(|error| error.to_string())?;
    let method = Method::from_bytes(check.method.as_bytes()).map_err(|_| format!("`{}` is no method", check.method))?;
    let mut request = client.request(method, url.clone());
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &check.body {
        request = request.body(body.clone());
    }
    if let Some(json) = &check.json {
        request = request.json(json);
    }
    let failed = |error: reqwest::Error| format!("no answer from {url}: {}", cause(&error));
    let began = Instant::now();
    let mut response = request.send().await.map_err(failed)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    let mut is_cut = false;
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        let room = MOST_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            is_cut = true;
            break;
        }
    }
    Ok(Answer { status, headers, body, is_cut, took: began.elapsed() })
}

/// The deepest cause of an error, which says more than "error sending request"; of a certificate that is not trusted, also
/// what helps.
fn cause(error: &reqwest::Error) -> String {
    if let Some(problem) = certificate_problem(error) {
        return distrust(problem);
    }
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// What is wrong with a certificate, when that is what an error is about.
fn certificate_problem<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() {
        return Some(problem);
    }
    // What an error of I/O carries is not its source.
    let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let carried = carried.and_then(|carried| certificate_problem(carried));
    carried.or_else(|| error.source().and_then(certificate_problem))
}

fn distrust(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => "its certificate is by no authority that this machine trusts; add the \
            authority to the machine's, or name a file with it in SSL_CERT_FILE where the agent runs"
            .to_owned(),
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("its certificate is for another name: {}", presented.join(", "))
        }
        other => format!("its certificate is not trusted: {other}"),
    }
}

/// The head of an answer and the beginning of its body, as the log shows them.
fn told(answer: &Answer) -> String {
    let mut text = format!("HTTP {} after {} ms\n", answer.status, answer.took.as_millis());
    for (name, value) in &answer.headers {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text.push('\n');
    let shown = &answer.body[..answer.body.len().min(MOST_LOGGED)];
    text.push_str(&String::from_utf8_lossy(shown));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if shown.len() < answer.body.len() {
        let _ = writeln!(text, "[… {} bytes in all]", answer.body.len());
    }
    text.push('\n');
    text
}

/// Every assertion about an answer. Pure.
fn assert(expect: &Expectation, answer: &Answer) -> Vec<Assertion> {
    let status = expect.status.clone().unwrap_or_else(|| StatusRule::Class("2xx".to_owned()));
    let mut all =
        vec![assertion("status", &status.to_string(), &answer.status.to_string(), status.allows(answer.status))];
    for (name, wanted) in &expect.headers {
        let values: Vec<String> = answer
            .headers
            .get_all(name.as_str())
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let actual = if values.is_empty() { "no such header".to_owned() } else { values.join(", ") };
        let holds = if wanted == "*" { !values.is_empty() } else { values.contains(wanted) };
        let wanted = if wanted == "*" { "any value" } else { wanted };
        all.push(assertion(&format!("header {name}"), wanted, &actual, holds));
    }
    let body = String::from_utf8_lossy(&answer.body);
    let cut = if answer.is_cut { " in its first 4 MiB" } else { "" };
    for text in &expect.contains {
        let holds = body.contains(text.as_str());
        let actual = if holds { "it is there".to_owned() } else { format!("it is not there{cut}: {body}") };
        all.push(assertion("body", &format!("to contain `{text}`"), &actual, holds));
    }
    for text in &expect.lacks {
        let holds = !body.contains(text.as_str());
        let actual = if holds { format!("it is not there{cut}") } else { "it is there".to_owned() };
        all.push(assertion("body", &format!("to lack `{text}`"), &actual, holds));
    }
    let json: Result<Value, _> = serde_json::from_slice(&answer.body);
    for (pointer, wanted) in &expect.json {
        let what = if pointer.is_empty() { "JSON body" } else { pointer };
        let (actual, holds) = match &json {
            Err(error) => (format!("a body that is no JSON: {error}"), false),
            Ok(value) => match value.pointer(pointer) {
                None => ("nothing there".to_owned(), false),
                Some(found) => (found.to_string(), same(found, wanted)),
            },
        };
        all.push(assertion(what, &wanted.to_string(), &actual, holds));
    }
    if let Some(within) = expect.within {
        let actual = format!("{} ms", answer.took.as_millis());
        all.push(assertion("time", &format!("at most {within}"), &actual, answer.took <= within.get()));
    }
    all
}

/// Whether two values are the same, whole numbers and their fractions (`1` and `1.0`) included.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn assertion(what: &str, expected: &str, actual: &str, holds: bool) -> Assertion {
    Assertion { what: what.to_owned(), expected: shortened(expected), actual: shortened(actual), holds }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TOLD) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let headers = HeaderMap::from_iter([(reqwest::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        Answer { status, headers, body: body.into(), is_cut: false, took: Duration::from_millis(120) }
    }

    fn broken(expect: Value, answer: &Answer) -> Vec<String> {
        let expect: Expectation = serde_json::from_value(expect).unwrap();
        let all = assert(&expect, answer);
        let broken = all.iter().filter(|assertion| !assertion.holds);
        broken.map(|a| format!("{}: expected {}, got {}", a.what, a.expected, a.actual)).collect()
    }

    #[test]
    fn each_assertion_is_told_one_by_one() {
        let answer = answer(503, r#"{"items": [{"name": "soup"}], "total": 1.0, "left": null}"#);
        let expect = serde_json::json!({
            "headers": {"content-type": "text/html", "x-trace": "*"},
            "contains": ["soup", "salad"],
            "lacks": ["soup", "error"],
            "json": {"/items/0/name": "soup", "/total": 1, "/left": null, "/right": null, "/items": []},
            "within": "100ms",
        });
        let told = broken(expect, &answer);
        assert_eq!(told[0], "status: expected 2xx, got 503");
        assert_eq!(told[1], "header content-type: expected text/html, got application/json");
        assert_eq!(told[2], "header x-trace: expected any value, got no such header");
        assert!(told[3].starts_with("body: expected to contain `salad`, got it is not there"), "{told:?}");
        assert_eq!(told[4], "body: expected to lack `soup`, got it is there");
        assert_eq!(told[5], r#"/items: expected [], got [{"name":"soup"}]"#);
        assert_eq!(told[6], "/right: expected null, got nothing there");
        assert_eq!(told[7], "time: expected at most 100ms, got 120 ms");
        assert_eq!(told.len(), 8);
    }

    #[test]
    fn a_status_can_be_a_class_or_exact() {
        assert!(broken(serde_json::json!({"status": "4xx"}), &answer(404, "")).is_empty());
        assert!(broken(serde_json::json!({"status": 404}), &answer(404, "")).is_empty());
        assert_eq!(broken(serde_json::json!({"status": 200}), &answer(204, "")).len(), 1);
        let told = broken(serde_json::json!({"json": {"/a": 1}}), &answer(200, "<html>"));
        assert!(told[0].contains("a body that is no JSON"), "{told:?}");
    }
}
