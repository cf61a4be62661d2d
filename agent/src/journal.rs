//! The undo journal: what to undo, synced to disk before it is done, so that whoever finds it can undo it.
//!
//! One JSON object a line: `{"id": …, "undo": …}` when a fault is about to be injected, `{"done": id}` when it is
//! reverted. A line that was cut off by a crash was never followed by an injection and is skipped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
        if let Some(dir) = path.parent() {
            // Else a power failure could bring the old file back, without what is recorded from now on.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("sync the directory of"))?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(fail("open"))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)) })
    }

    /// The journal as it is, for noting what is done.
    fn append_to(path: &Path) -> Result<Self, JournalError> {
        let fail = |cause| JournalError { action: "open", path: path.to_owned(), cause };
        let file = OpenOptions::new().append(true).open(path).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)) })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
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
    // One write call, so that a crash leaves at most this line cut off; and a line break before it, so that a line cut off
    // earlier (a full disk) does not swallow it.
    let text = format!("\n{}\n", serde_json::to_string(line)?);
    file.write_all(text.as_bytes())
}

/// Entries that are not undone yet, in the order in which they were injected.
///
/// # Errors
/// When the file exists but cannot be read.
pub fn pending(path: &Path) -> Result<Vec<Entry>, JournalError> {
    let text = match fs::read(path) {
        // A character torn by a crash must not hide the rest.
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
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
    Ok(replay_entries(path, pending(path)?).await)
}

/// Undoes these entries, latest first. A journal that cannot be written keeps nothing from being undone.
pub(crate) async fn replay_entries(path: &Path, entries: Vec<Entry>) -> Vec<String> {
    let mut told = Vec::new();
    if entries.is_empty() {
        return told;
    }
    let journal = Journal::append_to(path);
    for entry in entries.into_iter().rev() {
        match entry.undo.revert().await {
            Ok(()) => {
                told.push(format!("reverted `{}`: {}", entry.fault, entry.undo));
                let noted = match &journal {
                    Ok(journal) => journal.done(entry.id).await,
                    Err(_) => continue,
                };
                if let Err(error) = noted {
                    tracing::warn!("{error}; the undo will be repeated, which is harmless");
                }
            }
            Err(error) => told.push(format!(
                "could not revert `{}` ({}): {error}; by hand: {}",
                entry.fault,
                entry.undo,
                entry.undo.by_hand()
            )),
        }
    }
    told
}

/// The right to undo and to record: held by an agent for its life, and by a watchdog while it replays.
#[derive(Debug)]
pub struct JournalLock(#[expect(dead_code, reason = "holding it is what it is for")] File);

impl JournalLock {
    /// The lock, if nobody holds it now.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn try_take(journal: &Path) -> Result<Option<Self>, JournalError> {
        let fail = |cause| JournalError { action: "lock", path: journal.to_owned(), cause };
        if let Some(dir) = journal.parent() {
            fs::create_dir_all(dir).map_err(fail)?;
        }
        let file = File::create(journal.with_extension("lock")).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(cause)) => Err(fail(cause)),
        }
    }

    /// Waits for the lock: a watchdog may still be undoing what an earlier agent left.
    ///
    /// # Errors
    /// When it does not come free within `deadline`.
    pub async fn take(journal: &Path, deadline: Duration) -> Result<Self, JournalError> {
        let give_up = tokio::time::Instant::now() + deadline;
        loop {
            if let Some(lock) = Self::try_take(journal)? {
                return Ok(lock);
            }
            if tokio::time::Instant::now() > give_up {
                let cause = io::Error::other("another agent works with it; give this one a data directory of its own");
                return Err(JournalError { action: "lock", path: journal.to_owned(), cause });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
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
    async fn what_follows_a_cut_off_line_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::open(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"id\": \"01\xc3");
        fs::write(&path, bytes).unwrap();
        journal.record("after", undo(1)).await.unwrap();
        assert_eq!(pending(&path).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_journal_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent/journal.jsonl");
        let held = JournalLock::try_take(&path).unwrap().unwrap();
        assert!(JournalLock::try_take(&path).unwrap().is_none());
        let error = JournalLock::take(&path, Duration::ZERO).await.unwrap_err().to_string();
        assert!(error.contains("another agent"), "{error}");
        drop(held);
        assert!(JournalLock::try_take(&path).unwrap().is_some());
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
