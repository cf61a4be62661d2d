//! Where the registry keeps what it knows beyond its own life: its switches in a file (embedded tier), or everything in
//! etcd (real tier), where a registration is bound to a lease and goes when that ends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::state::{Name, Registration, Registry};
use crate::config::{RegistryStore, now_ms};
use crate::etcd::{Entry, Etcd, EtcdError};
use crate::process;
use crate::rpc::Failure;
use crate::switches::{Setting, Settings};

/// The prefix of every key in etcd.
pub(super) const PREFIX: &str = "/registry/";

/// The keeper of a registry.
pub(super) enum Keeper {
    /// Switches alone, in this file.
    File(PathBuf),
    /// Everything.
    Etcd(Box<EtcdKeeper>),
}

impl Keeper {
    /// The keeper in etcd, if that is it.
    pub(super) fn etcd(&self) -> Option<&EtcdKeeper> {
        match self {
            Self::File(_) => None,
            Self::Etcd(keeper) => Some(keeper),
        }
    }

    /// Keeps one switch; `all` are those that are set.
    pub(super) async fn keep_switch(&self, name: &str, setting: &Setting, all: &Settings) -> Result<(), Failure> {
        match self {
            Self::File(path) => {
                let text = serde_json::to_vec_pretty(all).unwrap_or_default();
                if let Err(error) = process::write_whole(path, &text) {
                    tracing::error!(%error, "the switch holds, but not for the next life of the registry");
                }
                Ok(())
            }
            Self::Etcd(keeper) => {
                let text = serde_json::to_vec(setting).unwrap_or_default();
                Ok(keeper.put(&format!("{PREFIX}switch/{name}"), &text, None).await?)
            }
        }
    }
}

/// What switches were set to in an earlier life.
pub(super) fn kept_in(path: &Path) -> Settings {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// The registry's keys in etcd.
pub(super) struct EtcdKeeper {
    pub(super) etcd: Etcd,
    /// The lease of each registration that came through this process, and how long it is.
    leases: Mutex<HashMap<Name, (String, u64)>>,
    /// The revision of this process's last write of a key: what a watch tells of earlier ones is past.
    written: Mutex<HashMap<String, i64>>,
}

impl From<EtcdError> for Failure {
    fn from(error: EtcdError) -> Self {
        Self::unavailable("etcd_failed", error.to_string())
    }
}

fn key_of(kind: &str, name: &Name) -> String {
    format!("{PREFIX}{kind}/{}/{}", name.0, name.1)
}

impl EtcdKeeper {
    pub(super) fn new(store: &RegistryStore) -> Self {
        Self { etcd: Etcd::new(&store.url, &store.prefix), leases: Mutex::default(), written: Mutex::default() }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Name, (String, u64)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(&self, key: &str, value: &[u8], lease: Option<&str>) -> Result<(), EtcdError> {
        let revision = self.etcd.put(key, value, lease).await?;
        self.written().insert(key.to_owned(), revision);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), EtcdError> {
        let revision = self.etcd.remove(key).await?;
        self.written().insert(key.to_owned(), revision);
        Ok(())
    }

    /// Renews a registration that is known with this value, or writes it with a lease of its own. `ttl_ms` of 0 means
    /// until it is removed.
    pub(super) async fn register(
        &self,
        name: &Name,
        value: &Registration,
        ttl_ms: u64,
        known: bool,
    ) -> Result<(), EtcdError> {
        let held = self.leases().get(name).cloned();
        if let (true, Some((lease, held_ms))) = (known, held)
            && held_ms == ttl_ms
            && (ttl_ms == 0 || self.etcd.keep_alive(&lease).await?)
        {
            return Ok(());
        }
        let lease = if ttl_ms == 0 { None } else { Some(self.etcd.grant(ttl_ms.div_ceil(1_000)).await?) };
        let text = serde_json::to_vec(value).unwrap_or_default();
        self.put(&key_of("svc", name), &text, lease.as_deref()).await?;
        self.leases().insert(name.clone(), (lease.unwrap_or_default(), ttl_ms));
        Ok(())
    }

    pub(super) async fn deregister(&self, name: &Name) -> Result<(), EtcdError> {
        self.leases().remove(name);
        self.remove(&key_of("svc", name)).await
    }

    /// A mask ends by its own clock; the lease only clears it away.
    pub(super) async fn mask(&self, name: &Name, left: Duration) -> Result<(), EtcdError> {
        let until_ms = now_ms() + left.as_millis() as i64;
        let lease = self.etcd.grant(left.as_secs() + 2).await?;
        self.put(&key_of("mask", name), until_ms.to_string().as_bytes(), Some(&lease)).await
    }

    pub(super) async fn unmask(&self, name: &Name) -> Result<(), EtcdError> {
        self.remove(&key_of("mask", name)).await
    }

    /// Takes a change of etcd over, unless this process has written the key since.
    pub(super) fn apply(&self, state: &mut Registry, entry: &Entry) {
        if self.written().get(&entry.key).is_some_and(|revision| entry.revision < *revision) {
            return;
        }
        let parts: Vec<&str> = entry.key.strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
        let taken = match (&parts[..], &entry.value) {
            (["svc", service, instance], Some(value)) => serde_json::from_slice(value)
                .map(|value| state.register(((*service).to_owned(), (*instance).to_owned()), value, None))
                .is_ok(),
            (["svc", service, instance], None) => {
                state.deregister(&((*service).to_owned(), (*instance).to_owned()));
                true
            }
            (["mask", service, instance], Some(value)) => {
                let name = ((*service).to_owned(), (*instance).to_owned());
                let until = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                until.map(|until| state.mask(name, Instant::now() + left_until(until))).is_some()
            }
            (["mask", service, instance], None) => {
                state.unmask(&((*service).to_owned(), (*instance).to_owned()));
                true
            }
            (["switch", name], Some(value)) => {
                serde_json::from_slice(value).map(|setting| state.set((*name).to_owned(), setting)).is_ok()
            }
            (["switch", name], None) => {
                state.unset(name);
                true
            }
            _ => false,
        };
        if !taken {
            tracing::warn!(key = entry.key, "a key in etcd is none of the registry's");
        }
    }

    /// Takes over all that etcd has, as of `revision`, and forgets what it has not.
    pub(super) fn replace(&self, state: &mut Registry, entries: &[Entry], revision: i64) {
        let newer = |key: &str| self.written().get(key).is_some_and(|written| *written > revision);
        let there = |key: &str| newer(key) || entries.iter().any(|entry| entry.key == key);
        let gone: Vec<Name> = state.entries.keys().filter(|name| !there(&key_of("svc", name))).cloned().collect();
        gone.iter().for_each(|name| state.deregister(name));
        let gone: Vec<Name> = state.masks.keys().filter(|name| !there(&key_of("mask", name))).cloned().collect();
        gone.iter().for_each(|name| state.unmask(name));
        let switch = |name: &String| format!("{PREFIX}switch/{name}");
        let gone: Vec<String> = state.switches.keys().filter(|name| !there(&switch(name))).cloned().collect();
        gone.iter().for_each(|name| state.unset(name));
        entries.iter().for_each(|entry| self.apply(state, entry));
    }
}

fn left_until(until_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(until_ms - now_ms()).unwrap_or(0))
}
