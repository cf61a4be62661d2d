//! Which processes, ports, links and servers a system will have: planned once, before the first of them starts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use crate::bus::Broker;
use crate::config::{Ejection, InstancePlan, Layout, RegistryStore, SystemConfig, Timeouts, link_plans};
use crate::error::SystemError;
use crate::fault_proxy;
use crate::kv::{KeyValues, Purpose};
use crate::launch::SupervisorOptions;
use crate::servers::{self, Server, Tier};
use crate::store::Places;

/// Plans a system, and sets up on disk what its servers need. The sockets hold its ports: bound and not listening, so
/// that no other process gets a dead instance's port.
pub(crate) async fn plan(
    layout: &Layout,
    options: &SupervisorOptions,
) -> Result<(SystemConfig, Vec<TcpSocket>), SystemError> {
    let mut planner = Planner { layout, options, reserved: Vec::new(), servers: Vec::new() };
    let mut instances = Vec::new();
    for (service, instance) in options.instances.names(options.migration) {
        // The real tier has a real broker.
        if service == "mq" && options.tier == Tier::Real {
            continue;
        }
        let port = if service == "gw" { options.gateway_port.unwrap_or(0) } else { 0 };
        instances.push(InstancePlan { service, instance, address: planner.reserve(port)? });
    }
    let mut links = Vec::new();
    let proxy = match (&options.toxiproxy, &options.proxy_command) {
        (Some(url), _) => Some(fault_proxy::address(url).await?),
        (None, Some(_)) => Some(planner.reserve(0)?),
        (None, None) => None,
    };
    if proxy.is_some() {
        links = link_plans(&instances);
        for link in &mut links {
            link.listen = planner.reserve(0)?;
        }
    }
    let (broker, between_nodes) = planner.broker().await?;
    let config = SystemConfig {
        seed: options.seed,
        shape: options.shape,
        stores: planner.stores().await?,
        key_values: planner.key_values().await?,
        broker,
        between_nodes,
        retry_ms: options.retry_ms.clone(),
        registry_store: planner.registry_store().await?,
        servers: planner.servers,
        slot_hash: options.slot_hash,
        instances,
        links,
        proxy,
        stock_per_dish: options.stock_per_dish.map(i64::from),
        timeouts: Timeouts::default().scaled(options.timeout_scale),
        timers: options.timers,
        migration: options.migration,
        ejection: Ejection::default(),
        lease_ms: 3_000,
        callback_delay_ms: 30,
        task_round_ms: 25,
    };
    Ok((config, planner.reserved))
}

struct Planner<'a> {
    layout: &'a Layout,
    options: &'a SupervisorOptions,
    reserved: Vec<TcpSocket>,
    servers: Vec<InstancePlan>,
}

impl Planner<'_> {
    fn reserve(&mut self, port: u16) -> Result<SocketAddr, SystemError> {
        let (socket, address) = reserve(port)?;
        self.reserved.push(socket);
        Ok(address)
    }

    fn instance(&mut self, server: Server, number: u16) -> Result<InstancePlan, SystemError> {
        let service = server.service().to_owned();
        Ok(InstancePlan { instance: format!("{service}-{number}"), service, address: self.reserve(0)? })
    }

    /// Sets up a server of which there is one, and puts it down.
    async fn server(&mut self, server: Server) -> Result<SocketAddr, SystemError> {
        server.set_up(self.layout, &[]).await?;
        let plan = self.instance(server, 1)?;
        let address = plan.address;
        self.servers.push(plan);
        Ok(address)
    }

    async fn stores(&mut self) -> Result<Places, SystemError> {
        match (self.options.tier, &self.options.servers.postgres) {
            (Tier::Embedded, _) => Ok(Places::Files(self.layout.data())),
            (Tier::Real, Some(server)) => Ok(Places::Postgres {
                server: server.trim_end_matches('/').to_owned(),
                prefix: servers::own_name(self.layout)?,
            }),
            (Tier::Real, None) => {
                let address = self.server(Server::Postgres).await?;
                Ok(Places::Postgres {
                    server: servers::postgres_url(self.layout, address)?,
                    prefix: "orders".to_owned(),
                })
            }
        }
    }

    async fn registry_store(&mut self) -> Result<Option<RegistryStore>, SystemError> {
        match (self.options.tier, &self.options.servers.etcd) {
            (Tier::Embedded, _) => Ok(None),
            (Tier::Real, Some(server)) => {
                let prefix = format!("/{}", servers::own_name(self.layout)?);
                Ok(Some(RegistryStore { url: server.trim_end_matches('/').to_owned(), prefix }))
            }
            (Tier::Real, None) => {
                let url = servers::etcd_url(self.server(Server::Etcd).await?);
                Ok(Some(RegistryStore { url, prefix: String::new() }))
            }
        }
    }

    /// The broker, and the port at which each node of its cluster talks to the others.
    async fn broker(&mut self) -> Result<(Broker, BTreeMap<String, u16>), SystemError> {
        let mut between = BTreeMap::new();
        match (self.options.tier, self.options.servers.rabbitmq.as_slice()) {
            (Tier::Embedded, _) => Ok((Broker::default(), between)),
            (Tier::Real, nodes @ [_, ..]) => {
                let nodes = nodes.iter().map(|node| node.trim_end_matches('/').to_owned());
                Ok((Broker::RabbitMq(nodes.collect()), between))
            }
            (Tier::Real, []) => {
                let mapper = self.instance(Server::Epmd, 1)?;
                self.servers.push(mapper);
                let mut nodes = Vec::new();
                for number in 1..=self.options.servers.rabbitmq_nodes {
                    let node = self.instance(Server::RabbitMq, number)?;
                    between.insert(node.instance.clone(), self.reserve(0)?.port());
                    nodes.push(node);
                }
                Server::RabbitMq.set_up(self.layout, &nodes).await?;
                let urls = nodes.iter().map(|plan| servers::rabbitmq_url(self.layout, plan.address));
                let urls = urls.collect::<Result<_, _>>()?;
                self.servers.extend(nodes);
                Ok((Broker::RabbitMq(urls), between))
            }
        }
    }

    async fn key_values(&mut self) -> Result<KeyValues, SystemError> {
        if let (Tier::Real, Some(server)) = (self.options.tier, &self.options.servers.redis) {
            let prefix = format!("{}:", servers::own_name(self.layout)?);
            return Ok(KeyValues::Shared { server: server.trim_end_matches('/').to_owned(), prefix });
        }
        let mut addresses = [(Ipv4Addr::LOCALHOST, 0).into(); 3];
        for (address, purpose) in addresses.iter_mut().zip(Purpose::ALL) {
            *address = match self.options.tier {
                Tier::Embedded => self.reserve(0)?,
                Tier::Real => self.server(Server::Redis(purpose)).await?,
            };
        }
        Ok(match self.options.tier {
            Tier::Embedded => KeyValues::Roles(addresses),
            Tier::Real => KeyValues::Servers(addresses),
        })
    }
}

/// Binds a port without listening: connections to it are refused, nobody else is given it, and the
/// role that is meant to may bind it beside us.
fn reserve(port: u16) -> Result<(TcpSocket, SocketAddr), SystemError> {
    let bind = || {
        let socket = TcpSocket::new_v4()?;
        if port != 0 {
            socket.set_reuseaddr(true)?;
        }
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        // Only now, so that port 0 gave a port that nobody else has.
        socket.set_reuseaddr(true)?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    bind().map_err(|source| SystemError::Port { port, source })
}
