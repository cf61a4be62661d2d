//! Which numbers are whose: the epochs of the counter store, raised durably whenever it starts, and the blocks of numbers
//! that were given away in each. A counter that goes back cannot give a block twice.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::StoreError;
use crate::ids::{MAX_EPOCH, MAX_SEQUENCE};

/// Numbers in a block.
pub(crate) const BLOCK: i64 = 1_000;
/// The first epoch of blocks. Below it are numbers that no epoch protects.
const FIRST_EPOCH: i64 = 2;

/// The tables, in the user dimension's first group. Repeatable.
macro_rules! sequence_tables {
    () => {
        "
CREATE TABLE IF NOT EXISTS counter_lives (life TEXT PRIMARY KEY, epoch BIGINT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS number_blocks (
  epoch BIGINT NOT NULL, first BIGINT NOT NULL, PRIMARY KEY (epoch, first)
) WITHOUT ROWID;
"
    };
}
pub(crate) use sequence_tables;

/// A block that the counter store gave, and that is to be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockClaim {
    /// Which life of the counter store gave it.
    pub(crate) life: String,
    /// Its first number; it has [`BLOCK`] of them.
    pub(crate) first: i64,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BlockGrant {
    /// Nobody else has these numbers in this epoch.
    Granted { epoch: i64 },
    /// The counter is behind what was given away, and epochs are used up; blocks from here on are free.
    Behind { next: i64 },
}

/// Gives a block to its claimant, unless somebody has it.
pub(crate) async fn claim(connection: &mut AnyConnection, claim: &BlockClaim) -> Result<BlockGrant, StoreError> {
    let known: Option<i64> = sqlx::query_scalar("SELECT epoch FROM counter_lives WHERE life = $1")
        .bind(&claim.life)
        .fetch_optional(&mut *connection)
        .await?;
    let aligned = claim.first % BLOCK == 1 && (1..=MAX_SEQUENCE - BLOCK).contains(&claim.first);
    let mut epoch = match known {
        Some(epoch) => epoch,
        None => raise(connection, &claim.life).await?,
    };
    if aligned && take(connection, epoch, claim.first).await? {
        return Ok(BlockGrant::Granted { epoch });
    }
    // It went back within one life: the key was evicted, or somebody removed it.
    if aligned && epoch < MAX_EPOCH {
        epoch = raise(connection, &claim.life).await?;
        if take(connection, epoch, claim.first).await? {
            return Ok(BlockGrant::Granted { epoch });
        }
    }
    let last: Option<i64> = sqlx::query_scalar("SELECT max(first) FROM number_blocks WHERE epoch = $1")
        .bind(epoch)
        .fetch_one(connection)
        .await?;
    Ok(BlockGrant::Behind { next: last.map_or(1, |last| last + BLOCK) })
}

/// Begins an epoch for this life of the counter store. The last one is shared by all lives that follow.
async fn raise(connection: &mut AnyConnection, life: &str) -> Result<i64, StoreError> {
    let highest: Option<i64> =
        sqlx::query_scalar("SELECT max(epoch) FROM counter_lives").fetch_one(&mut *connection).await?;
    let epoch = highest.map_or(FIRST_EPOCH, |highest| (highest + 1).min(MAX_EPOCH));
    sqlx::query(
        "INSERT INTO counter_lives (life, epoch) VALUES ($1, $2) ON CONFLICT (life) DO UPDATE SET epoch = excluded.epoch",
    )
    .bind(life)
    .bind(epoch)
    .execute(connection)
    .await?;
    Ok(epoch)
}

async fn take(connection: &mut AnyConnection, epoch: i64, first: i64) -> Result<bool, StoreError> {
    let taken = sqlx::query("INSERT INTO number_blocks (epoch, first) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(epoch)
        .bind(first)
        .execute(connection)
        .await?;
    Ok(taken.rows_affected() == 1)
}
