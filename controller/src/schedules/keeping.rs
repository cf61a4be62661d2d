//! Making, changing, pausing and removing schedules. Each change falls between two looks of the scheduler, so that what
//! was due before it is judged by how things were then.

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{FieldProblem, Pause, QueueKind, ScheduleDraft, ScheduleId};
use kennel_schedules::check;

use super::ScheduleError;
use crate::caller::Caller;
use crate::controller::Controller;
use crate::files::FileError;
use crate::happenings::Happening;
use crate::store::{StoreError, StoredSchedule};

impl Controller {
    /// Keeps a schedule: a new one, or in place of the one with this identity.
    ///
    /// # Errors
    /// When the draft is not valid, its name is taken, or there is no such schedule.
    pub async fn save_schedule(
        &self,
        id: Option<ScheduleId>,
        mut draft: ScheduleDraft,
        caller: &Caller,
    ) -> Result<ScheduleId, ScheduleError> {
        draft.name = draft.name.trim().to_owned();
        draft.cron = draft.cron.trim().to_owned();
        let mut problems = check(&draft);
        problems.extend(self.check_subject(&draft).await?);
        let known = self.inner.store.calendars().await?;
        for (at, used) in draft.calendars.iter().enumerate() {
            if !known.iter().any(|calendar| calendar.draft.name == used.calendar) {
                let names: Vec<String> = known.iter().map(|known| format!("`{}`", known.draft.name)).collect();
                let expected = if names.is_empty() { "a calendar: there is none yet".into() } else { names.join(", ") };
                problems.push(FieldProblem {
                    field: format!("calendars[{at}].calendar"),
                    message: format!("there is no calendar `{}`", used.calendar),
                    expected,
                });
            }
        }
        if !problems.is_empty() {
            return Err(ScheduleError::Invalid(problems));
        }
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        let store = &self.inner.store;
        let action = if let Some(id) = id {
            store.schedule(id).await?.ok_or_else(|| not_found(&id.to_string()))?;
            "change a schedule"
        } else {
            "make a schedule"
        };
        let id = id.unwrap_or_default();
        if !store.save_schedule(id, &draft, &caller.name, self.inner.schedules.clock.now()).await? {
            return Err(ScheduleError::NameTaken { what: "schedule", name: draft.name });
        }
        let detail = format!("{} `{}` at `{}` in {}", draft.kind, draft.subject, draft.cron, draft.zone);
        self.record(caller, action, &draft.name, &detail).await?;
        self.schedules_changed();
        Ok(id)
    }

    /// Whether what is to run is there and can be run.
    async fn check_subject(&self, draft: &ScheduleDraft) -> Result<Vec<FieldProblem>, StoreError> {
        if draft.subject.trim().is_empty() {
            return Ok(Vec::new());
        }
        let problem = |field: String, message: String, expected: &str| {
            Ok(vec![FieldProblem { field, message, expected: expected.to_owned() }])
        };
        let absent = format!("there is no {} `{}`", draft.kind, draft.subject);
        match draft.kind {
            QueueKind::Experiment => match self.experiment_file(&draft.subject).await {
                Ok(_) if !draft.parameters.is_empty() => {
                    let message = "an experiment has no parameters".to_owned();
                    problem("parameters".to_owned(), message, "none; those of a suite may be set")
                }
                Ok(_) => Ok(Vec::new()),
                Err(FileError::Store(error)) => Err(error),
                Err(_) => problem("subject".to_owned(), absent, "the name of an experiment that Kennel keeps"),
            },
            QueueKind::Suite => {
                let Some(kept) = self.kept_suite(&draft.subject).await? else {
                    return problem("subject".to_owned(), absent, "the name of a suite that Kennel keeps");
                };
                let read = self.known(false).await?.read(&draft.subject, &kept.source, &draft.parameters);
                let problems = read.err().map(|problems| problems.problems).unwrap_or_default();
                let placed = problems.into_iter().map(|found| {
                    let (field, message) = match found.field.starts_with("parameters") {
                        true => (found.field, found.message),
                        false => {
                            ("subject".to_owned(), format!("suite `{}` cannot run: {}", draft.subject, found.message))
                        }
                    };
                    FieldProblem { field, message, expected: found.expected }
                });
                Ok(placed.collect())
            }
        }
    }

