//! Looks at the registry and at the processes twice a second (I20), and keeps what was wrong for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::{Fault, Finding, Seen, Watcher, listing_finding};
use crate::config::{InstancePlan, Layout, SystemConfig, now_ms};
use crate::process;
use crate::rpc::caller::{exchange, http_client};
use crate::rpc::directory::Listing;
use crate::store::{Store, StoreError};
use crate::switches::{self, Settings};
use crate::ward::Restarts;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// A question that takes longer is no answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// How many looks are kept with one write.
const KEPT_TOGETHER: u64 = 10;

/// The lookout of a running system.
pub(super) struct Lookout {
    config: Arc<SystemConfig>,
    layout: Layout,
    store: Store,
    client: Client<HttpConnector, Full<Bytes>>,
    watcher: Mutex<Watcher>,
    /// What this life of the lookout has found.
    found: Mutex<Finding>,
    /// How many looks have seen something, and how many of them are kept.
    looks: AtomicU64,
    kept: AtomicU64,
}

#[derive(Deserialize)]
struct Mask {
    instance: String,
}

impl Lookout {
    pub(super) fn new(config: Arc<SystemConfig>, layout: Layout, store: Store) -> Self {
        let client = http_client(Duration::from_millis(config.timeouts.connect_ms));
        let (watcher, looks, kept) = Default::default();
        Self { config, layout, store, client, watcher, found: Mutex::new(listing_finding()), looks, kept }
    }

    pub(super) async fn keep_looking(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(PAUSE);
        // A look that comes late is one look, not several.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => break,
            }
            let faults = match self.look().await {
                Some(seen) => {
                    let seen: Vec<(&str, Seen)> =
                        seen.iter().map(|(plan, seen)| (plan.instance.as_str(), *seen)).collect();
                    self.looks.fetch_add(1, Ordering::Relaxed);
                    self.watcher().look(&seen, Instant::now())
                }
                None => {
                    self.watcher().blind();
                    Vec::new()
                }
            };
            self.tell(&faults);
            let unkept = self.looks.load(Ordering::Relaxed).saturating_sub(self.kept.load(Ordering::Relaxed));
            if (unkept >= KEPT_TOGETHER || !faults.is_empty())
                && let Err(error) = self.keep(faults).await
            {
                tracing::error!(%error, "what the lookout saw is not kept");
            }
        }
        self.count_all().await;
    }

    /// Keeps the count of all looks so far.
    pub(super) async fn count_all(&self) {
        if let Err(error) = self.keep(Vec::new()).await {
            tracing::warn!(%error, "the last looks are not counted");
        }
    }

    fn tell(&self, faults: &[Fault]) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.checked = self.looks.load(Ordering::Relaxed);
        for Fault { instance, what } in faults {
            tracing::error!(instance, what, "the registry does not tell the truth");
            found.violate_at(now_ms(), || format!("{instance} {what}"));
        }
    }

    /// What it has found since the auditor started.
    pub(super) fn found(&self) -> Finding {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn watcher(&self) -> MutexGuard<'_, Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(&self, faults: Vec<Fault>) -> Result<(), StoreError> {
        let looks = self.looks.load(Ordering::Relaxed);
        let more = looks.saturating_sub(self.kept.swap(looks, Ordering::Relaxed)) as i64;
        let kept = self
            .store
            .write(move |connection| {
                Box::pin(async move {
                    for Fault { instance, what } in faults {
                        sqlx::query("INSERT INTO registry_faults VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                            .bind(instance)
                            .bind(what)
                            .bind(now_ms())
                            .execute(&mut *connection)
                            .await?;
                    }
                    sqlx::query(
                        "INSERT INTO registry_looks VALUES ('all', $1) \
                         ON CONFLICT (name) DO UPDATE SET looks = registry_looks.looks + excluded.looks",
                    )
                    .bind(more)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await;
        if kept.is_err() {
            self.kept.fetch_sub(more.unsigned_abs(), Ordering::Relaxed);
        }
        kept
    }

    /// Where registry and processes differ once everything has had time to settle; `None` if the registry does not answer.
    pub(super) async fn differences(&self) -> Option<Vec<String>> {
        let lease = Duration::from_millis(self.config.lease_ms);
        let deadline = Instant::now() + lease + Duration::from_secs(3);
        loop {
            let seen = self.look().await;
            let differ: Option<Vec<String>> = seen.map(|seen| {
                let wrong = seen.into_iter().filter(|(_, seen)| seen.differs());
                wrong
                    .map(|(plan, seen)| {
                        let is = if seen.lives { "can serve and is not listed" } else { "is dead and listed" };
                        format!("{} {is}", plan.instance)
                    })
                    .collect()
            });
            if differ.as_ref().is_some_and(Vec::is_empty) || Instant::now() >= deadline {
                return differ;
            }
            tokio::time::sleep(PAUSE / 2).await;
        }
    }

    /// What there is to see, of every instance that registers; `None` if the registry does not answer.
    async fn look(&self) -> Option<Vec<(&InstancePlan, Seen)>> {
        let registry = self.config.first("reg")?.address;
        let listing: Listing = self.ask(&format!("http://{registry}/svc")).await?;
        let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (service, instances) in &listing.services {
            listed.insert(service, instances.iter().map(|one| one.instance.as_str()).collect());
        }
        let mut seen: Vec<(&InstancePlan, Seen)> = self
            .config
            .instances
            .iter()
            .filter(|plan| plan.service != "reg")
            .map(|plan| {
                let (_, process) = self.config.process_of(plan);
                let pid = process::read_pid(&self.layout.pid_file(process));
                let lives = pid.is_some_and(process::exists);
                let listed = listed.get(plan.service.as_str()).is_some_and(|all| all.contains(plan.instance.as_str()));
                let lease = self.lease(&listing.switches, &plan.instance);
                let life = Restarts::read(&self.layout.restarts(process)).count;
                (plan, Seen { listed, lives, ready: lives && listed, life, lease })
            })
            .collect();
        if seen.iter().any(|(_, seen)| seen.lives && !seen.listed) {
            let masks: Vec<Mask> = self.ask(&format!("http://{registry}/mask")).await?;
            for (plan, seen) in seen.iter_mut().filter(|(_, seen)| seen.lives) {
                seen.listed |= masks.iter().any(|mask| mask.instance == plan.instance);
            }
            let missing = seen.iter_mut().filter(|(_, seen)| seen.lives && !seen.listed);
            join_all(missing.map(|(plan, seen)| async {
                seen.ready = self.get(&format!("http://{}/readyz", plan.address)).await.is_some();
            }))
            .await;
        }
        Some(seen)
    }

    /// How long registrations live without their instance. One that nobody ends is held to the design's lease.
    fn lease(&self, settings: &Settings, instance: &str) -> Duration {
        let value = switches::switch("reg.lease_ms").map(|switch| switches::value_at(settings, switch, instance));
        let ms = value.and_then(|value| value.parse().ok()).filter(|ms| *ms > 0);
        Duration::from_millis(ms.unwrap_or(self.config.lease_ms))
    }

    async fn ask<T: DeserializeOwned>(&self, uri: &str) -> Option<T> {
        serde_json::from_slice(&self.get(uri).await?).ok()
    }

    async fn get(&self, uri: &str) -> Option<Bytes> {
        let asked = exchange(&self.client, Method::GET, uri, Bytes::new(), |_| {});
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok((StatusCode::OK, answer))) => Some(answer),
            _ => None,
        }
    }
}
