//! The auditor: waits until the system is at rest and checks its books straight from the stores.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::audit::{AuditReport, Books, History, Pending, pending, report};
use crate::extract::Ask;
use crate::frame::{Frame, RoleError};
use crate::ids::SlotHash;
use crate::rpc::Failure;
use crate::store::Places;

/// How often the stores are asked whether they are at rest.
const POLL: Duration = Duration::from_millis(50);
/// The longest wait that a caller may ask for.
const LONGEST_WAIT_MS: u64 = 300_000;

struct Auditor {
    stores: Places,
    slot_hash: SlotHash,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let auditor = Arc::new(Auditor { stores: frame.config.stores.clone(), slot_hash: frame.config.slot_hash });
    // The history of a long run is large.
    let routes = Router::new()
        .route("/audit", get(audit).post(audit_with_history))
        .layer(DefaultBodyLimit::disable())
        .with_state(auditor);
    frame.serve(routes, Box::new(|| json!({})), std::future::ready(())).await
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
    Ok(Json(auditor.audit(wait, Some(&history)).await))
}

impl Auditor {
    async fn audit(&self, wait: Wait, history: Option<&History>) -> AuditReport {
        let deadline = Instant::now() + Duration::from_millis(wait.quiesce_ms.min(LONGEST_WAIT_MS));
        loop {
            // A file that cannot be read is not at rest; the audit itself says why.
            let at_rest = pending(&self.stores).await.is_ok_and(Pending::is_none);
            let last = Instant::now() >= deadline;
            if at_rest || last {
                let books = Books::read(&self.stores).await;
                // Something may have moved between the look and the read.
                let quiet = at_rest && books.is_quiet();
                if quiet || last {
                    return report(&books, self.slot_hash, history, quiet);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
