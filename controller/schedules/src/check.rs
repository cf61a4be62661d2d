//! Whether a schedule can be kept: every field that cannot be read is told.

use kennel_model::api::{FieldProblem, ScheduleDraft};

use crate::cron::Cron;
use crate::problem;

/// Most missed occurrences that may be caught up with.
const MOST_CAUGHT_UP: u32 = 50;
/// Furthest from the ordinary priority, 0.
const HIGHEST_PRIORITY: i32 = 100;

/// Everything wrong with a schedule's own fields. Whether its subject and its calendars exist is for the caller to see.
#[must_use]
pub fn check(draft: &ScheduleDraft) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let named =
        |text: &str| !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
    if !named(&draft.name) {
        let message = format!("`{}` is no name", draft.name.escape_debug());
        problems.push(problem("name", message, "1 to 200 printable characters"));
    }
    if draft.subject.trim().is_empty() {
        let message = format!("no {} is chosen", draft.kind);
        problems.push(problem("subject", message, &format!("the name of a kept {}", draft.kind)));
    }
    // Both fields are told: with a zone that is none, the expression is looked at in another.
    let zone = crate::cron::zone("zone", &draft.zone);
    let readable = if zone.is_ok() { draft.zone.as_str() } else { "UTC" };
    problems.extend(Cron::parse(&draft.cron, readable).err());
    problems.extend(zone.err());
    if !(1..=MOST_CAUGHT_UP).contains(&draft.catch_up_limit) {
        let expected = format!("1 to {MOST_CAUGHT_UP}");
        problems.push(problem("catch_up_limit", format!("{} occurrences", draft.catch_up_limit), &expected));
    }
    if !(-HIGHEST_PRIORITY..=HIGHEST_PRIORITY).contains(&draft.priority) {
        let expected = format!("-{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}");
        problems.push(problem("priority", draft.priority.to_string(), &expected));
    }
    problems
}

#[cfg(test)]
mod tests {
    use kennel_model::api::QueueKind;

    use super::*;

    #[test]
    fn every_wrong_field_is_told_at_once() {
        let good =
            ScheduleDraft::new("nightly".into(), QueueKind::Suite, "smoke".into(), "30 2 * * *".into(), "UTC".into());
        assert!(check(&good).is_empty());
        let bad = ScheduleDraft {
            name: " ".into(),
            subject: String::new(),
            cron: "nonsense".into(),
            zone: "Nowhere".into(),
            catch_up_limit: 0,
            priority: 101,
            ..good
        };
        let fields: Vec<String> = check(&bad).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["name", "subject", "cron", "zone", "catch_up_limit", "priority"]);
    }
}
