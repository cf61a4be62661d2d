//! The registry: instances with leases, switches, and a long poll that pushes changes.
//!
//! For fault injection an instance can be *masked*: it lives and heartbeats, but no reader sees it
//! until the mask is taken off or expires.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::process;
use crate::rpc::Failure;
use crate::rpc::directory::{Listing, Registered};
use crate::switches::{self, BadSwitch, SWITCHES, Setting, Settings, SwitchView};

/// How often leases and masks are looked over.
const SWEEP: Duration = Duration::from_millis(100);

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let registry = Arc::new(Shared {
        state: Mutex::new(Registry {
            epoch: now_ms() as u64,
            switches: kept(&frame.layout.switches()),
            ..Registry::default()
        }),
        kept: frame.layout.switches(),
        moved: watch::Sender::new(()),
    });
    let sweeper = Arc::clone(&registry);
    let stop = frame.stop.clone();
    frame.tracker.spawn(async move {
        let mut tick = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                _ = tick.tick() => sweeper.change(|state| state.expire(Instant::now())),
                () = stop.cancelled() => return,
            }
        }
    });
    let routes = Router::new()
        .route("/svc", get(list_all))
        .route("/svc/{service}", get(list_one))
        .route("/svc/{service}/{instance}", put(register).delete(deregister))
        .route("/watch", get(watch_changes))
        .route("/mask", get(list_masks))
        .route("/mask/{service}/{instance}", put(mask).delete(unmask))
        .route("/switch", get(list_switches))
        .route("/switch/{name}", get(read_switch).put(write_switch))
        .with_state(Arc::clone(&registry));
    let describe = Box::new(move || {
        let state = registry.lock();
        json!({
            "listing": state.listing(), "leases": state.leases(), "masks": state.masks(), "switches": state.switches,
        })
    });
    frame.serve(routes, describe, std::future::ready(())).await
}

struct Shared {
    state: Mutex<Registry>,
    /// Where switches outlive this process.
    kept: PathBuf,
    moved: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change and wakes the watchers if what readers see has changed.
    fn change<T>(&self, apply: impl FnOnce(&mut Registry) -> T) -> T {
        let mut state = self.lock();
        let before = state.rev;
        let result = apply(&mut state);
        let moved = state.rev != before;
        drop(state);
        if moved {
            self.moved.send_replace(());
        }
        result
    }
}

type Name = (String, String);

/// The registry's state. Time comes in as an argument.
#[derive(Default)]
struct Registry {
    epoch: u64,
    rev: u64,
    entries: BTreeMap<Name, Entry>,
    masks: BTreeMap<Name, Instant>,
    switches: Settings,
}

struct Entry {
    value: Registration,
    /// `None`: until it is removed.
    expires: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Registration {
    address: SocketAddr,
    state: String,
    #[serde(default = "one")]
    weight: u32,
}

const fn one() -> u32 {
    1
}

impl Registry {
    fn register(&mut self, name: Name, value: Registration, expires: Option<Instant>) {
        let known = self.entries.get(&name).is_some_and(|entry| entry.value == value);
        if !known {
            self.rev += 1;
        }
        self.entries.insert(name, Entry { value, expires });
    }

    fn deregister(&mut self, name: &Name) {
        if self.entries.remove(name).is_some() {
            self.rev += 1;
        }
    }

    fn mask(&mut self, name: Name, until: Instant) {
        if self.masks.insert(name, until).is_none() {
            self.rev += 1;
        }
    }

    fn unmask(&mut self, name: &Name) {
        if self.masks.remove(name).is_some() {
            self.rev += 1;
        }
    }

    fn expire(&mut self, now: Instant) {
        let before = self.entries.len() + self.masks.len();
        self.entries.retain(|_, entry| entry.expires.is_none_or(|expires| now < expires));
        self.masks.retain(|_, until| now < *until);
        if self.entries.len() + self.masks.len() != before {
            self.rev += 1;
        }
    }

