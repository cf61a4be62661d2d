//! Results as others meet them: imported over real HTTP into a real store on disk, and read back.

#![allow(clippy::unwrap_used, reason = "what a test arranges must work; anything else fails it")]

mod artifacts;
mod failures;
mod history;
mod imports;
mod mutes;
mod stage;
