//! The fault proxy over real sockets: its HTTP contract, and what happens to bytes and connections.

mod api_contract;
mod latency;
mod lifecycle;
mod support;
mod traffic;
