//! What a system has made on servers that somebody else runs, and how it is removed there: databases, keys, queues,
//! registrations and links. What is on servers of its own goes with its directory.

use std::fmt;
use std::time::Duration;

use crate::bus::{Broker, Bus};
use crate::config::{InstancePlan, SystemConfig};
use crate::etcd::Etcd;
use crate::fault_proxy;
use crate::kv::client::Kv;
use crate::kv::{KeyValues, Purpose};
use crate::roles::mq_noise;
use crate::servers::Server;
use crate::store::Places;

/// How long a server may take to remove everything.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take for one of many things.
const ANSWER: Duration = Duration::from_secs(2);

/// What could not be removed from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// Which things, and on which server.
    pub what: String,
    /// Why they are still there.
    pub why: String,
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

/// Removes it from every such server. Only for a system that is down. Gives what remains; asked again, it goes on there.
pub(crate) async fn remove(config: &SystemConfig, toxiproxy: Option<&str>) -> Vec<Remaining> {
    let (databases, keys, events, registrations, links) =
        tokio::join!(databases(config), keys(config), events(config), registrations(config), links(config, toxiproxy));
    [databases, keys, events, registrations, links].into_iter().flatten().collect()
}

/// Whether the system runs such a server itself.
fn runs(config: &SystemConfig, server: Server) -> bool {
    config.servers.iter().any(|InstancePlan { service, .. }| service == server.service())
}

async fn within(what: String, removed: impl Future<Output = Result<(), String>>) -> Option<Remaining> {
    let why = match tokio::time::timeout(PATIENCE, removed).await {
        Ok(Ok(())) => return None,
        Ok(Err(why)) => why,
        Err(_) => format!("it took longer than {PATIENCE:?}"),
    };
    Some(Remaining { what, why })
}

async fn databases(config: &SystemConfig) -> Option<Remaining> {
    let Places::Postgres { server, prefix } = &config.stores else { return None };
    if runs(config, Server::Postgres) {
        return None;
    }
    let what = format!("the databases {prefix}_… on {}", without_login(server));
    within(what, async { config.stores.remove().await.map_err(|error| error.to_string()) }).await
}

async fn keys(config: &SystemConfig) -> Option<Remaining> {
    let KeyValues::Shared { server, prefix } = &config.key_values else { return None };
    let what = format!("the keys {prefix}… in databases 0 to 2 of {}", without_login(server));
    within(what, async {
        for purpose in Purpose::ALL {
            let database = Kv::new(&config.key_values, purpose, ANSWER);
            database.remove_all().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
    .await
}

async fn events(config: &SystemConfig) -> Option<Remaining> {
    let Broker::RabbitMq(nodes) = &config.broker else { return None };
    if runs(config, Server::RabbitMq) {
        return None;
    }
    let topologies = [config.order_events(), mq_noise::topology()];
    let exchanges: Vec<&str> = topologies.iter().map(|topology| topology.exchange.as_str()).collect();
    let nodes: Vec<String> = nodes.iter().map(|node| without_login(node)).collect();
    let what = format!("the exchanges {} with their queues on {}", exchanges.join(" and "), nodes.join(", "));
    let removed = async {
        for topology in topologies.clone() {
            Bus::of_config(config, topology).remove().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    within(what, removed).await
}

async fn registrations(config: &SystemConfig) -> Option<Remaining> {
    let store = config.registry_store.as_ref().filter(|_| !runs(config, Server::Etcd))?;
    let what = format!("the keys {}/… on {}", store.prefix, without_login(&store.url));
    let etcd = Etcd::new(&store.url, &store.prefix);
    within(what, async { etcd.remove_under("/").await.map_err(|error| error.to_string()) }).await
}

async fn links(config: &SystemConfig, toxiproxy: Option<&str>) -> Option<Remaining> {
    let (url, api) = toxiproxy.zip(config.proxy)?;
    let what = format!("links on the fault proxy {}", without_login(url));
    within(what, fault_proxy::take_back(api, &config.links)).await
}

/// A URL without the name and the password in it.
fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_told() {
        for (url, told) in [
            ("postgres://orders:secret@127.0.0.1:5432", "postgres://127.0.0.1:5432"),
            ("redis://:p@ss@cache:6379", "redis://cache:6379"),
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("127.0.0.1:8474", "127.0.0.1:8474"),
        ] {
            assert_eq!(without_login(url), told);
        }
    }
}
