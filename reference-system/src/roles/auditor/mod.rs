//! The auditor: waits until the system is at rest and checks its books straight from the stores; while the system runs, it
//! looks at the registry and checks what is new.

mod lookout;
mod rounds;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use sqlx::AnyConnection;
use tokio::time::Instant;

use self::lookout::Lookout;
use self::rounds::KeptRounds;
use crate::audit::{
    AuditReport, Books, Design, History, OnlineView, Pending, Rounds, online_tables, pending, registry_tables, report,
};
use crate::bus::event::Event;
use crate::bus::gauges::Gauges;
use crate::bus::subscription::inbox;
use crate::bus::{Bus, Message, dead_letters, topology};
use crate::config::now_ms;
use crate::extract::Ask;
use crate::frame::{Frame, RoleError};
use crate::kv::client::KvClients;
use crate::rpc::Failure;
use crate::store::outbox::inbox_table;
use crate::store::{Places, StoreError};

/// How often the stores are asked whether they are at rest.
const POLL: Duration = Duration::from_millis(50);
/// The longest wait that a caller may ask for.
const LONGEST_WAIT_MS: u64 = 300_000;

/// How long a key-value server may take for one of the audit's questions.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks at a broker that does not tell everything.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// Repeatable. The ground truth: every event as it arrived.
const SCHEMA: &str = concat!(
    inbox_table!(),
    registry_tables!(),
    online_tables!(),
    "
CREATE TABLE IF NOT EXISTS copies (
  arrival IDENTITY, event_id TEXT NOT NULL, subject TEXT NOT NULL, version BIGINT NOT NULL,
  message_key TEXT NOT NULL, body TEXT NOT NULL, at_ms BIGINT NOT NULL
);
"
);

/// The store's name.
pub(crate) const STORE: &str = "audit";
/// Its name in the inbox.
pub(crate) const CONSUMER: &str = "auditor";

struct Auditor {
    stores: Places,
    design: Design,
    /// A broker that is not one of the stores.
    broker: Option<Bus>,
    kv: KvClients,
    lookout: Arc<Lookout>,
    rounds: Arc<KeptRounds>,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let store = frame.open_store(STORE, SCHEMA).await?;
    let subscription = frame.subscription(topology::AUDIT, CONSUMER, &store, Arc::new(keep_copy));
    let counts = Arc::clone(&subscription.counts);
    let letters = dead_letters::routes(subscription.bus.clone(), topology::AUDIT);
    let lookout = Arc::new(Lookout::new(Arc::clone(&frame.config), frame.layout.clone(), store.clone()));
    frame.tracker.spawn(Arc::clone(&lookout).keep_looking(frame.stop.clone()));
    let rounds = Arc::new(KeptRounds::new(store.clone()));
    frame.tracker.spawn(Arc::clone(&rounds).keep_checking(
        Rounds::new(frame.config.stores.clone(), frame.config.slot_hash, frame.config.migration),
        Arc::clone(&lookout),
        frame.stop.clone(),
    ));
    frame.tracker.spawn(subscription.run(frame.stop.clone()));
    let gauges = Gauges::new(frame.bus(), frame.config.order_events());
    let (told, instance) = (Arc::clone(&gauges), frame.plan.instance.clone());
    frame.tell_more(Box::new(move |out| told.write(&instance, out)));
    frame.tracker.spawn(gauges.run(frame.stop.clone()));
    let auditor = Arc::new(Auditor {
        stores: frame.config.stores.clone(),
        design: Design::of(&frame.config),
        broker: Bus::beside_stores(&frame.config),
        kv: KvClients::new(&frame.config.key_values, PATIENCE, frame.directory()),
        lookout,
        rounds,
    });
    // The history of a long run is large.
    let routes = Router::new()
        .route("/online", get(online))
        .route("/audit", get(audit).post(audit_with_history))
        .layer(DefaultBodyLimit::disable())
        .with_state(auditor)
        .merge(letters)
        .merge(inbox(store, CONSUMER));
    frame.serve(routes, Box::new(move || json!({ "copies": counts.describe() })), std::future::ready(())).await
}

#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    quiesce_ms: u64,
}

/// Waits for rest at most `quiesce_ms`, then audits in any case.
async fn audit(State(auditor): State<Arc<Auditor>>, Ask(wait): Ask<Wait>) -> Json<AuditReport> {
    Json(auditor.audit(wait, None).await)
}

/// The same, and whether what the load was promised is kept.
async fn audit_with_history(
    State(auditor): State<Arc<Auditor>>,
    Ask(wait): Ask<Wait>,
    body: Bytes,
) -> Result<Json<AuditReport>, Failure> {
    let history = History::parse(&body).map_err(|bad| Failure::invalid(bad.to_string()))?;
    drop(body);
    Ok(Json(auditor.audit(wait, Some(history)).await))
}

/// What the rounds have found so far.
async fn online(State(auditor): State<Arc<Auditor>>) -> Json<OnlineView> {
    Json(auditor.rounds.view())
}

fn keep_copy(connection: &mut AnyConnection, event: Event, message: Message) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        sqlx::query(
            "INSERT INTO copies (event_id, subject, version, message_key, body, at_ms) VALUES ($1,$2,$3,$4,$5,$6)",
        )
        .bind(event.id())
        .bind(event.subject())
        .bind(event.version())
        .bind(message.key)
        .bind(message.body)
        .bind(now_ms())
        .execute(connection)
        .await?;
        Ok(())
    })
}

impl Auditor {
    async fn is_at_rest(&self) -> bool {
        pending(&self.stores, self.broker.as_ref()).await.is_ok_and(Pending::is_none)
    }

    async fn audit(&self, wait: Wait, history: Option<History>) -> AuditReport {
        let deadline = Instant::now() + Duration::from_millis(wait.quiesce_ms.min(LONGEST_WAIT_MS));
        loop {
            let began = Instant::now();
            // A file that cannot be read is not at rest; the audit itself says why.
            let mut at_rest = self.is_at_rest().await;
            if at_rest && self.broker.is_some() {
                // It does not tell of messages that consumers hold: until the second look they are settled, or back.
                tokio::time::sleep(SECOND_LOOK).await;
                at_rest = self.is_at_rest().await;
            }
            let last = Instant::now() >= deadline;
            if at_rest || last {
                self.lookout.count_all().await;
                let mut books = Books::read(&self.stores, self.broker.as_ref(), Some(&self.kv)).await;
                // Something may have moved between the look and the read.
                let quiet = at_rest && books.is_quiet();
                if quiet || last {
                    if let Ok(watched) = &mut books.watched {
                        let differences = self.lookout.differences().await;
                        watched.looks.at_rest =
                            Some(differences.ok_or_else(|| "the registry does not answer".to_owned()));
                    }
                    // Large books take longer than a process may be blocked.
                    let design = self.design;
                    let judged =
                        tokio::task::spawn_blocking(move || report(&books, design, history.as_ref(), quiet)).await;
                    return judged.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                }
            }
            // The larger the tables, the more a look costs: most of the time is the system's own.
            tokio::time::sleep(POLL.max(began.elapsed() * 3)).await;
        }
    }
}
