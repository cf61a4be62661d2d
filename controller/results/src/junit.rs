//! JUnit XML in the dialects that test tools write: suites within suites, the retries of Surefire and nextest
//! (`flakyFailure`, `rerunFailure`), pytest's `name[parameters]`, newman, Playwright, PHPUnit, GoogleTest.

use std::io::BufRead;
use std::time::Duration;

use kennel_model::api::Outcome;

use crate::captured::{Captured, clip, first_line};
use crate::collected::Collected;
use crate::xml::{Element, Event, Xml};
use crate::{Limits, ReadError, TestCase, TestName};

/// Reads the results below `<testsuites>` or `<testsuite>`.
pub(crate) fn read<R: BufRead>(xml: &mut Xml<R>, root: Element, limits: &Limits) -> Result<Vec<TestCase>, ReadError> {
    let mut collected = Collected::new(limits);
    // Names of the suites that are open, with the depth at which each ends.
    let mut suites: Vec<(String, usize)> = Vec::new();
    if root.name == "testsuite" {
        suites.push((root.get("name").to_owned(), xml.depth()));
    }
    loop {
        match xml.next()? {
            Event::Start(element) => match element.name.as_str() {
                "testsuite" => suites.push((element.get("name").to_owned(), xml.depth())),
                "testcase" => case(xml, &element, &suites, &mut collected, limits)?,
                "testsuites" => {}
                _ => xml.skip()?,
            },
            Event::End => {
                suites.pop_if(|(_, depth)| xml.depth() < *depth);
            }
            Event::Text(_) => {}
            Event::Eof => return Ok(collected.cases),
        }
    }
}

/// One try of a test that did not go well.
struct Try {
    outcome: Outcome,
    message: String,
    text: String,
    duration: Duration,
}

fn case<R: BufRead>(
    xml: &mut Xml<R>,
    element: &Element,
    suites: &[(String, usize)],
    collected: &mut Collected,
    limits: &Limits,
) -> Result<(), ReadError> {
    let mut ends: Vec<Try> = Vec::new();
    let mut flaky: Vec<Try> = Vec::new();
    let mut again: Vec<Try> = Vec::new();
    let mut skipped = None;
    let mut output = Captured::new(limits.detail);
    let mut tags = Vec::new();
    let depth = xml.depth();
    while xml.depth() >= depth {
        let Event::Start(child) = xml.next()? else { continue };
        match child.name.as_str() {
            "failure" => ends.push(one_try(xml, &child, Outcome::Failed, limits)?),
            "error" => ends.push(one_try(xml, &child, Outcome::Error, limits)?),
            "flakyFailure" => flaky.push(one_try(xml, &child, Outcome::Failed, limits)?),
            "flakyError" => flaky.push(one_try(xml, &child, Outcome::Error, limits)?),
            "rerunFailure" => again.push(one_try(xml, &child, Outcome::Failed, limits)?),
            "rerunError" => again.push(one_try(xml, &child, Outcome::Error, limits)?),
            "skipped" | "disabled" | "ignored" => skipped = Some(one_try(xml, &child, Outcome::Skipped, limits)?),
            "system-out" | "system-err" => {
                let text = xml.text_to_end(limits.detail)?;
                if !text.is_empty() {
                    output.push_line(&format!("--- {} ---\n{text}", child.name));
                }
            }
            // `properties` is looked into by going on.
            "properties" => {}
            "property" => {
                if matches!(child.get("name"), "tag" | "tags" | "label" | "mark") {
                    tags.extend(child.get("value").split(',').map(str::to_owned));
                }
                xml.skip()?;
            }
            _ => xml.skip()?,
        }
    }
    let group = suites.last().map_or("", |(name, _)| name);
    let test = collected.name(group, named(element, suites));
    let duration = seconds(element.get("time"));
    let not_run = ["notrun", "skipped", "disabled", "ignored"];
    let last = if let Some(last) = merged(ends) {
        last
    } else if let Some(skipped) = skipped {
        skipped
    } else if not_run.contains(&element.get("status").to_ascii_lowercase().as_str()) {
        Try { outcome: Outcome::Skipped, message: String::new(), text: String::new(), duration }
    } else {
        Try { outcome: Outcome::Passed, message: String::new(), text: String::new(), duration }
    };
    // Surefire and nextest: the element tells of the end where a retry went well, and of the first try where none did.
    let mut tries: Vec<Try> = flaky;
    tries.push(Try { duration, ..last });
    tries.extend(again);
    let count = tries.len();
    let mut output = Some(output);
    for (index, one) in tries.into_iter().enumerate() {
        let is_last = index + 1 == count;
        let mut detail = Captured::new(limits.detail);
        detail.push_line(&one.text);
        if let (true, false, Some(output)) = (is_last, one.outcome == Outcome::Passed, output.take_if(|_| is_last)) {
            detail.push_line(&output.into_text());
        }
        collected.add(TestCase {
            test: test.clone(),
            attempt: u32::try_from(index + 1).unwrap_or(u32::MAX),
            outcome: one.outcome,
            duration: one.duration,
            message: one.message,
            detail: detail.into_text(),
            tags: tags.clone(),
        })?;
    }
    Ok(())
}

