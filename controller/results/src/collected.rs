//! Gathers results while a document is read: keeps names apart, and its memory within limits.

use std::collections::HashMap;

use crate::captured::{clean, clip};
use crate::{Limits, ReadError, TestCase, TestName};

/// Longest message, in bytes.
const MESSAGE: usize = 4 << 10;
/// Most tags of one test, and the longest.
const TAGS: usize = 50;
const TAG: usize = 200;

/// Results so far.
pub(crate) struct Collected {
    pub(crate) cases: Vec<TestCase>,
    limits: Limits,
    details: usize,
    seen: HashMap<TestName, Seen>,
}

/// How often a name came, and in which group of tests first.
struct Seen {
    group: String,
    times: u32,
}

impl Collected {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { cases: Vec::new(), limits: *limits, details: 0, seen: HashMap::new() }
    }

    /// The name under which a test of `group` (the suite that the document puts it in) is kept: two tests of one
    /// document never share one, or the later would count as another try of the earlier.
    pub(crate) fn name(&mut self, group: &str, mut test: TestName) -> TestName {
        let again = match self.seen.get_mut(&test) {
            None => None,
            Some(seen) => {
                seen.times += 1;
                Some(if seen.group == group { format!("#{}", seen.times) } else { format!("in {}", clip(group, 200)) })
            }
        };
        if let Some(mark) = again {
            let joint = if test.parameters.is_empty() { "" } else { " " };
            test.parameters.push_str(joint);
            test.parameters.push_str(&mark);
            return self.name(group, test);
        }
        self.seen.insert(test.clone(), Seen { group: group.to_owned(), times: 1 });
        test
    }

    pub(crate) fn add(&mut self, mut case: TestCase) -> Result<(), ReadError> {
        if self.cases.len() >= self.limits.cases {
            return Err(ReadError::TooManyCases { limit: self.limits.cases });
        }
        case.message = clip(clean(&case.message).trim(), MESSAGE).into_owned();
        case.tags.truncate(TAGS);
        case.tags.iter_mut().for_each(|tag| *tag = clip(clean(tag).trim(), TAG).into_owned());
        case.tags.retain(|tag| !tag.is_empty());
        if self.details + case.detail.len() > self.limits.details {
            case.detail = "The document holds more detail than is kept; that of this test was left out.".to_owned();
        }
        self.details += case.detail.len();
        self.cases.push(case);
        Ok(())
    }
}
