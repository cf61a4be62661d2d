//! Channels, rules and settings of notifications; what is sent lies in [`deliveries`], what it is about in [`outcomes`].

#[cfg(test)]
pub(crate) mod arranged;
mod deliveries;
mod outcomes;

use kennel_model::api::{LastDelivery, WriteRule};
use kennel_notifications::destination::Destination;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, from_json, to_json};

pub(crate) use deliveries::{DeliveryFilter, Due, NewDelivery, Tried};
pub(crate) use outcomes::{Fault, MissedOccurrences, NewEvent, Outcome, StandingRow, Tally};

/// A channel with its secrets.
#[derive(Debug, Clone)]
pub(crate) struct StoredChannel {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) destination: Destination,
    pub(crate) allow_private: bool,
    pub(crate) enabled: bool,
}

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct StoredRule {
    pub(crate) id: i64,
    pub(crate) channel_name: String,
    pub(crate) rule: WriteRule,
    /// Up to where its last digest told.
    pub(crate) digest_from: String,
    pub(crate) next_digest_at: Option<String>,
}

fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::database("read what belongs to notifications"))
}

impl Store {
    /// Every channel, by name.
    pub(crate) async fn channels(&self) -> Result<Vec<StoredChannel>, StoreError> {
        let rows = sqlx::query("SELECT * FROM notification_channels ORDER BY name")
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("list channels"))?;
        rows.iter().map(channel).collect()
    }

    /// One channel.
    pub(crate) async fn channel(&self, id: i64) -> Result<Option<StoredChannel>, StoreError> {
        let row = sqlx::query("SELECT * FROM notification_channels WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a channel"))?;
        row.as_ref().map(channel).transpose()
    }

    /// Keeps a channel, a new one where `id` is absent; answers its number, `None` if its name is taken or it is gone.
    pub(crate) async fn save_channel(
        &self,
        id: Option<i64>,
        name: &str,
        destination: &Destination,
        allow_private: bool,
        enabled: bool,
    ) -> Result<Option<i64>, StoreError> {
        let statement = match id {
            Some(_) => {
                "UPDATE notification_channels SET name = $1, destination = $2, allow_private = $3, enabled = $4 \
                 WHERE id = $5 AND NOT EXISTS \
                 (SELECT 1 FROM notification_channels o WHERE o.name = $1 AND o.id <> $5) RETURNING id"
            }
            None => {
                "INSERT INTO notification_channels (name, destination, allow_private, enabled) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING RETURNING id"
            }
        };
        let mut query = sqlx::query_scalar(statement)
            .bind(name)
            .bind(to_json("channel", destination)?)
            .bind(i64::from(allow_private))
            .bind(i64::from(enabled));
        if let Some(id) = id {
            query = query.bind(id);
        }
        query.fetch_optional(&self.writer).await.map_err(StoreError::database("keep a channel"))
    }

    /// Removes a channel with its rules; what waits to be sent to it is given up. Whether there was one.
    pub(crate) async fn remove_channel(&self, id: i64) -> Result<bool, StoreError> {
        let failed = || StoreError::database("remove a channel");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query(
            "UPDATE deliveries SET state = 'failed', next_try_at = NULL, answer = 'the channel was removed' \
             WHERE channel = $1 AND state = 'waiting'",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        let removed = sqlx::query("DELETE FROM notification_channels WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(removed.rows_affected() > 0)
    }

    /// What became of each channel's last delivery that was tried, by the channel's number.
    pub(crate) async fn last_deliveries(&self) -> Result<Vec<(i64, LastDelivery)>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.channel, d.id, d.state, d.tried_at, d.answer FROM notification_channels c \
             JOIN deliveries d ON d.id = (SELECT l.id FROM deliveries l \
             WHERE l.channel = c.id AND l.tried_at IS NOT NULL ORDER BY l.tried_at DESC, l.id DESC LIMIT 1)",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read what was sent last"))?;
        let read = |row: &SqliteRow| {
            let state: String = get(row, "state")?;
            let last = LastDelivery {
                id: get(row, "id")?,
                state: state.parse().map_err(StoreError::broken("state of a delivery"))?,
                at: get(row, "tried_at")?,
                answer: get(row, "answer")?,
            };
            Ok((get(row, "channel")?, last))
        };
        rows.iter().map(read).collect()
    }

    /// Every rule, in the order in which they were made.
    pub(crate) async fn rules(&self) -> Result<Vec<StoredRule>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.*, c.name AS channel_name FROM notification_rules r \
             JOIN notification_channels c ON c.id = r.channel ORDER BY r.id",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list rules"))?;
        rows.iter().map(rule).collect()
    }

    /// Keeps a rule, a new one where `id` is absent; answers its number, `None` if it is gone.
    pub(crate) async fn save_rule(
        &self,
        id: Option<i64>,
        rule: &WriteRule,
        digest_from: &str,
        next_digest_at: Option<&str>,
    ) -> Result<Option<i64>, StoreError> {
        let statement = match id {
            // What the last digest told stays told.
            Some(_) => {
                "UPDATE notification_rules SET channel = $1, rule = $2, next_digest_at = $4 \
                 WHERE id = $5 AND $3 IS NOT NULL RETURNING id"
            }
            None => {
                "INSERT INTO notification_rules (channel, rule, digest_from, next_digest_at) \
                 VALUES ($1, $2, $3, $4) RETURNING id"
            }
        };
        let mut query = sqlx::query_scalar(statement)
            .bind(rule.channel)
            .bind(to_json("rule", rule)?)
            .bind(digest_from)
            .bind(next_digest_at);
        if let Some(id) = id {
            query = query.bind(id);
        }
        query.fetch_optional(&self.writer).await.map_err(StoreError::database("keep a rule"))
    }

    /// Removes a rule. Whether there was one.
    pub(crate) async fn remove_rule(&self, id: i64) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM notification_rules WHERE id = $1")
            .bind(id)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("remove a rule"))?;
        Ok(removed.rows_affected() > 0)
    }

    /// The public URL as it was set.
    pub(crate) async fn public_url(&self) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT value FROM notification_settings WHERE name = 'public_url'")
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read the public URL"))
    }

    /// Keeps the public URL, or forgets it.
    pub(crate) async fn keep_public_url(&self, url: Option<&str>) -> Result<(), StoreError> {
        let query = match url {
            Some(url) => sqlx::query(
                "INSERT INTO notification_settings (name, value) VALUES ('public_url', $1) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )
            .bind(url),
            None => sqlx::query("DELETE FROM notification_settings WHERE name = 'public_url'"),
        };
        query.execute(&self.writer).await.map_err(StoreError::database("keep the public URL"))?;
        Ok(())
    }
}

fn channel(row: &SqliteRow) -> Result<StoredChannel, StoreError> {
    let destination: String = get(row, "destination")?;
    Ok(StoredChannel {
        id: get(row, "id")?,
        name: get(row, "name")?,
        destination: from_json("channel", &destination)?,
        allow_private: get::<i64>(row, "allow_private")? != 0,
        enabled: get::<i64>(row, "enabled")? != 0,
    })
}

fn rule(row: &SqliteRow) -> Result<StoredRule, StoreError> {
    let rule: String = get(row, "rule")?;
    Ok(StoredRule {
        id: get(row, "id")?,
        channel_name: get(row, "channel_name")?,
        rule: from_json("rule", &rule)?,
        digest_from: get(row, "digest_from")?,
        next_digest_at: get(row, "next_digest_at")?,
    })
}
