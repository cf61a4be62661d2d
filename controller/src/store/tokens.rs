//! API tokens.

use kennel_model::api::TokenView;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now};

impl Store {
    /// Keeps a new token.
    pub(crate) async fn insert_token(&self, digest: &str, token: &TokenView) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_tokens (id, digest, name, owner, role, scope, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&token.id)
        .bind(digest)
        .bind(&token.name)
        .bind(&token.owner)
        .bind(token.role.word())
        .bind(token.scope.word())
        .bind(&token.created_at)
        .bind(&token.expires_at)
        .execute(&self.writer)
        .await
        .map(|_| ())
        .map_err(StoreError::database("keep a token"))
    }

    /// A token by the digest of its secret.
    pub(crate) async fn token_of(&self, digest: &str) -> Result<Option<TokenView>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_tokens WHERE digest = $1").bind(digest);
        let row = row.fetch_optional(&self.reader).await.map_err(StoreError::database("read a token"))?;
        row.as_ref().map(token).transpose()
    }

    /// A token by its identity.
    pub(crate) async fn token(&self, id: &str) -> Result<Option<TokenView>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_tokens WHERE id = $1").bind(id);
        let row = row.fetch_optional(&self.reader).await.map_err(StoreError::database("read a token"))?;
        row.as_ref().map(token).transpose()
    }

    /// Tokens of one owner or of all, newest first.
    pub(crate) async fn tokens(&self, owner: Option<&str>) -> Result<Vec<TokenView>, StoreError> {
        let rows = sqlx::query("SELECT * FROM api_tokens WHERE $1 IS NULL OR owner = $1 ORDER BY created_at DESC, id");
        let rows = rows.bind(owner).fetch_all(&self.reader).await.map_err(StoreError::database("list tokens"))?;
        rows.iter().map(token).collect()
    }

    /// Notes that a token was used.
    pub(crate) async fn token_used(&self, id: &str) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE api_tokens SET last_used_at = $2 WHERE id = $1").bind(id).bind(now());
        done.execute(&self.writer).await.map(|_| ()).map_err(StoreError::database("note a token's use"))
    }

    /// Revokes a token; `false` when it is revoked already.
    pub(crate) async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL");
        let done = done.bind(id).bind(now()).execute(&self.writer).await;
        Ok(done.map_err(StoreError::database("revoke a token"))?.rows_affected() == 1)
    }
}

fn token(row: &SqliteRow) -> Result<TokenView, StoreError> {
    let broken = |error: sqlx::Error| StoreError::broken("token")(error);
    let (role, scope): (String, String) = (row.try_get("role").map_err(broken)?, row.try_get("scope").map_err(broken)?);
    Ok(TokenView {
        id: row.try_get("id").map_err(broken)?,
        name: row.try_get("name").map_err(broken)?,
        owner: row.try_get("owner").map_err(broken)?,
        role: role.parse().map_err(StoreError::broken("role"))?,
        scope: scope.parse().map_err(StoreError::broken("scope"))?,
        created_at: row.try_get("created_at").map_err(broken)?,
        expires_at: row.try_get("expires_at").map_err(broken)?,
        last_used_at: row.try_get("last_used_at").map_err(broken)?,
        revoked_at: row.try_get("revoked_at").map_err(broken)?,
    })
}
