//! Logs that people read on in: the rows of one owner behind the last one that the reader has.

use serde::Deserialize;
use serde_json::Value;
use sqlx::any::AnyRow;

use super::{Store, StoreError};

/// Where a reader left off.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct After {
    /// The number of the last row that the reader has.
    #[serde(default)]
    pub(crate) after: i64,
}

/// The rows of `query`, whose `$1` is the owner and `$2` the last row that the reader has.
pub(crate) async fn read_on(
    store: &Store,
    query: &'static str,
    owner: i64,
    After { after }: After,
    entry: fn(&AnyRow) -> Result<Value, sqlx::Error>,
) -> Result<Vec<Value>, StoreError> {
    let rows = sqlx::query(query).bind(owner).bind(after).fetch_all(store.readers()).await?;
    Ok(rows.iter().map(entry).collect::<Result<_, _>>()?)
}