    fn listing(&self) -> Listing {
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
    fn leases(&self) -> BTreeMap<&str, Option<u64>> {
        let now = Instant::now();
        let left = |until: Instant| until.saturating_duration_since(now).as_millis() as u64;
        self.entries.iter().map(|((_, instance), entry)| (instance.as_str(), entry.expires.map(left))).collect()
    }

    fn masks(&self) -> Vec<Value> {
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

#[derive(Deserialize)]
struct Ttl {
    ttl_ms: Option<u64>,
}

impl Ttl {
    fn deadline(&self, default_ms: u64) -> Result<Instant, Failure> {
        match self.ttl_ms.unwrap_or(default_ms) {
            ms @ 1..=3_600_000 => Ok(Instant::now() + Duration::from_millis(ms)),
            ms => Err(Failure::invalid(format!("ttl_ms must be 1 to 3600000, not {ms}"))),
        }
    }
}

async fn register(
    State(registry): State<Arc<Shared>>,
    At(name): At<Name>,
    Ask(ttl): Ask<Ttl>,
    Body(value): Body<Registration>,
) -> Result<StatusCode, Failure> {
    let expires = if ttl.ttl_ms == Some(0) { None } else { Some(ttl.deadline(3_000)?) };
    registry.change(|state| state.register(name, value, expires));
    Ok(StatusCode::NO_CONTENT)
}

async fn deregister(State(registry): State<Arc<Shared>>, At(name): At<Name>) -> StatusCode {
    registry.change(|state| state.deregister(&name));
    StatusCode::NO_CONTENT
}

async fn mask(
    State(registry): State<Arc<Shared>>,
    At(name): At<Name>,
    Ask(ttl): Ask<Ttl>,
) -> Result<StatusCode, Failure> {
    let until = ttl.deadline(30_000)?;
    registry.change(|state| state.mask(name, until));
    Ok(StatusCode::NO_CONTENT)
}

async fn unmask(State(registry): State<Arc<Shared>>, At(name): At<Name>) -> StatusCode {
    registry.change(|state| state.unmask(&name));
    StatusCode::NO_CONTENT
}

async fn list_masks(State(registry): State<Arc<Shared>>) -> Json<Vec<Value>> {
    Json(registry.lock().masks())
}

async fn list_all(State(registry): State<Arc<Shared>>) -> Json<Listing> {
    Json(registry.lock().listing())
}

async fn list_one(
    State(registry): State<Arc<Shared>>,
    At(service): At<String>,
) -> Result<Json<Vec<Registered>>, Failure> {
    let found = registry.lock().listing().services.remove(&service);
    found.map(Json).ok_or_else(|| Failure::not_found(format!("no instance of {service}")))
}

#[derive(Deserialize)]
struct Watch {
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    rev: u64,
    timeout_ms: Option<u64>,
}

/// Answers when there is something newer than `rev` of this life of the registry (or when the
/// reader knows another life), at the latest after `timeout_ms`.
async fn watch_changes(State(registry): State<Arc<Shared>>, Ask(watch): Ask<Watch>) -> Json<Listing> {
    let wait = Duration::from_millis(watch.timeout_ms.unwrap_or(20_000).min(60_000));
    let deadline = Instant::now() + wait;
    let mut moved = registry.moved.subscribe();
    loop {
        moved.borrow_and_update();
        let listing = registry.lock().listing();
        let newer = listing.rev > watch.rev || (watch.epoch != 0 && listing.epoch != watch.epoch);
        if newer || tokio::time::timeout_at(deadline, moved.changed()).await.is_err() {
            return Json(listing);
        }
    }
}

/// Every switch with what it is set to.
async fn list_switches(State(registry): State<Arc<Shared>>) -> Json<Vec<SwitchView>> {
    let state = registry.lock();
    Json(SWITCHES.iter().map(|switch| SwitchView::of(switch, &state.switches)).collect())
}

async fn read_switch(State(registry): State<Arc<Shared>>, At(name): At<String>) -> Result<Json<SwitchView>, Failure> {
    let switch = switches::switch(&name).ok_or_else(|| Failure::not_found(BadSwitch::Unknown { name }.to_string()))?;
    Ok(Json(SwitchView::of(switch, &registry.lock().switches)))
}

#[derive(Deserialize)]
struct Where {
    /// The one instance that is to differ.
    instance: Option<String>,
}

/// Sets a switch, everywhere or at one instance; `null` sets it back.
async fn write_switch(
    State(registry): State<Arc<Shared>>,
    At(name): At<String>,
    Ask(at): Ask<Where>,
    Body(value): Body<Option<String>>,
) -> Result<Json<SwitchView>, Failure> {
    let refuse = |error: BadSwitch| match error {
        BadSwitch::Unknown { .. } => Failure::not_found(error.to_string()),
        BadSwitch::Value { .. } => Failure::invalid(error.to_string()),
    };
    let default = switches::switch(&name).map_or("", |switch| switch.default);
    let (switch, value) = match &value {
        Some(value) => switches::check(&name, value).map(|(switch, value)| (switch, Some(value.to_owned()))),
        None => switches::check(&name, default).map(|(switch, _)| (switch, None)),
    }
    .map_err(refuse)?;
    let (view, all) = registry.change(|state| {
        state.rev += 1;
        let empty = Setting { version: 0, value: None, instances: BTreeMap::new() };
        let setting = state.switches.entry(name).or_insert(empty);
        setting.version = state.rev;
        match (at.instance, value) {
            (Some(instance), Some(value)) => {
                setting.instances.insert(instance, value);
            }
            (Some(instance), None) => {
                setting.instances.remove(&instance);
            }
            (None, value) => setting.value = value,
        }
        (SwitchView::of(switch, &state.switches), state.switches.clone())
    });
    let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
    if let Err(error) = process::write_whole(&registry.kept, &text) {
        tracing::error!(%error, "the switch holds, but not for the next life of the registry");
    }
    Ok(Json(view))
}

/// What switches were set to in an earlier life.
fn kept(path: &Path) -> Settings {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
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
