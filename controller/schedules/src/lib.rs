//! When things are due: cron in time zones, calendars of windows, and what becomes of each occurrence. Nothing here
//! reads a clock: the moment is always an argument.
//!
//! Modules in the order in which data flows through them: [`check`] looks at what was sent, [`cron`] says when it is due,
//! [`words`] says it in English, [`calendar`] says when nothing may run, and [`decide`] says what becomes of what was due.

pub mod calendar;
pub mod check;
pub mod cron;
pub mod decide;
mod preview;
mod words;

pub use calendar::Calendar;
pub use check::check;
pub use cron::Cron;
pub use decide::{Decision, Freeze, Plan, Situation, decide};

use kennel_model::api::FieldProblem;

/// A problem of one field.
fn problem(field: &str, message: impl Into<String>, expected: &str) -> FieldProblem {
    FieldProblem { field: field.to_owned(), message: message.into(), expected: expected.to_owned() }
}

/// Schedules that most people want: a name, a cron expression.
pub const PRESETS: [(&str, &str); 6] = [
    ("Every 15 minutes", "*/15 * * * *"),
    ("Hourly", "0 * * * *"),
    ("Nightly", "30 2 * * *"),
    ("Weekday mornings", "0 7 * * MON-FRI"),
    ("Weekly", "0 4 * * SUN"),
    ("Monthly", "0 4 1 * *"),
];
