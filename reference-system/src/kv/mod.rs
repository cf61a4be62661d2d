//! Key-value servers: what is cached, locked and counted. Callers speak RESP2 through [`client`], to the `kv-*` roles in
//! the embedded tier and to `redis-server` in the real one; the subset that they need is the same.
//!
//! - `keyspace`: keys, values, expiry and eviction, without clocks or sockets
//! - `script`: the few scripts that must run in one piece, as Lua for Redis and as code for us
//! - `resp`, `commands`: the protocol and the commands of the embedded server; `snapshot`: what it keeps on disk

pub(crate) mod client;
mod commands;
#[cfg(test)]
mod contract;
pub(crate) mod keyspace;
mod resp;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod snapshot;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a key-value server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// Copies of rows. May be lost, and may be dropped for room.
    Cache,
    /// Who works on what. May be lost: the store checks, too.
    Lock,
    /// Counters. Kept on disk now and then, so they may go back.
    Id,
}

impl Purpose {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Cache, Self::Lock, Self::Id];

    /// The role that looks after the server, and in the embedded tier is it.
    pub(crate) const fn role(self) -> &'static str {
        match self {
            Self::Cache => "kv-cache",
            Self::Lock => "kv-lock",
            Self::Id => "kv-id",
        }
    }

    /// The purpose of a role.
    pub(crate) fn of_role(service: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.role() == service)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role())
    }
}

/// Where the key-value servers of one system are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyValues {
    /// The `kv-*` roles answer themselves, here: cache, lock, id.
    Roles([SocketAddr; 3]),
    /// The system's own Redis servers: cache, lock, id.
    Servers([SocketAddr; 3]),
    /// Somebody's Redis server, of which the system uses the databases 0, 1 and 2.
    Shared {
        /// Such as `redis://:password@127.0.0.1:6379`.
        server: String,
        /// Before every key: others may use the server, too.
        prefix: String,
    },
}

impl KeyValues {
    /// The URL of the server for a purpose.
    pub(crate) fn url(&self, purpose: Purpose) -> String {
        match self {
            Self::Roles(addresses) | Self::Servers(addresses) => {
                format!("redis://{}", addresses[purpose as usize])
            }
            Self::Shared { server, .. } => format!("{server}/{}", purpose as usize),
        }
    }

    /// The address of the system's own server for a purpose.
    pub(crate) fn address(&self, purpose: Purpose) -> Option<SocketAddr> {
        match self {
            Self::Roles(addresses) | Self::Servers(addresses) => Some(addresses[purpose as usize]),
            Self::Shared { .. } => None,
        }
    }

    /// What goes before every key.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Shared { prefix, .. } => prefix,
            _ => "",
        }
    }
}
