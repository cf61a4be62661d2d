//! The fault proxy over real sockets: its HTTP contract, and what happens to bytes and connections.

#![allow(clippy::unwrap_used, reason = "the lint does not know that helpers of tests are tests")]

mod api_contract;
mod latency;
mod lifecycle;
mod support;
mod traffic;
