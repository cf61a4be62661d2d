//! The target: the system under test as declared. Traffic and faults reach what stands here and nothing else.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;
use crate::units::Rate;

/// The system under test as declared in a file or by whoever started it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name by which experiments refer to it.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Kind of place this is; `production` asks for more care.
    #[serde(default)]
    pub environment: Environment,
    /// Where requests with a relative path go, for instance `http://127.0.0.1:8080`.
    pub base_url: String,
    /// Hosts that may be reached, as `host` or `host:port`; names are resolved and the addresses compared.
    /// The base URL's own host must be among them.
    #[schemars(length(min = 1))]
    pub allowed_hosts: Vec<String>,
    /// Services and their instances, for faults on processes and the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Connections between services that run through a fault proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Where instances announce themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// URLs that answer 2xx while the target is healthy; asked before a run starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<String>,
    /// Audits that the target offers, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<AuditEndpoint>,
    /// Bounds that no experiment may pass.
    #[serde(default)]
    pub limits: Limits,
}

/// Kind of place a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A machine of one's own, or a throw-away system.
    #[default]
    Development,
    /// Shared and worth keeping alive.
    Staging,
    /// Real users are on it.
    Production,
}

/// A service of the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name in the registry and in fault selectors.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The processes that serve it.
    #[serde(default)]
    pub instances: Vec<Instance>,
}

/// One process of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its name within the target.
    #[schemars(length(min = 1))]
    pub name: String,
    /// `host:port` that it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How to find its process on the agent's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessSelector>,
}

/// How to find one process on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessSelector {
    /// File that holds the process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// TCP port that the process listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening_port: Option<u16>,
    /// Text that its command line contains; with another selector, a second condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Whether a supervisor starts the process again after it died. Without one, a kill cannot be undone.
    #[serde(default)]
    pub supervised: bool,
}

/// A connection between two services that runs through a fault proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Service that calls.
    #[schemars(length(min = 1))]
    pub from: String,
    /// Service that is called.
    #[schemars(length(min = 1))]
    pub to: String,
    /// Which instance of the called service, where the link is one instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `host:port` that the caller dials.
    pub listen: String,
    /// `host:port` that the proxy forwards to.
    pub upstream: String,
    /// The Toxiproxy-compatible server that carries the link. Without it, the agent's embedded proxy does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toxiproxy: Option<ToxiproxyLink>,
}

impl Link {
    /// The link's name: `from -> to`, with the instance where it has one.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} -> {}", self.from, self.instance.as_deref().unwrap_or(&self.to))
    }
}

/// Where a link lives on a Toxiproxy-compatible server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToxiproxyLink {
    /// Base URL of the server's HTTP API, for instance `http://127.0.0.1:8474`.
    pub api: String,
    /// Name of the proxy there.
    pub proxy: String,
}

/// Where instances announce themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// What speaks there.
    pub kind: RegistryKind,
    /// Base URL of its API.
    pub url: String,
}

/// Registries for which an adapter exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryKind {
    /// The registry role of the reference system.
    ReferenceSystem,
}

/// A check of business invariants that the target offers over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditEndpoint {
    /// Name by which experiments ask for it.
    #[schemars(length(min = 1))]
    pub name: String,
    /// URL that answers a JSON object with `verdict` (`valid`, `invalid`, `unknown`) and `invariants`.
    pub url: String,
    /// Hands it the history of the load's writes, as the body of a POST: one JSON object per line. Without, it is asked
    /// by GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<AuditHistory>,
}

/// What an audit wants to know of each write (each request other than GET, HEAD and OPTIONS) that the load sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditHistory {
    /// The request header that makes a repeated write the same write, for example `idempotency-key`.
    #[schemars(length(min = 1))]
    pub key_header: String,
    /// Fields of the answer's JSON object to keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<String>,
    /// Whether to tell of each GET, too, that found one of these fields, or nothing (404): what was read after a write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads: bool,
}

/// Bounds that no experiment on this target may pass. Absent means unlimited, except fault kinds: none unless named.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most arrivals per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Rate>,
    /// Most users at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users: Option<u32>,
    /// Fault kinds that are allowed here.
    #[serde(default)]
    pub faults: Vec<FaultKind>,
}

impl Target {
    /// The instance of a service, if both are declared.
    #[must_use]
    pub fn instance(&self, service: &str, instance: &str) -> Option<&Instance> {
        self.services.iter().find(|s| s.name == service)?.instances.iter().find(|i| i.name == instance)
    }

    /// The entries of `allowed_hosts`, read. Whoever reaches out resolves their hosts and compares addresses with
    /// [`HostRule::matches_address`].
    #[must_use]
    pub fn host_rules(&self) -> Vec<HostRule> {
        self.allowed_hosts.iter().map(|text| HostRule::parse(text)).collect()
    }
}

/// One entry of `allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// Host name or address.
    pub host: String,
    /// Port, or any.
    pub port: Option<u16>,
}

impl HostRule {
    /// Reads `host`, `host:port` or `[v6]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
            return Self { host: host.to_owned(), port: port.strip_prefix(':').and_then(|p| p.parse().ok()) };
        }
        if text.parse::<IpAddr>().is_ok() {
            return Self { host: text.to_owned(), port: None };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => {
                Self { host: host.to_owned(), port: port.parse().ok() }
            }
            _ => Self { host: text.to_owned(), port: None },
        }
    }

    /// Whether an address, to which the rule's host resolved to `resolved`, is covered by this rule.
    #[must_use]
    pub fn matches_address(&self, resolved: &[IpAddr], address: IpAddr, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && resolved.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_rules_read_names_addresses_and_ports() {
        let rule = |host: &str, port| HostRule { host: host.to_owned(), port };
        assert_eq!(HostRule::parse("shop.example"), rule("shop.example", None));
        assert_eq!(HostRule::parse("127.0.0.1:80"), rule("127.0.0.1", Some(80)));
        assert_eq!(HostRule::parse("[::1]:80"), rule("::1", Some(80)));
        assert_eq!(HostRule::parse("::1"), rule("::1", None));
    }
}
