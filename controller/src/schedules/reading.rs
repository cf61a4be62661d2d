//! Schedules for those outside: what they run, when next, and what became of their occurrences.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kennel_model::api::{
    CronPreview, Due, FieldProblem, OccurrenceView, PlannedView, QueueKind, ScheduleId, ScheduleView,
};
use kennel_schedules::{Cron, Situation};

use super::scheduler::Rules;
use crate::controller::Controller;
use crate::store::{StoreError, StoredSchedule};

/// Latest occurrences that are told with a schedule.
const LATEST: u32 = 10;
/// Occurrences in a preview.
const PREVIEWED: usize = 5;
/// How far ahead the next occurrence is looked for.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 366 * 2);
/// Most occurrences among which one that will run is looked for.
const LOOKED_AT: usize = 5_000;
/// Most occurrences of one schedule in a plan.
const PLANNED: usize = 1_500;

impl Controller {
    /// Every schedule, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, StoreError> {
        let rules = self.rules().await?;
        let mut latest: BTreeMap<ScheduleId, Vec<OccurrenceView>> = BTreeMap::new();
        for occurrence in self.inner.store.latest_occurrences(LATEST).await? {
            latest.entry(occurrence.schedule).or_default().push(occurrence);
        }
        let schedules = self.inner.store.schedules().await?;
        let now = self.inner.schedules.clock.now();
        Ok(schedules
            .into_iter()
            .map(|schedule| {
                let latest = latest.remove(&schedule.id).unwrap_or_default();
                view(schedule, &rules, latest, now)
            })
            .collect())
    }

    /// A schedule by name or identity.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn schedule(&self, named: &str) -> Result<Option<ScheduleView>, StoreError> {
        let store = &self.inner.store;
        let found = match named.parse() {
            Ok(id) => store.schedule(id).await?,
            Err(_) => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => store.schedule_named(named).await?,
        };
        let Some(schedule) = found else { return Ok(None) };
        let rules = self.rules().await?;
        let latest = store.occurrences(Some(schedule.id), Timestamp::UNIX_EPOCH, Timestamp::MAX, LATEST).await?;
        Ok(Some(view(schedule, &rules, latest, self.inner.schedules.clock.now())))
    }

    /// What a cron expression in a zone comes to.
    ///
    /// # Errors
    /// When one of the two cannot be read.
    pub fn preview_cron(&self, cron: &str, zone: &str) -> Result<CronPreview, FieldProblem> {
        Ok(Cron::parse(cron, zone)?.preview(self.inner.schedules.clock.now(), PREVIEWED))
    }

    /// What became of occurrences between two moments, of one schedule or of all, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn occurrences(
        &self,
        schedule: Option<ScheduleId>,
        from: Timestamp,
        to: Timestamp,
        limit: u32,
    ) -> Result<Vec<OccurrenceView>, StoreError> {
        self.inner.store.occurrences(schedule, from, to, limit).await
    }

    /// What will be due between two moments, from now on, with what will keep it from running.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn planned(&self, from: Timestamp, to: Timestamp) -> Result<Vec<PlannedView>, StoreError> {
        let rules = self.rules().await?;
        let from = from.max(self.inner.schedules.clock.now());
        let mut planned = Vec::new();
        for schedule in self.inner.store.schedules().await? {
            let Ok(cron) = Cron::parse(&schedule.draft.cron, &schedule.draft.zone) else { continue };
            let calendars = rules.of(&schedule);
            let situation = situation(&schedule, &cron, &rules, &calendars, from);
            planned.extend(cron.between(from, to, PLANNED).into_iter().map(|at| PlannedView {
                schedule: schedule.id,
                name: schedule.draft.name.clone(),
                due: cron.due(at, situation.obstacle(at).unwrap_or_default()),
            }));
        }
        planned.sort_by(|a, b| (&a.due.due_at, &a.name).cmp(&(&b.due.due_at, &b.name)));
        Ok(planned)
    }

    /// When each of these suites runs next by a schedule, where one of them will.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_of_suites(&self, suites: &BTreeSet<&str>) -> Result<BTreeMap<String, PlannedView>, StoreError> {
        let rules = self.rules().await?;
        let now = self.inner.schedules.clock.now();
        let mut soonest: BTreeMap<String, PlannedView> = BTreeMap::new();
        for schedule in self.inner.store.schedules().await? {
            if schedule.draft.kind != QueueKind::Suite || !suites.contains(schedule.draft.subject.as_str()) {
                continue;
            }
            let Ok(cron) = Cron::parse(&schedule.draft.cron, &schedule.draft.zone) else { continue };
            let Some(due) = next(&schedule, &cron, &rules, now) else { continue };
            let (id, name) = (schedule.id, schedule.draft.name);
            let planned = PlannedView { schedule: id, name, due };
            match soonest.entry(schedule.draft.subject) {
                Entry::Occupied(mut entry) if entry.get().due.due_at > planned.due.due_at => {
                    entry.insert(planned);
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(entry) => {
                    entry.insert(planned);
                }
            }
        }
        Ok(soonest)
    }

    /// The next occurrences of a schedule, with what will keep them from running.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_of(&self, id: ScheduleId, count: usize) -> Result<Vec<Due>, StoreError> {
        let Some(schedule) = self.inner.store.schedule(id).await? else { return Ok(Vec::new()) };
        let rules = self.rules().await?;
        let Ok(cron) = Cron::parse(&schedule.draft.cron, &schedule.draft.zone) else { return Ok(Vec::new()) };
        let now = self.inner.schedules.clock.now();
        let calendars = rules.of(&schedule);
        let situation = situation(&schedule, &cron, &rules, &calendars, now);
        let next = cron.between(now, Timestamp::MAX, count).into_iter();
        Ok(next.map(|at| cron.due(at, situation.obstacle(at).unwrap_or_default())).collect())
    }
}

