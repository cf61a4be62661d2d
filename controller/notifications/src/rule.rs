//! Who is told what: checking a rule as it was written, saying it in words, and asking whether something meets it. Pure.

use kennel_model::api::{NotificationEvent, NotificationSubject, RuleFilter, Timing, WriteRule};

use crate::problem::{FieldProblems, Findings};
use crate::timing::{time_of_day, zone};

/// What begins a label that names the branch of a run, as in `branch:main`.
const BRANCH_LABEL: &str = "branch:";

/// The branch that a run's labels name; empty for none.
#[must_use]
pub fn branch_of(labels: &[String]) -> &str {
    labels.iter().find_map(|label| label.strip_prefix(BRANCH_LABEL)).unwrap_or_default()
}

/// What something is about, as far as filters ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About<'a> {
    /// What kind of thing.
    pub kind: NotificationSubject,
    /// Its name.
    pub name: &'a str,
    /// Labels of its run.
    pub labels: &'a [String],
    /// Whether it ran as a step of a suite, which tells of it too.
    pub is_step: bool,
}

/// Whether a filter lets something through.
#[must_use]
pub fn matches(filter: &RuleFilter, about: &About<'_>) -> bool {
    let is_named = |wanted: &str, kind: NotificationSubject| about.kind == kind && about.name == wanted;
    let names = [(&filter.suite, NotificationSubject::Suite), (&filter.experiment, NotificationSubject::Experiment)];
    let mut named = names.iter().filter(|(wanted, _)| !wanted.is_empty()).peekable();
    let is_meant =
        if named.peek().is_none() { !about.is_step } else { named.any(|(wanted, kind)| is_named(wanted, *kind)) };
    is_meant
        && (filter.label.is_empty() || about.labels.contains(&filter.label))
        && (filter.branch.is_empty() || branch_of(about.labels) == filter.branch)
}

/// The most telling of the events that a rule asks for, if any: a rule tells once of one run.
#[must_use]
pub fn told(rule: &WriteRule, events: &[NotificationEvent]) -> Option<NotificationEvent> {
    let order = [
        NotificationEvent::Recovery,
        NotificationEvent::FirstFailure,
        NotificationEvent::RunError,
        NotificationEvent::Regression,
        NotificationEvent::MissedSchedule,
        NotificationEvent::EveryFailure,
    ];
    order.into_iter().find(|event| events.contains(event) && rule.events.contains(event))
}

/// Checks a rule, and brings it into the form in which it is kept.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(mut rule: WriteRule) -> Result<WriteRule, FieldProblems> {
    let mut findings = Findings::default();
    if rule.events.is_empty() && rule.timing == Timing::Immediately {
        findings.add("events", "choose at least one thing to be told of");
    }
    if let Some(event) = rule.events.iter().find(|event| !NotificationEvent::CHOICES.contains(event)) {
        findings.add("events", format!("`{event}` comes about by itself; no rule can ask for it"));
    }
    rule.events.sort_unstable();
    rule.events.dedup();
    for (field, text) in [
        ("only.suite", &mut rule.only.suite),
        ("only.experiment", &mut rule.only.experiment),
        ("only.label", &mut rule.only.label),
        ("only.branch", &mut rule.only.branch),
    ] {
        *text = text.trim().to_owned();
        if text.chars().count() > 200 {
            findings.add(field, "longer than 200 characters: nothing has such a name");
        }
    }
    if let Timing::Daily { hour, zone: name } | Timing::Weekly { hour, zone: name, .. } = &rule.timing {
        if *hour > 23 {
            findings.add("timing.hour", format!("{hour} is no hour of the day; expected 0 to 23"));
        }
        findings.take("timing.zone", zone(name));
    }
    if let Some(quiet) = &rule.quiet_hours {
        let from = findings.take("quiet_hours.from", time_of_day(&quiet.from));
        let to = findings.take("quiet_hours.to", time_of_day(&quiet.to));
        findings.take("quiet_hours.zone", zone(&quiet.zone));
        if from.is_some() && from == to {
            findings.add(
                "quiet_hours.to",
                "quiet hours that end when they begin last all day: switch the rule off instead",
            );
        }
    }
    findings.or(|| rule)
}

/// A rule in a sentence.
#[must_use]
pub fn words(rule: &WriteRule, channel: &str) -> String {
    let about = about_words(&rule.only);
    let quiet = rule.quiet_hours.as_ref().map_or_else(String::new, |quiet| {
        format!(", but not between {} and {} ({})", quiet.from, quiet.to, quiet.zone)
    });
    let events = listed(&rule.events.iter().map(|event| event.plural()).collect::<Vec<_>>());
    match &rule.timing {
        Timing::Immediately => format!("Tell {channel} at once of {events} of {about}{quiet}."),
        Timing::Daily { hour, zone } => {
            format!("Send {channel} a digest of {about} every day at {hour:02}:00 ({zone}){quiet}.")
        }
        Timing::Weekly { day, hour, zone } => {
            let day = capitalised(day.word());
            format!("Send {channel} a digest of {about} every {day} at {hour:02}:00 ({zone}){quiet}.")
        }
    }
}

