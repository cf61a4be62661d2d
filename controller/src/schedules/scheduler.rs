//! The scheduler: a task that looks at what is due, notes every occurrence before anything is started, starts it under
//! an identity chosen beforehand, and notes what became of it. Killed at any moment, it goes on at the next start where
//! it stopped: an occurrence whose row is there is not noted again, and a run whose identity is there is not started
//! again.

use std::sync::Weak;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kennel_model::RunId;
use kennel_model::api::{
    CalendarMode, MissedPolicy, OccurrenceState, Origin, OverlapPolicy, QueueKind, StartRun, StartSuite,
};
use kennel_schedules::decide::TOLERANCE;
use kennel_schedules::{Calendar, Cron, Decision, Freeze, Situation, decide};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::ScheduleError;
use crate::controller::{Controller, HaltError, Inner, StartError};
use crate::files::FileError;
use crate::happenings::Happening;
use crate::store::{NewOccurrence, StoreError, StoredSchedule, Unsettled};
use crate::suites::{CancelSuiteError, StartSuiteError};

/// Longest time between two looks: the machine's clock may be set, and the machine may have slept.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Pause after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What keeps schedules from running, read.
pub(super) struct Rules {
    calendars: Vec<Calendar>,
    pub(super) freezes: Vec<Freeze>,
}

impl Rules {
    /// The calendars that a schedule obeys.
    pub(super) fn of(&self, schedule: &StoredSchedule) -> Vec<(CalendarMode, Calendar)> {
        let everywhere = self.calendars.iter().filter(|calendar| calendar.is_everywhere());
        let everywhere = everywhere.map(|calendar| (CalendarMode::Exclude, calendar.clone()));
        let named = schedule.draft.calendars.iter().filter_map(|used| {
            let calendar = self.calendars.iter().find(|calendar| calendar.name() == used.calendar)?;
            Some((used.mode, calendar.clone()))
        });
        everywhere.chain(named).collect()
    }
}

/// How handing a run in ended.
enum HandedIn {
    Yes,
    /// It cannot be started.
    Refused(String),
    /// Kennel ends; the next start takes it up.
    Closing,
}

/// Starts what is due until cancelled or the controller is gone.
pub(crate) async fn work(
    controller: Weak<Inner>,
    mut happenings: broadcast::Receiver<Happening>,
    stop: CancellationToken,
) {
    loop {
        let Some(inner) = controller.upgrade() else { return };
        let controller_now = Controller { inner };
        let pause = match controller_now.attend_schedules().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "what is due could not be looked at; trying again soon");
                AFTER_FAILURE
            }
        };
        let clock = controller_now.inner.schedules.clock.clone();
        // Not held while waiting: this task must not keep the data directory owned.
        drop(controller_now);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = clock.moved() => {}
            () = change(&mut happenings) => {}
        }
    }
}

