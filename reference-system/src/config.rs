//! The file that tells every process of one system who there is, where, and how it behaves.
//!
//! The supervisor writes it once, before it starts the first role; `state.rs` is its public view.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bus::{Broker, Topology, topology};
use crate::ids::SlotHash;
use crate::kv::KeyValues;
use crate::orders::plan::Timers;
use crate::shape::Shape;
use crate::store::Places;

/// Everything that a role must know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SystemConfig {
    /// The seed of the population.
    pub(crate) seed: u64,
    /// Which instances share a process.
    #[serde(default)]
    pub(crate) shape: Shape,
    /// Where rows are kept.
    pub(crate) stores: Places,
    /// Where events go.
    #[serde(default)]
    pub(crate) broker: Broker,
    /// How long a message rests after its first failure, its second, and so on.
    #[serde(default = "retry_ms")]
    pub(crate) retry_ms: Vec<u32>,
    /// The etcd that the registry keeps everything in; without, it keeps its switches in a file.
    pub(crate) registry_store: Option<RegistryStore>,
    /// Where keys are kept.
    pub(crate) key_values: KeyValues,
    /// How IDs become slots.
    pub(crate) slot_hash: SlotHash,
    /// The servers of the real tier that the supervisor keeps alive.
    pub(crate) servers: Vec<InstancePlan>,
    /// The ports on which the nodes of a RabbitMQ cluster speak to each other, by instance.
    #[serde(default)]
    pub(crate) between_nodes: BTreeMap<String, u16>,
    /// All instances.
    pub(crate) instances: Vec<InstancePlan>,
    /// Links that are dialled in place of an instance's own address.
    pub(crate) links: Vec<LinkPlan>,
    /// The fault proxy's API, if there is one.
    pub(crate) proxy: Option<SocketAddr>,
    /// How many of each dish there are at first; by the seed if `None`.
    #[serde(default)]
    pub(crate) stock_per_dish: Option<i64>,
    /// The ladder of timeouts.
    pub(crate) timeouts: Timeouts,
    /// The timers of an order's life.
    pub(crate) timers: Timers,
    /// Whether there is an old order table, from which orders are moved to the sharded stores.
    #[serde(default)]
    pub(crate) migration: bool,
    /// When callers leave an instance alone.
    pub(crate) ejection: Ejection,
    /// How long a registration lives without a heartbeat.
    pub(crate) lease_ms: u64,
    /// How long the payment mock takes to call back.
    pub(crate) callback_delay_ms: u64,
    /// The shortest time between two rounds of the task driver: larger batches, more lag.
    pub(crate) task_round_ms: u64,
}

/// The etcd that the registry keeps everything in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegistryStore {
    /// Such as `http://127.0.0.1:2379`.
    pub(crate) url: String,
    /// Before every key: others may use the server, too.
    pub(crate) prefix: String,
}

/// One instance of a role, or of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstancePlan {
    /// Its role.
    pub(crate) service: String,
    /// Its name, unique in the system.
    pub(crate) instance: String,
    /// Where it listens, also after a respawn.
    pub(crate) address: SocketAddr,
}

/// A caller's way to one instance through the fault proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkPlan {
    /// The calling service.
    pub(crate) from: String,
    /// The called service.
    pub(crate) to: String,
    /// The called instance.
    pub(crate) to_instance: String,
    /// Where the caller dials.
    pub(crate) listen: SocketAddr,
    /// Where the proxy dials.
    pub(crate) upstream: SocketAddr,
}

impl LinkPlan {
    /// The link's name, which is its proxy's name.
    pub(crate) fn name(&self) -> String {
        format!("{}->{}", self.from, self.to_instance)
    }
}

/// The ladder: an outer timeout is longer than an inner one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timeouts {
    /// A request at the gateway.
    pub(crate) gateway_ms: u64,
    /// A request at an order pool.
    pub(crate) order_ms: u64,
    /// One try at a dependency of the order service.
    pub(crate) dependency_ms: u64,
    /// One try at a store.
    pub(crate) store_ms: u64,
    /// A call to a key-value server.
    pub(crate) kv_ms: u64,
    /// Connecting.
    pub(crate) connect_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { gateway_ms: 2_500, order_ms: 1_200, dependency_ms: 400, store_ms: 300, kv_ms: 50, connect_ms: 100 }
    }
}

