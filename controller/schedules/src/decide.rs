//! What becomes of each occurrence: a pure function of the schedule, its calendars, and two moments.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use kennel_model::api::{CalendarMode, MissedPolicy, OccurrenceState, OverlapPolicy, Pause, ScheduleDraft};

use crate::calendar::Calendar;
use crate::cron::Cron;

/// An occurrence that is looked at later than this after its moment was missed.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);
/// Most occurrences that are told one by one; earlier ones are told as one.
pub const MOST_TOLD: usize = 1_000;

/// A freeze: no schedule starts anything while it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Why.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ended or will end; `None` while nobody lifts it.
    pub until: Option<Timestamp>,
}

impl Freeze {
    fn covers(&self, at: Timestamp) -> bool {
        self.since <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Everything that a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The schedule.
    pub draft: &'a ScheduleDraft,
    /// Its expression, read.
    pub cron: &'a Cron,
    /// The calendars it obeys, with what each means to it; those that hold everywhere as `exclude`.
    pub calendars: &'a [(CalendarMode, Calendar)],
    /// Freezes, past ones too.
    pub freezes: &'a [Freeze],
    /// Its pause, while there is one.
    pub pause: Option<&'a Pause>,
    /// Every occurrence up to this moment was decided about.
    pub handled_at: Timestamp,
    /// The moment.
    pub now: Timestamp,
    /// Whether a run that it started is still on, or one waits.
    pub is_busy: bool,
}

/// What becomes of one occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When it was due.
    pub due_at: Timestamp,
    /// `Starting`: hand it in now (after halting the earlier run where the policy is to replace); `Waiting`: hand it in
    /// when the earlier run is over; anything else: only note it.
    pub state: OccurrenceState,
    /// Why, in a sentence; empty where it simply starts.
    pub reason: String,
}

/// What becomes of everything that was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order of their moments; each moment once.
    pub decisions: Vec<Decision>,
    /// Every occurrence up to this moment is now decided about.
    pub handled_at: Timestamp,
}

/// Decides about every occurrence after `handled_at` up to `now`. A clock that went back decides nothing until it has
/// caught up, so that no occurrence comes twice.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Plan {
    let Situation { cron, handled_at, now, .. } = *situation;
    let mut plan = Plan { decisions: Vec::new(), handled_at: handled_at.max(now) };
    let mut told = VecDeque::new();
    let mut untold: Option<(Timestamp, u64)> = None;
    for due in cron.iter(handled_at, now) {
        told.push_back(due);
        if told.len() > MOST_TOLD
            && let Some(first) = told.pop_front()
        {
            let (begin, count) = untold.unwrap_or((first, 0));
            untold = Some((begin, count + 1));
        }
    }
    if let Some((first, count)) = untold {
        let reason = format!("missed, with {} more after it: too many to tell one by one", count - 1);
        plan.decisions.push(Decision { due_at: first, state: OccurrenceState::Missed, reason });
    }
    plan.decisions.extend(told.into_iter().map(|due| situation.at(due)));
    situation.make_up(&mut plan.decisions);
    situation.spread(&mut plan.decisions);
    plan
}

