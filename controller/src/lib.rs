//! Runs, their store, the judge and the JSON API.
//!
//! Modules in the order in which data flows through them: the [`Controller`] takes an experiment, `runs` carries it
//! out with an attached agent and sums its frames up in a `recording`, `store` keeps everything, `judge` says what it
//! means, `suites` drives runs of suites over all of that, `reading` brings back what is over, and [`api`] tells it over HTTP.

pub mod api;
mod artifacts;
mod caller;
mod controller;
mod files;
mod happenings;
mod judge;
mod notifications;
pub mod people;
mod queueing;
mod reading;
mod recording;
mod results;
mod run_names;
mod runs;
mod schedules;
mod store;
mod suites;
mod surroundings;

pub use artifacts::{ArtifactError, ArtifactSource};
pub use caller::Caller;
pub use controller::{Controller, ControllerConfig, ControllerError, FindError, HaltError, StartError};
pub use files::{FileError, FoundExperiment};
pub use happenings::Happening;
pub use notifications::{DeliveryQuery, NotificationError};
pub use queueing::QueueError;
pub use results::{Failures, ImportError, ImportRequest, JoinError, MuteError, NoteError, Upload, since};
pub use schedules::{Clock, ScheduleError};
pub use store::{ActFilter, RunFilter, StoreError};
pub use suites::{CancelSuiteError, LogPart, RerunError, StartSuiteError, surroundings_at};
