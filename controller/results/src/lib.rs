//! Test results: read from JUnit XML and Robot output, named, fingerprinted and scored. Nothing here does I/O of its own.
//!
//! Modules in the order in which data flows through them: `format` sees what a document is, `xml` walks it without
//! trusting it, `junit`, `robot` and `robot_json` make [`TestCase`]s of it, `name` says which test each belongs to.
//! [`fingerprint`] groups failures, [`history`] scores a test over its runs, [`difference`] compares two runs.

mod captured;
mod collected;
pub mod difference;
mod error;
pub mod fingerprint;
mod format;
pub mod history;
mod junit;
mod name;
mod robot;
mod robot_json;
mod xml;

use std::io::BufRead;
use std::time::Duration;

use kennel_model::api::Outcome;
use serde::{Deserialize, Serialize};

pub use error::ReadError;
pub use format::Format;

/// What makes a test the same test from run to run, within its suite.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TestName {
    /// Class, file or path of suites that it belongs to; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Its parameters, where the name does not carry them; may be empty.
    pub parameters: String,
}

/// One result of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestCase {
    /// Which test.
    pub test: TestName,
    /// How often the test had been tried within this document, from 1: tools that try failed tests again tell of every
    /// try.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed or was skipped, as its tool says it; empty otherwise.
    pub message: String,
    /// Stack trace, keywords, captured output; may be empty.
    pub detail: String,
    /// Tags that its tool gave it.
    pub tags: Vec<String>,
}

/// How much of a document is taken in before it is refused; what is merely long is cut instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole document.
    pub bytes: u64,
    /// Elements within elements.
    pub depth: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Results.
    pub cases: usize,
    /// Bytes of a result's detail; longer ones lose their middle.
    pub detail: usize,
    /// Bytes of all details together; once they are reached, details are left out.
    pub details: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 200 << 20, depth: 2_000, attributes: 100, cases: 200_000, detail: 64 << 10, details: 64 << 20 }
    }
}

/// Reads the results in a document; its format is looked at where none is named.
///
/// # Errors
/// When it is none of the formats, is damaged, or breaks a limit; the error names the line.
pub fn read(format: Option<Format>, document: impl BufRead) -> Result<Vec<TestCase>, ReadError> {
    read_within(format, document, &Limits::default())
}

/// As [`read`], within other limits.
///
/// # Errors
/// As [`read`].
pub fn read_within(
    format: Option<Format>,
    mut document: impl BufRead,
    limits: &Limits,
) -> Result<Vec<TestCase>, ReadError> {
    if format::is_json(&mut document)? {
        if format.is_some_and(|format| format != Format::RobotJson) {
            return Err(ReadError::WrongFormat { asked: format, found: "JSON".to_owned() });
        }
        return robot_json::read(document, limits);
    }
    let mut xml = xml::Xml::new(document, limits);
    let root = xml.root()?;
    match (root.name.as_str(), format) {
        ("testsuites" | "testsuite", None | Some(Format::Junit)) => junit::read(&mut xml, root, limits),
        ("robot", None | Some(Format::Robot)) => robot::read(&mut xml, limits),
        (name, asked) => Err(ReadError::WrongFormat { asked, found: format!("<{}>", captured::clip(name, 80)) }),
    }
}
