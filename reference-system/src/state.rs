//! What the outside needs to know of a running system: written to `system.json` when it is ready.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::servers::Tier;

/// A running system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemState {
    /// Its directory.
    pub dir: PathBuf,
    /// The seed of its population.
    pub seed: u64,
    /// What its rows are kept on.
    #[serde(default)]
    pub tier: Tier,
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
    /// The URLs of the key-value servers, by role.
    #[serde(default)]
    pub key_values: BTreeMap<String, String>,
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
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, if it has one.
    pub pid: Option<u32>,
    /// Whether the process exists.
    pub up: bool,
    /// Whether it says that it is ready.
    pub ready: bool,
    /// How often it was started again since the system came up.
    pub restarts: u32,
    /// How long the process has been running, in seconds; `None` where the kernel does not tell.
    pub uptime_s: Option<u64>,
    /// What it holds in memory (resident set), in bytes; `None` where the kernel does not tell.
    pub memory_bytes: Option<u64>,
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
        write!(
            f,
            "{:<12} {:>8}  {:<14} {:<21} {:>9} {:>8} {:>9}",
            "INSTANCE", "PID", "STATE", "ADDRESS", "UP FOR", "RESTARTS", "MEMORY"
        )?;
        for instance in &self.instances {
            let state = match (instance.up, instance.ready) {
                (true, true) => "ready",
                (true, false) => "up, not ready",
                (false, _) => "down",
            };
            let pid = instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let uptime = instance.uptime_s.map_or_else(|| "-".to_owned(), in_words);
            let memory = instance
                .memory_bytes
                .map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)));
            let address = instance.address.to_string();
            write!(
                f,
                "\n{:<12} {pid:>8}  {state:<14} {address:<21} {uptime:>9} {:>8} {memory:>9}",
                instance.instance, instance.restarts
            )?;
        }
        let total: u64 = self.instances.iter().filter_map(|instance| instance.memory_bytes).sum();
        write!(f, "\n{} processes, {:.1} MiB", self.instances.len(), total as f64 / f64::from(1 << 20))
    }
}

/// `42s`, `3m 05s`, `2h 10m`.
fn in_words(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_two_units_that_matter() {
        assert_eq!([5, 65, 7_260].map(in_words), ["5s", "1m 05s", "2h 01m"]);
    }
}
