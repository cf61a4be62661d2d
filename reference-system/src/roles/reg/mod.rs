//! The registry: instances with leases, switches, and a long poll that pushes changes.
//!
//! For fault injection an instance can be *masked*: it lives and heartbeats, but no reader sees it
//! until the mask is taken off or expires.

mod keeper;
mod state;

use std::collections::{BTreeMap, BTreeSet};
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
use tokio_util::sync::CancellationToken;

use self::keeper::{EtcdKeeper, Keeper, PREFIX};
use self::state::{Name, Registration, Registry};
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::migration;
use crate::rpc::Failure;
use crate::rpc::directory::{Listing, Registered};
use crate::switches::{self, BadSwitch, SWITCHES, Setting, Settings, SwitchView};

/// Pause before etcd is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// How often leases and masks are looked over.
const SWEEP: Duration = Duration::from_millis(100);

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let keeper = match &frame.config.registry_store {
        Some(store) => Keeper::Etcd(Box::new(EtcdKeeper::new(store))),
        None => Keeper::File(frame.layout.switches()),
    };
    let switches = match &keeper {
        Keeper::File(path) => keeper::kept_in(path),
        Keeper::Etcd(_) => Settings::new(),
    };
    let registry = Arc::new(Shared {
        migration: frame.config.migration,
        planned: frame.config.instances.iter().map(|plan| plan.instance.clone()).collect(),
        state: Mutex::new(Registry { epoch: now_ms() as u64, switches, ..Registry::default() }),
        keeper,
        moved: watch::Sender::new(()),
        loaded: watch::Sender::new(false),
    });
    frame.tracker.spawn(follow(Arc::clone(&registry), frame.stop.clone()));
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
    let described = Arc::clone(&registry);
    let describe = Box::new(move || {
        let registry = &described;
        let state = registry.lock();
        json!({
            "listing": state.listing(), "leases": state.leases(), "masks": state.masks(), "switches": state.switches,
        })
    });
    let loaded = async {
        // Fails only when the registry ends.
        let _ = registry.loaded.subscribe().wait_for(|loaded| *loaded).await;
    };
    frame.serve(routes, describe, loaded).await
}

/// Takes over what etcd has, and every change of it: a registration whose lease ended, what another hand wrote. While
/// etcd is away, readers go on with what is known.
async fn follow(registry: Arc<Shared>, stop: CancellationToken) {
    let Some(keeper) = registry.keeper.etcd() else {
        registry.loaded.send_replace(true);
        return;
    };
    loop {
        let followed = async {
            let (entries, revision) = keeper.etcd.range(PREFIX).await?;
            registry.change(|state| keeper.replace(state, &entries, revision));
            registry.loaded.send_replace(true);
            let tell = |entry| registry.change(|state| keeper.apply(state, &entry));
            keeper.etcd.watch(PREFIX, revision + 1, tell).await
        };
        tokio::select! {
            ended = followed => if let Err(error) = ended {
                tracing::warn!(%error, "the registry goes on with what it knows");
            },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Shared {
    /// Whether there is an old order table.
    migration: bool,
    /// The instances that the system has, also those that are dead.
    planned: BTreeSet<String>,
    state: Mutex<Registry>,
    keeper: Keeper,
    moved: watch::Sender<()>,
    /// Whether what an earlier life knew is here.
    loaded: watch::Sender<bool>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an instance is there, or will be again, or somebody has registered it.
    fn knows(&self, instance: &str) -> bool {
        self.planned.contains(instance) || self.lock().entries.keys().any(|(_, known)| known == instance)
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
    let mut expires = if ttl.ttl_ms == Some(0) { None } else { Some(ttl.deadline(3_000)?) };
    if let Some(keeper) = registry.keeper.etcd() {
        let known = registry.lock().entries.get(&name).is_some_and(|entry| entry.value == value);
        keeper.register(&name, &value, ttl.ttl_ms.unwrap_or(3_000), known).await?;
        // Its lease ends there.
        expires = None;
    }
    registry.change(|state| state.register(name, value, expires));
    Ok(StatusCode::NO_CONTENT)
}

async fn deregister(State(registry): State<Arc<Shared>>, At(name): At<Name>) -> Result<StatusCode, Failure> {
    if let Some(keeper) = registry.keeper.etcd() {
        keeper.deregister(&name).await?;
    }
    registry.change(|state| state.deregister(&name));
    Ok(StatusCode::NO_CONTENT)
}

async fn mask(
    State(registry): State<Arc<Shared>>,
    At(name): At<Name>,
    Ask(ttl): Ask<Ttl>,
) -> Result<StatusCode, Failure> {
    let until = ttl.deadline(30_000)?;
    if let Some(keeper) = registry.keeper.etcd() {
        keeper.mask(&name, until.saturating_duration_since(Instant::now())).await?;
    }
    registry.change(|state| state.mask(name, until));
    Ok(StatusCode::NO_CONTENT)
}

async fn unmask(State(registry): State<Arc<Shared>>, At(name): At<Name>) -> Result<StatusCode, Failure> {
    if let Some(keeper) = registry.keeper.etcd() {
        keeper.unmask(&name).await?;
    }
    registry.change(|state| state.unmask(&name));
    Ok(StatusCode::NO_CONTENT)
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
    /// The role that sets it.
    by: Option<String>,
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
    if let Some(instance) = &at.instance
        && !registry.knows(instance)
    {
        return Err(Failure::not_found(format!("there is no instance `{instance}`")));
    }
    if switch.name == "mig.phase" && at.by.as_deref() != Some(migration::ROLE) {
        let why = match (registry.migration, &at.instance, &value) {
            (false, _, Some(_)) => {
                "this system has no old order table; start one in an empty directory with `system up --migration`"
            }
            (true, None, _) => {
                "mig.phase is moved by `system migrate`, which keeps the stores in step; by hand it is set for one \
                 instance (--instance), which then is one that has not heard of a change"
            }
            _ => "",
        };
        if !why.is_empty() {
            return Err(Failure::conflict("moved_by_migrate", why));
        }
    }
    let (setting, all) = {
        let state = registry.lock();
        let empty = Setting { version: 0, value: None, instances: BTreeMap::new() };
        let mut setting = state.switches.get(&name).cloned().unwrap_or(empty);
        setting.version = state.rev + 1;
        match (at.instance, value) {
            (Some(instance), Some(value)) => {
                setting.instances.insert(instance, value);
            }
            (Some(instance), None) => {
                setting.instances.remove(&instance);
            }
            (None, value) => setting.value = value,
        }
        let mut all = state.switches.clone();
        all.insert(name.clone(), setting.clone());
        (setting, all)
    };
    registry.keeper.keep_switch(&name, &setting, &all).await?;
    registry.change(|state| state.set(name, setting));
    Ok(Json(SwitchView::of(switch, &all)))
}
