//! Files and their versions.

use kennel_model::api::{FileKind, FileSummary, FileVersion};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError, count, now};

/// What became of a change that was asked for against a certain version.
#[derive(Debug)]
pub(crate) enum Change {
    /// It was made.
    Made(FileVersion),
    /// Another version is current, or none.
    Stale(Option<FileVersion>),
    /// It was made under another name; these other files refer to it and followed.
    Renamed { saved: FileVersion, followed: Vec<(FileKind, String)> },
    /// The new name belongs to another file.
    Taken,
    /// Runs are kept under the new name.
    InHistory,
    /// A run under the old name is not over.
    UnderWay,
}

/// A new version as somebody wrote it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) source: &'a str,
    pub(crate) author: &'a str,
    pub(crate) message: &'a str,
}

impl Store {
    /// Keeps a new version of a file and makes it the current one. `expected` is the version that it follows, 0 for
    /// none, whichever there is when absent. A text that is already the current one makes no version.
    pub(crate) async fn save_file(
        &self,
        kind: FileKind,
        name: &str,
        draft: Draft<'_>,
        expected: Option<u32>,
    ) -> Result<Change, StoreError> {
        let mut transaction = self.writer.begin().await.map_err(StoreError::database("save a file"))?;
        let current = current(&mut transaction, kind, name).await?;
        if expected.is_some_and(|expected| expected != version_of(current.as_ref())) {
            return Ok(Change::Stale(current));
        }
        if let Some(current) = current
            && current.source == draft.source
        {
            return Ok(Change::Made(current));
        }
        let saved = append(&mut transaction, kind, name, draft).await?;
        transaction.commit().await.map_err(StoreError::database("save a file"))?;
        Ok(Change::Made(saved))
    }

    /// Removes a file; its versions stay. Gives the version that was current.
    pub(crate) async fn remove_file(
        &self,
        kind: FileKind,
        name: &str,
        expected: Option<u32>,
    ) -> Result<Change, StoreError> {
        let failed = || StoreError::database("remove a file");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        let current = match current(&mut transaction, kind, name).await? {
            Some(current) if expected.is_none_or(|expected| expected == current.version) => current,
            other => return Ok(Change::Stale(other)),
        };
        sqlx::query("DELETE FROM files WHERE kind = $1 AND name = $2")
            .bind(kind.word())
            .bind(name)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(Change::Made(current))
    }

    /// The current version of a file.
    pub(crate) async fn file(&self, kind: FileKind, name: &str) -> Result<Option<FileVersion>, StoreError> {
        let row = sqlx::query(CURRENT)
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

    /// The last version of every removed file of a kind, by name.
    pub(crate) async fn removed_files(&self, kind: FileKind) -> Result<Vec<FileVersion>, StoreError> {
        let rows = sqlx::query(
            "SELECT v.* FROM file_versions v
             WHERE v.kind = $1
               AND v.version = (SELECT MAX(l.version) FROM file_versions l WHERE l.kind = v.kind AND l.name = v.name)
               AND NOT EXISTS (SELECT 1 FROM files f WHERE f.kind = v.kind AND f.name = v.name)
             ORDER BY v.name",
        )
        .bind(kind.word())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list removed files"))?;
        rows.iter().map(file_version).collect()
    }

    /// One version of a file, whether it is current, earlier, or of a removed one.
    pub(crate) async fn file_version(
        &self,
        kind: FileKind,
        name: &str,
        version: u32,
    ) -> Result<Option<FileVersion>, StoreError> {
        let row = sqlx::query("SELECT * FROM file_versions WHERE kind = $1 AND name = $2 AND version = $3")
            .bind(kind.word())
            .bind(name)
            .bind(i64::from(version))
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a version of a file"))?;
        row.as_ref().map(file_version).transpose()
    }

    /// Every version of a file without its text, newest first; also of a removed one.
    pub(crate) async fn file_versions(&self, kind: FileKind, name: &str) -> Result<Vec<FileSummary>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, name, version, '' AS source, author, message, saved_at FROM file_versions
             WHERE kind = $1 AND name = $2 ORDER BY version DESC",
        )
        .bind(kind.word())
        .bind(name)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list the versions of a file"))?;
        rows.iter().map(|row| file_version(row).map(|version| summary_of(version, String::new()))).collect()
    }
}

/// A version in a list.
pub(crate) fn summary_of(version: FileVersion, description: String) -> FileSummary {
    let FileVersion { kind, name, version, source: _, author, message, saved_at } = version;
    FileSummary { kind, name, version, description, author, message, saved_at }
}

const CURRENT: &str =
    "SELECT v.* FROM files f JOIN file_versions v USING (kind, name, version) WHERE kind = $1 AND name = $2";

pub(super) async fn current(
    transaction: &mut Transaction<'_, Sqlite>,
    kind: FileKind,
    name: &str,
) -> Result<Option<FileVersion>, StoreError> {
    let row = sqlx::query(CURRENT)
        .bind(kind.word())
        .bind(name)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(StoreError::database("read a file"))?;
    row.as_ref().map(file_version).transpose()
}

pub(super) fn version_of(current: Option<&FileVersion>) -> u32 {
    current.map_or(0, |current| current.version)
}

pub(super) async fn last_version(
    transaction: &mut Transaction<'_, Sqlite>,
    kind: FileKind,
    name: &str,
) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM file_versions WHERE kind = $1 AND name = $2")
        .bind(kind.word())
        .bind(name)
        .fetch_one(&mut **transaction)
        .await
        .map_err(StoreError::database("read the versions of a file"))
}

/// Adds a version after the last one and makes it current.
pub(super) async fn append(
    transaction: &mut Transaction<'_, Sqlite>,
    kind: FileKind,
    name: &str,
    draft: Draft<'_>,
) -> Result<FileVersion, StoreError> {
    let failed = || StoreError::database("save a version of a file");
    let (version, saved_at) = (last_version(transaction, kind, name).await? + 1, now());
    sqlx::query(
        "INSERT INTO file_versions (kind, name, version, source, author, message, saved_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(kind.word())
    .bind(name)
    .bind(version)
    .bind(draft.source)
    .bind(draft.author)
    .bind(draft.message)
    .bind(&saved_at)
    .execute(&mut **transaction)
    .await
    .map_err(failed())?;
    sqlx::query(
        "INSERT INTO files (kind, name, version) VALUES ($1, $2, $3)
         ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version",
    )
    .bind(kind.word())
    .bind(name)
    .bind(version)
    .execute(&mut **transaction)
    .await
    .map_err(failed())?;
    Ok(FileVersion {
        kind,
        name: name.to_owned(),
        version: u32::try_from(version).unwrap_or(u32::MAX),
        source: draft.source.to_owned(),
        author: draft.author.to_owned(),
        message: draft.message.to_owned(),
        saved_at,
    })
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
