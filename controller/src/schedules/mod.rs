//! Schedules at work: `keeping` takes what people want, `calendars` when nothing may run, `scheduler` starts what is due
//! and notes what became of every occurrence, `reading` tells it.

mod calendars;
mod clock;
mod keeping;
mod reading;
pub(crate) mod scheduler;

use kennel_model::api::FieldProblem;
use tokio::sync::Mutex;

pub use clock::Clock;

use crate::store::StoreError;

/// What the scheduler and those who change schedules share.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    pub(crate) clock: Clock,
    /// Held while occurrences are decided about, so that each change of a schedule falls between two looks.
    pub(crate) attending: Mutex<()>,
}

impl Schedules {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }
}

/// Something about schedules or calendars could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// What was sent cannot be kept as it is.
    #[error("{}", listed(.0))]
    Invalid(Vec<FieldProblem>),
    /// There is no such schedule or calendar.
    #[error("there is no {what} `{name}`; `kennel schedule list` and the calendars' page show what there is")]
    NotFound {
        /// `schedule` or `calendar`.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// Another one has the name.
    #[error("another {what} is called `{name}`; choose another name")]
    NameTaken {
        /// `schedule` or `calendar`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A calendar that schedules name cannot be removed or renamed.
    #[error("calendar `{name}` is used by {}; take it out of them first", used_by.join(", "))]
    InUse {
        /// The calendar.
        name: String,
        /// Names of the schedules.
        used_by: Vec<String>,
    },
    /// A run that was asked for by hand could not be started.
    #[error("`{name}` could not be started: {why}")]
    NotStarted {
        /// The schedule.
        name: String,
        /// Why.
        why: String,
    },
    /// Kennel is shutting down.
    #[error("Kennel is shutting down and starts no more runs")]
    Closing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn listed(problems: &[FieldProblem]) -> String {
    let each: Vec<String> = problems.iter().map(ToString::to_string).collect();
    each.join("; ")
}
