//! Calendars and the freeze: when nothing may run.

use jiff::Timestamp;
use kennel_model::api::{CalendarDraft, CalendarView, FieldProblem, FreezeDraft, FreezeState, FreezeView, WindowView};
use kennel_schedules::Calendar;

use super::ScheduleError;
use super::keeping::later;
use crate::caller::Caller;
use crate::controller::Controller;
use crate::store::StoreError;

/// Longest reason of a freeze, in characters.
const LONGEST_REASON: usize = 500;

impl Controller {
    /// Every calendar, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calendars(&self) -> Result<Vec<CalendarView>, StoreError> {
        let schedules = self.inner.store.schedules().await?;
        let users = |name: &str| {
            let uses = schedules.iter().filter(|one| one.draft.calendars.iter().any(|used| used.calendar == name));
            uses.map(|one| one.draft.name.clone()).collect()
        };
        let calendars = self.inner.store.calendars().await?;
        Ok(calendars
            .into_iter()
            .map(|stored| CalendarView {
                used_by: users(&stored.draft.name),
                draft: stored.draft,
                author: stored.author,
                changed_at: stored.changed_at,
            })
            .collect())
    }

    /// One calendar.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calendar(&self, name: &str) -> Result<Option<CalendarView>, StoreError> {
        Ok(self.calendars().await?.into_iter().find(|calendar| calendar.draft.name == name))
    }

    /// Keeps a calendar: a new one, or in place of the one called `old`.
    ///
    /// # Errors
    /// When the draft is not valid, its name is taken, or the old one does not exist or is in use under its old name.
    pub async fn save_calendar(
        &self,
        old: Option<&str>,
        mut draft: CalendarDraft,
        caller: &Caller,
    ) -> Result<(), ScheduleError> {
        draft.name = draft.name.trim().to_owned();
        Calendar::parse(&draft).map_err(ScheduleError::Invalid)?;
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        if let Some(old) = old {
            let found = self.calendar(old).await?.ok_or_else(|| not_found(old))?;
            if draft.name != old && !found.used_by.is_empty() {
                return Err(ScheduleError::InUse { name: old.to_owned(), used_by: found.used_by });
            }
        }
        if !self.inner.store.save_calendar(old, &draft, &caller.name).await? {
            return Err(ScheduleError::NameTaken { what: "calendar", name: draft.name });
        }
        let action = if old.is_some() { "change a calendar" } else { "make a calendar" };
        self.record(caller, action, &draft.name, &format!("{} windows", draft.windows.len())).await?;
        self.schedules_changed();
        Ok(())
    }

    /// Forgets a calendar.
    ///
    /// # Errors
    /// When there is no such calendar or schedules name it.
    pub async fn remove_calendar(&self, name: &str, caller: &Caller) -> Result<(), ScheduleError> {
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        let found = self.calendar(name).await?.ok_or_else(|| not_found(name))?;
        if !found.used_by.is_empty() {
            return Err(ScheduleError::InUse { name: name.to_owned(), used_by: found.used_by });
        }
        self.inner.store.remove_calendar(name).await?;
        self.record(caller, "remove a calendar", name, "").await?;
        self.schedules_changed();
        Ok(())
    }

    /// What the windows of all calendars cover between two moments, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calendar_windows(&self, from: Timestamp, to: Timestamp) -> Result<Vec<WindowView>, StoreError> {
        let mut found = Vec::new();
        for stored in self.inner.store.calendars().await? {
            let Ok(calendar) = Calendar::parse(&stored.draft) else { continue };
            found.extend(calendar.windows(from, to).into_iter().map(|(from, to, window)| WindowView {
                calendar: stored.draft.name.clone(),
                name: window.name.clone(),
                from: from.to_string(),
                to: to.to_string(),
                everywhere: stored.draft.everywhere,
            }));
        }
        found.sort_by(|a, b| (&a.from, &a.to, &a.calendar).cmp(&(&b.from, &b.to, &b.calendar)));
        Ok(found)
    }

    /// Whether schedules are frozen now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn freeze_state(&self) -> Result<FreezeState, StoreError> {
        let now = self.inner.schedules.clock.now();
        let moment = |text: &str| text.parse::<Timestamp>().map_err(StoreError::broken("moment of a freeze"));
        for freeze in self.inner.store.freezes().await? {
            let is_over = freeze.until.as_deref().map(moment).transpose()?.is_some_and(|until| until <= now);
            if !is_over {
                return Ok(FreezeState { freeze: Some(freeze) });
            }
        }
        Ok(FreezeState::default())
    }

    /// Freezes: no schedule starts anything until the freeze ends. A freeze that is on is ended by this one.
    ///
    /// # Errors
    /// When no reason is given, or its end is over already.
    pub async fn freeze(&self, draft: FreezeDraft, caller: &Caller) -> Result<(), ScheduleError> {
        let now = self.inner.schedules.clock.now();
        let mut problems = Vec::new();
        let reason = draft.reason.trim();
        if reason.is_empty() || reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
            problems.push(FieldProblem {
                field: "reason".to_owned(),
                message: "a freeze needs a reason, for those who wonder".to_owned(),
                expected: format!("1 to {LONGEST_REASON} printable characters"),
            });
        }
        let until = draft.until.as_deref().filter(|until| !until.is_empty()).map(|until| later("until", until, now));
        let until = until.transpose().unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        if !problems.is_empty() {
            return Err(ScheduleError::Invalid(problems));
        }
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        let view = FreezeView {
            reason: reason.to_owned(),
            since: Timestamp::from_second(now.as_second()).unwrap_or(now).to_string(),
            until: until.map(|until| until.to_string()),
            by: caller.name.clone(),
        };
        self.inner.store.set_freeze(Some(&view), now).await?;
        self.record(caller, "freeze schedules", "all", reason).await?;
        self.schedules_changed();
        Ok(())
    }

    /// Ends the freeze that is on; without one, nothing changes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn thaw(&self, caller: &Caller) -> Result<(), ScheduleError> {
        let _attending = self.inner.schedules.attending.lock().await;
        self.attend_now().await?;
        if let Some(freeze) = self.freeze_state().await?.freeze {
            self.inner.store.set_freeze(None, self.inner.schedules.clock.now()).await?;
            self.record(caller, "end the freeze of schedules", "all", &freeze.reason).await?;
            self.schedules_changed();
        }
        Ok(())
    }
}

fn not_found(name: &str) -> ScheduleError {
    ScheduleError::NotFound { what: "calendar", name: name.to_owned() }
}
