//! Digests: made when they are due, late rather than never when Kennel was down at the hour.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kennel_model::Verdict;
use kennel_model::api::{
    DigestView, FlakyView, MessageLine, NotificationSubject, RuleFilter, TestFilter, TestOrder, TestStanding, TestView,
    Timing, WriteRule,
};
use kennel_notifications::change::counted;
use kennel_notifications::digest::{Digest, Failing, Flaky, Muted, Ran};
use kennel_notifications::message::Message;
use kennel_notifications::rule::{About, matches};
use kennel_notifications::timing::next_digest;

use super::{Notifier, text};
use crate::store::{Store, StoreError, Tally};

/// Most changes that a digest lists.
const MOST_CHANGES: usize = 200;
/// Most muted and most flaky tests that a digest lists.
const MOST_TESTS: u32 = 100;

impl Notifier {
    /// Makes every digest that is due.
    pub(super) async fn digest(&self, now: Timestamp) -> Result<(), StoreError> {
        let moment = text(now);
        for rule in self.store.rules().await? {
            if rule.next_digest_at.as_ref().is_none_or(|due| *due > moment) {
                continue;
            }
            let message = digest(&self.store, &rule.rule, &rule.digest_from, &moment).await?.message();
            let next = next_digest(&rule.rule.timing, now).map(text);
            match self.delivery(&rule, &message).await? {
                Some(delivery) => self.store.keep_digest(rule.id, &moment, next.as_deref(), &delivery).await?,
                // The channel is not in use: what this digest would have told, the next one tells.
                None => {
                    self.store.save_rule(Some(rule.id), &rule.rule, &rule.digest_from, next.as_deref()).await?;
                }
            }
        }
        Ok(())
    }

    /// When the next digest is due.
    pub(super) async fn next_digest(&self) -> Result<Option<String>, StoreError> {
        Ok(self.store.rules().await?.into_iter().filter_map(|rule| rule.next_digest_at).min())
    }
}

/// What a rule's digest would say now, since its last one; the last day or week, for a rule that tells at once.
pub(super) async fn preview(
    store: &Store,
    rule: &WriteRule,
    from: Option<&str>,
    public_url: Option<&str>,
) -> Result<DigestView, StoreError> {
    let now = Timestamp::now();
    let back = match rule.timing {
        Timing::Daily { .. } => SignedDuration::from_hours(24),
        Timing::Weekly { .. } | Timing::Immediately => SignedDuration::from_hours(7 * 24),
    };
    let from = from.map_or_else(|| text(now - back), str::to_owned);
    let message: Message = digest(store, rule, &from, &text(now)).await?.message();
    let text = message.text(public_url);
    Ok(DigestView { title: message.title, text, sections: message.sections })
}

async fn digest(store: &Store, rule: &WriteRule, from: &str, to: &str) -> Result<Digest, StoreError> {
    let only = &rule.only;
    let events = store.events_between(from, to).await?.into_iter().filter(|event| {
        let about = About { kind: event.kind, name: &event.name, labels: &event.labels, is_step: event.is_step };
        matches(only, &about) && (rule.events.is_empty() || rule.events.contains(&event.event))
    });
    let mut changes: Vec<MessageLine> =
        events.map(|event| MessageLine { text: event.title, link: event.link }).collect();
    let dropped = changes.len().saturating_sub(MOST_CHANGES);
    changes.drain(..dropped);
    let failing = store.failing_standings().await?.into_iter().filter_map(|row| {
        let labels = if row.branch.is_empty() { Vec::new() } else { vec![format!("branch:{}", row.branch)] };
        // What stands is known by branch, not by the other labels of its runs.
        let only = RuleFilter { label: String::new(), ..only.clone() };
        let about = About { kind: row.kind, name: &row.name, labels: &labels, is_step: row.is_step };
        let since = row.standing.failing_since.filter(|_| matches(&only, &about))?;
        Some(Failing {
            name: if row.branch.is_empty() { row.name } else { format!("{} on {}", row.name, row.branch) },
            link: Some(match row.kind {
                NotificationSubject::Suite => format!("/suite-runs/{}", since.run),
                _ => format!("/runs/{}", since.run),
            }),
            since: since.at,
            faults: counted(&row.standing.faults),
        })
    });
    Ok(Digest {
        from: from.to_owned(),
        to: to.to_owned(),
        ran: ran(store.tallies_between(from, to).await?, only),
        changes,
        failing: failing.collect(),
        muted: muted(store, only).await?,
        flaky: flaky(store, only).await?,
    })
}