    /// Forgets a schedule and what became of its occurrences. What it started goes on.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn remove_schedule(&self, id: ScheduleId, caller: &Caller) -> Result<(), ScheduleError> {
        let _attending = self.inner.schedules.attending.lock().await;
        let schedule = self.schedule_at(id).await?;
        self.inner.store.remove_schedule(id).await?;
        self.record(caller, "remove a schedule", &schedule.draft.name, "").await?;
        self.schedules_changed();
        Ok(())
    }

    /// Pauses a schedule: its occurrences are noted and do not run.
    ///
    /// # Errors
    /// When there is no such schedule, or the pause would be over already.
    pub async fn pause_schedule(&self, id: ScheduleId, pause: Pause, caller: &Caller) -> Result<(), ScheduleError> {
        let now = self.inner.schedules.clock.now();
        let until = pause.until.as_deref().filter(|until| !until.is_empty()).map(|until| later("until", until, now));
        let until = until.transpose().map_err(|problem| ScheduleError::Invalid(vec![problem]))?;
        let pause = Pause { until: until.map(|until| until.to_string()) };
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        let schedule = self.schedule_at(id).await?;
        self.inner.store.set_pause(id, Some(&pause)).await?;
        let detail = pause.until.map_or_else(|| "until it is resumed".to_owned(), |until| format!("until {until}"));
        self.record(caller, "pause a schedule", &schedule.draft.name, &detail).await?;
        self.schedules_changed();
        Ok(())
    }

    /// Ends a schedule's pause.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn resume_schedule(&self, id: ScheduleId, caller: &Caller) -> Result<(), ScheduleError> {
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        let schedule = self.schedule_at(id).await?;
        self.inner.store.set_pause(id, None).await?;
        self.record(caller, "resume a schedule", &schedule.draft.name, "").await?;
        self.schedules_changed();
        Ok(())
    }

    /// Runs what a schedule runs, now, whatever its calendars, freeze, pause and earlier runs say. The run stands among
    /// its occurrences.
    ///
    /// # Errors
    /// When there is no such schedule or its run cannot be started.
    pub async fn run_schedule_now(&self, id: ScheduleId, caller: &Caller) -> Result<RunId, ScheduleError> {
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        let schedule = self.schedule_at(id).await?;
        let run = self.start_by_hand(&schedule, &caller.name).await?;
        self.record(caller, "run a schedule now", &schedule.draft.name, &format!("run {run}")).await?;
        self.schedules_changed();
        Ok(run)
    }

    async fn schedule_at(&self, id: ScheduleId) -> Result<StoredSchedule, ScheduleError> {
        self.inner.store.schedule(id).await?.ok_or_else(|| not_found(&id.to_string()))
    }

    pub(super) fn schedules_changed(&self) {
        self.inner.happenings.tell(Happening::SchedulesChanged);
    }
}

fn not_found(name: &str) -> ScheduleError {
    ScheduleError::NotFound { what: "schedule", name: name.to_owned() }
}

/// Reads a moment that has to be after `now`, whole seconds.
pub(super) fn later(field: &str, text: &str, now: Timestamp) -> Result<Timestamp, FieldProblem> {
    let problem = |message: String| FieldProblem {
        field: field.to_owned(),
        message,
        expected: "a later moment, with its offset: `2026-12-24T12:00:00Z`".to_owned(),
    };
    let at: Timestamp = text.trim().parse().map_err(|_| problem(format!("`{text}` is no moment")))?;
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    if at > now { Ok(at) } else { Err(problem(format!("`{text}` is over"))) }
}
