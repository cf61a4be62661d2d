//! The watched folder: what is put into `inbox/SUITE/` of the data directory is imported and moved to `done/`, or to
//! `failed/` beside a text that says why. The same task lets outdated artifacts go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::{ImportError, ImportRequest};
use crate::controller::Inner;
use crate::{Caller, Controller};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How often outdated artifacts are let go.
const PURGE_EVERY: Duration = Duration::from_secs(600);

/// Size and time of a file, which change while it is written.
type Look = (u64, Option<SystemTime>);

/// Watches until cancelled or the controller is gone.
pub(crate) async fn watch(controller: Weak<Inner>, stop: CancellationToken) {
    let mut seen = HashMap::new();
    let mut since_purge = PURGE_EVERY;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let Some(inner) = controller.upgrade() else { return };
        let controller = Controller { inner };
        let round = async {
            seen = controller.empty_inbox(&seen).await;
            since_purge += EVERY;
            if since_purge >= PURGE_EVERY {
                since_purge = Duration::ZERO;
                if let Err(error) = controller.purge_artifacts().await {
                    tracing::warn!(%error, "outdated artifacts could not be let go");
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}

impl Controller {
    /// Imports what lies in the watched folder and has not changed since it was last looked at; answers what is still
    /// there.
    async fn empty_inbox(&self, before: &HashMap<PathBuf, Look>) -> HashMap<PathBuf, Look> {
        let inbox = self.inner.config.data_dir.join("inbox");
        let mut there = HashMap::new();
        for (suite, path) in waiting(&inbox).await {
            let Ok(metadata) = tokio::fs::metadata(&path).await else { continue };
            let look = (metadata.len(), metadata.modified().ok());
            if before.get(&path) != Some(&look) {
                there.insert(path, look);
                continue;
            }
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let request = ImportRequest { suite, labels: Vec::new(), format: None, file };
            let caller = Caller { name: "inbox".to_owned(), ..Caller::local() };
            let moved = match self.import_file(&caller, &request, &path).await {
                Ok(imported) => {
                    tracing::info!(run = %imported.run.id, file = %path.display(), "imported from the inbox");
                    put_away(&path, "done", None).await
                }
                // Not the file's fault: it stays for the next round.
                Err(ImportError::Store(error)) => {
                    tracing::warn!(%error, file = %path.display(), "an import from the inbox will be tried again");
                    Ok(())
                }
                Err(error) => put_away(&path, "failed", Some(&error.to_string())).await,
            };
            if let Err(error) = moved {
                tracing::warn!(%error, file = %path.display(), "a file in the inbox could not be moved");
            }
        }
        there
    }
}

/// Files that wait, with their suite; `done` and `failed` are folders within each suite's and no suites.
async fn waiting(inbox: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let Ok(mut suites) = tokio::fs::read_dir(inbox).await else { return found };
    while let Ok(Some(suite)) = suites.next_entry().await {
        let Ok(name) = suite.file_name().into_string() else { continue };
        let Ok(mut files) = tokio::fs::read_dir(suite.path()).await else { continue };
        while let Ok(Some(file)) = files.next_entry().await {
            let path = file.path();
            let is_document =
                path.extension().is_some_and(|end| end.eq_ignore_ascii_case("xml") || end.eq_ignore_ascii_case("json"));
            // Links would reach outside.
            let is_file = file.file_type().await.is_ok_and(|kind| kind.is_file());
            if is_document && is_file {
                found.push((name.clone(), path));
            }
        }
    }
    found.sort();
    found
}

/// Moves a file into a folder beside it, under a name that is free there.
async fn put_away(path: &Path, folder: &str, why: Option<&str>) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(path).join(folder);
    tokio::fs::create_dir_all(&dir).await?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let mut to = dir.join(format!("{stem}.{ending}"));
    let mut number = 1;
    while tokio::fs::try_exists(&to).await? {
        number += 1;
        to = dir.join(format!("{stem}-{number}.{ending}"));
    }
    tokio::fs::rename(path, &to).await?;
    match why {
        Some(why) => tokio::fs::write(to.with_extension(format!("{ending}.reason.txt")), format!("{why}\n")).await,
        None => Ok(()),
    }
}
