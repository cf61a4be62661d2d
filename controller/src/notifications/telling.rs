//! What a run that ended, or an occurrence at which nothing ran, has to tell, and whom.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{MessageLine, MessageSection, NotificationEvent, NotificationSubject, RuleFilter, Timing};
use kennel_notifications::change::{Change, Ended, change, counted};
use kennel_notifications::message::Message;
use kennel_notifications::rule::{About, branch_of, matches, told};
use kennel_notifications::timing::quiet_until;

use super::{Notifier, text};
use crate::reading;
use crate::store::{
    Fault, MissedOccurrences, NewDelivery, NewEvent, Outcome, StandingRow, Store, StoreError, StoredRule,
};

/// Faults and soundness of a run.
struct Condition {
    faults: Vec<Fault>,
    sound: BTreeSet<String>,
    /// How many tests passed and failed; absent for experiments.
    tests: Option<(u64, u64)>,
}

impl Notifier {
    /// Works out what every run that ended changed since the last look.
    pub(super) async fn tell(&self) -> Result<(), StoreError> {
        loop {
            let outcomes = self.store.untold_outcomes().await?;
            let mut is_stuck = true;
            for outcome in &outcomes {
                match self.tell_outcome(outcome).await {
                    Ok(()) => is_stuck = false,
                    // One run that cannot be read keeps no other from being told of.
                    Err(error) => tracing::error!(%error, run = %outcome.run, "what a run means cannot be worked out"),
                }
            }
            if is_stuck {
                break;
            }
        }
        for missed in self.store.untold_missed().await? {
            self.tell_missed(&missed).await?;
        }
        Ok(())
    }

    async fn tell_outcome(&self, outcome: &Outcome) -> Result<(), StoreError> {
        let condition = match outcome.kind {
            NotificationSubject::Suite => suite_condition(&self.store, outcome.run).await?,
            _ => experiment_condition(&self.store, outcome.run).await?,
        };
        let branch = branch_of(&outcome.labels).to_owned();
        let before = self.store.standing(outcome.kind, &outcome.name, &branch).await?;
        let ended = Ended {
            run: outcome.run,
            at: outcome.ended_at.clone(),
            verdict: outcome.verdict,
            faults: condition.faults.iter().map(|fault| fault.key.clone()).collect(),
            sound: condition.sound.clone(),
        };
        let change = change(before.as_ref(), &ended);
        let about =
            About { kind: outcome.kind, name: &outcome.name, labels: &outcome.labels, is_step: outcome.is_step };
        let mut deliveries = Vec::new();
        if !change.events.is_empty() {
            for rule in self.store.rules().await? {
                if rule.rule.timing == Timing::Immediately
                    && matches(&rule.rule.only, &about)
                    && let Some(event) = told(&rule.rule, &change.events)
                {
                    let message = message(event, outcome, &condition, &change);
                    deliveries.extend(self.delivery(&rule, &message).await?);
                }
            }
        }
        let standing = change.standing.clone().map(|standing| StandingRow {
            kind: outcome.kind,
            name: outcome.name.clone(),
            branch,
            is_step: outcome.is_step,
            standing,
        });
        // What is only an event for those who want every failure is no change that a digest lists.
        let listed = change.events.iter().filter(|event| **event != NotificationEvent::EveryFailure);
        let events: Vec<NewEvent> = listed
            .map(|event| NewEvent {
                at: outcome.ended_at.clone(),
                event: *event,
                kind: outcome.kind,
                name: outcome.name.clone(),
                labels: outcome.labels.clone(),
                is_step: outcome.is_step,
                title: title(*event, outcome, &condition, &change),
                link: Some(run_path(outcome.kind, outcome.run)),
            })
            .collect();
        self.store.keep_told(outcome, standing.as_ref(), &events, &deliveries).await
    }

    async fn tell_missed(&self, missed: &MissedOccurrences) -> Result<(), StoreError> {
        let message = missed_message(missed);
        let mut deliveries = Vec::new();
        for rule in self.store.rules().await? {
            let asks = rule.rule.events.contains(&NotificationEvent::MissedSchedule);
            // A schedule has neither labels nor a branch: only a rule about everything is about it.
            if asks && rule.rule.timing == Timing::Immediately && rule.rule.only == RuleFilter::default() {
                deliveries.extend(self.delivery(&rule, &message).await?);
            }
        }
        let event = NewEvent {
            at: missed.noted_at.clone(),
            event: NotificationEvent::MissedSchedule,
            kind: NotificationSubject::Schedule,
            name: missed.name.clone(),
            labels: Vec::new(),
            is_step: false,
            title: message.title.clone(),
            link: message.link.clone(),
        };
        self.store.keep_missed(missed, &event, &deliveries).await
    }

