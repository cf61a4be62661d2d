//! The words of Kennel as types: what an experiment file says, what agents and controller tell each other,
//! and the shapes in which the API answers. Nothing here does I/O.
//!
//! Modules in the order in which data flows through them: a [`document`] is read and checked against the
//! [`schema`], becomes a [`suite`] of steps or an [`experiment`] (with its [`target`], [`scenario`]s, [`load`] profile, [`fault`]s and
//! [`objective`]s), travels in the agent [`protocol`] to an agent with its [`command`]s, comes back as [`frame`]s, and is shown as [`api`] views.

pub mod api;
pub mod command;
pub mod document;
pub mod experiment;
pub mod fault;
pub mod frame;
pub mod load;
pub mod naming;
pub mod objective;
pub mod protocol;
pub mod role;
pub mod run;
pub mod scenario;
pub mod schema;
pub mod suite;
pub mod target;
pub mod units;
mod words;

pub use experiment::{Experiment, ValidExperiment};
pub use role::Role;
pub use run::{Phase, RunId, RunState, Verdict};