fn situation<'a>(
    schedule: &'a StoredSchedule,
    cron: &'a Cron,
    rules: &'a Rules,
    calendars: &'a [(kennel_model::api::CalendarMode, kennel_schedules::Calendar)],
    now: Timestamp,
) -> Situation<'a> {
    Situation {
        draft: &schedule.draft,
        cron,
        calendars,
        freezes: &rules.freezes,
        pause: schedule.pause.as_ref(),
        handled_at: schedule.handled_at,
        now,
        is_busy: false,
    }
}

fn view(schedule: StoredSchedule, rules: &Rules, latest: Vec<OccurrenceView>, now: Timestamp) -> ScheduleView {
    let cron = Cron::parse(&schedule.draft.cron, &schedule.draft.zone);
    let (words, next) = match &cron {
        Ok(cron) => (cron.words(), next(&schedule, cron, rules, now)),
        Err(problem) => (problem.to_string(), None),
    };
    let is_over = |until: &str| until.parse::<Timestamp>().is_ok_and(|until| until <= now);
    let pause = schedule.pause.filter(|pause| !pause.until.as_deref().is_some_and(is_over));
    ScheduleView {
        id: schedule.id,
        draft: schedule.draft,
        words,
        pause,
        next,
        latest,
        created_at: schedule.created_at,
        author: schedule.author,
    }
}

/// The next occurrence that nothing known today keeps from running.
fn next(schedule: &StoredSchedule, cron: &Cron, rules: &Rules, now: Timestamp) -> Option<Due> {
    // Far ends of pauses and freezes are not walked up to, one occurrence after the other.
    let mut after = now;
    let before = SignedDuration::from_secs(1);
    if let Some(pause) = &schedule.pause {
        after = after.max(pause.until.as_deref()?.parse::<Timestamp>().ok()? - before);
    }
    for freeze in rules.freezes.iter().filter(|freeze| freeze.until.is_none_or(|until| until > now)) {
        after = after.max(freeze.until? - before);
    }
    let calendars = rules.of(schedule);
    let situation = situation(schedule, cron, rules, &calendars, now);
    let until = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    let mut due = cron.iter(after, until).take(LOOKED_AT);
    due.find(|at| situation.obstacle(*at).is_none()).map(|at| cron.due(at, String::new()))
}
