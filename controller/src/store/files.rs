//! Files and their versions.

use kennel_model::api::{FileKind, FileVersion};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, count, now};

impl Store {
    /// Keeps a new version of a file and makes it the current one.
    pub(crate) async fn save_file(
        &self,
        kind: FileKind,
        name: &str,
        source: &str,
        author: &str,
        message: &str,
    ) -> Result<FileVersion, StoreError> {
        let failed = || StoreError::database("save a file");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let last: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM file_versions WHERE kind = $1 AND name = $2")
                .bind(kind.word())
                .bind(name)
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed())?;
        let (version, saved_at) = (last + 1, now());
        sqlx::query(
            "INSERT INTO file_versions (kind, name, version, source, author, message, saved_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(kind.word())
        .bind(name)
        .bind(version)
        .bind(source)
        .bind(author)
        .bind(message)
        .bind(&saved_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        sqlx::query(
            "INSERT INTO files (kind, name, version) VALUES ($1, $2, $3)
             ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version",
        )
        .bind(kind.word())
        .bind(name)
        .bind(version)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(FileVersion {
            kind,
            name: name.to_owned(),
            version: u32::try_from(version).unwrap_or(u32::MAX),
            source: source.to_owned(),
            author: author.to_owned(),
            message: message.to_owned(),
            saved_at,
        })
    }

    /// The current version of a file.
    pub(crate) async fn file(&self, kind: FileKind, name: &str) -> Result<Option<FileVersion>, StoreError> {
        let row = sqlx::query(
            "SELECT v.* FROM files f JOIN file_versions v USING (kind, name, version) WHERE kind = $1 AND name = $2",
        )
        .bind(kind.word())
        .bind(name)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a file"))?;
        row.as_ref().map(file_version).transpose()
    }

    /// The current version of every file of a kind, by name.
    pub(crate) async fn files(&self, kind: FileKind) -> Result<Vec<FileVersion>, StoreError> {
        let rows = sqlx::query(
            "SELECT v.* FROM files f JOIN file_versions v USING (kind, name, version) WHERE kind = $1 ORDER BY name",
        )
        .bind(kind.word())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list files"))?;
        rows.iter().map(file_version).collect()
    }
}

fn file_version(row: &SqliteRow) -> Result<FileVersion, StoreError> {
    let broken = |error: sqlx::Error| StoreError::broken("file")(error);
    let kind: String = row.try_get("kind").map_err(broken)?;
    Ok(FileVersion {
        kind: kind.parse().map_err(StoreError::broken("kind of file"))?,
        name: row.try_get("name").map_err(broken)?,
        version: u32::try_from(count(row.try_get("version").map_err(broken)?)).unwrap_or(u32::MAX),
        source: row.try_get("source").map_err(broken)?,
        author: row.try_get("author").map_err(broken)?,
        message: row.try_get("message").map_err(broken)?,
        saved_at: row.try_get("saved_at").map_err(broken)?,
    })
}
