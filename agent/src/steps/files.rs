//! The files that a command leaves behind: found by pattern, and believed only when this attempt wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use kennel_model::protocol::{StepFile, StepFileKind};

/// Deepest folder below a pattern's own that is looked into.
const DEEPEST: usize = 24;
/// Most files and folders that are looked at for one pattern.
const MOST_SEEN: usize = 200_000;
/// Most files that are taken.
const MOST_FILES: usize = 1000;
/// Largest file that is taken.
const LARGEST_FILE: u64 = 64 << 20;
/// Most bytes that are taken, all together.
const LARGEST_SUM: u64 = 256 << 20;

/// What tells a file from what it was before.
type Mark = (u64, u64, i64, i64);

/// Patterns of one command, with what lay there before it ran.
pub(super) struct Harvest {
    patterns: Vec<(StepFileKind, PathBuf, Vec<String>)>,
    before: BTreeMap<PathBuf, Mark>,
}

impl Harvest {
    /// Notes what already lies there. Patterns are absolute or below `directory`.
    pub(super) fn prepare(directory: &Path, results: &[String], artifacts: &[String]) -> Self {
        let kinds = results.iter().map(|pattern| (StepFileKind::Results, pattern));
        let kinds = kinds.chain(artifacts.iter().map(|pattern| (StepFileKind::Artifact, pattern)));
        let patterns: Vec<_> = kinds
            .map(|(kind, pattern)| {
                let (folder, rest) = split(&directory.join(pattern));
                (kind, folder, rest)
            })
            .collect();
        let mut before = BTreeMap::new();
        for (_, folder, rest) in &patterns {
            for (path, mark) in matching(folder, rest) {
                before.insert(path, mark);
            }
        }
        Self { patterns, before }
    }

    /// The files that are new or changed, and a line for each that was left out.
    pub(super) fn gather(&self, directory: &Path) -> (Vec<StepFile>, Vec<String>) {
        let (mut files, mut notes) = (Vec::new(), Vec::new());
        let mut taken = BTreeSet::new();
        let mut sum = 0;
        for (kind, folder, rest) in &self.patterns {
            for (path, mark) in matching(folder, rest) {
                if self.before.get(&path) == Some(&mark) || !taken.insert(path.clone()) {
                    continue;
                }
                let shown = path.strip_prefix(directory).or_else(|_| path.strip_prefix(folder)).unwrap_or(&path);
                let name = shown.to_string_lossy().into_owned();
                let size = mark.1;
                if files.len() == MOST_FILES || size > LARGEST_FILE || sum + size > LARGEST_SUM {
                    notes.push(format!("{name} ({size} bytes) is left out: too many or too large files"));
                    continue;
                }
                match std::fs::read(&path) {
                    Ok(content) => {
                        sum += content.len() as u64;
                        files.push(StepFile { name, kind: *kind, content });
                    }
                    Err(error) => notes.push(format!("{name} cannot be read: {error}")),
                }
            }
        }
        (files, notes)
    }
}

/// The folder of a pattern that has no wildcard in it, and the parts of the rest.
fn split(pattern: &Path) -> (PathBuf, Vec<String>) {
    let mut folder = PathBuf::new();
    let mut rest = Vec::new();
    let parts: Vec<Component<'_>> = pattern.components().collect();
    for (at, part) in parts.iter().enumerate() {
        let text = part.as_os_str().to_string_lossy();
        // The last part names files, with or without a wildcard.
        if rest.is_empty() && !text.contains(['*', '?']) && at + 1 < parts.len() {
            folder.push(part);
        } else {
            rest.push(text.into_owned());
        }
    }
    (folder, rest)
}

/// Regular files below a folder that a pattern means. Links are not followed: a command must not lead elsewhere.
fn matching(folder: &Path, pattern: &[String]) -> Vec<(PathBuf, Mark)> {
    let mut found = Vec::new();
    let mut seen = 0;
    let mut open = vec![(folder.to_owned(), Vec::<String>::new())];
    while let Some((at, below)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MOST_SEEN {
                return found;
            }
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            let mut parts = below.clone();
            parts.push(entry.file_name().to_string_lossy().into_owned());
            if meta.is_dir() && parts.len() < DEEPEST {
                open.push((entry.path(), parts));
            } else if meta.is_file() && fits(pattern, &parts) {
                found.push((entry.path(), (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())));
            }
        }
    }
    found.sort();
    found
}

/// Whether the parts of a path fit those of a pattern; `**` stands for any number of folders.
fn fits(pattern: &[String], parts: &[String]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            fits(rest, parts) || parts.split_first().is_some_and(|(_, deeper)| fits(pattern, deeper))
        }
        (Some((first, rest)), Some((part, deeper))) => fits_part(first, part) && fits(rest, deeper),
        _ => false,
    }
}

/// Whether a name fits a pattern with `*` and `?`.
fn fits_part(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut within) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while within < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, within));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[within] => (at, within) = (at + 1, within + 1),
            // The last `*` takes one more.
            _ => match star {
                Some((star_at, from)) => {
                    (at, within) = (star_at + 1, from + 1);
                    star = Some((star_at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|wanted| *wanted == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_mean_what_people_expect() {
        let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        for (pattern, path, fit) in [
            ("*.xml", "a.xml", true),
            ("*.xml", "b/a.xml", false),
            ("**/*.xml", "a.xml", true),
            ("**/*.xml", "b/c/a.xml", true),
            ("b/**", "b/c/a.xml", true),
            ("r?port-*.x*l", "report-1.xml", true),
            ("r?port-*.x*l", "rport-1.xml", false),
            ("**", "a", true),
        ] {
            assert_eq!(fits(&parts(pattern), &parts(path)), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn only_what_this_attempt_wrote_is_believed_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret.xml");
        let work = dir.path().join("work");
        std::fs::create_dir_all(work.join("deep")).unwrap();
        std::fs::write(&secret, "secret").unwrap();
        std::fs::write(work.join("old.xml"), "old").unwrap();
        std::fs::write(work.join("again.xml"), "old").unwrap();
        let harvest = Harvest::prepare(&work, &["**/*.xml".to_owned()], &["*.txt".to_owned()]);
        std::fs::write(work.join("deep/new.xml"), "new").unwrap();
        std::fs::write(work.join("again.xml"), "newer").unwrap();
        std::fs::write(work.join("log.txt"), "text").unwrap();
        std::os::unix::fs::symlink(&secret, work.join("link.xml")).unwrap();
        let (files, notes) = harvest.gather(&work);
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["again.xml", "deep/new.xml", "log.txt"]);
        assert!(notes.is_empty());
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_a_star_fits_all(name in "[a-z.]{1,12}") {
            prop_assert!(fits_part(&name, &name));
            prop_assert!(fits_part("*", &name));
            let ends = format!("{}*", &name[..1]);
            prop_assert!(fits_part(&ends, &name));
        }
    }
}
