//! The process on a host that generates load and injects faults; the only part of Kennel that touches a target.
//!
//! An [`agent`] listens to a controller. For a run it checks everything against the target's [`boundary`], starts a
//! load [`worker`] (a child process that hands out [`arrivals`] to Goose users), and follows the [`timeline`] of
//! [`faults`]. Each fault's undo is in the [`journal`] before it is injected, and the [`watchdog`] replays the journal
//! when the agent dies. [`audit`]s ask the target about its business invariants, and hand it the `history` of what
//! the load wrote if they want it. Beside all that go [`steps`] of suites: checks and test commands.

pub mod agent;
pub mod arrivals;
pub mod audit;
pub mod boundary;
pub mod faults;
mod history;
pub mod journal;
pub mod load;
pub mod process;
mod run;
pub mod steps;
pub mod timeline;
pub mod watchdog;
pub mod worker;

pub use agent::{Agent, AgentConfig, RAW_LOGS};
