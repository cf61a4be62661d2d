//! The reference system as a target: what its state says, in the words of Kennel.

use kennel_model::fault::FaultKind;
use kennel_model::target::{
    AuditEndpoint, AuditHistory, Environment, Instance, Limits, Link, ProcessSelector, Registry, RegistryKind, Service,
    Target, ToxiproxyLink,
};
use kennel_model::units::Rate;
use reference_system::SystemState;
use reference_system::audit::ANSWER_FIELDS;
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
        // A server has become another program: what its supervisor called it is not in its command line.
        command_line: (!instance.is_server).then(|| format!("--instance {}", instance.process)),
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
                answer: ANSWER_FIELDS.map(str::to_owned).to_vec(),
                reads: true,
            }),
        }],
        limits: Limits {
            max_rate: Rate::per_second(MAX_RATE).ok(),
            max_users: Some(5_000),
            faults: FaultKind::ALL.to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use reference_system::{Shape, Tier};

    use super::*;

    fn instance(service: &str, instance: &str, process: &str) -> InstanceState {
        InstanceState {
            service: service.to_owned(),
            instance: instance.to_owned(),
            address: "127.0.0.1:4001".parse().unwrap(),
            process: process.to_owned(),
            pid_file: format!("/system/run/{process}.pid").into(),
            is_server: service == "postgres",
        }
    }

    #[test]
    fn modules_of_a_monolith_are_found_in_its_process_which_is_a_service_besides() {
        let state = SystemState {
            dir: "/system".into(),
            seed: 1,
            tier: Tier::Embedded,
            shape: Shape::Monolith,
            supervisor_pid: 7,
            gateway: "http://127.0.0.1:4000".to_owned(),
            registry: "http://127.0.0.1:4002".to_owned(),
            auditor: "http://127.0.0.1:4003".to_owned(),
            toxiproxy: None,
            key_values: std::collections::BTreeMap::new(),
            instances: vec![
                instance("eos-c", "eos-c-1", "monolith-1"),
                instance("eos-c", "eos-c-2", "monolith-1"),
                instance("eus", "eus-1", "monolith-1"),
                instance("reg", "reg-1", "reg-1"),
                instance("postgres", "postgres-1", "postgres-1"),
            ],
            links: Vec::new(),
        };
        let target = declare(&state);
        let text = serde_json::to_string(&target).unwrap();
        assert_eq!(
            kennel_model::experiment::parse_target("target.yaml", &text).map_err(|e| e.to_string()),
            Ok(target.clone())
        );
        let services: Vec<(&str, usize)> =
            target.services.iter().map(|service| (service.name.as_str(), service.instances.len())).collect();
        assert_eq!(services, [("eos-c", 2), ("eus", 1), ("reg", 1), ("postgres", 1), ("monolith", 1)]);
        for (service, process) in
            [("eos-c", "monolith-1"), ("eus", "monolith-1"), ("reg", "reg-1"), ("monolith", "monolith-1")]
        {
            let service = target.services.iter().find(|one| one.name == service).unwrap();
            let found = service.instances[0].process.as_ref().unwrap();
            assert_eq!(found.pid_file.as_deref(), Some(format!("/system/run/{process}.pid").as_str()));
            assert_eq!(found.command_line.as_deref(), Some(format!("--instance {process}").as_str()));
        }
        let server = target.services.iter().find(|one| one.name == "postgres").unwrap();
        let found = server.instances[0].process.as_ref().unwrap();
        assert_eq!(found.command_line, None, "a server has become another program");
        assert_eq!(found.pid_file.as_deref(), Some("/system/run/postgres-1.pid"));
    }
}
