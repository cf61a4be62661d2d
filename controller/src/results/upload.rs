//! An upload that is set aside in the data directory until it is whole.

use std::path::{Path, PathBuf};

use kennel_model::RunId;
use kennel_results::Limits;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::ImportError;
use crate::Controller;

/// A file that grows as an upload arrives, and is gone when this is dropped.
#[derive(Debug)]
pub struct Upload {
    path: PathBuf,
    file: File,
    left: u64,
}

impl Upload {
    /// A new, empty file in the controller's data directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn new(controller: &Controller) -> Result<Self, ImportError> {
        let dir = controller.inner.config.data_dir.join("uploads");
        tokio::fs::create_dir_all(&dir).await?;
        let path = dir.join(RunId::new().to_string());
        let file = File::create_new(&path).await?;
        Ok(Self { path, file, left: Limits::default().bytes })
    }

    /// Adds what has arrived.
    ///
    /// # Errors
    /// When the upload becomes too large, or the disk is full.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let limit = Limits::default().bytes;
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(ImportError::TooLarge { limit })?;
        Ok(self.file.write_all(bytes).await?)
    }

    /// The file, with everything that was written.
    ///
    /// # Errors
    /// When the disk is full.
    pub async fn finish(&mut self) -> Result<&Path, ImportError> {
        self.file.flush().await?;
        Ok(&self.path)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A name is taken away at once, whatever the size.
        let _ = std::fs::remove_file(&self.path);
    }
}