/// Resolves when a run ended or a schedule was changed.
async fn change(happenings: &mut broadcast::Receiver<Happening>) {
    loop {
        match happenings.recv().await {
            // A listener that missed some may have missed an end.
            Ok(Happening::RunEnded(_) | Happening::SuiteRunEnded(_) | Happening::SchedulesChanged)
            | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Controller {
    /// Looks at what is due; answers how long until the next look.
    async fn attend_schedules(&self) -> Result<Duration, StoreError> {
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await
    }

    /// As [`Self::attend_schedules`], for those who hold the lock already.
    pub(super) async fn attend_now(&self) -> Result<Duration, StoreError> {
        if self.inner.shutdown.is_cancelled() {
            return Ok(LOOK_EVERY);
        }
        let now = self.inner.schedules.clock.now();
        let rules = self.rules().await?;
        let mut unsettled = self.inner.store.unsettled_occurrences().await?;
        let mut pause = LOOK_EVERY;
        let mut schedules = self.inner.store.schedules().await?;
        // Of what is due at the same moment, the first that is handed in gets a free target.
        schedules.sort_by_key(|schedule| std::cmp::Reverse(schedule.draft.priority));
        for schedule in schedules {
            let (mine, others) = unsettled.into_iter().partition(|one| one.schedule == schedule.id);
            unsettled = others;
            let cron = match Cron::parse(&schedule.draft.cron, &schedule.draft.zone) {
                Ok(cron) => cron,
                Err(problem) => {
                    tracing::error!(schedule = %schedule.draft.name, %problem, "a schedule can no longer be read");
                    continue;
                }
            };
            self.attend(&schedule, &cron, &rules, mine, now).await?;
            if let Some(next) = cron.next(schedule.handled_at.max(now)) {
                let ahead = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                pause = pause.min(ahead);
            }
        }
        Ok(pause)
    }

    /// What keeps schedules from running.
    pub(super) async fn rules(&self) -> Result<Rules, StoreError> {
        let mut calendars = Vec::new();
        for stored in self.inner.store.calendars().await? {
            match Calendar::parse(&stored.draft) {
                Ok(calendar) => calendars.push(calendar),
                Err(problems) => {
                    tracing::error!(calendar = %stored.draft.name, ?problems, "a calendar can no longer be read");
                }
            }
        }
        let mut freezes = Vec::new();
        for freeze in self.inner.store.freezes().await? {
            let moment = |text: &str| text.parse::<Timestamp>().map_err(StoreError::broken("moment of a freeze"));
            let until = freeze.until.as_deref().map(moment).transpose()?;
            freezes.push(Freeze { since: moment(&freeze.since)?, until, reason: freeze.reason });
        }
        Ok(Rules { calendars, freezes })
    }

    async fn attend(
        &self,
        schedule: &StoredSchedule,
        cron: &Cron,
        rules: &Rules,
        unsettled: Vec<Unsettled>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let is_due = cron.next(schedule.handled_at).is_some_and(|due| due <= now);
        if !is_due && unsettled.is_empty() {
            return Ok(());
        }
        let (starting, mut waiting): (Vec<_>, Vec<_>) =
            unsettled.into_iter().partition(|one| one.state == OccurrenceState::Starting);
        let mut changed = false;
        for one in starting {
            changed |= self.take_up(schedule, one, now).await?;
        }
        let calendars = rules.of(schedule);
        let mut busy = self.inner.store.runs_of_schedule_under_way(schedule.id).await?;
        let mut situation = Situation {
            draft: &schedule.draft,
            cron,
            calendars: &calendars,
            freezes: &rules.freezes,
            pause: schedule.pause.as_ref(),
            handled_at: schedule.handled_at,
            now,
            is_busy: false,
        };
        while busy.is_empty() && !waiting.is_empty() {
            changed = true;
            self.end_wait(schedule, &situation, &waiting.remove(0), now).await?;
            busy = self.inner.store.runs_of_schedule_under_way(schedule.id).await?;
        }
        if is_due {
            situation.is_busy = !busy.is_empty() || !waiting.is_empty();
            changed = true;
            self.note(schedule, &situation, &busy, &waiting).await?;
        }
        if changed {
            self.inner.happenings.tell(Happening::SchedulesChanged);
        }
        Ok(())
    }

    /// Notes everything that is due, then starts what is to start.
    async fn note(
        &self,
        schedule: &StoredSchedule,
        situation: &Situation<'_>,
        busy: &[(RunId, QueueKind)],
        waiting: &[Unsettled],
    ) -> Result<(), StoreError> {
        let plan = decide(situation);
        let replaces = schedule.draft.overlap == OverlapPolicy::Replace;
        let mut is_busy = situation.is_busy;
        let mut halts = false;
        let mut noted: Vec<NewOccurrence> = Vec::new();
        for Decision { due_at, mut state, mut reason } in plan.decisions {
            if state == OccurrenceState::Starting && is_busy && replaces {
                // Its turn comes when the earlier run has really ended: tear-down, reverted faults.
                state = OccurrenceState::Waiting;
                reason = "waits until the run that it replaces has ended".to_owned();
                halts = true;
            }
            is_busy |= state == OccurrenceState::Starting;
            let run = (state == OccurrenceState::Starting).then(RunId::new);
            noted.push(NewOccurrence { due_at, state, reason, run });
        }
        if halts {
            // Only the last of those that came at once runs.
            let last = noted.iter().rposition(|one| one.state == OccurrenceState::Waiting);
            for (at, one) in noted.iter_mut().enumerate() {
                if Some(at) != last && one.state == OccurrenceState::Waiting && one.reason.contains("replaces") {
                    one.state = OccurrenceState::Replaced;
                    one.reason = "a later occurrence took its place".to_owned();
                }
            }
        }
        let kept = self.inner.store.note_occurrences(schedule, noted, plan.handled_at).await?;
        // At most one waits of those that are due by the clock, however long the earlier run takes.
        let displaces = |one: &NewOccurrence| one.state == OccurrenceState::Waiting && !is_caught_up(&one.reason);
        if kept.iter().any(displaces) {
            for earlier in waiting.iter().filter(|one| !is_caught_up(&one.reason)) {
                let (state, why) = (OccurrenceState::Replaced, "a later occurrence took its place");
                self.inner.store.settle_occurrence(schedule.id, earlier.due_at, state, why, None).await?;
            }
        }
        for one in kept {
            if let (OccurrenceState::Starting, Some(run)) = (one.state, one.run) {
                self.start_occurrence(schedule, one.due_at, run, &one.reason).await?;
            }
        }
        if halts {
            for (run, kind) in busy {
                self.end_replaced(*run, *kind, &schedule.draft.name).await?;
            }
        }
        Ok(())
    }

    /// An occurrence that was noted as starting and not seen to have started: Kennel was stopped in between, or the store
    /// failed. Answers whether anything is known of it now.
    async fn take_up(&self, schedule: &StoredSchedule, one: Unsettled, now: Timestamp) -> Result<bool, StoreError> {
        let store = &self.inner.store;
        let run = one.run.unwrap_or_default();
        let is_there = match one.kind {
            QueueKind::Experiment => store.run(run).await?.is_some(),
            QueueKind::Suite => store.suite_run(run).await?.is_some(),
        };
        if is_there {
            let state = OccurrenceState::Started;
            store.settle_occurrence(schedule.id, one.due_at, state, &one.reason, Some(run)).await?;
            return Ok(true);
        }
        let late = now.duration_since(one.due_at);
        // What was to run late anyway has a reason.
        if late > TOLERANCE && schedule.draft.missed == MissedPolicy::Skip && one.reason.is_empty() {
            let why = format!("Kennel was stopped just before it started, and came back {} s late", late.as_secs());
            store.settle_occurrence(schedule.id, one.due_at, OccurrenceState::Missed, &why, None).await?;
            return Ok(true);
        }
        self.start_occurrence(schedule, one.due_at, run, &one.reason).await
    }

    /// The earlier run is over: what waited for that starts, unless something keeps it from running now.
    async fn end_wait(
        &self,
        schedule: &StoredSchedule,
        situation: &Situation<'_>,
        one: &Unsettled,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let store = &self.inner.store;
        if let Some(obstacle) = situation.obstacle(now) {
            let why = format!("it waited for the earlier run; when that was over: {obstacle}");
            return store.settle_occurrence(schedule.id, one.due_at, OccurrenceState::Skipped, &why, None).await;
        }
        let run = one.run.unwrap_or_default();
        let waited = now.duration_since(one.due_at).max(SignedDuration::ZERO).as_secs();
        let reason = match is_caught_up(&one.reason) {
            true => "caught up with".to_owned(),
            false => format!("waited {waited} s for the earlier run"),
        };
        store.settle_occurrence(schedule.id, one.due_at, OccurrenceState::Starting, &reason, Some(run)).await?;
        self.start_occurrence(schedule, one.due_at, run, &reason).await.map(drop)
    }

    /// Hands in the run of an occurrence that is noted as starting, and notes how that went. False when Kennel ends.
    async fn start_occurrence(
        &self,
        schedule: &StoredSchedule,
        due_at: Timestamp,
        run: RunId,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let (state, reason, run) = match self.hand_in(schedule, run).await? {
            HandedIn::Yes => (OccurrenceState::Started, reason.to_owned(), Some(run)),
            HandedIn::Refused(why) => {
                tracing::warn!(schedule = %schedule.draft.name, %due_at, %why, "what is due could not be started");
                (OccurrenceState::Failed, why, None)
            }
            HandedIn::Closing => return Ok(false),
        };
        self.inner.store.settle_occurrence(schedule.id, due_at, state, &reason, run).await?;
        Ok(true)
    }

    async fn hand_in(&self, schedule: &StoredSchedule, run: RunId) -> Result<HandedIn, StoreError> {
        let draft = &schedule.draft;
        match draft.kind {
            QueueKind::Suite => {
                let request = StartSuite {
                    suite: Some(draft.subject.clone()),
                    parameters: draft.parameters.clone(),
                    priority: draft.priority,
                    ..StartSuite::default()
                };
                match self.start_suite_as(run, request, Origin::Schedule, &draft.name).await {
                    Ok(_) => Ok(HandedIn::Yes),
                    Err(StartSuiteError::Closing) => Ok(HandedIn::Closing),
                    Err(StartSuiteError::Store(error)) => Err(error),
                    Err(error) => Ok(HandedIn::Refused(error.to_string())),
                }
            }
            QueueKind::Experiment => {
                let found = match self.experiment_file(&draft.subject).await {
                    Ok(found) => found,
                    Err(FileError::Store(error)) => return Err(error),
                    Err(error) => return Ok(HandedIn::Refused(error.to_string())),
                };
                let file = Some(draft.subject.clone());
                let request = StartRun { experiment: found.source, file, raw_log: None };
                match self.start_run_as(run, request, &draft.name, draft.priority).await {
                    Ok(_) => Ok(HandedIn::Yes),
                    Err(StartError::Closing) => Ok(HandedIn::Closing),
                    Err(StartError::Store(error)) => Err(error),
                    Err(StartError::Invalid(problems)) => Ok(HandedIn::Refused(problems.to_string())),
                }
            }
        }
    }

    /// Ends a run whose place another takes. One that is over by now needs no end.
    async fn end_replaced(&self, run: RunId, kind: QueueKind, schedule: &str) -> Result<(), StoreError> {
        match kind {
            QueueKind::Experiment => match self.halt(run).await {
                Err(HaltError::Store(error)) => Err(error),
                _ => Ok(()),
            },
            QueueKind::Suite => match self.cancel_suite(run, &format!("schedule {schedule}")).await {
                Err(CancelSuiteError::Store(error)) => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Starts a schedule's run by hand, beside its occurrences by the clock and whatever else is on.
    pub(super) async fn start_by_hand(&self, schedule: &StoredSchedule, by: &str) -> Result<RunId, ScheduleError> {
        let (run, reason) = (RunId::new(), format!("started by hand, by {by}"));
        let mut due_at = self.inner.schedules.clock.now();
        // Every moment up to now has been looked at, so one that is free will stay free.
        loop {
            let one =
                NewOccurrence { due_at, state: OccurrenceState::Starting, reason: reason.clone(), run: Some(run) };
            if !self.inner.store.note_occurrences(schedule, vec![one], schedule.handled_at).await?.is_empty() {
                break;
            }
            due_at -= SignedDuration::from_secs(1);
        }
        let (state, why) = match self.hand_in(schedule, run).await? {
            HandedIn::Yes => (OccurrenceState::Started, None),
            HandedIn::Refused(why) => (OccurrenceState::Failed, Some(why)),
            HandedIn::Closing => return Err(ScheduleError::Closing),
        };
        let (kept, told) = (why.is_none().then_some(run), why.as_deref().unwrap_or(&reason));
        self.inner.store.settle_occurrence(schedule.id, due_at, state, told, kept).await?;
        match why {
            None => Ok(run),
            Some(why) => Err(ScheduleError::NotStarted { name: schedule.draft.name.clone(), why }),
        }
    }
}

/// Whether an occurrence is one of several that are made up for one after the other.
fn is_caught_up(reason: &str) -> bool {
    reason.contains("caught up with")
}