impl Timeouts {
    /// The same ladder with longer rungs.
    pub(crate) fn scaled(self, factor: u32) -> Self {
        let factor = u64::from(factor.max(1));
        Self {
            gateway_ms: self.gateway_ms * factor,
            order_ms: self.order_ms * factor,
            dependency_ms: self.dependency_ms * factor,
            store_ms: self.store_ms * factor,
            kv_ms: self.kv_ms * factor,
            connect_ms: self.connect_ms * factor,
        }
    }
}

/// When an instance is left alone (`lb.eject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ejection {
    /// Failures in a row after which an instance is left alone.
    pub(crate) eject_after: u32,
    /// For how long.
    pub(crate) eject_ms: u64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { eject_after: 5, eject_ms: 3_000 }
    }
}

/// The paths of one system's directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// Present exactly while the system is ready.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("system.json")
    }

    pub(crate) fn options(&self) -> PathBuf {
        self.root.join("options.json")
    }

    /// Why the last start failed.
    pub(crate) fn failure(&self) -> PathBuf {
        self.root.join("run").join("startup-error.txt")
    }

    /// Locked by the supervisor for as long as it lives.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("run").join("supervisor.lock")
    }

    pub(crate) fn pid_file(&self, instance: &str) -> PathBuf {
        self.root.join("run").join(format!("{instance}.pid"))
    }

    /// How often an instance was started again.
    pub(crate) fn restarts(&self, instance: &str) -> PathBuf {
        self.run().join(format!("{instance}.restarts"))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn log(&self, instance: &str) -> PathBuf {
        self.root.join("log").join(format!("{instance}.log"))
    }

    /// Pid files, locks and secrets of this life.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What the registry was told of switches: a registry that comes back knows it again.
    pub(crate) fn switches(&self) -> PathBuf {
        self.data().join("switches.json")
    }

    /// There once the old order table is dropped: the system starts without it from then on.
    pub(crate) fn migrated(&self) -> PathBuf {
        self.data().join("migrated")
    }

    /// Where store files and the servers of the real tier keep what they keep.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn create(&self) -> std::io::Result<()> {
        for part in ["run", "log", "data"] {
            std::fs::create_dir_all(self.root.join(part))?;
        }
        Ok(())
    }
}

/// The roles, in start order, with how many instances each has unless told otherwise.
pub(crate) const ROLES: &[(&str, u16)] = &[
    ("reg", 1),
    ("kv-cache", 1),
    ("kv-lock", 1),
    ("kv-id", 1),
    ("mq", 1),
    ("mq-noise", 1),
    ("st-u0", 1),
    ("st-u1", 1),
    ("st-r0", 1),
    ("st-r1", 1),
    ("st-old", 1),
    ("eus", 1),
    ("ers", 2),
    ("eps", 1),
    ("pay", 1),
    ("ledger", 1),
    ("sms", 1),
    ("eos-c", 2),
    ("eos-m", 2),
    ("rev", 1),
    ("blink", 2),
    ("vgo", 1),
    ("eos-x", 1),
    ("mig", 1),
    ("auditor", 1),
    ("gw", 1),
];

/// Which calls go through the fault proxy when there is one.
const LINKED: [(&str, &[&str]); 4] = [
    ("gw", &["eos-c", "eos-m", "ers", "eps"]),
    ("eos-c", &["eus", "ers", "eps", "pay", "st-u0", "st-u1", "st-old"]),
    ("eos-m", &["st-u0", "st-u1", "st-r0", "st-r1", "st-old"]),
    ("eos-x", &["st-u0", "st-u1", "st-r0", "st-r1", "st-old"]),
];

fn retry_ms() -> Vec<u32> {
    topology::RETRY_MS.to_vec()
}

/// The links to declare among `instances`; the listen port is still open.
pub(crate) fn link_plans(instances: &[InstancePlan]) -> Vec<LinkPlan> {
    let mut links = Vec::new();
    for (from, targets) in LINKED {
        for to in instances.iter().filter(|plan| targets.contains(&plan.service.as_str())) {
            links.push(LinkPlan {
                from: from.to_owned(),
                to: to.service.clone(),
                to_instance: to.instance.clone(),
                listen: (Ipv4Addr::LOCALHOST, 0).into(),
                upstream: to.address,
            });
        }
    }
    links
}

