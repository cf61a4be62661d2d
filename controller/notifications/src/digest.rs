//! A digest: what ran, what changed, what is failing since when, which tests are muted until when, and which are flaky.

use kennel_model::api::{MessageLine, MessageSection, NotificationEvent, NotificationSubject};

use crate::message::Message;

/// What a digest is made of. Everything is already restricted to what its rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digest {
    /// From when on, RFC 3339 in UTC.
    pub from: String,
    /// Up to when.
    pub to: String,
    /// What ran.
    pub ran: Vec<Ran>,
    /// What changed, oldest first.
    pub changes: Vec<MessageLine>,
    /// What is failing now.
    pub failing: Vec<Failing>,
    /// Muted tests.
    pub muted: Vec<Muted>,
    /// Tests that pass and fail in turn.
    pub flaky: Vec<Flaky>,
}

/// A suite or an experiment that ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// Its page.
    pub link: Option<String>,
    /// How often it ran.
    pub runs: u64,
    /// How often it passed.
    pub passed: u64,
    /// How often it failed or could not be carried out.
    pub failed: u64,
}

/// A suite or an experiment that is failing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failing {
    /// Its name, with the branch where there is one.
    pub name: String,
    /// Since when.
    pub since: String,
    /// The first run that failed.
    pub link: Option<String>,
    /// How many of what is wrong with it, in words; empty where nothing is known.
    pub faults: String,
}

/// A muted test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Muted {
    /// Suite, class and name.
    pub test: String,
    /// Its page.
    pub link: Option<String>,
    /// Who muted it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when; absent for good.
    pub until: Option<String>,
}

/// A flaky test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flaky {
    /// Suite, class and name.
    pub test: String,
    /// Its page.
    pub link: Option<String>,
    /// How flaky, in words.
    pub score: String,
}

fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// The day of a moment, as it is written in UTC.
fn day(moment: &str) -> &str {
    moment.get(..10).unwrap_or(moment)
}

impl Digest {
    /// The digest as a message.
    #[must_use]
    pub fn message(&self) -> Message {
        let runs: u64 = self.ran.iter().map(|ran| ran.runs).sum();
        let failing = u64::try_from(self.failing.len()).unwrap_or(u64::MAX);
        let state = if failing == 0 { "nothing is failing".to_owned() } else { format!("{failing} failing") };
        Message {
            event: NotificationEvent::Digest,
            at: self.to.clone(),
            subject_kind: NotificationSubject::Everything,
            subject: String::new(),
            branch: String::new(),
            run: None,
            verdict: None,
            title: format!("Kennel digest: {state}, {}", counted(runs, "run", "runs")),
            sentences: vec![format!("From {} to {}.", minute(&self.from), minute(&self.to))],
            sections: self.sections(),
            link: Some("/failing".to_owned()),
        }
    }

    fn sections(&self) -> Vec<MessageSection> {
        let line = |text: String, link: &Option<String>| MessageLine { text, link: link.clone() };
        let ran = self.ran.iter().map(|ran| {
            let runs = counted(ran.runs, "run", "runs");
            let other = ran.runs.saturating_sub(ran.passed + ran.failed);
            let rest = if other == 0 { String::new() } else { format!(", {other} without a result") };
            line(format!("{}: {runs}, {} passed, {} failed{rest}", ran.name, ran.passed, ran.failed), &ran.link)
        });
        let failing = self.failing.iter().map(|failing| {
            let faults = if failing.faults.is_empty() { String::new() } else { format!(": {}", failing.faults) };
            line(format!("{}, since {}{faults}", failing.name, minute(&failing.since)), &failing.link)
        });
        let muted = self.muted.iter().map(|muted| {
            let until = match &muted.until {
                Some(moment) => format!("until {}", day(moment)),
                None => "without an end".to_owned(),
            };
            line(format!("{}, {until}, by {}: {}", muted.test, muted.owner, muted.reason), &muted.link)
        });
        let flaky = self.flaky.iter().map(|flaky| line(format!("{}: {}", flaky.test, flaky.score), &flaky.link));
        let parts = [
            ("Failing", failing.collect::<Vec<_>>()),
            ("What changed", self.changes.clone()),
            ("What ran", ran.collect()),
            ("Muted tests", muted.collect()),
            ("Flaky tests", flaky.collect()),
        ];
        let said = parts.into_iter().filter(|(_, lines)| !lines.is_empty());
        let mut sections: Vec<MessageSection> =
            said.map(|(heading, lines)| MessageSection { heading: heading.to_owned(), lines }).collect();
        if self.ran.is_empty() {
            let nothing = MessageLine { text: "Nothing ran.".to_owned(), link: None };
            sections.push(MessageSection { heading: "What ran".to_owned(), lines: vec![nothing] });
        }
        sections
    }
}

/// A moment to the minute.
fn minute(moment: &str) -> String {
    let minute = moment.get(..16).unwrap_or(moment).replace('T', " ");
    format!("{minute} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_what_is_failing_since_when_and_which_tests_are_muted_until_when() {
        let digest = Digest {
            from: "2026-01-05T08:00:00Z".to_owned(),
            to: "2026-01-12T08:00:00Z".to_owned(),
            ran: vec![Ran { name: "nightly".to_owned(), link: None, runs: 7, passed: 4, failed: 2 }],
            changes: vec![MessageLine { text: "nightly failed".to_owned(), link: None }],
            failing: vec![Failing {
                name: "nightly".to_owned(),
                since: "2026-01-09T02:11:30Z".to_owned(),
                link: Some("/suite-runs/1".to_owned()),
                faults: "3 tests".to_owned(),
            }],
            muted: vec![Muted {
                test: "nightly: pay".to_owned(),
                link: None,
                owner: "ada".to_owned(),
                reason: "PAY-7".to_owned(),
                until: Some("2026-02-01T00:00:00Z".to_owned()),
            }],
            flaky: vec![Flaky {
                test: "nightly: login".to_owned(),
                link: None,
                score: "8 changes in 20 runs".to_owned(),
            }],
        };
        let text = digest.message().text(Some("https://k.example"));
        assert_eq!(
            text,
            "Kennel digest: 1 failing, 7 runs

From 2026-01-05 08:00 UTC to 2026-01-12 08:00 UTC.

Failing
- nightly, since 2026-01-09 02:11 UTC: 3 tests
  https://k.example/suite-runs/1


What changed
- nightly failed


What ran
- nightly: 7 runs, 4 passed, 2 failed, 1 without a result


Muted tests
- nightly: pay, until 2026-02-01, by ada: PAY-7


Flaky tests
- nightly: login: 8 changes in 20 runs

https://k.example/failing
"
        );
    }

    #[test]
    fn a_quiet_week_says_so() {
        let text = Digest { from: "a".to_owned(), to: "b".to_owned(), ..Digest::default() }.message().text(None);
        assert!(
            text.starts_with("Kennel digest: nothing is failing, 0 runs") && text.contains("- Nothing ran."),
            "{text}"
        );
    }
}
