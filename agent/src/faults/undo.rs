//! Undo records: self-contained, so that a watchdog that knows nothing else can carry them out.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{FaultError, confirm, registry_gap, toxiproxy};
use crate::process::Process;

/// How to undo one injected fault. Carrying it out twice, or after the thing is gone, is success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// Let a frozen process go on.
    Resume {
        /// The process.
        process: Process,
    },
    /// Take Kennel's toxic off a proxy of a Toxiproxy-compatible server.
    RemoveToxics {
        /// Address of the server's API.
        api: SocketAddr,
        /// Name of the proxy.
        proxy: String,
    },
    /// Let an instance be seen again in the reference system's registry.
    Unmask {
        /// Base URL of the registry's API, by address.
        registry: String,
        /// The service.
        service: String,
        /// The instance.
        instance: String,
    },
}

impl Undo {
    /// Carries it out and confirms by reading back.
    ///
    /// # Errors
    /// When the thing still exists and could not be put right.
    pub async fn revert(&self) -> Result<(), FaultError> {
        match self {
            Self::Resume { process } => {
                process.signal(Signal::SIGCONT)?;
                confirm(|| format!("{process} going on"), Duration::from_secs(1), || !process.is_stopped()).await
            }
            Self::RemoveToxics { api, proxy } => toxiproxy::remove_toxic(*api, proxy).await,
            Self::Unmask { registry, service, instance } => registry_gap::unmask(registry, service, instance).await,
        }
    }

    /// The command with which a person does it, should everything else fail.
    #[must_use]
    pub fn by_hand(&self) -> String {
        match self {
            Self::Resume { process } => format!("kill -CONT {}", process.pid),
            Self::RemoveToxics { api, proxy } => {
                format!("curl -X DELETE http://{api}/proxies/{proxy}/toxics/kennel_latency")
            }
            Self::Unmask { registry, service, instance } => {
                format!("curl -X DELETE {registry}/mask/{service}/{instance}")
            }
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resume { process } => write!(f, "let {process} go on"),
            Self::RemoveToxics { api, proxy } => write!(f, "take the latency toxic off proxy `{proxy}` at {api}"),
            Self::Unmask { service, instance, .. } => write!(f, "show {service}/{instance} in the registry again"),
        }
    }
}
