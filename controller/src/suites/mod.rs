//! Suites: those that are known, their runs while they go, and the driver that carries a run out.
//!
//! Modules in the order in which data flows through them: `kept` finds a suite and what it refers to, `start` stores its
//! run, `plan` (pure) lays its steps out, the `driver` waits for its turn and walks them, `step` carries each out, the
//! `board` keeps and tells how each stands, with its `log` on disk, and `verdict` (pure) says what it all means.

pub(crate) mod active;
mod board;
mod driver;
mod junit;
mod kept;
mod log;
mod plan;
mod read;
mod start;
mod step;
pub(crate) mod summaries;
mod tests_of_runs;
mod verdict;

pub use kept::surroundings_at;
pub use read::LogPart;
pub use start::{CancelSuiteError, RerunError, StartSuiteError};
