//! Robot Framework's output.xml, as versions 3 to 7 write it. Failed tests keep the keywords that they went through.

use std::io::BufRead;
use std::time::Duration;

use jiff::civil::DateTime;
use kennel_model::api::Outcome;

use crate::captured::{Captured, clip};
use crate::collected::Collected;
use crate::xml::{Element, Event, Xml};
use crate::{Limits, ReadError, TestCase, TestName};

/// Longest argument or message within a trace, in bytes.
const TRACE_TEXT: usize = 2_000;

/// Reads the results below `<robot>`, whose beginning was read.
pub(crate) fn read<R: BufRead>(xml: &mut Xml<R>, limits: &Limits) -> Result<Vec<TestCase>, ReadError> {
    let mut reading = Reading { collected: Collected::new(limits), path: Vec::new(), limits };
    loop {
        match xml.next()? {
            Event::Start(element) if element.name == "suite" => reading.suite(xml, &element)?,
            Event::Start(_) => xml.skip()?,
            Event::End | Event::Text(_) => {}
            Event::Eof => return Ok(reading.collected.cases),
        }
    }
}

/// How a suite, test or keyword ended.
#[derive(Debug, Default)]
struct Status {
    word: String,
    duration: Duration,
    message: String,
}

struct Reading<'l> {
    collected: Collected,
    /// Names of the suites that are open.
    path: Vec<String>,
    limits: &'l Limits,
}

/// A suite that is open.
struct Suite {
    /// Depth of its element.
    depth: usize,
    /// Its first result.
    first: usize,
    /// Why its tear-down failed.
    tear_down: Option<String>,
    status: Status,
}

impl Reading<'_> {
    /// A suite and those within it, without recursion: files nest as deep as they like.
    fn suite<R: BufRead>(&mut self, xml: &mut Xml<R>, element: &Element) -> Result<(), ReadError> {
        let mut open = vec![self.open(xml, element)];
        while let Some(suite) = open.last_mut() {
            match xml.next()? {
                Event::Start(child) => match child.name.as_str() {
                    "suite" => {
                        let inner = self.open(xml, &child);
                        open.push(inner);
                    }
                    "test" => self.test(xml, &child)?,
                    "kw" => {
                        let is_tear_down = child.get("type").eq_ignore_ascii_case("teardown");
                        let (status, trace) = keyword(xml, &child, self.limits)?;
                        if is_tear_down && status.word == "FAIL" {
                            suite.tear_down = Some(failure_of(&status, &trace));
                        }
                    }
                    "status" => suite.status = read_status(xml, &child, self.limits)?,
                    _ => xml.skip()?,
                },
                Event::End if xml.depth() < suite.depth => {
                    if let Some(suite) = open.pop() {
                        self.close(suite);
                    }
                }
                Event::End | Event::Text(_) => {}
                Event::Eof => break,
            }
        }
        Ok(())
    }

    fn open<R: BufRead>(&mut self, xml: &Xml<R>, element: &Element) -> Suite {
        self.path.push(element.get("name").to_owned());
        Suite { depth: xml.depth(), first: self.collected.cases.len(), tear_down: None, status: Status::default() }
    }

    /// Robot fails every test of a suite whose tear-down failed, but writes them before it knows.
    fn close(&mut self, suite: Suite) {
        self.path.pop();
        let said = suite.status.message.strip_prefix("Suite teardown failed:").map(|why| why.trim().to_owned());
        if let Some(why) = said.filter(|why| !why.is_empty()).or(suite.tear_down) {
            fail_all(&mut self.collected.cases[suite.first..], &why);
        }
    }

    fn test<R: BufRead>(&mut self, xml: &mut Xml<R>, element: &Element) -> Result<(), ReadError> {
        let mut trace = Captured::new(self.limits.detail);
        let mut status = Status::default();
        let mut tags = Vec::new();
        let depth = xml.depth();
        while xml.depth() >= depth {
            let Event::Start(child) = xml.next()? else { continue };
            match child.name.as_str() {
                "status" => status = read_status(xml, &child, self.limits)?,
                "tag" => tags.push(xml.text_to_end(self.limits.detail)?),
                // RF 3 wraps them.
                "tags" => {}
                "doc" | "timeout" => xml.skip()?,
                _ => trace.push_line(&keyword(xml, &child, self.limits)?.1),
            }
        }
        let outcome = outcome(&status.word);
        let path = self.path.join(".");
        let test = TestName::new(&path, element.get("name"));
        let test = self.collected.name(&path, test);
        let (message, detail) = told(outcome, status.message, trace);
        self.collected.add(TestCase { test, attempt: 1, outcome, duration: status.duration, message, detail, tags })
    }
}

/// The message and the detail of a test.
pub(crate) fn told(outcome: Outcome, message: String, trace: Captured) -> (String, String) {
    match outcome {
        Outcome::Failed | Outcome::Error if message.trim().is_empty() => ("no message".to_owned(), trace.into_text()),
        Outcome::Failed | Outcome::Error => (message, trace.into_text()),
        Outcome::Skipped => (message, String::new()),
        Outcome::Passed => (String::new(), String::new()),
    }
}

/// Marks tests as failed by their suite's tear-down, in Robot's words.
pub(crate) fn fail_all(cases: &mut [TestCase], why: &str) {
    for case in cases {
        match case.outcome {
            Outcome::Skipped => {}
            Outcome::Passed => {
                case.outcome = Outcome::Failed;
                case.message = clip(&format!("Parent suite teardown failed:\n{why}"), 4_000).into_owned();
            }
            Outcome::Failed | Outcome::Error => {
                let also = format!("{}\n\nAlso parent suite teardown failed:\n{why}", case.message);
                case.message = clip(&also, 4_000).into_owned();
            }
        }
    }
}