impl Situation<'_> {
    /// What one occurrence comes to, without regard to the others.
    fn at(&self, due_at: Timestamp) -> Decision {
        let (state, reason) = match self.obstacle(due_at) {
            Some(reason) => (OccurrenceState::Skipped, reason),
            None if self.now.duration_since(due_at) > TOLERANCE => {
                let late = self.now.duration_since(due_at).as_secs();
                (OccurrenceState::Missed, format!("Kennel was down or busy at that moment and came {late} s late"))
            }
            None => (OccurrenceState::Starting, String::new()),
        };
        Decision { due_at, state, reason }
    }

    /// What keeps an occurrence from running, if something does.
    #[must_use]
    pub fn obstacle(&self, due_at: Timestamp) -> Option<String> {
        if let Some(pause) = self.pause {
            let until = pause.until.as_deref().and_then(|until| until.parse::<Timestamp>().ok());
            if until.is_none_or(|until| due_at < until) {
                return Some(until.map_or("paused".to_owned(), |until| format!("paused until {until}")));
            }
        }
        if let Some(freeze) = self.freezes.iter().find(|freeze| freeze.covers(due_at)) {
            return Some(format!("frozen: {}", freeze.reason));
        }
        let covering = |calendar: &Calendar| {
            calendar.covering(due_at).map(|window| format!("`{}` of calendar `{}`", window.name, calendar.name()))
        };
        let kept_out = self.calendars.iter().filter(|(mode, _)| *mode == CalendarMode::Exclude);
        if let Some(window) = kept_out.filter_map(|(_, calendar)| covering(calendar)).next() {
            return Some(format!("blackout {window}"));
        }
        let mut allowed = self.calendars.iter().filter(|(mode, _)| *mode == CalendarMode::Include).peekable();
        // Without any, every moment is allowed.
        allowed.peek()?;
        let names: Vec<String> = allowed.clone().map(|(_, calendar)| format!("`{}`", calendar.name())).collect();
        let is_inside = allowed.any(|(_, calendar)| calendar.covering(due_at).is_some());
        (!is_inside).then(|| format!("outside of calendar {}", names.join(" and ")))
    }

    /// Turns missed occurrences into ones that start, as the policy says.
    fn make_up(&self, decisions: &mut [Decision]) {
        let missed: Vec<usize> =
            (0..decisions.len()).filter(|at| decisions[*at].state == OccurrenceState::Missed).collect();
        // The one that stands for many is not one of them.
        let many = |at: usize| decisions[at].reason.starts_with("missed, with");
        let missed: Vec<usize> = missed.into_iter().filter(|at| !many(*at)).collect();
        let Some(last) = missed.last().copied() else { return };
        match self.draft.missed {
            MissedPolicy::Skip => {}
            MissedPolicy::Once => {
                // One that is on time makes up for them by itself.
                if decisions.iter().all(|decision| decision.state != OccurrenceState::Starting) {
                    decisions[last].state = OccurrenceState::Starting;
                    decisions[last].reason = match missed.len() {
                        1 => "runs late: Kennel was down or busy at its moment".to_owned(),
                        many => format!("runs late, once for {many} missed occurrences"),
                    };
                }
            }
            MissedPolicy::CatchUp => {
                let limit = usize::try_from(self.draft.catch_up_limit).unwrap_or(usize::MAX);
                let from = missed.len().saturating_sub(limit);
                for at in &missed[from..] {
                    decisions[*at].state = OccurrenceState::Starting;
                    decisions[*at].reason = "caught up with".to_owned();
                }
                for at in &missed[..from] {
                    decisions[*at].reason.push_str(&format!("; only the last {limit} are caught up with"));
                }
            }
        }
    }

    /// Keeps runs of the schedule from overlapping, as the policy says.
    fn spread(&self, decisions: &mut [Decision]) {
        let mut is_busy = self.is_busy;
        for decision in decisions.iter_mut().filter(|decision| decision.state == OccurrenceState::Starting) {
            if !is_busy {
                is_busy = true;
                continue;
            }
            // What is caught up with comes one after the other, whatever else the policy is.
            let catches_up = decision.reason == "caught up with";
            match self.draft.overlap {
                _ if catches_up => {
                    decision.state = OccurrenceState::Waiting;
                    decision.reason = "is caught up with when the earlier run is over".to_owned();
                }
                OverlapPolicy::Queue => {
                    decision.state = OccurrenceState::Waiting;
                    decision.reason = "waits until the earlier run is over".to_owned();
                }
                OverlapPolicy::Forbid => {
                    decision.state = OccurrenceState::Forbidden;
                    decision.reason = "the earlier run was still on".to_owned();
                }
                OverlapPolicy::Replace => {
                    decision.reason = "replaces the run that was still on".to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
