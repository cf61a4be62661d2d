//! The order platform under test: a food-ordering system of 2015, one operating-system process per
//! instance (or, as before its split, most of it in one), so that faults are real. It knows nothing of the platform that tests it.
//!
//! A request flows gateway → order pool → users, restaurants, marketing, payment → store; task rows
//! carry each change on to the merchant dimension.
//!
//! - [`command`]: the `system` command and the entry of every process; [`arguments`]: what it is told
//! - [`launch`]: start and stop a system; [`state`]: what the outside sees of it
//! - `logs`: what the processes wrote
//! - `supervisor`, `planning`, `shape`, `ward`, `fault_proxy`, `self_test`, `process`, `config`, `remains`:
//!   how the processes are planned, started and kept alive, and what is left of them; `elsewhere`: what is left on
//!   servers that others run
//! - `frame`, `extract`, `workers`, `panics`, `watchdog`, `metrics`, `trace`: what surrounds every
//!   role; `roles`: one module per role
//! - `rpc`: how roles call each other
//! - [`ids`], [`orders`], [`population`]: the pure middle (routing, the order's life, the seed data)
//! - [`seeding`]: past orders of the seed for a system to start with
//! - [`switches`]: which design runs, the fixed one or a historic flaw
//! - [`bus`]: events, on an embedded broker or on RabbitMQ
//! - `kv`: key-value servers: caches, locks, counters; `locks`: who works on what right now
//! - `store`: the rows, in files or in PostgreSQL; [`audit`]: their invariants; [`auditing`]: asking for them
//! - [`migration`]: from one old table to the sharded stores; [`migrating`]: asking for it
//! - `servers`: the real servers of the real tier

pub mod arguments;
pub mod audit;
pub mod auditing;
pub mod bus;
pub mod command;
mod config;
mod elsewhere;
mod error;
mod etcd;
mod extract;
mod fault_proxy;
mod frame;
pub mod ids;
mod kv;
pub mod launch;
mod locks;
mod logs;
mod metrics;
pub mod migrating;
pub mod migration;
pub mod orders;
mod panics;
mod planning;
pub mod population;
mod process;
mod remains;
mod roles;
mod rpc;
pub mod seeding;
mod self_test;
mod servers;
mod shape;
pub mod state;
mod store;
mod supervisor;
pub mod switches;
pub mod switching;
mod trace;
mod ward;
mod watchdog;
mod workers;

pub use arguments::{ServerOptions, UpArgs};
pub use command::{Launcher, Outcome, SystemCommand, hold, run};
pub use elsewhere::Remaining;
pub use error::SystemError;
pub use launch::{RunningSystem, SystemOptions, start};
pub use servers::Tier;
pub use shape::{BadCounts, InstanceCounts, Shape};
pub use state::{InstanceState, SystemState};
