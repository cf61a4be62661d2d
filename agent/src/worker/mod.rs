//! The load worker: a child process of the agent that runs Goose users and reports one frame a second.
//!
//! It reads its [`WorkerAssignment`] as one line of JSON on standard input, answers [`WorkerReport::Ready`], starts when
//! told [`WorkerOrder::Start`], and writes one [`WorkerReport`] a line on standard output. When standard input ends, its
//! agent is gone and so is it, at once. Goose has one stop switch per process, and a crash must take nothing else with
//! it: hence a process of its own.

mod client;
mod connection;
mod history;
mod pacer;
mod recorder;
mod run;

use std::net::SocketAddr;

use kennel_model::frame::Frame;
use kennel_model::load::LoadProfile;
use kennel_model::run::RunId;
use kennel_model::scenario::Scenario;
use kennel_model::target::AuditHistory;
use serde::{Deserialize, Serialize};

pub use run::{WorkerError, main};

/// Everything a worker needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerAssignment {
    /// The run.
    pub run: RunId,
    /// Name of the agent, for the frames.
    pub agent: String,
    /// Base URL of the target.
    pub base_url: String,
    /// Its addresses, resolved and checked by the agent. The worker connects to these and nothing else.
    pub addresses: Vec<SocketAddr>,
    /// When the load happens.
    pub load: LoadProfile,
    /// What users do.
    pub scenarios: Vec<Scenario>,
    /// File for one CSV line per request.
    pub raw_log: Option<String>,
    /// Where the history of its writes goes, if an audit wants it.
    pub history: Option<HistoryFile>,
}

/// A file for the history of a worker's writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryFile {
    /// The file; made anew.
    pub path: String,
    /// What audits want to know of each write.
    pub wanted: AuditHistory,
}

/// What an agent tells its worker after the assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerOrder {
    /// Start the load now.
    Start,
}

/// What a worker tells its agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerReport {
    /// Users are up and wait for the start.
    Ready,
    /// One second of measurements.
    Frame(Box<Frame>),
    /// The load is over and every answer is in.
    Ended,
    /// The worker cannot do its work.
    Failed(String),
}
