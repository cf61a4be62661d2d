//! The fault proxy: TCP links whose traffic toxics make worse, driven by function calls or by the Toxiproxy HTTP API.
//!
//! A [`FaultProxy`] owns any number of named proxies. Each listens on an address and carries every connection to
//! its upstream; a *toxic* added to a proxy acts on live and new connections at once, in one direction.
//! [`serve`] puts the same object behind the HTTP API of Toxiproxy 2.12, so that its clients work unchanged.
//!
//! The modules, in the order in which data flows through them:
//!
//! - [`api`]: HTTP requests become calls
//! - `proxies`: the named set of proxies, and what changes it
//! - `spec`, `error`: what goes in and what comes out of a call
//! - `address`: listen addresses, and when two of them are the same
//! - `link`: one proxy: listener, connections, list of toxics
//! - `pipe`: one direction of one connection, between two sockets
//! - `chain`: the toxics of one pipe and the data they hold back; no clock, no socket
//! - `toxics`: the kinds of toxic, one file each
//! - `clock`: sleeps that end within a fraction of a millisecond

pub mod api;

mod address;
mod chain;
mod clock;
mod error;
mod link;
mod pipe;
mod proxies;
mod spec;
mod toxics;

pub use api::serve;
pub use error::{PopulateError, ProxyError};
pub use proxies::FaultProxy;
pub use spec::{ProxySpec, ProxyUpdate, ProxyView, Stream, ToxicSpec, ToxicUpdate, ToxicView};
