//! Accounts, their invitations, and the settings of single sign-on.

use kennel_model::Role;
use kennel_model::api::AccountView;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now};

/// An account as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredAccount {
    pub(crate) view: AccountView,
    /// The hash of its password.
    pub(crate) password: Option<String>,
}

/// Why a change to an account was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// There is no such account.
    NoSuchAccount,
    /// No admin would be left.
    LastAdmin,
}

/// Everything of an account that is shown. `$1` is the present moment.
const VIEW: &str = "SELECT a.*, (SELECT MAX(i.expires_at) FROM invitations i
    WHERE i.account = a.name AND i.expires_at > $1) AS invited_until FROM accounts a";

/// Holds while somebody who may log in is an admin.
const HAS_ADMIN: &str = "EXISTS (SELECT 1 FROM accounts WHERE role = 'admin' AND disabled_at IS NULL)";

impl Store {
    /// Whether somebody who may log in is an admin.
    pub(crate) async fn has_admin(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT {HAS_ADMIN}")))
            .fetch_one(&self.writer)
            .await
            .map_err(StoreError::database("look for an admin"))
    }

    /// Keeps the first admin; `false` when there is one already, however close the race.
    pub(crate) async fn insert_first_admin(&self, name: &str, password: &str) -> Result<bool, StoreError> {
        let text = format!(
            "INSERT INTO accounts (name, role, password, created_at) SELECT $1, 'admin', $2, $3 WHERE NOT {HAS_ADMIN}
             ON CONFLICT (name) DO NOTHING"
        );
        let done = sqlx::query(sqlx::AssertSqlSafe(text)).bind(name).bind(password).bind(now()).execute(&self.writer);
        Ok(done.await.map_err(StoreError::database("keep the first admin"))?.rows_affected() == 1)
    }

    /// Keeps a new account; `false` when the name is taken.
    pub(crate) async fn insert_account(
        &self,
        name: &str,
        role: Role,
        password: Option<&str>,
        provider: Option<(&str, &str)>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO accounts (name, role, password, issuer, subject, created_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING",
        )
        .bind(name)
        .bind(role.word())
        .bind(password)
        .bind(provider.map(|(issuer, _)| issuer))
        .bind(provider.map(|(_, subject)| subject))
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep an account"))?;
        Ok(done.rows_affected() == 1)
    }

