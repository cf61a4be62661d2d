//! What the registry knows: instances, masks and switches, as readers see them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rpc::directory::{Listing, Registered};
use crate::switches::{Setting, Settings};

pub(super) type Name = (String, String);

/// The registry's state. Time comes in as an argument.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) epoch: u64,
    pub(super) rev: u64,
    pub(super) entries: BTreeMap<Name, Entry>,
    pub(super) masks: BTreeMap<Name, Instant>,
    pub(super) switches: Settings,
}

pub(super) struct Entry {
    pub(super) value: Registration,
    /// `None`: until it is removed.
    expires: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) address: SocketAddr,
    pub(super) state: String,
    #[serde(default = "one")]
    pub(super) weight: u32,
}

const fn one() -> u32 {
    1
}

impl Registry {
    pub(super) fn register(&mut self, name: Name, value: Registration, expires: Option<Instant>) {
        let known = self.entries.get(&name).is_some_and(|entry| entry.value == value);
        if !known {
            self.rev += 1;
        }
        self.entries.insert(name, Entry { value, expires });
    }

    pub(super) fn deregister(&mut self, name: &Name) {
        if self.entries.remove(name).is_some() {
            self.rev += 1;
        }
    }

    pub(super) fn mask(&mut self, name: Name, until: Instant) {
        if self.masks.insert(name, until).is_none() {
            self.rev += 1;
        }
    }

    pub(super) fn unmask(&mut self, name: &Name) {
        if self.masks.remove(name).is_some() {
            self.rev += 1;
        }
    }

    pub(super) fn set(&mut self, name: String, setting: Setting) {
        if self.switches.get(&name) != Some(&setting) {
            self.rev += 1;
            self.switches.insert(name, setting);
        }
    }

    pub(super) fn unset(&mut self, name: &str) {
        if self.switches.remove(name).is_some() {
            self.rev += 1;
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.entries.len() + self.masks.len();
        self.entries.retain(|_, entry| entry.expires.is_none_or(|expires| now < expires));
        self.masks.retain(|_, until| now < *until);
        if self.entries.len() + self.masks.len() != before {
            self.rev += 1;
        }
    }

    pub(super) fn listing(&self) -> Listing {
        let mut services: BTreeMap<String, Vec<Registered>> = BTreeMap::new();
        for (name, entry) in &self.entries {
            let visible = services.entry(name.0.clone()).or_default();
            if !self.masks.contains_key(name) {
                visible.push(Registered {
                    instance: name.1.clone(),
                    address: entry.value.address,
                    state: entry.value.state.clone(),
                    weight: entry.value.weight,
                });
            }
        }
        Listing { epoch: self.epoch, rev: self.rev, services, switches: self.switches.clone() }
    }

    /// How long each registration would live without another heartbeat, in milliseconds; null for as long as it takes.
    pub(super) fn leases(&self) -> BTreeMap<&str, Option<u64>> {
        let now = Instant::now();
        let left = |until: Instant| until.saturating_duration_since(now).as_millis() as u64;
        self.entries.iter().map(|((_, instance), entry)| (instance.as_str(), entry.expires.map(left))).collect()
    }

    pub(super) fn masks(&self) -> Vec<Value> {
        let now = Instant::now();
        self.masks
            .iter()
            .map(|((service, instance), until)| {
                let left = until.saturating_duration_since(now).as_millis() as u64;
                json!({ "service": service, "instance": instance, "left_ms": left })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name() -> Name {
        ("a".to_owned(), "a-1".to_owned())
    }

    fn up() -> Registration {
        Registration { address: ([127, 0, 0, 1], 1).into(), state: "up".to_owned(), weight: 1 }
    }

    fn visible(registry: &Registry) -> usize {
        registry.listing().services.values().map(Vec::len).sum()
    }

    #[tokio::test]
    async fn an_instance_without_heartbeats_goes_when_its_lease_ends() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.register(name(), up(), Some(now + Duration::from_secs(3)));
        registry.expire(now + Duration::from_secs(2));
        assert_eq!(visible(&registry), 1);
        registry.expire(now + Duration::from_secs(3));
        assert_eq!(visible(&registry), 0);
    }

    #[tokio::test]
    async fn without_a_lease_an_entry_stays_until_it_is_removed() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.register(name(), up(), None);
        registry.expire(now + Duration::from_secs(1_000_000));
        assert_eq!(visible(&registry), 1);
        registry.deregister(&name());
        assert_eq!(visible(&registry), 0);
    }

    #[tokio::test]
    async fn a_mask_hides_a_living_instance_until_it_expires() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.register(name(), up(), Some(now + Duration::from_secs(60)));
        registry.mask(name(), now + Duration::from_secs(1));
        let masked = registry.rev;
        assert_eq!(visible(&registry), 0);
        registry.register(name(), up(), Some(now + Duration::from_secs(60)));
        assert_eq!(visible(&registry), 0, "a heartbeat must not lift the mask");
        registry.expire(now + Duration::from_secs(1));
        assert_eq!(visible(&registry), 1);
        assert!(registry.rev > masked, "watchers must learn that the mask is gone");
        registry.unmask(&name());
        assert_eq!(visible(&registry), 1);
    }

    #[tokio::test]
    async fn a_heartbeat_that_changes_nothing_wakes_nobody() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.register(name(), up(), Some(now + Duration::from_secs(3)));
        let rev = registry.rev;
        registry.register(name(), up(), Some(now + Duration::from_secs(4)));
        assert_eq!(registry.rev, rev);
    }
}