/// Tests of what a rule is about; none for a rule about an experiment.
async fn tests(store: &Store, only: &RuleFilter, filter: TestFilter) -> Result<Vec<TestStanding>, StoreError> {
    if only.suite.is_empty() && !only.experiment.is_empty() {
        return Ok(Vec::new());
    }
    let suite = Some(only.suite.clone()).filter(|suite| !suite.is_empty());
    store.listed_tests(&TestFilter { suite, ..filter }).await
}

async fn muted(store: &Store, only: &RuleFilter) -> Result<Vec<Muted>, StoreError> {
    let filter = TestFilter { muted: Some(true), order: TestOrder::Expiry, limit: MOST_TESTS, ..TestFilter::default() };
    let muted = tests(store, only, filter).await?.into_iter().filter_map(|standing| {
        let mute = standing.mute?;
        Some(Muted {
            test: called(&standing.test),
            link: Some(format!("/tests/{}", standing.test.id)),
            owner: mute.owner,
            reason: mute.reason,
            until: Some(mute.expires_at),
        })
    });
    Ok(muted.collect())
}

async fn flaky(store: &Store, only: &RuleFilter) -> Result<Vec<Flaky>, StoreError> {
    let filter = TestFilter { flaky: true, order: TestOrder::Flaky, limit: MOST_TESTS, ..TestFilter::default() };
    let flaky = tests(store, only, filter).await?.into_iter().map(|standing| {
        let FlakyView { changes, on_retry, results, .. } = standing.flaky;
        let retried = if on_retry == 0 { String::new() } else { format!(", {on_retry} passed on a retry") };
        Flaky {
            test: called(&standing.test),
            link: Some(format!("/tests/{}", standing.test.id)),
            score: format!("{changes} changes between pass and fail in {results} results{retried}"),
        }
    });
    Ok(flaky.collect())
}

/// A test as messages name it.
fn called(test: &TestView) -> String {
    let parts = [&test.class, &test.name, &test.parameters];
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    format!("{}: {}", test.suite, parts.join(" › "))
}