fn about_words(only: &RuleFilter) -> String {
    let mut about = match (only.suite.is_empty(), only.experiment.is_empty()) {
        (true, true) => "everything".to_owned(),
        (false, true) => format!("suite “{}”", only.suite),
        (true, false) => format!("experiment “{}”", only.experiment),
        (false, false) => format!("suite “{}” and experiment “{}”", only.suite, only.experiment),
    };
    if !only.label.is_empty() {
        about.push_str(&format!(" with label “{}”", only.label));
    }
    if !only.branch.is_empty() {
        about.push_str(&format!(" on branch “{}”", only.branch));
    }
    about
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn listed(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kennel_model::api::{QuietHours, Weekday};

    fn rule(only: RuleFilter) -> WriteRule {
        WriteRule {
            channel: 1,
            events: vec![NotificationEvent::FirstFailure, NotificationEvent::Recovery],
            only,
            timing: Timing::Immediately,
            quiet_hours: None,
            enabled: true,
        }
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn a_rule_reads_as_a_sentence() {
        let mut nightly = rule(RuleFilter { suite: text("nightly"), branch: text("main"), ..RuleFilter::default() });
        nightly.quiet_hours = Some(QuietHours { from: text("22:00"), to: text("07:00"), zone: text("Europe/Berlin") });
        assert_eq!(
            words(&nightly, "ops"),
            "Tell ops at once of first failures and recoveries of suite “nightly” on branch “main”, but not between \
             22:00 and 07:00 (Europe/Berlin)."
        );
        let mut weekly = rule(RuleFilter::default());
        weekly.timing = Timing::Weekly { day: Weekday::Friday, hour: 9, zone: text("UTC") };
        assert_eq!(words(&weekly, "team"), "Send team a digest of everything every Friday at 09:00 (UTC).");
    }

    #[test]
    fn filters_must_all_be_met() {
        let labels = [text("nightly"), text("branch:main")];
        let suite = About { kind: NotificationSubject::Suite, name: "shop", labels: &labels, is_step: false };
        let experiment = About { kind: NotificationSubject::Experiment, name: "shop", labels: &[], is_step: false };
        let step = About { is_step: true, ..experiment.clone() };
        let only = |suite: &str, experiment: &str, label: &str, branch: &str| RuleFilter {
            suite: text(suite),
            experiment: text(experiment),
            label: text(label),
            branch: text(branch),
        };
        assert!(matches(&only("", "", "", ""), &suite) && matches(&only("", "", "", ""), &experiment));
        assert!(matches(&only("shop", "", "nightly", "main"), &suite));
        assert!(!matches(&only("shop", "", "weekly", ""), &suite) && !matches(&only("shop", "", "", "dev"), &suite));
        assert!(!matches(&only("shop", "", "", ""), &experiment) && !matches(&only("", "shop", "", ""), &suite));
        // A suite tells of its steps; only whoever names the experiment is told of it too.
        assert!(!matches(&only("", "", "", ""), &step) && matches(&only("", "shop", "", ""), &step));
    }

    #[test]
    fn of_several_events_the_most_telling_is_told() {
        use NotificationEvent::{EveryFailure, FirstFailure, Regression, RunError};
        let mut all = rule(RuleFilter::default());
        all.events = NotificationEvent::CHOICES.to_vec();
        assert_eq!(told(&all, &[FirstFailure, Regression, EveryFailure]), Some(FirstFailure));
        assert_eq!(told(&all, &[RunError, EveryFailure]), Some(RunError));
        all.events = vec![FirstFailure];
        assert_eq!(told(&all, &[Regression, EveryFailure]), None);
    }

    #[test]
    fn everything_wrong_with_a_rule_is_told_at_once() {
        let mut wrong = rule(RuleFilter::default());
        wrong.events.clear();
        wrong.quiet_hours = Some(QuietHours { from: text("25:00"), to: text("7"), zone: text("Nowhere") });
        let fields: Vec<&str> = check(wrong.clone()).unwrap_err().0.iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["events", "quiet_hours.from", "quiet_hours.to", "quiet_hours.zone"]);
        wrong.timing = Timing::Daily { hour: 24, zone: text("UTC") };
        wrong.quiet_hours = Some(QuietHours { from: text("07:00"), to: text("7:00"), zone: text("UTC") });
        wrong.events = vec![NotificationEvent::Test];
        let fields: Vec<&str> = check(wrong).unwrap_err().0.iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["events", "timing.hour", "quiet_hours.to"]);
    }
}
