//! Digests: made when they are due, late rather than never when Kennel was down at the hour.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kennel_model::Verdict;
use kennel_model::api::{DigestView, MessageLine, NotificationSubject, RuleFilter, Timing, WriteRule};
use kennel_notifications::digest::{Digest, Failing, Ran};
use kennel_notifications::message::Message;
use kennel_notifications::rule::{About, matches};
use kennel_notifications::timing::next_digest;

use super::{Notifier, text};
use crate::store::{Store, StoreError, Tally};

/// Most changes that a digest lists.
const MOST_CHANGES: usize = 200;

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
pub(super) async fn preview(store: &Store, rule: &WriteRule, from: Option<&str>) -> Result<DigestView, StoreError> {
    let now = Timestamp::now();
    let back = match rule.timing {
        Timing::Daily { .. } => SignedDuration::from_hours(24),
        Timing::Weekly { .. } | Timing::Immediately => SignedDuration::from_hours(7 * 24),
    };
    let from = from.map_or_else(|| text(now - back), str::to_owned);
    let message: Message = digest(store, rule, &from, &text(now)).await?.message();
    let settings = store.notification_settings().await?;
    let text = message.text(settings.public_url.as_deref());
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
            faults: row.standing.faults.len(),
        })
    });
    Ok(Digest {
        from: from.to_owned(),
        to: to.to_owned(),
        ran: ran(store.tallies_between(from, to).await?, only),
        changes,
        failing: failing.collect(),
        muted: Vec::new(),
        flaky: Vec::new(),
    })
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
