//! The reference system as a target: what its state says, in the words of Kennel.

use kennel_model::fault::FaultKind;
use kennel_model::target::{
    AuditEndpoint, AuditHistory, Environment, Instance, Limits, Link, ProcessSelector, Registry, RegistryKind, Service,
    Target, ToxiproxyLink,
};
use kennel_model::units::Rate;
use reference_system::SystemState;
use reference_system::state::InstanceState;

/// Name under which the reference system is declared.
pub(crate) const NAME: &str = "reference-system";

/// Arrivals per second that the reference system may be asked for: far above what one machine serves.
const MAX_RATE: f64 = 5_000.0;

/// The declaration of a running reference system.
pub(crate) fn declare(state: &SystemState) -> Target {
    let host_of = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut allowed_hosts = vec![host_of(&state.gateway), host_of(&state.registry), host_of(&state.auditor)];
    allowed_hosts.extend(state.toxiproxy.as_deref().map(host_of));
    let mut services: Vec<Service> = Vec::new();
    let process_of = |instance: &InstanceState| ProcessSelector {
        pid_file: Some(instance.pid_file.display().to_string()),
        listening_port: None,
        command_line: Some(format!("--instance {}", instance.process)),
        supervised: true,
    };
    for instance in &state.instances {
        let declared = Instance {
            name: instance.instance.clone(),
            address: Some(instance.address.to_string()),
            process: Some(process_of(instance)),
        };
        match services.iter_mut().find(|service| service.name == instance.service) {
            Some(service) => service.instances.push(declared),
            None => services.push(Service { name: instance.service.clone(), instances: vec![declared] }),
        }
    }
    // What is one process is a thing of its own, too: a fault on it hits every module that lives in it.
    for shared in state.shared_processes() {
        let (name, process) = (shared.process.clone(), process_of(shared));
        let service = name.rsplit_once('-').map_or(name.as_str(), |(service, _)| service).to_owned();
        services
            .push(Service { name: service, instances: vec![Instance { name, address: None, process: Some(process) }] });
    }
    let links = state.links.iter().map(|link| Link {
        from: link.from.clone(),
        to: link.to.clone(),
        instance: Some(link.to_instance.clone()),
        listen: link.listen.to_string(),
        upstream: link.upstream.to_string(),
        toxiproxy: state.toxiproxy.clone().map(|api| ToxiproxyLink { api, proxy: link.proxy.clone() }),
    });
    Target {
        name: NAME.to_owned(),
        environment: Environment::Development,
        base_url: state.gateway.clone(),
        allowed_hosts,
        services,
        links: links.collect(),
        registry: Some(Registry { kind: RegistryKind::ReferenceSystem, url: state.registry.clone() }),
        health: vec![format!("{}/readyz", state.gateway.trim_end_matches('/'))],
        audits: vec![AuditEndpoint {
            name: "books".to_owned(),
            url: format!("{}/audit?quiesce_ms=30000", state.auditor.trim_end_matches('/')),
            history: Some(AuditHistory {
                key_header: "x-req-id".to_owned(),
                answer: ["order_id", "user_id", "restaurant_id", "total_fen"].map(str::to_owned).to_vec(),
            }),
        }],
        limits: Limits {
            max_rate: Rate::per_second(MAX_RATE).ok(),
            max_users: Some(5_000),
            faults: FaultKind::ALL.to_vec(),
        },
    }
}
