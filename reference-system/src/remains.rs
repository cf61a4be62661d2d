//! What a system leaves in its directory: what goes with its processes, and what goes when its data shall go, too.

use std::path::Path;

use crate::config::Layout;
use crate::error::SystemError;
use crate::{process, servers};

/// The folders of a system's directory, and the files in it.
const FOLDERS: [&str; 3] = ["run", "log", "data"];
const FILES: [&str; 6] =
    ["system.json", "config.json", "options.json", "system.fresh", "config.fresh", "options.fresh"];
/// What tells of the life of processes, by the ends of the files' names.
const OF_PROCESSES: [&str; 3] = ["pid", "restarts", "fresh"];

/// Whether a system was ever started there.
pub(crate) fn was_a_system(layout: &Layout) -> bool {
    layout.options().exists() || layout.config().exists()
}

/// Whether processes are told of that nobody looks after any more: their supervisor was killed.
pub(crate) fn is_wreck(layout: &Layout) -> bool {
    layout.state().exists() || !of_processes(layout).is_empty()
}

/// Removes every trace of processes. Only for a directory of which
/// nobody holds the lock.
pub(crate) fn sweep(layout: &Layout) {
    process::remove(&layout.state());
    for file in of_processes(layout) {
        process::remove(&file);
    }
    servers::sweep(layout);
}

fn of_processes(layout: &Layout) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(layout.run()).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    files.filter(|file| file.extension().is_some_and(|end| OF_PROCESSES.iter().any(|of| end == *of))).collect()
}

/// Removes whatever a system has put into its directory, and the directory if nothing else is there.
pub(crate) fn purge(layout: &Layout) -> Result<(), SystemError> {
    let gone = |path: &Path, removed: std::io::Result<()>| match removed {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SystemError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    };
    for folder in FOLDERS.map(|name| layout.root().join(name)) {
        gone(&folder, std::fs::remove_dir_all(&folder))?;
    }
    for file in FILES.map(|name| layout.root().join(name)) {
        gone(&file, std::fs::remove_file(&file))?;
    }
    // Stays if somebody keeps something of their own in it.
    let _ = std::fs::remove_dir(layout.root());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_takes_what_is_the_systems_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(&home.path().join("system"));
        layout.create().unwrap();
        assert!(!was_a_system(&layout));
        std::fs::write(layout.options(), "{}").unwrap();
        std::fs::write(layout.data().join("st-u0.db"), "rows").unwrap();
        std::fs::write(layout.pid_file("gw-1"), "7").unwrap();
        std::fs::write(layout.run().join("postgres.password"), "secret").unwrap();
        assert!(was_a_system(&layout) && is_wreck(&layout));
        sweep(&layout);
        assert!(!is_wreck(&layout));
        assert!(layout.run().join("postgres.password").exists());
        std::fs::write(layout.root().join("notes.txt"), "mine").unwrap();
        purge(&layout).unwrap();
        let left: Vec<_> = std::fs::read_dir(layout.root()).unwrap().flatten().map(|one| one.file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
        std::fs::remove_file(layout.root().join("notes.txt")).unwrap();
        purge(&layout).unwrap();
        assert!(!layout.root().exists());
        purge(&layout).unwrap();
    }
}
