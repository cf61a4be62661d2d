//! What a virtual user does: Goose scenarios for the order system, and the interpreter of declared ones.
//!
//! A scenario asks its [`client`] for requests and knows nothing of pacing, connections or measuring. [`builtin`] lists
//! the compiled ones ([`order_system`]), [`declared`] runs the steps of a file, [`attack`] makes Goose scenarios of
//! them, and [`library`] holds the experiments that ship with Kennel.

pub mod attack;
pub mod builtin;
pub mod client;
pub mod declared;
pub mod library;
pub mod order_system;
