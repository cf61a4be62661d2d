//! The controller as others meet it: a real store on disk and real HTTP over a real socket, with the agent's side of
//! the protocol played by a script that sends real frames with real histograms.

#![allow(clippy::unwrap_used, reason = "what a test arranges must work; anything else fails it")]

mod contract;
mod endings;
mod files;
mod interruption;
mod lifecycle;
mod notifications;
mod renaming;
mod schedules;
mod stage;
