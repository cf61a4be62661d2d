//! The role that moves orders from the old table to the sharded stores: keeps the course, carries it out step by step,
//! and answers how it is doing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Layout, now_ms};
use crate::extract::Body;
use crate::frame::{Frame, RoleError};
use crate::migration::backfill::{Copying, Progress};
use crate::migration::course::{Act, Course, Request, Step};
use crate::migration::cutover::{Crossing, Handed};
use crate::migration::endpoints::{Differences, StoreState};
use crate::migration::gate::{self, Facts};
use crate::migration::status::{Backfill, Comparison, FailureLog, MigrationStatus};
use crate::migration::sweep::Sweep;
use crate::migration::{OLD_STORE, Phase, ROLE, Side};
use crate::process;
use crate::rpc::caller::http_client;
use crate::rpc::{Budget, CallError, Caller, Directory, Failure};
use crate::store::whole_order::Guard;
use crate::store::{Store, StoreError, migration_tables as tables};

/// The store's name.
pub(crate) const STORE: &str = ROLE;
/// The row of the course.
pub(crate) const COURSE: &str = "course";
/// Repeatable.
const SCHEMA: &str = tables::NOTES;
/// Pause between two pages: orders come first.
const BETWEEN_PAGES: Duration = Duration::from_millis(50);
/// The most orders that are copied at once.
const SLICE: usize = 100;
/// Pause when there is nothing to do, and before something is tried again.
const IDLE: Duration = Duration::from_millis(200);
/// How long a store may take to tell how it is doing.
const CALL: Duration = Duration::from_secs(2);
/// A writer's clock may be set back a little while it writes: orders that seem so much newer are copied, too.
const CLOCKS_MS: i64 = 1_000;
/// The most examples of a status.
const EXAMPLES: i64 = 20;

/// What the role knows beyond its store: gone with its life.
#[derive(Default)]
struct Observed {
    obstacle: Option<String>,
    /// Why the last hand-over came to nothing.
    given_up: Option<String>,
    gate: Vec<String>,
    /// Since when pages are copied in this life, and from how many on.
    copying_since: Option<(Instant, i64)>,
    sweep: Option<Sweep>,
    walks: u64,
    /// When the last whole comparison began, and how many orders differed in it.
    swept: Option<(i64, u64)>,
}

struct Mover {
    store: Store,
    course: tokio::sync::Mutex<Course>,
    /// Held while a page is copied.
    copying: tokio::sync::Mutex<Copying>,
    observed: Mutex<Observed>,
    asked: Notify,
    caller: Caller,
    directory: Arc<Directory>,
    crossing: Crossing,
    layout: Layout,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let store = frame.open_store(STORE, SCHEMA).await?;
    let failed = |source| RoleError::Store { name: STORE.to_owned(), source };
    let kept = tables::read(store.readers(), COURSE).await.map_err(failed)?;
    let course = match kept {
        Some(text) => serde_json::from_str(&text).map_err(|error| failed(StoreError::Row(error.to_string())))?,
        None => Course::at_start(now_ms()),
    };
    let registry = frame.config.first("reg").map_or(frame.plan.address, |plan| plan.address);
    let crossing = Crossing { caller: frame.caller.clone(), registry, client: http_client(IDLE) };
    let mover = Arc::new(Mover {
        store,
        course: tokio::sync::Mutex::new(course),
        copying: tokio::sync::Mutex::default(),
        observed: Mutex::default(),
        asked: Notify::new(),
        caller: frame.caller.clone(),
        directory: frame.directory(),
        crossing,
        layout: frame.layout.clone(),
    });
    frame.tracker.spawn(Arc::clone(&mover).work(frame.stop.clone()));
    let routes = Router::new().route("/migration", get(status).post(ask)).with_state(Arc::clone(&mover));
    // A system that has just been made knows of no phase. What else there is need not be up: this role tells of it.
    frame.serve(routes, Box::new(|| json!({})), mover.tell_the_phase()).await
}

async fn ask(State(mover): State<Arc<Mover>>, Body(request): Body<Request>) -> Result<Json<MigrationStatus>, Failure> {
    {
        let mut course = mover.course.lock().await;
        let mut next = course.clone();
        next.take(request).map_err(|why| Failure::conflict("not_now", why))?;
        mover.keep(&next).await?;
        *course = next;
    }
    {
        let mut observed = mover.observed();
        (observed.obstacle, observed.given_up) = (None, None);
    }
    mover.asked.notify_one();
    Ok(Json(mover.status().await))
}

async fn status(State(mover): State<Arc<Mover>>) -> Json<MigrationStatus> {
    Json(mover.status().await)
}

