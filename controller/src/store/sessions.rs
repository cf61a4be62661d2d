//! Sessions of browsers, known by the digest of what their cookie holds.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now};

/// A session as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredSession {
    pub(crate) digest: String,
    /// Who is logged in.
    pub(crate) account: Option<String>,
    /// What it holds, as JSON.
    pub(crate) data: String,
    pub(crate) created_at: String,
    pub(crate) seen_at: String,
    pub(crate) expires_at: String,
}

impl Store {
    /// Keeps a new session and lets go of those that are over; `false` when there is one with this digest.
    pub(crate) async fn insert_session(&self, session: &StoredSession) -> Result<bool, StoreError> {
        let failed = || StoreError::database("keep a session");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let over = sqlx::query("DELETE FROM sessions WHERE expires_at <= $1").bind(now());
        over.execute(&mut *transaction).await.map_err(failed())?;
        let done = sqlx::query(
            "INSERT INTO sessions (digest, account, data, created_at, seen_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&session.digest)
        .bind(&session.account)
        .bind(&session.data)
        .bind(&session.created_at)
        .bind(&session.seen_at)
        .bind(&session.expires_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps what a session holds. One that was ended meanwhile stays ended.
    pub(crate) async fn update_session(
        &self,
        digest: &str,
        account: Option<&str>,
        data: &str,
    ) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE sessions SET account = $2, data = $3 WHERE digest = $1");
        let done = done.bind(digest).bind(account).bind(data).execute(&self.writer).await;
        done.map(|_| ()).map_err(StoreError::database("keep a session"))
    }

    /// A session that is not over.
    pub(crate) async fn session(&self, digest: &str) -> Result<Option<StoredSession>, StoreError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE digest = $1 AND expires_at > $2").bind(digest).bind(now());
        let row = row.fetch_optional(&self.reader).await.map_err(StoreError::database("read a session"))?;
        row.as_ref().map(session).transpose()
    }

    /// Notes that a session is used, and until when it now lasts.
    pub(crate) async fn session_seen(&self, digest: &str, expires_at: &str) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE sessions SET seen_at = $2, expires_at = $3 WHERE digest = $1");
        let done = done.bind(digest).bind(now()).bind(expires_at).execute(&self.writer).await;
        done.map(|_| ()).map_err(StoreError::database("note a session's use"))
    }

    /// Ends a session.
    pub(crate) async fn delete_session(&self, digest: &str) -> Result<(), StoreError> {
        let done = sqlx::query("DELETE FROM sessions WHERE digest = $1").bind(digest).execute(&self.writer).await;
        done.map(|_| ()).map_err(StoreError::database("end a session"))
    }

    /// Sessions of an account that are not over, the one used last first.
    pub(crate) async fn sessions_of(&self, account: &str) -> Result<Vec<StoredSession>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sessions WHERE account = $1 AND expires_at > $2 ORDER BY seen_at DESC, created_at DESC",
        );
        let rows = rows.bind(account).bind(now()).fetch_all(&self.reader).await;
        rows.map_err(StoreError::database("list sessions"))?.iter().map(session).collect()
    }

    /// Ends every session of an account, but for one; how many those were.
    pub(crate) async fn end_sessions_of(&self, account: &str, but: Option<&str>) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM sessions WHERE account = $1 AND ($2 IS NULL OR digest <> $2)");
        let done = done.bind(account).bind(but).execute(&self.writer).await;
        Ok(done.map_err(StoreError::database("end sessions"))?.rows_affected())
    }
}

fn session(row: &SqliteRow) -> Result<StoredSession, StoreError> {
    let broken = |error: sqlx::Error| StoreError::broken("session")(error);
    Ok(StoredSession {
        digest: row.try_get("digest").map_err(broken)?,
        account: row.try_get("account").map_err(broken)?,
        data: row.try_get("data").map_err(broken)?,
        created_at: row.try_get("created_at").map_err(broken)?,
        seen_at: row.try_get("seen_at").map_err(broken)?,
        expires_at: row.try_get("expires_at").map_err(broken)?,
    })
}
