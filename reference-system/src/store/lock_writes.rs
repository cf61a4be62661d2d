//! What was written under a lock, kept in the transaction of the write: by it a store refuses a holder who comes late, and
//! the auditor sees who held a lock when.

use sqlx::AnyConnection;

use super::StoreError;
use crate::locks::Guard;

/// The table, in every store that takes writes under locks. `nth` is the order in which the writes under a lock came.
macro_rules! lock_writes_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS lock_writes (
  lock_key TEXT NOT NULL, nth BIGINT NOT NULL, token TEXT NOT NULL, fence BIGINT NOT NULL,
  acquired_at_ms BIGINT NOT NULL, written_at_ms BIGINT NOT NULL,
  PRIMARY KEY (lock_key, nth)
) WITHOUT ROWID;
"
    };
}
pub(crate) use lock_writes_table;

/// Whether a holder may still write: not if one with a higher fence has.
pub(crate) async fn admits(connection: &mut AnyConnection, guard: Option<&Guard>) -> Result<bool, StoreError> {
    let Some(guard) = guard.filter(|guard| guard.fence > 0) else {
        return Ok(true);
    };
    // They only rise, so the last one is the highest.
    let highest: Option<i64> =
        sqlx::query_scalar("SELECT fence FROM lock_writes WHERE lock_key = $1 AND fence > 0 ORDER BY nth DESC LIMIT 1")
            .bind(&guard.key)
            .fetch_optional(connection)
            .await?;
    Ok(highest.is_none_or(|highest| guard.fence >= highest))
}

/// Keeps that a holder has written.
pub(crate) async fn note(connection: &mut AnyConnection, guard: Option<&Guard>, now_ms: i64) -> Result<(), StoreError> {
    let Some(guard) = guard else {
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO lock_writes (lock_key, nth, token, fence, acquired_at_ms, written_at_ms) VALUES ($1, \
         1 + coalesce((SELECT max(nth) FROM lock_writes WHERE lock_key = $1), 0), $2, $3, $4, $5)",
    )
    .bind(&guard.key)
    .bind(&guard.token)
    .bind(guard.fence)
    .bind(guard.acquired_at_ms)
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(())
}
