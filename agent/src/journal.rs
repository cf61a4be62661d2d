//! The undo journal: what to undo, synced to disk before it is done, so that whoever finds it can undo it.
//!
//! One JSON object a line: `{"id": …, "undo": …}` when a fault is about to be injected, `{"done": id}` when it is
//! reverted. A line that was cut off by a crash was never followed by an injection and is skipped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::faults::Undo;

/// One thing to undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Identity within the journal.
    pub id: Uuid,
    /// Which fault of which run, for messages.
    pub fault: String,
    /// How to undo it.
    pub undo: Undo,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(Entry),
    Done { done: Uuid },
}

/// The journal of one agent.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

/// A journal that cannot be read or written; no fault may be injected then.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the undo journal {}: {cause}; no fault is injected without it", path.display())]
pub struct JournalError {
    action: &'static str,
    path: PathBuf,
    cause: io::Error,
}

impl Journal {
    /// Opens the journal, dropping what is done; entries not yet undone stay.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let fail = |action| move |cause| JournalError { action, path: path.to_owned(), cause };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(fail("create the directory of"))?;
        }
        let pending = pending(path)?;
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh).map_err(fail("write"))?;
        for entry in pending {
            write_line(&mut file, &Line::Entry(entry)).map_err(fail("write"))?;
        }
        file.sync_all().map_err(fail("sync"))?;
        fs::rename(&fresh, path).map_err(fail("replace"))?;
        let file = OpenOptions::new().append(true).open(path).map_err(fail("open"))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)) })
    }

    /// Writes what is about to be done, and returns when it is on disk.
    ///
    /// # Errors
    /// When it could not be written; the fault must not be injected then.
    pub async fn record(&self, fault: &str, undo: Undo) -> Result<Uuid, JournalError> {
        let entry = Entry { id: Uuid::now_v7(), fault: fault.to_owned(), undo };
        let id = entry.id;
        self.append(Line::Entry(entry)).await?;
        Ok(id)
    }

    /// Notes that an entry is undone.
    ///
    /// # Errors
    /// When it could not be written; the undo will then be replayed, which is harmless.
    pub async fn done(&self, id: Uuid) -> Result<(), JournalError> {
        self.append(Line::Done { done: id }).await
    }

    async fn append(&self, line: Line) -> Result<(), JournalError> {
        let (file, path) = (self.file.clone(), self.path.clone());
        let fail = move |cause| JournalError { action: "append to", path, cause };
        let written = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            write_line(&mut file, &line)?;
            file.sync_data()
        });
        match written.await {
            Ok(result) => result.map_err(fail),
            Err(gone) => Err(fail(io::Error::other(gone))),
        }
    }
}

fn write_line(file: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    // One write call, so that a crash leaves at most the last line cut off.
    file.write_all(text.as_bytes())
}

/// Entries that are not undone yet, in the order in which they were injected.
///
/// # Errors
/// When the file exists but cannot be read.
pub fn pending(path: &Path) -> Result<Vec<Entry>, JournalError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(JournalError { action: "read", path: path.to_owned(), cause }),
    };
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        match serde_json::from_str(line) {
            // Version 7 ids sort by time.
            Ok(Line::Entry(entry)) => {
                entries.insert(entry.id, entry);
            }
            Ok(Line::Done { done }) => {
                entries.remove(&done);
            }
            Err(_) => {}
        }
    }
    Ok(entries.into_values().collect())
}

/// Undoes everything that is pending, latest first, and tells what happened: one line for each entry.
///
/// # Errors
/// When the journal cannot be read.
pub async fn replay(path: &Path) -> Result<Vec<String>, JournalError> {
    let mut told = Vec::new();
    let entries = pending(path)?;
    if entries.is_empty() {
        return Ok(told);
    }
    let journal = Journal::open(path)?;
    for entry in entries.into_iter().rev() {
        match entry.undo.revert().await {
            Ok(()) => {
                journal.done(entry.id).await?;
                told.push(format!("reverted `{}`: {}", entry.fault, entry.undo));
            }
            Err(error) => told.push(format!(
                "could not revert `{}` ({}): {error}; by hand: {}",
                entry.fault,
                entry.undo,
                entry.undo.by_hand()
            )),
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    fn undo(pid: i32) -> Undo {
        Undo::Resume { process: Process { pid, start_time: 1 } }
    }

    #[tokio::test]
    async fn what_is_not_done_survives_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::open(&path).unwrap();
        let first = journal.record("a", undo(1)).await.unwrap();
        journal.record("b", undo(2)).await.unwrap();
        journal.done(first).await.unwrap();
        Journal::open(&path).unwrap();
        let left = pending(&path).unwrap();
        assert_eq!(left.iter().map(|e| e.fault.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[tokio::test]
    async fn a_line_cut_off_by_a_crash_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::open(&path).unwrap();
        journal.record("a", undo(1)).await.unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\": \"0199");
        fs::write(&path, text).unwrap();
        assert_eq!(pending(&path).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn replaying_twice_is_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        Journal::open(&path).unwrap().record("a", undo(i32::MAX)).await.unwrap();
        assert_eq!(replay(&path).await.unwrap().len(), 1);
        assert!(replay(&path).await.unwrap().is_empty());
    }
}