/// The class is the tool's own word for it; without one, the suites that the test stands in.
fn named(element: &Element, suites: &[(String, usize)]) -> TestName {
    let class = [element.get("classname"), element.get("class")].into_iter().find(|class| !class.is_empty());
    let class = class.map_or_else(
        || suites.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty()).collect::<Vec<_>>().join("."),
        str::to_owned,
    );
    let name = if element.get("name").trim().is_empty() { "(unnamed)" } else { element.get("name") };
    TestName::new(&class, name)
}

fn one_try<R: BufRead>(
    xml: &mut Xml<R>,
    element: &Element,
    outcome: Outcome,
    limits: &Limits,
) -> Result<Try, ReadError> {
    let text = xml.text_to_end(limits.detail)?;
    let said = [element.get("message"), first_line(&text), element.get("type")];
    let message = said.into_iter().map(str::trim).find(|text| !text.is_empty()).unwrap_or("no message").to_owned();
    let message = if outcome == Outcome::Skipped && message == "no message" { String::new() } else { message };
    // What the message says is not said again.
    let text = if outcome == Outcome::Skipped || text.trim() == message { String::new() } else { text };
    Ok(Try {
        outcome,
        message: clip(&message, limits.detail).into_owned(),
        text,
        duration: seconds(element.get("time")),
    })
}

/// Several failures of one try are one: an error if any is, with every message.
fn merged(ends: Vec<Try>) -> Option<Try> {
    let mut ends = ends.into_iter();
    let mut first = ends.next()?;
    for next in ends {
        if next.outcome == Outcome::Error {
            first.outcome = Outcome::Error;
        }
        if !first.message.contains(&next.message) {
            first.message.push('\n');
            first.message.push_str(&next.message);
        }
        first.text.push('\n');
        first.text.push_str(&next.text);
    }
    Some(first)
}

/// Seconds as tools write them: `0.25`, `1,234.5`, `1e-3`; zero where they write nonsense.
fn seconds(text: &str) -> Duration {
    let text = text.trim();
    // A comma followed by a point separates thousands; alone it is some locale's decimal sign.
    let plain = if text.contains('.') { text.replace(',', "") } else { text.replace(',', ".") };
    plain.parse().ok().and_then(|s: f64| Duration::try_from_secs_f64(s).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_as_tools_write_them() {
        for (text, ms) in [
            ("0.25", 250),
            ("1,234.5", 1_234_500),
            ("0,5", 500),
            ("1e-3", 1),
            ("", 0),
            ("-1", 0),
            ("NaN", 0),
            ("inf", 0),
        ] {
            assert_eq!(seconds(text), Duration::from_millis(ms), "{text}");
        }
    }
}
