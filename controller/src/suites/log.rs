//! Logs of steps: one file for each attempt under the data directory, bounded, read in parts.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use kennel_model::RunId;

/// Most bytes of one log that are kept.
pub(crate) const LONGEST_LOG: u64 = 32 << 20;

/// The folder of all logs in a data directory.
fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("logs")
}

/// The file of one attempt's log; `None` for a path that no step can have.
pub(crate) fn file(data_dir: &Path, run: RunId, path: &str, attempt: u32) -> Option<PathBuf> {
    // Steps are named by their path, and these are its words; nothing else reaches the file system.
    let is_plain = !path.is_empty()
        && path.split('/').all(|part| {
            matches!(part, "set_up" | "steps" | "tear_down" | "parallel")
                || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        });
    is_plain.then(|| folder(data_dir).join(run.to_string()).join(format!("{}.{attempt}.log", path.replace('/', "-"))))
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: std::fs::File,
    written: u64,
    is_full: bool,
}

impl LogWriter {
    /// Begins a log.
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self { file: std::fs::File::create(path)?, written: 0, is_full: false })
    }

    /// Appends; what is beyond the bound is dropped, and said so once. Gives what was written.
    pub(crate) fn append<'a>(&mut self, text: &'a str) -> std::io::Result<&'a str> {
        if self.is_full {
            return Ok("");
        }
        let room = usize::try_from(LONGEST_LOG - self.written).unwrap_or(usize::MAX);
        let kept = if text.len() <= room { text } else { &text[..text.floor_char_boundary(room)] };
        self.file.write_all(kept.as_bytes())?;
        self.written += kept.len() as u64;
        if kept.len() < text.len() {
            self.is_full = true;
            self.file.write_all(b"\n[the log is longer than Kennel keeps; the rest is dropped]\n")?;
        }
        Ok(kept)
    }
}

/// Reads at most `most` bytes from `from` on; with `None`, the last ones. Gives where they begin and how long the log is.
pub(crate) fn read(path: &Path, from: Option<u64>, most: u64) -> std::io::Result<(u64, u64, Vec<u8>)> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let from = from.unwrap_or_else(|| length.saturating_sub(most)).min(length);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((from, length, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_at_its_bound_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.log");
        let mut log = LogWriter::create(&path).unwrap();
        let chunk = "ä".repeat(1 << 20);
        for _ in 0..20 {
            log.append(&chunk).unwrap();
        }
        let (from, length, tail) = read(&path, None, 100).unwrap();
        assert_eq!(from, length - 100);
        assert!(length < LONGEST_LOG + 100);
        assert!(String::from_utf8_lossy(&tail).contains("the rest is dropped"));
    }

    #[test]
    fn only_paths_of_steps_name_a_log() {
        let run = RunId::new();
        let name = |path: &str| file(Path::new("/d"), run, path, 2).map(|file| file.display().to_string());
        assert_eq!(name("steps/3/parallel/0").unwrap(), format!("/d/logs/{run}/steps-3-parallel-0.2.log"));
        for bad in ["", "../x", "steps/../0", "steps//0", "steps/0\0", "/etc/passwd"] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