    /// What a rule sends to say this; nothing while the rule or its channel is not in use.
    pub(super) async fn delivery(
        &self,
        rule: &StoredRule,
        message: &Message,
    ) -> Result<Option<NewDelivery>, StoreError> {
        if !rule.rule.enabled {
            return Ok(None);
        }
        let Some(channel) = self.store.channel(rule.rule.channel).await?.filter(|channel| channel.enabled) else {
            return Ok(None);
        };
        let now = Timestamp::now();
        let send_at = rule.rule.quiet_hours.as_ref().and_then(|quiet| quiet_until(quiet, now)).unwrap_or(now);
        let id = RunId::new().to_string();
        let body = channel.destination.render(message, &id, self.public_url.origin().as_deref());
        Ok(Some(NewDelivery {
            channel: channel.id,
            channel_name: channel.name,
            rule: Some(rule.id),
            event: message.event,
            subject_kind: message.subject_kind,
            subject: message.subject.clone(),
            run: message.run,
            title: message.title.clone(),
            body: body.map_err(StoreError::broken("channel"))?,
            send_at: text(send_at),
            id,
        }))
    }
}

async fn suite_condition(store: &Store, run: RunId) -> Result<Condition, StoreError> {
    let mut faults = store.tests_at_fault(run).await?;
    faults.extend(store.steps_at_fault(run).await?);
    Ok(Condition { faults, sound: store.sound_keys(run).await?, tests: Some(store.test_counts(run).await?) })
}

async fn experiment_condition(store: &Store, run: RunId) -> Result<Condition, StoreError> {
    let Some(detail) = reading::detail(store, run).await? else {
        return Ok(Condition { faults: Vec::new(), sound: BTreeSet::new(), tests: None });
    };
    let mut faults = Vec::new();
    let mut sound = BTreeSet::new();
    for objective in &detail.objectives {
        let key = format!("{} {}", objective.role, objective.objective);
        match objective.met {
            Some(true) => {
                sound.insert(key);
            }
            Some(false) => {
                let measured = objective.measured.as_deref().unwrap_or("missed");
                faults.push(Fault { key, text: format!("{}: {measured}", objective.objective), link: None });
            }
            None => {}
        }
    }
    for audit in &detail.audits {
        let key = format!("audit {}", audit.name);
        match audit.verdict {
            kennel_model::protocol::AuditVerdict::Valid => {
                sound.insert(key);
            }
            kennel_model::protocol::AuditVerdict::Invalid => {
                faults.push(Fault { text: key.clone(), key, link: None });
            }
            kennel_model::protocol::AuditVerdict::Unknown => {}
        }
    }
    Ok(Condition { faults, sound, tests: None })
}

fn run_path(kind: NotificationSubject, run: RunId) -> String {
    match kind {
        NotificationSubject::Suite => format!("/suite-runs/{run}"),
        _ => format!("/runs/{run}"),
    }
}

/// A suite or experiment as messages name it.
fn called(outcome: &Outcome) -> String {
    match branch_of(&outcome.labels) {
        "" => outcome.name.clone(),
        branch => format!("{} on {branch}", outcome.name),
    }
}

fn title(event: NotificationEvent, outcome: &Outcome, condition: &Condition, change: &Change) -> String {
    let name = called(outcome);
    let faults = counted(condition.faults.iter().map(|fault| &fault.key));
    let failed = if faults.is_empty() { String::new() } else { format!(": {faults}") };
    match event {
        NotificationEvent::Recovery => format!("{name} passes again"),
        NotificationEvent::Regression if change.new_faults.is_empty() => format!("{name} has failed{failed}"),
        NotificationEvent::Regression => {
            format!("{name}: {} newly failing", counted(&change.new_faults))
        }
        NotificationEvent::RunError => format!("{name} could not be carried out"),
        NotificationEvent::EveryFailure if change.failed_since.is_some() => format!("{name} failed again{failed}"),
        _ => format!("{name} failed{failed}"),
    }
}

