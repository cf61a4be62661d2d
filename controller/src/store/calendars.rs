//! Calendars and freezes.

use jiff::Timestamp;
use kennel_model::api::{CalendarDraft, FreezeView};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::schedules::second;
use super::{Store, StoreError, from_json, now, to_json};

/// Most freezes that are looked at.
const MOST_FREEZES: i64 = 1_000;

/// A calendar as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredCalendar {
    pub(crate) draft: CalendarDraft,
    pub(crate) author: String,
    pub(crate) changed_at: String,
}

impl Store {
    /// Every calendar, by name.
    pub(crate) async fn calendars(&self) -> Result<Vec<StoredCalendar>, StoreError> {
        let failed = || StoreError::database("list calendars");
        let rows = sqlx::query("SELECT * FROM calendars ORDER BY name").fetch_all(&self.reader).await;
        rows.map_err(failed())?
            .iter()
            .map(|row| {
                let draft: &str = row.try_get("draft").map_err(failed())?;
                Ok(StoredCalendar {
                    draft: from_json("calendar", draft)?,
                    author: row.try_get("author").map_err(failed())?,
                    changed_at: row.try_get("changed_at").map_err(failed())?,
                })
            })
            .collect()
    }

    /// Keeps a calendar, a new one or in place of the one called `old`. False when another has its name.
    pub(crate) async fn save_calendar(
        &self,
        old: Option<&str>,
        draft: &CalendarDraft,
        author: &str,
    ) -> Result<bool, StoreError> {
        let statement = match old {
            Some(_) => "UPDATE calendars SET name = $1, draft = $2, author = $3, changed_at = $4 WHERE name = $5",
            None => "INSERT INTO calendars (name, draft, author, changed_at) VALUES ($1, $2, $3, $4)",
        };
        let mut query =
            sqlx::query(statement).bind(&draft.name).bind(to_json("calendar", draft)?).bind(author).bind(now());
        if let Some(old) = old {
            query = query.bind(old);
        }
        match query.execute(&self.writer).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(StoreError::database("keep a calendar")(error)),
        }
    }

    /// Forgets a calendar; false when there is none of the name.
    pub(crate) async fn remove_calendar(&self, name: &str) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM calendars WHERE name = $1").bind(name).execute(&self.writer).await;
        Ok(removed.map_err(StoreError::database("remove a calendar"))?.rows_affected() > 0)
    }

    /// Freezes, past ones too, newest first.
    pub(crate) async fn freezes(&self) -> Result<Vec<FreezeView>, StoreError> {
        let rows = sqlx::query("SELECT * FROM freezes ORDER BY id DESC LIMIT $1")
            .bind(MOST_FREEZES)
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read freezes"))?;
        rows.iter().map(freeze).collect()
    }

    /// Ends whatever freeze is on or to come, and begins another where one is given.
    pub(crate) async fn set_freeze(&self, freeze: Option<&FreezeView>, at: Timestamp) -> Result<(), StoreError> {
        let failed = || StoreError::database("freeze schedules");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query("UPDATE freezes SET until = $1 WHERE until IS NULL OR until > $1")
            .bind(second(at))
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        if let Some(freeze) = freeze {
            sqlx::query("INSERT INTO freezes (reason, since, until, by_who) VALUES ($1, $2, $3, $4)")
                .bind(&freeze.reason)
                .bind(&freeze.since)
                .bind(&freeze.until)
                .bind(&freeze.by)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }
}

fn freeze(row: &SqliteRow) -> Result<FreezeView, StoreError> {
    let failed = || StoreError::database("read freezes");
    Ok(FreezeView {
        reason: row.try_get("reason").map_err(failed())?,
        since: row.try_get("since").map_err(failed())?,
        until: row.try_get("until").map_err(failed())?,
        by: row.try_get("by_who").map_err(failed())?,
    })
}
