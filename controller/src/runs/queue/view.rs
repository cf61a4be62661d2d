//! The queue as people see it: who waits, in which place, why, and when it is likely to start.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kennel_model::RunId;
use kennel_model::api::{QueueEntry, QueueHolder, QueueView};

use super::{Job, Queue, Seat, State};

impl Queue {
    /// What waits and what runs at `now`; `obstacle` says why no agent takes a job that has its targets.
    pub(crate) fn view(&self, now: Timestamp, obstacle: impl Fn(&Job) -> Option<String>) -> QueueView {
        view(&self.state(), now, obstacle)
    }
}

fn view(state: &State, now: Timestamp, obstacle: impl Fn(&Job) -> Option<String>) -> QueueView {
    let mut waiting = Vec::new();
    // When each target is likely to be free; absent from it: free now; `None`: nobody knows.
    let mut free_at: BTreeMap<&str, Option<Timestamp>> = BTreeMap::new();
    for seat in state.seated.values() {
        let until = seat.job.expected.and_then(|length| after(seat.since, length)).map(|until| until.max(now));
        for target in &seat.job.targets {
            free_at.insert(target, until);
        }
        if seat.awaits_agent {
            let reason = obstacle(&seat.job).unwrap_or_else(|| "waits for an agent to take it".to_owned());
            waiting.push(entry(state, &seat.job, waiting.len(), (reason, None), None));
        }
    }
    for (at, job) in state.waiting.iter().enumerate() {
        let start = job.targets.iter().try_fold(now, |latest, target| match free_at.get(target.as_str()) {
            None => Some(latest),
            Some(free) => free.map(|free| latest.max(free)),
        });
        let end = start.zip(job.expected).and_then(|(start, length)| after(start, length));
        for target in &job.targets {
            free_at.insert(target, end);
        }
        waiting.push(entry(state, job, waiting.len(), reason(state, at, job, now), start));
    }
    let running = state.seated.values().filter(|seat| !seat.awaits_agent).map(|seat| holder(seat, now)).collect();
    QueueView { running, waiting }
}

fn after(from: Timestamp, length: Duration) -> Option<Timestamp> {
    from.checked_add(SignedDuration::try_from(length).ok()?).ok()
}

fn entry(
    state: &State,
    job: &Job,
    ahead: usize,
    (reason, held_by): (String, Option<RunId>),
    start: Option<Timestamp>,
) -> QueueEntry {
    QueueEntry {
        id: job.id,
        kind: job.kind,
        name: job.name.clone(),
        targets: job.targets.iter().cloned().collect(),
        position: u32::try_from(ahead + 1).unwrap_or(u32::MAX),
        reason,
        held_by,
        requested_by: job.requested_by.clone(),
        priority: job.priority,
        moved_to_front: state.fronts.contains_key(&job.id),
        created_at: job.created_at.to_string(),
        expected_start_at: start.map(|start| start.to_string()),
        expected_s: job.expected.map(|length| length.as_secs_f64()),
    }
}

fn holder(seat: &Seat, now: Timestamp) -> QueueHolder {
    let left = seat.job.expected.map(|length| {
        let gone = now.duration_since(seat.since).as_secs_f64().max(0.0);
        (length.as_secs_f64() - gone).max(0.0)
    });
    QueueHolder {
        id: seat.job.id,
        kind: seat.job.kind,
        name: seat.job.name.clone(),
        targets: seat.job.targets.iter().cloned().collect(),
        requested_by: seat.job.requested_by.clone(),
        since: seat.since.to_string(),
        expected_left_s: left,
    }
}

/// Why a job that lacks a target waits, and the run that has the target.
fn reason(state: &State, at: usize, job: &Job, now: Timestamp) -> (String, Option<RunId>) {
    let held = job.targets.iter().find_map(|target| state.holder(target).map(|seat| (target, seat)));
    let ahead = state.waiting[..at].iter().filter(|other| !other.targets.is_disjoint(&job.targets)).count();
    let ahead = match ahead {
        0 => String::new(),
        1 => "1 ahead of it".to_owned(),
        many => format!("{many} ahead of it"),
    };
    match held {
        Some((target, seat)) => {
            let since = span(now.duration_since(seat.since));
            let (kind, name, id) = (seat.job.kind, &seat.job.name, seat.job.id.short());
            let used = format!("target `{target}` is used by {kind} `{name}`, run {id} (since {since})");
            (if ahead.is_empty() { used } else { format!("{used}; {ahead}") }, Some(seat.job.id))
        }
        None if ahead.is_empty() => ("it is about to start".to_owned(), None),
        None => (ahead, None),
    }
}

/// A stretch of time in its largest unit.
fn span(length: SignedDuration) -> String {
    match length.as_secs().max(0) {
        s @ ..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..86_400 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}
