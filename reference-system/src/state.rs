//! What the outside needs to know of a running system: written to `system.json` when it is ready.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A running system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemState {
    /// Its directory.
    pub dir: PathBuf,
    /// The seed of its population.
    pub seed: u64,
    /// The process that keeps the others alive.
    pub supervisor_pid: u32,
    /// Where clients call, for example `http://127.0.0.1:4001`.
    pub gateway: String,
    /// The registry.
    pub registry: String,
    /// The auditor.
    pub auditor: String,
    /// The API of the fault proxy, if one runs.
    pub toxiproxy: Option<String>,
    /// All instances.
    pub instances: Vec<InstanceState>,
    /// All links through the fault proxy.
    pub links: Vec<LinkState>,
}

/// One process of a running system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState {
    /// Its role.
    pub service: String,
    /// Its name.
    pub instance: String,
    /// Where it listens, also after a respawn.
    pub address: SocketAddr,
    /// Holds its pid; rewritten on a respawn, absent while it is dead.
    pub pid_file: PathBuf,
}

/// One caller's way to one instance through the fault proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// `from->to_instance`.
    pub name: String,
    /// The calling service.
    pub from: String,
    /// The called service.
    pub to: String,
    /// The called instance.
    pub to_instance: String,
    /// Where the caller dials.
    pub listen: SocketAddr,
    /// Where the proxy dials.
    pub upstream: SocketAddr,
    /// The proxy's name in the Toxiproxy API.
    pub proxy: String,
}

/// How a system is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemStatus {
    /// Its directory.
    pub dir: PathBuf,
    /// Where clients call.
    pub gateway: String,
    /// Each instance.
    pub instances: Vec<InstanceStatus>,
}

/// How an instance is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub instance: String,
    /// Its process, if it has one.
    pub pid: Option<u32>,
    /// Whether the process exists.
    pub up: bool,
    /// Whether it says that it is ready.
    pub ready: bool,
}

impl fmt::Display for SystemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "gateway   {}", self.gateway)?;
        writeln!(f, "registry  {}", self.registry)?;
        writeln!(f, "auditor   {}", self.auditor)?;
        if let Some(toxiproxy) = &self.toxiproxy {
            writeln!(f, "toxiproxy {toxiproxy}")?;
        }
        writeln!(f, "directory {}", self.dir.display())?;
        write!(f, "{} instances, seed {}", self.instances.len(), self.seed)
    }
}

impl fmt::Display for SystemStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {}", self.dir.display(), self.gateway)?;
        for (n, instance) in self.instances.iter().enumerate() {
            let state = match (instance.up, instance.ready) {
                (true, true) => "ready",
                (true, false) => "up, not ready",
                (false, _) => "down",
            };
            let pid = instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let line_end = if n + 1 == self.instances.len() { "" } else { "\n" };
            write!(f, "{:<12} {pid:>8}  {state}{line_end}", instance.instance)?;
        }
        Ok(())
    }
}