    /// An account by its name.
    pub(crate) async fn account(&self, name: &str) -> Result<Option<StoredAccount>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{VIEW} WHERE a.name = $2")))
            .bind(now())
            .bind(name)
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read an account"))?;
        row.as_ref().map(account).transpose()
    }

    /// The account that a provider's person has here.
    pub(crate) async fn account_of(&self, issuer: &str, subject: &str) -> Result<Option<StoredAccount>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{VIEW} WHERE a.issuer = $2 AND a.subject = $3")))
            .bind(now())
            .bind(issuer)
            .bind(subject)
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read an account"))?;
        row.as_ref().map(account).transpose()
    }

    /// Every account, by name.
    pub(crate) async fn accounts(&self) -> Result<Vec<AccountView>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{VIEW} ORDER BY a.name")))
            .bind(now())
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("list accounts"))?;
        rows.iter().map(|row| account(row).map(|account| account.view)).collect()
    }

    /// Changes an account's role or whether it is disabled, and ends its sessions; never takes the last admin away.
    pub(crate) async fn change_account(
        &self,
        name: &str,
        role: Role,
        disabled: bool,
    ) -> Result<Result<(), Unchanged>, StoreError> {
        let failed = || StoreError::database("change an account");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let done = sqlx::query(
            "UPDATE accounts SET role = $2, disabled_at = CASE WHEN $3 THEN COALESCE(disabled_at, $4) ELSE NULL END
             WHERE name = $1",
        )
        .bind(name)
        .bind(role.word())
        .bind(disabled)
        .bind(now())
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        if done.rows_affected() == 0 {
            return Ok(Err(Unchanged::NoSuchAccount));
        }
        let has_admin: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT {HAS_ADMIN}")))
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed())?;
        if !has_admin {
            transaction.rollback().await.map_err(failed())?;
            return Ok(Err(Unchanged::LastAdmin));
        }
        sqlx::query("DELETE FROM sessions WHERE account = $1")
            .bind(name)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(Ok(()))
    }

    /// Keeps another hash of the same password.
    pub(crate) async fn rehash(&self, name: &str, password: &str) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE accounts SET password = $2 WHERE name = $1").bind(name).bind(password);
        done.execute(&self.writer).await.map(|_| ()).map_err(StoreError::database("keep a password"))
    }

    /// Keeps the hash of a new password; its sessions and invitations end.
    pub(crate) async fn set_password(&self, name: &str, password: &str) -> Result<bool, StoreError> {
        let failed = || StoreError::database("keep a password");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let done = sqlx::query("UPDATE accounts SET password = $2 WHERE name = $1").bind(name).bind(password);
        let done = done.execute(&mut *transaction).await.map_err(failed())?;
        for text in ["DELETE FROM sessions WHERE account = $1", "DELETE FROM invitations WHERE account = $1"] {
            sqlx::query(text).bind(name).execute(&mut *transaction).await.map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that an account was logged in to.
    pub(crate) async fn logged_in(&self, name: &str) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE accounts SET last_login_at = $2 WHERE name = $1").bind(name).bind(now());
        done.execute(&self.writer).await.map(|_| ()).map_err(StoreError::database("note a login"))
    }

    /// Keeps an invitation instead of earlier ones for the same account.
    pub(crate) async fn insert_invitation(
        &self,
        digest: &str,
        account: &str,
        by: &str,
        expires_at: &str,
    ) -> Result<(), StoreError> {
        let failed = || StoreError::database("keep an invitation");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let old = sqlx::query("DELETE FROM invitations WHERE account = $1 OR expires_at <= $2").bind(account);
        old.bind(now()).execute(&mut *transaction).await.map_err(failed())?;
        sqlx::query("INSERT INTO invitations (digest, account, created_by, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(digest)
            .bind(account)
            .bind(by)
            .bind(expires_at)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    /// Whom an invitation is for, if it can still be used.
    pub(crate) async fn invited(&self, digest: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT i.account FROM invitations i JOIN accounts a ON a.name = i.account
             WHERE i.digest = $1 AND i.expires_at > $2 AND a.disabled_at IS NULL",
        )
        .bind(digest)
        .bind(now())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read an invitation"))
    }

    /// Takes an invitation: whom it was for, once.
    pub(crate) async fn take_invitation(&self, digest: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(
            "DELETE FROM invitations WHERE digest = $1 AND expires_at > $2
             AND account IN (SELECT name FROM accounts WHERE disabled_at IS NULL) RETURNING account",
        )
        .bind(digest)
        .bind(now())
        .fetch_optional(&self.writer)
        .await
        .map_err(StoreError::database("take an invitation"))
    }

    /// Settings of single sign-on, as JSON.
    pub(crate) async fn sign_on(&self) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT settings FROM sign_on WHERE id = 1")
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read the sign-on settings"))
    }

    /// Keeps settings of single sign-on, or removes them.
    pub(crate) async fn set_sign_on(&self, settings: Option<&str>) -> Result<(), StoreError> {
        let text = match settings {
            Some(_) => {
                "INSERT INTO sign_on (id, settings) VALUES (1, $1)
                 ON CONFLICT (id) DO UPDATE SET settings = excluded.settings"
            }
            None => "DELETE FROM sign_on WHERE $1 IS NULL",
        };
        let done = sqlx::query(text).bind(settings).execute(&self.writer).await;
        done.map(|_| ()).map_err(StoreError::database("keep the sign-on settings"))
    }
}

fn account(row: &SqliteRow) -> Result<StoredAccount, StoreError> {
    let broken = |error: sqlx::Error| StoreError::broken("account")(error);
    let role: String = row.try_get("role").map_err(broken)?;
    let password: Option<String> = row.try_get("password").map_err(broken)?;
    let disabled_at: Option<String> = row.try_get("disabled_at").map_err(broken)?;
    let view = AccountView {
        name: row.try_get("name").map_err(broken)?,
        role: role.parse().map_err(StoreError::broken("role"))?,
        disabled: disabled_at.is_some(),
        has_password: password.is_some(),
        provider: row.try_get("issuer").map_err(broken)?,
        created_at: row.try_get("created_at").map_err(broken)?,
        last_login_at: row.try_get("last_login_at").map_err(broken)?,
        invited_until: row.try_get("invited_until").map_err(broken)?,
    };
    Ok(StoredAccount { view, password })
}