fn message(event: NotificationEvent, outcome: &Outcome, condition: &Condition, change: &Change) -> Message {
    let mut sentences = outcome.reasons.clone();
    if let Some((passed, failed)) = condition.tests.filter(|(passed, failed)| passed + failed > 0) {
        sentences.push(format!("{passed} of {} tests passed.", passed + failed));
    }
    if let Some(since) = &change.failed_since {
        let verb = if event == NotificationEvent::Recovery { "It had been failing" } else { "It has been failing" };
        sentences.push(format!("{verb} since {}.", since.at));
    }
    let line = |fault: &Fault| MessageLine { text: fault.text.clone(), link: fault.link.clone() };
    let (new, old): (Vec<&Fault>, Vec<&Fault>) =
        condition.faults.iter().partition(|fault| change.new_faults.contains(&fault.key));
    let mut sections = Vec::new();
    let old_heading = if new.is_empty() { "Failing" } else { "Failing already before" };
    let first = event == NotificationEvent::FirstFailure && change.failed_since.is_none();
    let new_heading = if first && old.is_empty() { "Failing" } else { "Newly failing" };
    for (heading, faults) in [(new_heading, new), (old_heading, old)] {
        if !faults.is_empty() {
            sections
                .push(MessageSection { heading: heading.to_owned(), lines: faults.into_iter().map(line).collect() });
        }
    }
    if let Some(since) = change.failed_since.as_ref().filter(|since| since.run != outcome.run) {
        let link = Some(run_path(outcome.kind, since.run));
        let lines = vec![MessageLine { text: format!("The first run that failed, {}", since.at), link }];
        sections.push(MessageSection { heading: "Since when".to_owned(), lines });
    }
    Message {
        event,
        at: outcome.ended_at.clone(),
        subject_kind: outcome.kind,
        subject: outcome.name.clone(),
        branch: branch_of(&outcome.labels).to_owned(),
        run: Some(outcome.run),
        verdict: Some(outcome.verdict),
        title: title(event, outcome, condition, change),
        sentences,
        sections,
        link: Some(run_path(outcome.kind, outcome.run)),
    }
}

