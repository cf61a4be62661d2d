//! Runs, their store, the judge and the JSON API.
//!
//! Modules in the order in which data flows through them: the [`Controller`] takes an experiment, `runs` carries it
//! out with an attached agent and turns its frames into a `recording`, `store` keeps everything, `judge` says
//! what it means, and [`api`] tells it over HTTP.

pub mod api;
mod controller;
mod judge;
mod reading;
mod recording;
mod runs;
mod store;

pub use controller::{Controller, ControllerConfig, ControllerError, FindError, HaltError, StartError};
pub use store::StoreError;
