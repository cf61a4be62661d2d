//! What the outside needs to know of a running system: written to `system.json` when it is ready.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::arguments::UpArgs;
use crate::migration::OLD_STORE;
use crate::servers::Tier;
use crate::shape::Shape;

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
    /// Which instances share a process.
    #[serde(default)]
    pub shape: Shape,
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

impl SystemState {
    /// Whether this is what `system up` was asked for.
    #[must_use]
    pub fn is_as_asked(&self, args: &UpArgs) -> bool {
        let counted = |service: &str| self.instances.iter().filter(|one| one.service == service).count();
        self.seed == args.seed
            && self.tier == args.tier()
            && args.shape.is_none_or(|shape| shape == self.shape)
            && args.instances.as_ref().is_none_or(|counts| counts.fit(counted))
            && (!args.migration || counted(OLD_STORE) > 0)
    }

    /// Processes in which several instances live.
    #[must_use]
    pub fn shared_processes(&self) -> Vec<&InstanceState> {
        let mut shared: Vec<&InstanceState> = Vec::new();
        for one in self.instances.iter().filter(|one| one.process != one.instance) {
            if !shared.iter().any(|known| known.process == one.process) {
                shared.push(one);
            }
        }
        shared
    }
}

/// One instance of a running system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState {
    /// Its role.
    pub service: String,
    /// Its name.
    pub instance: String,
    /// Where it listens, also after a respawn.
    pub address: SocketAddr,
    /// The name of the process in which it lives: its own, or that of a monolith.
    pub process: String,
    /// Holds its process's pid; rewritten on a respawn, absent while it is dead.
    pub pid_file: PathBuf,
    /// Whether it is a server of the real tier, which has a command line of its own.
    #[serde(default)]
    pub is_server: bool,
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
    /// Each process.
    pub instances: Vec<InstanceStatus>,
}

/// How a process is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub instance: String,
    /// Where it listens; `None` for a monolith, of which each module listens somewhere else.
    pub address: Option<SocketAddr>,
    /// Its process, if it has one.
    pub pid: Option<u32>,
    /// Whether the process exists.
    pub up: bool,
    /// Whether it says that it is ready; a monolith, whether all of its modules do.
    pub ready: bool,
    /// How often it was started again since the system came up.
    pub restarts: u32,
    /// How long until it is started again, in milliseconds, if it is down.
    pub starts_in_ms: Option<u64>,
    /// How long the process has been running, in seconds; `None` where the kernel does not tell.
    pub uptime_s: Option<u64>,
    /// What it holds in memory (resident set), in bytes; `None` where the kernel does not tell.
    pub memory_bytes: Option<u64>,
    /// Its share of memory: what several processes hold is divided among them. `None` where the kernel does not tell.
    pub share_bytes: Option<u64>,
    /// What lives in a monolith.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleStatus>,
}

/// How a module of a monolith is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Its name.
    pub instance: String,
    /// Where it listens.
    pub address: SocketAddr,
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
        write!(f, "{} instances in the shape {}, seed {}", self.instances.len(), self.shape, self.seed)
    }
}

impl fmt::Display for SystemStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {}", self.dir.display(), self.gateway)?;
        write!(
            f,
            "{:<12} {:>8}  {:<14} {:<21} {:>9} {:>8} {:>9} {:>9}",
            "INSTANCE", "PID", "STATE", "ADDRESS", "UP FOR", "RESTARTS", "MEMORY", "SHARE"
        )?;
        for one in &self.instances {
            let state = match (one.up, one.ready, one.starts_in_ms) {
                (true, true, _) => "ready".to_owned(),
                (true, false, _) => "up, not ready".to_owned(),
                (false, _, Some(ms)) => format!("down, {:.1} s", ms as f64 / 1_000.0),
                (false, _, None) => "down".to_owned(),
            };
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            write!(
                f,
                "\n{:<12} {:>8}  {state:<14} {:<21} {:>9} {:>8} {:>9} {:>9}",
                one.instance,
                or_dash(one.pid.map(|pid| pid.to_string())),
                or_dash(one.address.map(|address| address.to_string())),
                or_dash(one.uptime_s.map(in_words)),
                one.restarts,
                or_dash(one.memory_bytes.map(in_mib)),
                or_dash(one.share_bytes.map(in_mib)),
            )?;
            for module in &one.modules {
                let state = if module.ready { "ready" } else { "not ready" };
                write!(f, "\n  {:<10} {:>8}  {state:<14} {}", module.instance, "", module.address)?;
            }
        }
        let sum = |of: fn(&InstanceStatus) -> Option<u64>| in_mib(self.instances.iter().filter_map(of).sum());
        let (memory, share) = (sum(|one| one.memory_bytes), sum(|one| one.share_bytes));
        let count = self.instances.len();
        write!(f, "\n{count} processes, {share} (what they share counted once; {memory} one by one)")
    }
}

fn in_mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
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
