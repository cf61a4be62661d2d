//! Artifacts: files that runs of suites leave behind, their bytes on disk under names of Kennel's own, and how long
//! they stay.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{ArtifactView, Retention, StorageView};

use crate::store::{moment, now};
use crate::{Caller, Controller, StoreError};

/// Largest artifact that is kept, in bytes.
const LARGEST: u64 = 500 << 20;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 200;

/// Where an artifact's bytes come from.
#[derive(Debug, Clone, Copy)]
pub enum ArtifactSource<'a> {
    /// From memory.
    Bytes(&'a [u8]),
    /// From a file, which stays where it is.
    File(&'a Path),
}

/// An artifact could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is too large.
    #[error("`{name}` has {bytes} bytes; artifacts of up to {} MB are kept", LARGEST >> 20)]
    TooLarge {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Its bytes could not be written or read.
    #[error("the bytes of artifact `{name}` could not be kept or read: {source}")]
    Disk {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// Keeps a file that a step left behind. Its name is for people: the bytes lie under names of Kennel's own.
    ///
    /// # Errors
    /// When it is too large, or cannot be written.
    pub async fn keep_artifact(
        &self,
        run: RunId,
        step: &str,
        attempt: u32,
        name: &str,
        media_type: &str,
        source: ArtifactSource<'_>,
    ) -> Result<ArtifactView, ArtifactError> {
        let id = RunId::new();
        let name = plain_name(name);
        let disk = |source| ArtifactError::Disk { name: name.clone(), source };
        let bytes = match source {
            ArtifactSource::Bytes(bytes) => bytes.len() as u64,
            ArtifactSource::File(path) => tokio::fs::metadata(path).await.map_err(disk)?.len(),
        };
        if bytes > LARGEST {
            return Err(ArtifactError::TooLarge { name, bytes });
        }
        let path = self.artifact_path(run, id);
        if let Some(dir) = path.parent() {
            tokio::fs::create_dir_all(dir).await.map_err(disk)?;
        }
        let written = match source {
            ArtifactSource::Bytes(bytes) => tokio::fs::write(&path, bytes).await,
            ArtifactSource::File(from) => tokio::fs::copy(from, &path).await.map(|_| ()),
        };
        written.map_err(disk)?;
        let media_type = if is_media_type(media_type) { media_type } else { "application/octet-stream" };
        let artifact = ArtifactView {
            id,
            suite_run: run,
            step: step.to_owned(),
            attempt,
            name: name.clone(),
            media_type: media_type.to_owned(),
            bytes,
            created_at: now(),
        };
        if let Err(error) = self.inner.store.insert_artifact(&artifact).await {
            let _ = tokio::fs::remove_file(&path).await;
            return Err(error.into());
        }
        Ok(artifact)
    }

    /// Artifacts of a run, by step and name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn artifacts(&self, run: RunId) -> Result<Vec<ArtifactView>, StoreError> {
        self.inner.store.artifacts(run).await
    }

    /// An artifact and its bytes, opened for reading; absent when there is none, or its bytes are gone.
    ///
    /// # Errors
    /// When the store or the disk cannot be read.
    pub async fn open_artifact(&self, id: RunId) -> Result<Option<(ArtifactView, tokio::fs::File)>, ArtifactError> {
        let Some(artifact) = self.inner.store.artifact(id).await? else { return Ok(None) };
        match tokio::fs::File::open(self.artifact_path(artifact.suite_run, id)).await {
            Ok(file) => Ok(Some((artifact, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ArtifactError::Disk { name: artifact.name, source }),
        }
    }

    /// How long artifacts stay, and how many there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn storage(&self) -> Result<StorageView, StoreError> {
        self.inner.store.storage().await
    }

    /// Changes how long artifacts stay, and lets go what is beyond that.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_retention(&self, caller: &Caller, retention: Retention) -> Result<(), StoreError> {
        self.inner.store.set_retention(retention).await?;
        let days = retention.days.map_or("for ever".to_owned(), |days| format!("{days} days"));
        let most = retention.total_bytes.map_or("no limit".to_owned(), |bytes| format!("{bytes} bytes"));
        self.record(caller, "set retention", "artifacts", &format!("{days}, {most}")).await?;
        self.purge_artifacts().await.map(|_| ())
    }

    /// Deletes the artifacts that the retention lets go; answers how many those were.
    ///
    /// # Errors
    /// When the store cannot be read or written. Bytes that cannot be deleted are tried again the next time.
    pub async fn purge_artifacts(&self) -> Result<usize, StoreError> {
        let retention = self.inner.store.retention().await?;
        let before = retention.days.and_then(|days| {
            // Days of 24 hours: nobody counts an artifact's age across a change of clocks.
            let age = jiff::SignedDuration::from_hours(i64::from(days) * 24);
            Some(moment(Timestamp::now().checked_sub(age).ok()?))
        });
        if before.is_none() && retention.total_bytes.is_none() {
            return Ok(0);
        }
        let outdated = self.inner.store.outdated_artifacts(before.as_deref(), retention.total_bytes).await?;
        let mut deleted = 0;
        for artifact in outdated {
            let path = self.artifact_path(artifact.suite_run, artifact.id);
            match tokio::fs::remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "an outdated artifact could not be deleted");
                    continue;
                }
                _ => {}
            }
            self.inner.store.delete_artifact(artifact.id).await?;
            deleted += 1;
            if let Some(dir) = path.parent() {
                // Refused while others are in it.
                let _ = tokio::fs::remove_dir(dir).await;
            }
        }
        Ok(deleted)
    }

    /// Where an artifact's bytes lie: both parts are identities, never what somebody wrote.
    fn artifact_path(&self, run: RunId, id: RunId) -> PathBuf {
        self.inner.config.data_dir.join("artifacts").join(run.to_string()).join(id.to_string())
    }
}

/// The last part of a name, on one line, without what a header or a screen cannot carry.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|part| !part.trim().is_empty()).unwrap_or_default();
    let mut plain: String = last.chars().filter(|c| !c.is_control() && *c != '"').collect();
    plain.truncate(plain.floor_char_boundary(LONGEST_NAME));
    let plain = plain.trim().trim_start_matches('.');
    if plain.is_empty() { "artifact".to_owned() } else { plain.to_owned() }
}

fn is_media_type(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.".contains(&b));
    text.len() < 100 && text.split_once('/').is_some_and(|(kind, rest)| is_word(kind) && is_word(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for (given, kept) in [
            ("log.html", "log.html"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\a.txt", "a.txt"),
            ("..", "artifact"),
            ("", "artifact"),
            ("a\"\r\nset-cookie: x.png", "aset-cookie: x.png"),
            ("dir/", "dir"),
            (".bashrc", "bashrc"),
        ] {
            assert_eq!(plain_name(given), kept, "{given:?}");
        }
        assert!(plain_name(&"ü".repeat(500)).len() <= LONGEST_NAME);
    }

    #[test]
    fn media_types_are_two_words() {
        assert!(is_media_type("image/svg+xml"));
        for bad in ["", "text", "text/", "text/html; charset=x", "a/b\r\nc: d"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
