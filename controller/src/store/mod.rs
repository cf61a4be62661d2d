//! The only place that speaks SQL: runs and everything that was recorded about them.

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("could not {doing}: {source}")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The database's tables could not be brought up to date.
    #[error("could not bring the store's tables up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Something stored could not be read back.
    #[error("the store holds a {what} that cannot be read: {why}")]
    Broken {
        /// What kind of thing.
        what: &'static str,
        /// Why it cannot be read.
        why: String,
    },
}
