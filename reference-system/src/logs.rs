//! The logs of a system's processes: their last lines, and what is added from then on.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Layout;
use crate::error::SystemError;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);

/// The log files of a directory's system by instance, whether it runs or not; or that of one instance.
fn files(dir: &Path, instance: Option<&str>) -> Result<Vec<(String, PathBuf)>, SystemError> {
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(Layout::new(dir).logs())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.path().file_stem()?.to_str()?.to_owned(), entry.path())))
        .collect();
    found.sort();
    let known: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
    found.retain(|(name, _)| instance.is_none_or(|wanted| wanted == name));
    if found.is_empty() {
        let wanted = instance.unwrap_or("any instance").to_owned();
        return Err(SystemError::NoLog { dir: dir.to_owned(), wanted, known });
    }
    Ok(found)
}

/// One log, read up to `position`.
struct Log {
    name: String,
    path: PathBuf,
    position: u64,
}

/// What of the logs is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// One instance's; all if `None`.
    pub(crate) instance: Option<&'a str>,
    /// The last so many lines of each.
    pub(crate) tail: usize,
    /// And whatever comes after, for ever.
    pub(crate) follow: bool,
    /// Only lines of this trace, as many as there are, in the order of their times.
    pub(crate) trace: Option<&'a str>,
}

/// Writes what is wanted. Each line begins with its instance when there are several.
///
/// # Errors
///
/// [`SystemError::NoLog`] if there is none, [`SystemError::File`] if one cannot be read. A reader that has gone is the
/// end, not an error.
pub(crate) async fn write(dir: &Path, wanted: Wanted<'_>, out: &mut impl Write) -> Result<(), SystemError> {
    let found = files(dir, wanted.instance)?;
    let width = if found.len() > 1 { found.iter().map(|(name, _)| name.len()).max().unwrap_or(0) } else { 0 };
    let mut logs: Vec<Log> = found.into_iter().map(|(name, path)| Log { name, path, position: 0 }).collect();
    let mut most = if wanted.trace.is_some() { usize::MAX } else { wanted.tail };
    loop {
        let mut lines = Vec::new();
        for log in &mut logs {
            let news = log.news().map_err(|source| SystemError::File { path: log.path.clone(), source })?;
            let skipped = news.len().saturating_sub(most);
            lines.extend(news.into_iter().skip(skipped).map(|line| (log.name.as_str(), line)));
        }
        if let Some(trace) = wanted.trace {
            let field = format!("trace=\"{trace}\"");
            lines.retain(|(_, line)| line.contains(&field));
            // Each begins with its time.
            lines.sort_by(|(_, one), (_, other)| one.cmp(other));
        }
        for (name, line) in lines {
            let written = match width {
                0 => writeln!(out, "{line}"),
                _ => writeln!(out, "{name:<width$} | {line}"),
            };
            match written.and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(source) => return Err(SystemError::Process { what: "print a log".to_owned(), source }),
                Ok(()) => {}
            }
        }
        if !wanted.follow {
            return Ok(());
        }
        most = usize::MAX;
        tokio::time::sleep(POLL).await;
    }
}

impl Log {
    /// The whole lines that were added since the last look.
    fn news(&mut self) -> std::io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        // A system that is started anew keeps its logs; one whose logs were removed begins again.
        if file.metadata()?.len() < self.position {
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut reader = BufReader::new(file);
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            self.position += line.len() as u64;
            lines.push(String::from_utf8_lossy(&line[..line.len() - 1]).into_owned());
            line.clear();
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(logs: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        for (name, text) in logs {
            std::fs::write(layout.log(name), text).unwrap();
        }
        dir
    }

    async fn written(dir: &Path, instance: Option<&str>, tail: usize) -> String {
        let mut out = Vec::new();
        write(dir, Wanted { instance, tail, ..Wanted::default() }, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn the_last_lines_of_one_or_of_all() {
        let dir = dir_with(&[("gw-1", "one\ntwo\nthree\nhalf"), ("reg-1", "up\n")]);
        assert_eq!(written(dir.path(), Some("gw-1"), 2).await, "two\nthree\n");
        assert_eq!(written(dir.path(), None, 1).await, "gw-1  | three\nreg-1 | up\n");
        let unknown = Wanted { instance: Some("gw-9"), tail: 1, ..Wanted::default() };
        let error = write(dir.path(), unknown, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.ends_with("; expected one of gw-1, reg-1"), "{error}");
    }

    #[tokio::test]
    async fn a_trace_is_put_together_from_all_logs_in_the_order_of_time() {
        let dir = dir_with(&[
            (
                "eos-c-1",
                "2026-01-01T00:00:00.2Z  INFO hop trace=\"t-1\"\n2026-01-01T00:00:00.3Z  INFO hop trace=\"t-10\"\n",
            ),
            ("gw-1", "2026-01-01T00:00:00.4Z  INFO hop trace=\"t-1\"\n"),
            ("st-u0-1", "2026-01-01T00:00:00.1Z  INFO hop trace=\"t-1\"\n"),
        ]);
        let mut out = Vec::new();
        write(dir.path(), Wanted { trace: Some("t-1"), ..Wanted::default() }, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        let order: Vec<&str> = text.lines().map(|line| line.split(" |").next().unwrap().trim()).collect();
        assert_eq!(order, ["st-u0-1", "eos-c-1", "gw-1"], "{text}");
    }

    #[tokio::test]
    async fn a_line_is_told_once_and_only_when_it_is_whole() {
        let dir = dir_with(&[("gw-1", "one\nhal")]);
        let path = Layout::new(dir.path()).log("gw-1");
        let mut log = Log { name: "gw-1".to_owned(), path: path.clone(), position: 0 };
        assert_eq!(log.news().unwrap(), ["one"]);
        assert!(log.news().unwrap().is_empty());
        let mut file = File::options().append(true).open(&path).unwrap();
        writeln!(file, "f").unwrap();
        assert_eq!(log.news().unwrap(), ["half"]);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(log.news().unwrap(), ["new"]);
    }
}
