//! The history of a run's writes on its way from the load worker to the audits: a file that has no name any more once
//! both have it open, so that nothing of it is left, whoever is killed.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use kennel_model::protocol::Assignment;
use kennel_model::target::AuditHistory;

use crate::worker::HistoryFile;

/// The history of one run.
#[derive(Debug)]
pub(crate) struct History {
    wanted: AuditHistory,
    path: PathBuf,
    file: File,
}

impl History {
    /// Makes the file, if an audit of the run wants a history. Several audits get what any of them wants.
    pub(crate) fn create(directory: &Path, assignment: &Assignment) -> Result<Option<Self>, String> {
        let asked = &assignment.experiment.experiment().audits;
        let audits = assignment.experiment.target().audits.iter().filter(|audit| asked.contains(&audit.name));
        let wanted = audits.filter_map(|audit| audit.history.clone()).reduce(|mut all, one| {
            all.answer.extend(one.answer);
            all.reads |= one.reads;
            all
        });
        let Some(wanted) = wanted else { return Ok(None) };
        let path = directory.join(format!("{}.history.jsonl", assignment.run));
        let made = std::fs::create_dir_all(directory)
            .and_then(|()| File::options().read(true).write(true).create(true).truncate(true).open(&path));
        let file = made.map_err(|e| format!("cannot make the history of writes {}: {e}", path.display()))?;
        Ok(Some(Self { wanted, path, file }))
    }

    /// What the worker is told.
    pub(crate) fn for_worker(&self) -> HistoryFile {
        HistoryFile { path: self.path.display().to_string(), wanted: self.wanted.clone() }
    }

    /// Takes the name away: the worker has opened the file, or never will.
    pub(crate) fn forget_name(&self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the history of writes, {}, stays behind", self.path.display());
        }
    }

    /// What the worker has written.
    pub(crate) fn lines(&self) -> std::io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.rewind()?;
        let mut lines = Vec::new();
        file.read_to_end(&mut lines)?;
        Ok(lines)
    }
}

impl Drop for History {
    /// A run that is stopped while its worker starts has not forgotten the name yet.
    fn drop(&mut self) {
        self.forget_name();
    }
}