pub(crate) fn outcome(word: &str) -> Outcome {
    match word {
        "PASS" => Outcome::Passed,
        "SKIP" | "NOT RUN" | "NOT_RUN" => Outcome::Skipped,
        "FAIL" => Outcome::Failed,
        _ => Outcome::Error,
    }
}

/// What a failed keyword said, for a suite whose status does not repeat it.
fn failure_of(status: &Status, trace: &str) -> String {
    let said = trace.lines().rev().find_map(|line| line.trim().strip_prefix("FAIL "));
    if status.message.is_empty() { said.unwrap_or("the tear-down failed").to_owned() } else { status.message.clone() }
}

/// A keyword or block (loop, branch, try) that is open.
struct Open {
    depth: usize,
    kind: String,
    name: String,
    arguments: Vec<String>,
    lines: Captured,
    status: Status,
}

/// Reads a keyword or block with everything in it; answers how it ended and its trace: the whole of what failed, a
/// line of what passed.
fn keyword<R: BufRead>(xml: &mut Xml<R>, element: &Element, limits: &Limits) -> Result<(Status, String), ReadError> {
    // Half, so that a trace of many levels is cut within and keeps its frame.
    let begin = |element: &Element, depth: usize| Open {
        depth,
        kind: element.name.clone(),
        name: title(element),
        arguments: Vec::new(),
        lines: Captured::new(limits.detail / 2),
        status: Status::default(),
    };
    if element.name == "msg" {
        let (level, text) = (element.get("level").to_owned(), xml.text_to_end(TRACE_TEXT)?);
        return Ok((Status::default(), format!("{level} {text}")));
    }
    let mut open = vec![begin(element, xml.depth())];
    loop {
        let event = xml.next()?;
        let Some(current) = open.last_mut() else { break };
        match event {
            Event::Start(child) => match child.name.as_str() {
                "status" => current.status = read_status(xml, &child, limits)?,
                "arg" => current.arguments.push(xml.text_to_end(TRACE_TEXT)?),
                "msg" => {
                    let level = child.get("level").to_owned();
                    let text = xml.text_to_end(TRACE_TEXT)?;
                    current.lines.push_line(&format!("{level} {text}"));
                }
                "doc" | "tag" | "tags" | "timeout" | "var" | "value" => xml.skip()?,
                "arguments" => {}
                _ => {
                    let inner = begin(&child, xml.depth());
                    open.push(inner);
                }
            },
            Event::End if xml.depth() < current.depth => {
                let Some(done) = open.pop() else { break };
                let Open { kind, name, arguments, lines, status, .. } = done;
                let title = if name.is_empty() { kind.to_uppercase() } else { name };
                let trace = trace(&status.word, &title, &arguments, &lines.into_text());
                match open.last_mut() {
                    Some(outer) => outer.lines.push_line(&trace),
                    None => return Ok((status, trace)),
                }
            }
            Event::End | Event::Text(_) => {}
            Event::Eof => break,
        }
    }
    Ok((Status::default(), String::new()))
}

/// What a keyword or block is called.
fn title(element: &Element) -> String {
    let name = element.get("name");
    let owner = [element.get("owner"), element.get("library")].into_iter().find(|owner| !owner.is_empty());
    let part = match (element.name.as_str(), element.get("type").to_ascii_lowercase().as_str()) {
        ("kw", "setup") => "setup: ",
        ("kw", "teardown") => "teardown: ",
        ("kw", _) => "",
        (_, "") => "",
        ("branch", _) => return format!("{} {}", element.get("type"), element.get("condition")).trim().to_owned(),
        _ => "",
    };
    match owner {
        Some(owner) if !name.is_empty() => format!("{part}{owner}.{name}"),
        _ => format!("{part}{name}"),
    }
}

/// The lines of a keyword within a trace.
pub(crate) fn trace(status: &str, title: &str, arguments: &[String], within: &str) -> String {
    let mark = match status {
        "PASS" => "✓",
        "FAIL" => "✕",
        "" => "?",
        _ => "·",
    };
    let mut text = format!("{mark} {}", clip(title, 300));
    for argument in arguments.iter().take(20) {
        text.push_str("    ");
        text.push_str(&clip(&argument.replace('\n', "\\n"), 200));
    }
    // What passed or never ran explains nothing.
    if status == "FAIL" {
        for line in within.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    text
}

fn read_status<R: BufRead>(xml: &mut Xml<R>, element: &Element, limits: &Limits) -> Result<Status, ReadError> {
    let message = xml.text_to_end(limits.detail)?;
    let word = element.get("status").to_owned();
    let elapsed = element.get("elapsed").parse().ok().and_then(|s: f64| Duration::try_from_secs_f64(s).ok());
    let duration = elapsed.unwrap_or_else(|| between(element.get("starttime"), element.get("endtime")));
    Ok(Status { word, duration, message })
}

/// Time between two moments as RF 3 to 6 write them: `20240131 12:34:56.789`.
fn between(start: &str, end: &str) -> Duration {
    let moment = |text: &str| DateTime::strptime("%Y%m%d %H:%M:%S%.f", text).ok();
    let (Some(start), Some(end)) = (moment(start), moment(end)) else { return Duration::ZERO };
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_moments_give_durations() {
        assert_eq!(between("20240131 12:34:56.789", "20240131 12:34:57.000"), Duration::from_millis(211));
        assert_eq!(between("20240131 12:34:56.789", "N/A"), Duration::ZERO);
        assert_eq!(between("20240131 12:34:57.000", "20240131 12:34:56.000"), Duration::ZERO);
    }
}