impl SystemConfig {
    /// Reads the file that the supervisor wrote.
    pub(crate) fn read(layout: &Layout) -> std::io::Result<Self> {
        let text = std::fs::read(layout.config())?;
        serde_json::from_slice(&text).map_err(std::io::Error::other)
    }

    /// Who consumes the events of orders.
    pub(crate) fn order_events(&self) -> Topology {
        Topology::of_orders(&self.retry_ms)
    }

    /// The instance or server with this name.
    pub(crate) fn instance(&self, instance: &str) -> Option<&InstancePlan> {
        self.instances.iter().chain(&self.servers).find(|plan| plan.instance == instance)
    }

    /// The process, by its role and its name, in which an instance lives.
    pub(crate) fn process_of<'a>(&self, plan: &'a InstancePlan) -> (&'a str, &'a str) {
        self.shape.process_of(&plan.service, &plan.instance)
    }

    /// The instances that live in a process.
    pub(crate) fn living_in(&self, process: (&str, &str)) -> Vec<InstancePlan> {
        self.instances.iter().filter(|plan| self.process_of(plan) == process).cloned().collect()
    }

    /// The processes in which instances live, by role and name, in start order.
    pub(crate) fn processes(&self) -> Vec<(String, String)> {
        let mut processes = Vec::new();
        for plan in &self.instances {
            let (service, process) = self.process_of(plan);
            let process = (service.to_owned(), process.to_owned());
            if !processes.contains(&process) {
                processes.push(process);
            }
        }
        processes
    }

    /// The first instance of a service.
    pub(crate) fn first(&self, service: &str) -> Option<&InstancePlan> {
        self.instances.iter().find(|plan| plan.service == service)
    }

    /// The first server of a kind.
    pub(crate) fn first_server(&self, service: &str) -> Option<&InstancePlan> {
        self.servers.iter().find(|plan| plan.service == service)
    }

    /// What `service` dials for each linked instance.
    pub(crate) fn links_of(&self, service: &str) -> BTreeMap<String, SocketAddr> {
        self.links
            .iter()
            .filter(|link| link.from == service)
            .map(|link| (link.to_instance.clone(), link.listen))
            .collect()
    }

    /// Whether a role serves a bounded number of requests at the same time (`rpc.workers`): not where requests wait for
    /// something by design, nor at the gateway, which only passes on.
    pub(crate) fn has_workers(service: &str) -> bool {
        ["eos-c", "eos-m", "eus", "ers", "eps", "pay", "ledger", "rev", "blink", "vgo"].contains(&service)
    }

    /// The most time a request may take at a role.
    pub(crate) fn budget_of(&self, service: &str) -> Duration {
        Duration::from_millis(match service {
            "gw" => self.timeouts.gateway_ms,
            "eos-c" | "eos-m" => self.timeouts.order_ms,
            // Long polls and audits: bounded by what the caller asks for.
            "reg" | "auditor" | "mq" | "mq-noise" => 600_000,
            _ => 5_000,
        })
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_timeout_leaves_time_for_the_inner_ones() {
        // What a client waits.
        const CLIENT_MS: u64 = 3_000;
        let ladder = Timeouts::default();
        let rungs =
            [CLIENT_MS, ladder.gateway_ms, ladder.order_ms, ladder.dependency_ms, ladder.store_ms, ladder.connect_ms];
        assert!(rungs.is_sorted_by(|outer, inner| outer > inner), "{rungs:?}");
        // A read at a dependency is tried twice.
        assert!(ladder.order_ms > 2 * ladder.dependency_ms);
        assert!(ladder.dependency_ms > 2 * ladder.connect_ms);
        // A cache that does not answer leaves time to ask the store.
        assert!(ladder.dependency_ms > ladder.kv_ms + ladder.store_ms);
        assert_eq!(ladder.scaled(5).gateway_ms, 5 * ladder.gateway_ms);
    }
}