impl Mover {
    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell_the_phase(&self) {
        loop {
            let phase = self.course.lock().await.phase;
            match self.crossing.set_switch(phase).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, %phase, "instances do not know of the phase yet"),
            }
            tokio::time::sleep(IDLE).await;
        }
    }

    async fn keep(&self, course: &Course) -> Result<(), StoreError> {
        let text = serde_json::to_string(course).map_err(|error| StoreError::Row(error.to_string()))?;
        self.store
            .write(move |connection| Box::pin(async move { tables::write(connection, COURSE, &text).await }))
            .await
    }

    /// Changes the course, durably first.
    async fn change(&self, change: impl FnOnce(&mut Course)) -> Result<(), String> {
        let mut course = self.course.lock().await;
        let mut next = course.clone();
        change(&mut next);
        self.keep(&next).await.map_err(|error| error.to_string())?;
        *course = next;
        Ok(())
    }

    async fn work(self: Arc<Self>, stop: CancellationToken) {
        self.directory.learned().await;
        loop {
            let act = self.course.lock().await.act(now_ms());
            let done = tokio::select! {
                done = self.carry_out(act) => done,
                // A step cut short is finished by the next life.
                () = stop.cancelled() => return,
            };
            let pause = match done {
                Ok(pause) => {
                    self.observed().obstacle = None;
                    pause
                }
                Err(why) => {
                    tracing::warn!(why, "the migration waits");
                    self.observed().obstacle = Some(why);
                    IDLE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.asked.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Does what comes next. Gives the pause after it, or why it was not done.
    async fn carry_out(&self, act: Act) -> Result<Duration, String> {
        match act {
            Act::Rest => Ok(IDLE),
            Act::Begin(step) => self.begin(step).await,
            Act::Finish(Step::Move { to }) => self.go(to).await,
            Act::Finish(Step::HandOver { to, handed: false }) => self.hand_over(to).await,
            Act::Finish(Step::HandOver { to, handed: true }) => {
                self.crossing.open(to).await.map_err(|stuck| stuck.to_string())?;
                self.reached(to, None).await
            }
            Act::Copy(progress) => self.copy(progress).await,
            Act::Compare { cross } => self.compare(cross).await,
        }
    }

    async fn begin(&self, step: Step) -> Result<Duration, String> {
        self.change(|course| course.step = Some(step)).await?;
        Ok(Duration::ZERO)
    }

    async fn go(&self, to: Phase) -> Result<Duration, String> {
        let from = self.course.lock().await.phase;
        let at_ms = self.crossing.go(from, to).await.map_err(|stuck| stuck.to_string())?;
        // The orders that are there already are the ones to copy, after a way back all of them again.
        let backfill = match to {
            Phase::P0 => Some(None),
            Phase::P1 => {
                let until_ms = at_ms + CLOCKS_MS;
                let path = format!("/migration/older/count?created_until_ms={until_ms}");
                let total: Result<i64, CallError> = self.caller.get(OLD_STORE, &path, &Budget::of(CALL)).await;
                let total = total.map_err(|error| error.to_string())?;
                Some(Some(Progress::at_start(until_ms, total)))
            }
            _ => None,
        };
        if to == Phase::P6 {
            process::write_whole(&self.layout.migrated(), b"").map_err(|error| error.to_string())?;
        }
        self.reached(to, backfill).await
    }

    async fn reached(&self, to: Phase, backfill: Option<Option<Progress>>) -> Result<Duration, String> {
        self.change(|course| {
            course.reach(to, now_ms());
            if let Some(backfill) = backfill {
                course.backfill = backfill;
            }
        })
        .await?;
        let mut observed = self.observed();
        *observed = Observed::default();
        drop(observed);
        tracing::info!(phase = %to, "the migration has come to its next phase");
        Ok(Duration::ZERO)
    }

    async fn hand_over(&self, to: Phase) -> Result<Duration, String> {
        let phase = self.course.lock().await.phase;
        // Back, nothing may be missing in any case.
        let drain = self.directory.in_force().migration_gate || to < phase;
        match self.crossing.hand_over(phase, drain).await.map_err(|stuck| stuck.to_string())? {
            Handed::Over => self.begin(Step::HandOver { to, handed: true }).await,
            Handed::GivenUp(why) => {
                self.change(|course| course.give_up(now_ms())).await?;
                let why = format!("the hand-over to {to} was given up, {phase} goes on: {why}");
                self.observed().given_up = Some(why.clone());
                Err(why)
            }
        }
    }

    async fn copy(&self, progress: Progress) -> Result<Duration, String> {
        let guard = if self.directory.in_force().backfill_guard { Guard::Newer } else { Guard::Off };
        let rate = self.course.lock().await.rate.map(|rate| f64::from(rate.max(1)));
        let most = rate.map_or(SLICE, |rate| ((rate * BETWEEN_PAGES.as_secs_f64()) as usize).clamp(1, SLICE));
        let mut copying = self.copying.lock().await;
        self.observed().copying_since.get_or_insert((Instant::now(), progress.copied));
        let behind = copying.copy(&self.caller, progress, most, guard).await.map_err(|stuck| stuck.to_string())?;
        self.change(|course| {
            // Somebody may have sent it back meanwhile.
            if course.backfill == Some(progress) {
                course.backfill = Some(behind);
            }
        })
        .await?;
        let pace = rate.map_or(BETWEEN_PAGES, |rate| Duration::from_secs_f64(most as f64 / rate));
        Ok(if behind.done { Duration::ZERO } else { pace })
    }

    async fn compare(&self, cross: Option<Step>) -> Result<Duration, String> {
        let mut sweep = self.observed().sweep.take().unwrap_or_else(Sweep::begin);
        let ended = sweep.page(&self.caller, self.directory.in_force().log_failures).await;
        let ended = ended.map_err(|error| format!("both sides cannot be compared: {error}"));
        {
            let mut observed = self.observed();
            if *ended.as_ref().unwrap_or(&false) {
                observed.swept = Some((sweep.began_ms, sweep.differ));
                observed.walks += 1;
            } else {
                observed.sweep = Some(sweep);
            }
        }
        let gated = self.directory.in_force().migration_gate;
        let reasons = match (&ended, self.gate().await) {
            (Err(why), _) => vec![why.clone()],
            (_, Err(error)) => vec![format!("the old store does not answer: {error}")],
            (Ok(_), Ok(reasons)) => reasons,
        };
        let open = reasons.is_empty() || !gated;
        self.observed().gate = if gated { reasons } else { Vec::new() };
        match cross {
            Some(step) if open => self.begin(step).await,
            _ => ended.map(|ended| if ended { IDLE } else { BETWEEN_PAGES }),
        }
    }

    /// Why the new stores may not take over yet.
    async fn gate(&self) -> Result<Vec<String>, CallError> {
        let Course { since_ms, calm_ms, .. } = self.course.lock().await.clone();
        let state = self.state_of(OLD_STORE).await?;
        let now_ms = now_ms();
        let seen = self.differences(now_ms - calm_ms).await?;
        Ok(gate::reasons(&Facts {
            now_ms,
            since_ms,
            calm_ms,
            swept: self.observed().swept,
            differ: seen.count,
            differences: seen.latest,
            failed: state.failed,
            failed_orders: state.failed_orders,
            repairs: self.directory.in_force().log_failures,
        }))
    }

    async fn state_of(&self, store: &'static str) -> Result<StoreState, CallError> {
        self.caller.get(store, "/migration/state", &Budget::of(CALL)).await
    }

    async fn differences(&self, since_ms: i64) -> Result<Differences, CallError> {
        let path = format!("/migration/differences?since_ms={since_ms}&limit={EXAMPLES}");
        self.caller.get(OLD_STORE, &path, &Budget::of(CALL)).await
    }

    async fn status(&self) -> MigrationStatus {
        let course = self.course.lock().await.clone();
        let old = self.state_of(OLD_STORE).await.ok();
        let mut new = Vec::new();
        for store in Side::New.stores() {
            new.push(self.state_of(store).await.ok());
        }
        let seen = match course.phase {
            Phase::P3 => self.differences(now_ms() - course.calm_ms).await.unwrap_or_default(),
            _ => Differences::default(),
        };
        let mut log = FailureLog::default();
        for state in [&old].into_iter().chain(&new).flatten() {
            log.waiting += state.log;
            log.failed += state.failed;
            log.orders.extend(state.failed_orders.iter().map(ToString::to_string));
        }
        let observed = self.observed();
        let backfill = course.backfill.map(|progress| {
            let rate = observed.copying_since.and_then(|(since, from)| {
                let seconds = since.elapsed().as_secs_f64();
                (progress.copied > from && seconds > 0.0).then(|| (progress.copied - from) as f64 / seconds)
            });
            let left = rate.map(|rate| (progress.total - progress.copied).max(0) as f64 / rate);
            let running = !progress.done;
            Backfill {
                copied: progress.copied,
                // Some that came in the first second count, too.
                total: progress.total.max(progress.copied),
                done: progress.done,
                rate_per_s: rate.filter(|_| running),
                left_s: left.filter(|_| running),
            }
        });
        MigrationStatus {
            phase: course.phase,
            meaning: course.phase.meaning().to_owned(),
            goal: course.goal,
            paused: course.paused,
            between: course.step.is_some(),
            old_orders: old.as_ref().map(|state| state.orders),
            new_orders: new.iter().map(|state| state.as_ref().map(|state| state.orders)).sum(),
            backfill,
            comparison: Comparison {
                reads: old.as_ref().map_or(0, |state| state.compared),
                compared: observed.sweep.as_ref().map_or(0, |sweep| sweep.compared),
                walks: observed.walks,
                differ: seen.count,
                orders: seen.latest.iter().map(|one| format!("{}  {}", one.order_id, one.what)).collect(),
            },
            failure_log: log,
            gate: match course.phase {
                Phase::P3 => observed.given_up.iter().chain(&observed.gate).cloned().collect(),
                _ => observed.given_up.iter().cloned().collect(),
            },
            obstacle: observed.obstacle.clone(),
        }
    }
}
