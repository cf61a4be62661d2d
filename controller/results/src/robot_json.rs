//! Robot Framework's output.json (7.0 and later): a whole result, or a suite alone.

use std::io::BufRead;
use std::time::Duration;

use serde::Deserialize;

use crate::captured::{Captured, clean, clip};
use crate::collected::Collected;
use crate::robot::{fail_all, outcome, told, trace};
use crate::{Limits, ReadError, TestCase, TestName};

/// What lies at the top: 7.2 and later wrap the suite, earlier ones write it bare. (Flattening would hold the whole
/// document in memory twice.)
#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    suite: Option<Suite>,
    name: Option<String>,
    status: Option<String>,
    message: Option<String>,
    teardown: Option<Item>,
    tests: Vec<Test>,
    suites: Vec<Suite>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Suite {
    name: Option<String>,
    status: Option<String>,
    message: Option<String>,
    teardown: Option<Item>,
    tests: Vec<Test>,
    suites: Vec<Suite>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Test {
    name: String,
    tags: Vec<String>,
    status: String,
    message: String,
    elapsed_time: f64,
    setup: Option<Item>,
    body: Vec<Item>,
    teardown: Option<Item>,
}

/// A keyword, block or message.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    name: Option<String>,
    owner: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    args: Vec<serde_json::Value>,
    condition: Option<String>,
    status: Option<String>,
    message: Option<String>,
    level: Option<String>,
    setup: Option<Box<Item>>,
    body: Vec<Item>,
    teardown: Option<Box<Item>>,
}

/// Reads the results in an output.json.
pub(crate) fn read(document: impl BufRead, limits: &Limits) -> Result<Vec<TestCase>, ReadError> {
    let mut limited = std::io::Read::take(document, limits.bytes);
    let parsed: Result<Document, _> = serde_json::from_reader(&mut limited);
    if limited.limit() == 0 {
        return Err(ReadError::TooLarge { limit: limits.bytes });
    }
    let document = parsed.map_err(|error| match error.classify() {
        serde_json::error::Category::Io => ReadError::Io(error.into()),
        _ => ReadError::Json {
            line: error.line(),
            column: error.column(),
            why: clip(&error.to_string(), 300).into_owned(),
        },
    })?;
    let Document { suite, name, status, message, teardown, tests, suites } = document;
    let suite = suite.unwrap_or(Suite { name, status, message, teardown, tests, suites });
    if suite.name.is_none() && suite.tests.is_empty() && suite.suites.is_empty() {
        return Err(ReadError::WrongFormat { asked: None, found: "JSON without a suite".to_owned() });
    }
    let mut collected = Collected::new(limits);
    add(suite, "", &mut collected, limits)?;
    Ok(collected.cases)
}

/// serde_json refuses documents that nest too deep for this recursion.
fn add(suite: Suite, path: &str, collected: &mut Collected, limits: &Limits) -> Result<(), ReadError> {
    let first = collected.cases.len();
    let name = suite.name.unwrap_or_default();
    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
    for test in suite.tests {
        let mut lines = Captured::new(limits.detail);
        for (part, item) in parts(test.setup.as_ref(), &test.body, test.teardown.as_ref()) {
            lines.push_line(&written(part, item, limits));
        }
        let outcome = outcome(&test.status);
        let (message, detail) = told(outcome, test.message, lines);
        let duration = Duration::try_from_secs_f64(test.elapsed_time).unwrap_or_default();
        let name = collected.name(&path, TestName::new(&path, &test.name));
        collected.add(TestCase { test: name, attempt: 1, outcome, duration, message, detail, tags: test.tags })?;
    }
    for inner in suite.suites {
        add(inner, &path, collected, limits)?;
    }
    let failed = suite.teardown.filter(|teardown| teardown.status.as_deref() == Some("FAIL"));
    if let (Some(teardown), Some("FAIL")) = (failed, suite.status.as_deref()) {
        let said = suite.message.unwrap_or_default();
        let said = said.strip_prefix("Suite teardown failed:").unwrap_or_default().trim().to_owned();
        let why = if said.is_empty() { teardown.message.unwrap_or_default() } else { said };
        fail_all(&mut collected.cases[first..], if why.is_empty() { "the tear-down failed" } else { &why });
    }
    Ok(())
}

fn parts<'a>(
    setup: Option<&'a Item>,
    body: &'a [Item],
    teardown: Option<&'a Item>,
) -> impl Iterator<Item = (&'static str, &'a Item)> {
    let body = body.iter().map(|item| ("", item));
    setup
        .into_iter()
        .map(|item| ("setup: ", item))
        .chain(body)
        .chain(teardown.into_iter().map(|item| ("teardown: ", item)))
}

fn written(part: &str, item: &Item, limits: &Limits) -> String {
    if let Some(level) = &item.level {
        let text = item.message.as_deref().unwrap_or_default();
        return format!("{level} {}", clip(&clean(text), 2_000));
    }
    let status = item.status.as_deref().unwrap_or_default();
    let mut lines = Captured::new(limits.detail / 2);
    if status == "FAIL" {
        for (part, inner) in parts(item.setup.as_deref(), &item.body, item.teardown.as_deref()) {
            lines.push_line(&written(part, inner, limits));
        }
    }
    let kind = item.kind.as_deref().unwrap_or_default();
    let title = match (&item.owner, &item.name) {
        (Some(owner), Some(name)) => format!("{part}{owner}.{name}"),
        (None, Some(name)) => format!("{part}{name}"),
        _ => format!("{part}{kind} {}", item.condition.as_deref().unwrap_or_default()).trim().to_owned(),
    };
    let arguments: Vec<String> =
        item.args.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    trace(status, &title, &arguments, &lines.into_text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::api::Outcome;

    #[test]
    fn a_bare_suite_is_read_like_a_wrapped_one() {
        let suite = r#"{"name": "S", "tests": [{"name": "T", "status": "FAIL", "message": "no", "elapsed_time": 0.5,
            "body": [{"name": "Log", "owner": "BuiltIn", "args": ["x"], "status": "PASS"},
                     {"name": "Fail", "owner": "BuiltIn", "args": ["no"], "status": "FAIL",
                      "body": [{"level": "FAIL", "message": "no", "type": "MESSAGE"}]}]}]}"#;
        let bare = read(suite.as_bytes(), &Limits::default()).unwrap();
        let wrapped = format!(r#"{{"generator": "Robot 7.2", "suite": {suite}, "statistics": {{}}, "errors": []}}"#);
        assert_eq!(read(wrapped.as_bytes(), &Limits::default()).unwrap(), bare);
        assert_eq!((bare[0].outcome, bare[0].test.class.as_str()), (Outcome::Failed, "S"));
        assert_eq!(bare[0].detail, "✓ BuiltIn.Log    x\n✕ BuiltIn.Fail    no\n  FAIL no");
    }
}
