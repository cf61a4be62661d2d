//! The audit log: who did what; rows are only ever added.

use super::{Store, StoreError, now};

impl Store {
    /// Adds a line.
    pub(crate) async fn record_act(
        &self,
        who: &str,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO audit_log (at, who, action, subject, detail) VALUES ($1, $2, $3, $4, $5)")
            .bind(now())
            .bind(who)
            .bind(action)
            .bind(subject)
            .bind(detail)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("write the audit log"))?;
        Ok(())
    }
}