fn ran(tallies: Vec<Tally>, only: &RuleFilter) -> Vec<Ran> {
    let mut ran: BTreeMap<(String, NotificationSubject), Ran> = BTreeMap::new();
    for tally in tallies {
        let about = About { kind: tally.kind, name: &tally.name, labels: &tally.labels, is_step: tally.is_step };
        if !matches(only, &about) {
            continue;
        }
        let link = (tally.kind == NotificationSubject::Suite).then(|| "/suites".to_owned());
        let entry = ran.entry((tally.name.clone(), tally.kind)).or_insert_with(|| Ran {
            name: tally.name.clone(),
            link,
            ..Ran::default()
        });
        entry.runs += 1;
        match tally.verdict {
            Verdict::Passed => entry.passed += 1,
            Verdict::Failed | Verdict::Error => entry.failed += 1,
            Verdict::Inconclusive | Verdict::Invalid | Verdict::Halted => {}
        }
    }
    ran.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::people::KnownUrl;
    use crate::store::arranged;
    use kennel_model::api::{DeliveryState, NotificationEvent, Secret};
    use kennel_notifications::destination::Destination;

    async fn notifier() -> (tempfile::TempDir, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("kennel.db")).await.unwrap();
        let slack = Destination::Slack { url: Secret("https://hooks.slack.example/x".to_owned()) };
        store.save_channel(None, "team", &slack, false, true).await.unwrap();
        (dir, Notifier::new(store, Arc::default(), Arc::new(KnownUrl::new(None, None))))
    }

    fn rule(timing: Timing, only: RuleFilter) -> WriteRule {
        let events = NotificationEvent::CHOICES.to_vec();
        WriteRule { channel: 1, events, only, timing, quiet_hours: None, enabled: true }
    }

    #[tokio::test]
    async fn a_digest_that_was_due_while_kennel_was_down_comes_once_and_tells_everything_since() {
        let (_dir, notifier) = notifier().await;
        let store = &notifier.store;
        let daily = rule(Timing::Daily { hour: 8, zone: "UTC".to_owned() }, RuleFilter::default());
        let from = "2026-01-01T08:00:00.000Z";
        store.save_rule(None, &daily, from, Some("2026-01-02T08:00:00.000Z")).await.unwrap();
        let suite = |at: &str, verdict, tests| arranged::SuiteRun {
            suite: "nightly",
            at: at.to_owned(),
            verdict,
            labels: &[],
            tests,
        };
        arranged::suite_run(store, suite("2026-01-01T09:00:00.000Z", Verdict::Passed, &[("pay", true)])).await;
        let failed = suite("2026-01-02T09:00:00.000Z", Verdict::Failed, &[("pay", false)]);
        let failed = arranged::suite_run(store, failed).await;
        notifier.tell().await.unwrap();

        // Kennel was down for three days.
        let now: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        notifier.digest(now).await.unwrap();
        notifier.digest(now).await.unwrap();
        let log = store.deliveries(&crate::store::DeliveryFilter { limit: 9, ..Default::default() }).await.unwrap();
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!((log[0].event, log[0].state), (NotificationEvent::Digest, DeliveryState::Waiting));
        assert_eq!(log[0].title, "Kennel digest: 1 failing, 2 runs");
        let body = store.delivery(&log[0].id).await.unwrap().unwrap().body;
        for part in [
            "nightly, since 2026-01-02 09:00 UTC: 1 test",
            "nightly: 2 runs, 1 passed, 1 failed",
            "nightly failed: 1 test",
        ] {
            assert!(body.contains(part), "`{part}` is missing in {body}");
        }
        assert!(!body.contains(&failed.to_string()), "no links without a public address: {body}");
        assert_eq!(notifier.next_digest().await.unwrap().as_deref(), Some("2026-01-06T08:00:00.000Z"));

        // The next one tells only what came since, and what still stands.
        notifier.digest("2026-01-06T08:00:00Z".parse().unwrap()).await.unwrap();
        let log = store.deliveries(&crate::store::DeliveryFilter { limit: 9, ..Default::default() }).await.unwrap();
        assert_eq!((log.len(), log[0].title.as_str()), (2, "Kennel digest: 1 failing, 0 runs"));
    }

    #[tokio::test]
    async fn a_digest_is_restricted_to_what_its_rule_is_about() {
        let (_dir, notifier) = notifier().await;
        let store = &notifier.store;
        let now = Timestamp::now();
        for (suite, labels) in [("nightly", ["branch:main"]), ("nightly", ["branch:dev"]), ("hourly", ["branch:main"])]
        {
            let run =
                arranged::SuiteRun { suite, at: text(now), verdict: Verdict::Failed, labels: &labels, tests: &[] };
            arranged::suite_run(store, run).await;
        }
        notifier.tell().await.unwrap();
        let only = RuleFilter { suite: "nightly".to_owned(), branch: "main".to_owned(), ..RuleFilter::default() };
        let shown = preview(store, &rule(Timing::Immediately, only), None, None).await.unwrap();
        assert!(
            shown.text.contains("nightly on main, since")
                && !shown.text.contains("dev")
                && !shown.text.contains("hourly"),
            "{}",
            shown.text
        );
        assert_eq!(shown.title, "Kennel digest: 1 failing, 1 run");
        let all = preview(store, &rule(Timing::Immediately, RuleFilter::default()), None, None).await.unwrap();
        assert_eq!(all.title, "Kennel digest: 3 failing, 3 runs");
    }
}
