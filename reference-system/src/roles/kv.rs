//! Looks after one key-value server: in the embedded tier it is the server, in the real tier it stands beside one. Keeps
//! its bound on memory and its policy as the switches say, clears the caches when their design changes, and tells how it
//! is doing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::frame::{Frame, RoleError, listen};
use crate::kv::client::{Kv, KvError};
use crate::kv::server::Server;
use crate::kv::{KeyValues, Purpose};
use crate::orders::cache;
use crate::rpc::Caller;
use crate::switches::CacheDesign;

/// How often the server is asked and, if need be, set.
const LOOK: Duration = Duration::from_millis(200);
/// How long an answer may take: nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Instances learn of a switch one after the other: what those wrote meanwhile that were late is cleared after this.
const ALL_HAVE_LEARNED: Duration = Duration::from_secs(1);
/// The most keys that are removed in one go.
const REMOVAL: usize = 1_000;
/// What is told of it: our name, its name, whether it only rises.
const TOLD: [(&str, &str, bool); 6] = [
    ("kv_memory_bytes", "used_memory", false),
    ("kv_maxmemory_bytes", "maxmemory", false),
    ("kv_hits_total", "keyspace_hits", true),
    ("kv_misses_total", "keyspace_misses", true),
    ("kv_evictions_total", "evicted_keys", true),
    ("kv_expired_total", "expired_keys", true),
];

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let servers = &frame.config.key_values;
    // The service was looked up by its name.
    let purpose = Purpose::of_role(&frame.plan.service).unwrap_or(Purpose::Cache);
    if let (KeyValues::Roles(_), Some(address)) = (servers, servers.address(purpose)) {
        // Counters come back as they were some seconds ago; the others come back empty.
        let snapshot = (purpose == Purpose::Id).then(|| frame.layout.data().join("kv-id.snapshot"));
        let failed = |source| RoleError::Listen { address, source };
        let server = Server::open(snapshot).map_err(failed)?;
        server.serve(listen(address).await.map_err(failed)?, &frame.tracker, frame.stop.clone());
    }
    let keeper = Arc::new(Keeper {
        kv: Kv::new(servers, purpose, PATIENCE),
        purpose,
        caller: frame.caller.clone(),
        // Somebody's server keeps what its owner has set.
        may_set: !matches!(servers, KeyValues::Shared { .. }),
        told: Mutex::default(),
        cleared: Mutex::default(),
    });
    let (metrics, instance) = (Arc::clone(&keeper), frame.plan.instance.clone());
    frame.tell_more(Box::new(move |out| metrics.write(&instance, out)));
    frame.tracker.spawn(Arc::clone(&keeper).keep(frame.stop.clone()));
    let ready = async {
        while keeper.look().await.is_err() || keeper.clear().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (name, described) = (purpose.to_string(), Arc::clone(&keeper));
    let describe = Box::new(move || json!({ "purpose": name, "clearing": described.is_clearing() }));
    frame.serve(Router::new(), describe, ready).await
}

struct Keeper {
    kv: Kv,
    purpose: Purpose,
    caller: Caller,
    may_set: bool,
    /// Its last words; `None` while it is away.
    told: Mutex<Option<BTreeMap<String, String>>>,
    cleared: Mutex<Cleared>,
}

/// For which design the caches were cleared, and when they are cleared again.
#[derive(Debug, Clone, Copy, Default)]
struct Cleared {
    design: Option<CacheDesign>,
    again_at: Option<Instant>,
}

impl Keeper {
    async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the server does not tell how it is");
            } else if let Err(error) = self.clear().await {
                tracing::warn!(%error, "the caches of another design are still there");
            }
        }
    }

    /// Asks how the server is, and sets what is not as the switches say.
    async fn look(&self) -> Result<(), KvError> {
        let looked = self.set_and_ask().await;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match looked {
            Ok(info) => {
                *told = Some(info);
                Ok(())
            }
            Err(error) => {
                *told = None;
                Err(error)
            }
        }
    }

    /// Whether copies of another design may still be there.
    fn is_clearing(&self) -> bool {
        let cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        self.purpose == Purpose::Cache
            && (cleared.design != Some(self.caller.in_force().cache_design) || cleared.again_at.is_some())
    }

    /// Removes what another design has cached: nobody keeps it true.
    async fn clear(&self) -> Result<(), KvError> {
        if self.purpose != Purpose::Cache {
            return Ok(());
        }
        let (design, now) = (self.caller.in_force().cache_design, Instant::now());
        let before = *self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = before.design != Some(design);
        if !changed && before.again_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        for pattern in cache::PATTERNS {
            for keys in self.kv.keys(pattern).await?.chunks(REMOVAL) {
                self.kv.remove(keys).await?;
            }
        }
        let again_at = (changed && before.design.is_some()).then(|| now + ALL_HAVE_LEARNED);
        *self.cleared.lock().unwrap_or_else(PoisonError::into_inner) = Cleared { design: Some(design), again_at };
        Ok(())
    }

    async fn set_and_ask(&self) -> Result<BTreeMap<String, String>, KvError> {
        let mut info = self.kv.info().await?;
        if self.may_set {
            let in_force = self.caller.in_force();
            let policy = in_force.kv_policy.of(self.purpose).name();
            for (name, told, value) in [
                ("maxmemory", "maxmemory", in_force.kv_most_bytes.to_string()),
                ("maxmemory-policy", "maxmemory_policy", policy.to_owned()),
            ] {
                if info.get(told) != Some(&value) {
                    self.kv.configure(name, &value).await?;
                    info.insert(told.to_owned(), value);
                }
            }
        }
        info.insert("keys".to_owned(), self.kv.count().await?.to_string());
        Ok(info)
    }

    fn write(&self, instance: &str, out: &mut String) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE kv_up gauge\nkv_up{{instance=\"{instance}\"}} {}", u8::from(told.is_some()));
        let Some(info) = &*told else { return };
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok());
        for (name, theirs, rises) in TOLD {
            let Some(value) = number(theirs) else { continue };
            let kind = if rises { "counter" } else { "gauge" };
            let _ = writeln!(out, "# TYPE {name} {kind}\n{name}{{instance=\"{instance}\"}} {value}");
        }
        let _ = writeln!(
            out,
            "# TYPE kv_keys gauge\nkv_keys{{instance=\"{instance}\"}} {}",
            number("keys").unwrap_or_default()
        );
        let (hits, misses) = (number("keyspace_hits").unwrap_or(0), number("keyspace_misses").unwrap_or(0));
        if hits + misses > 0 {
            let rate = hits as f64 / (hits + misses) as f64;
            let _ = writeln!(out, "# TYPE kv_hit_rate gauge\nkv_hit_rate{{instance=\"{instance}\"}} {rate:.4}");
        }
        let policy = info.get("maxmemory_policy").map_or("", String::as_str);
        let _ = writeln!(out, "# TYPE kv_policy gauge\nkv_policy{{instance=\"{instance}\",policy=\"{policy}\"}} 1");
    }
}