fn missed_message(missed: &MissedOccurrences) -> Message {
    let due = match missed.due_at.as_slice() {
        [] => String::new(),
        [one] => format!("It was due at {one}."),
        [first, .., last] => format!("It was due {} times, from {first} to {last}.", missed.due_at.len()),
    };
    let sentences = [due, missed.reason.clone()].into_iter().filter(|sentence| !sentence.is_empty());
    Message {
        event: NotificationEvent::MissedSchedule,
        at: missed.noted_at.clone(),
        subject_kind: NotificationSubject::Schedule,
        subject: missed.name.clone(),
        branch: String::new(),
        run: None,
        verdict: None,
        title: format!("Schedule {} did not run", missed.name),
        sentences: sentences.collect(),
        sections: Vec::new(),
        link: Some("/schedules".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::people::KnownUrl;
    use crate::store::{DeliveryFilter, arranged};
    use kennel_model::Verdict;
    use kennel_model::api::{Secret, WriteRule};
    use kennel_notifications::destination::Destination;

    /// Tells of runs of a suite one after the other, by a rule of these events; answers the titles and the last body.
    async fn told(events: &[NotificationEvent], runs: &[(Verdict, &[(&str, bool)])]) -> (Vec<String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("kennel.db")).await.unwrap();
        let slack = Destination::Slack { url: Secret("https://hooks.slack.example/x".to_owned()) };
        store.save_channel(None, "team", &slack, false, true).await.unwrap();
        let rule = WriteRule {
            channel: 1,
            events: events.to_vec(),
            only: RuleFilter::default(),
            timing: Timing::Immediately,
            quiet_hours: None,
            enabled: true,
        };
        store.save_rule(None, &rule, "2026-01-01T00:00:00.000Z", None).await.unwrap();
        let notifier = Notifier::new(store.clone(), Arc::default(), Arc::new(KnownUrl::new(None, None)));
        for (second, (verdict, tests)) in runs.iter().enumerate() {
            let at = format!("2026-01-01T00:00:{second:02}.000Z");
            let run = arranged::SuiteRun { suite: "nightly", at, verdict: *verdict, labels: &["branch:main"], tests };
            arranged::suite_run(&store, run).await;
            notifier.tell().await.unwrap();
            // Looking again tells nothing twice.
            notifier.tell().await.unwrap();
        }
        let mut log = store.deliveries(&DeliveryFilter { limit: 99, ..DeliveryFilter::default() }).await.unwrap();
        log.reverse();
        let body = match log.last() {
            Some(last) => store.delivery(&last.id).await.unwrap().unwrap().body,
            None => String::new(),
        };
        (log.into_iter().map(|entry| entry.title).collect(), body)
    }

    use NotificationEvent::{EveryFailure, FirstFailure, Recovery, Regression};
    use Verdict::{Failed, Halted, Passed};

    const GOOD: &[(&str, bool)] = &[("pay", true), ("login", true)];
    const BAD: &[(&str, bool)] = &[("pay", false), ("login", true)];
    const WORSE: &[(&str, bool)] = &[("pay", false), ("login", false)];

    #[tokio::test]
    async fn only_changes_are_told() {
        let runs = [(Passed, GOOD), (Failed, BAD), (Failed, BAD), (Halted, &[][..]), (Failed, BAD), (Passed, GOOD)];
        let (titles, _) = told(&[FirstFailure, Recovery, Regression], &runs).await;
        assert_eq!(titles, ["nightly on main failed: 1 test", "nightly on main passes again"]);
        let (titles, _) = told(&[EveryFailure], &runs).await;
        assert_eq!(titles.len(), 3, "{titles:?}");
    }

    #[tokio::test]
    async fn a_test_that_newly_fails_in_a_failing_suite_is_a_regression_that_names_it() {
        let (titles, body) = told(&[Regression], &[(Failed, BAD), (Failed, BAD), (Failed, WORSE)]).await;
        assert_eq!(titles, ["nightly on main: 1 test newly failing"]);
        for part in [
            "*Newly failing*\\n• shop › login: expected 3, was 4",
            "*Failing already before*\\n• shop › pay",
            "The first run that failed",
            "0 of 2 tests passed.",
        ] {
            assert!(body.contains(part), "`{part}` is missing in {body}");
        }
    }

    #[tokio::test]
    async fn a_schedule_that_was_due_and_did_not_run_is_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("kennel.db")).await.unwrap();
        let slack = Destination::Slack { url: Secret("https://hooks.slack.example/x".to_owned()) };
        store.save_channel(None, "team", &slack, false, true).await.unwrap();
        let mut rule = WriteRule {
            channel: 1,
            events: vec![NotificationEvent::MissedSchedule],
            only: RuleFilter::default(),
            timing: Timing::Immediately,
            quiet_hours: None,
            enabled: true,
        };
        store.save_rule(None, &rule, "2026-01-01T00:00:00.000Z", None).await.unwrap();
        // No schedule is about one suite alone.
        rule.only.suite = "nightly".to_owned();
        store.save_rule(None, &rule, "2026-01-01T00:00:00.000Z", None).await.unwrap();
        let due = [
            ("2026-01-02T02:00:00Z", "missed"),
            ("2026-01-03T02:00:00Z", "started"),
            ("2026-01-04T02:00:00Z", "skipped"),
        ];
        arranged::schedule(&store, "every night", &due).await;
        let notifier = Notifier::new(store.clone(), Arc::default(), Arc::new(KnownUrl::new(None, None)));
        notifier.tell().await.unwrap();
        // Kennel was down for a day: one message tells of all that.
        let hours: Vec<String> = (10..20).map(|hour| format!("2026-01-05T{hour}:00:00Z")).collect();
        let due: Vec<(&str, &str)> = hours.iter().map(|due_at| (due_at.as_str(), "missed")).collect();
        arranged::schedule(&store, "every hour", &due).await;
        notifier.tell().await.unwrap();
        let mut log = store.deliveries(&DeliveryFilter { limit: 99, ..DeliveryFilter::default() }).await.unwrap();
        assert_eq!(log.len(), 2, "{log:?}");
        let body = store.delivery(&log.remove(0).id).await.unwrap().unwrap().body;
        assert!(body.contains("It was due 10 times, from 2026-01-05T10:00:00Z to 2026-01-05T19:00:00Z."), "{body}");
        assert_eq!(
            log.iter().map(|entry| entry.title.as_str()).collect::<Vec<_>>(),
            ["Schedule every night did not run"]
        );
        let body = store.delivery(&log[0].id).await.unwrap().unwrap().body;
        assert!(
            body.contains("It was due at 2026-01-02T02:00:00Z.") && body.contains("Kennel was not running"),
            "{body}"
        );
    }
}
