//! Processes of this host: found by a target's selectors, told apart by start time, signalled and watched.

use std::fmt;
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use kennel_model::target::ProcessSelector;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process, told apart from a later one with the same id by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot, from `/proc/<pid>/stat` (field 22 of proc(5)).
    pub start_time: u64,
}

/// Why a process could not be found or signalled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The selector matches nothing alive.
    #[error("no process matches {selector}: {problem}")]
    NotFound {
        /// The selector in words.
        selector: String,
        /// What was missing.
        problem: String,
    },
    /// The selector matches more than one process.
    #[error("{count} processes match {selector}; the target must declare a selector that matches one")]
    Ambiguous {
        /// The selector in words.
        selector: String,
        /// How many.
        count: usize,
    },
    /// The selector means Kennel itself.
    #[error("{selector} matches process {pid}, which is Kennel's own; declare what the service itself has")]
    Own {
        /// The selector in words.
        selector: String,
        /// The process.
        pid: i32,
    },
    /// The operating system refused.
    #[error("cannot send {signal} to process {pid}: {cause}")]
    Signal {
        /// What was sent.
        signal: Signal,
        /// To whom.
        pid: i32,
        /// What the system said.
        cause: Errno,
    },
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// State letter and start time of a process, if it exists.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name stands in parentheses and may itself contain some.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` is field 3; the start time is field 22.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

impl Process {
    /// The living process of this id.
    #[must_use]
    pub fn of_pid(pid: i32) -> Option<Self> {
        let (state, start_time) = stat(pid)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_time })
    }

    /// The one process that a selector means.
    ///
    /// # Errors
    /// When none or more than one matches.
    pub fn find(selector: &ProcessSelector) -> Result<Self, ProcessError> {
        let described = describe(selector);
        let not_found = |problem: String| ProcessError::NotFound { selector: described.clone(), problem };
        let candidates: Vec<Self> = if let Some(path) = &selector.pid_file {
            let text = fs::read_to_string(path).map_err(|e| not_found(e.to_string()))?;
            let pid = text.trim().parse().map_err(|_| not_found("the file holds no process id".to_owned()))?;
            let process = Self::of_pid(pid).ok_or_else(|| not_found(format!("process {pid} is not alive")))?;
            if started_after(process, path) {
                return Err(not_found(format!("it is stale: process {pid} started after it was written")));
            }
            let port = selector.listening_port;
            if port.is_none_or(|port| listens(pid, &socket_inodes(port))) { vec![process] } else { Vec::new() }
        } else if let Some(port) = selector.listening_port {
            let inodes = socket_inodes(port);
            all_pids().filter(|pid| listens(*pid, &inodes)).filter_map(Self::of_pid).collect()
        } else {
            all_pids().filter(|pid| *pid != own_pid()).filter_map(Self::of_pid).collect()
        };
        let wanted = selector.command_line.as_deref();
        let matching: Vec<Self> =
            candidates.into_iter().filter(|p| wanted.is_none_or(|text| command_line(p.pid).contains(text))).collect();
        match matching.as_slice() {
            [one] if is_kennel(one.pid) => Err(ProcessError::Own { selector: described, pid: one.pid }),
            [one] => Ok(*one),
            [] => Err(not_found("nothing alive fits".to_owned())),
            several => Err(ProcessError::Ambiguous { selector: described, count: several.len() }),
        }
    }

    /// Whether this very process is still alive.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of_pid(self.pid) == Some(self)
    }

    /// Whether it is frozen (state T of proc(5)).
    #[must_use]
    pub fn is_stopped(self) -> bool {
        stat(self.pid).is_some_and(|(state, start_time)| start_time == self.start_time && matches!(state, 'T' | 't'))
    }

    /// Sends a signal, unless the process is gone (then nothing is sent and that is no error).
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn signal(self, signal: Signal) -> Result<(), ProcessError> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(cause) => Err(ProcessError::Signal { signal, pid: self.pid, cause }),
        }
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// Whether a process is this one, or a load worker or watchdog of the same program.
fn is_kennel(pid: i32) -> bool {
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let role = command_line(pid).split(' ').nth(1).is_some_and(|role| matches!(role, "worker" | "watchdog" | "guard"));
    pid == own_pid() || (role && program("self").is_some_and(|own| program(&pid.to_string()) == Some(own)))
}

/// Unit of start times in /proc: the kernel tells user space hundredths of a second on every architecture (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// Whether a process started after its pid file was written, and so is not the one that the file means. Two seconds of
/// grace cover clock ticks and coarse file times.
fn started_after(process: Process, pid_file: &str) -> bool {
    let boot = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok()));
    let written = fs::metadata(pid_file).and_then(|file| file.modified()).ok();
    match (boot, written) {
        (Some(boot), Some(written)) => {
            let started = UNIX_EPOCH + Duration::from_secs(boot + process.start_time / TICKS_PER_SECOND);
            started > written + Duration::from_secs(2)
        }
        _ => false,
    }
}

fn describe(selector: &ProcessSelector) -> String {
    let mut parts = Vec::new();
    if let Some(path) = &selector.pid_file {
        parts.push(format!("pid file {path}"));
    }
    if let Some(port) = selector.listening_port {
        parts.push(format!("listening port {port}"));
    }
    if let Some(text) = &selector.command_line {
        parts.push(format!("command line containing `{text}`"));
    }
    parts.join(" and ")
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Inodes of sockets that listen on a TCP port, from `/proc/net/tcp` and `tcp6`.
fn socket_inodes(port: u16) -> Vec<String> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, ..] = fields.as_slice() else { continue };
            let listening =
                *state == "0A" && local.rsplit(':').next().and_then(|p| u16::from_str_radix(p, 16).ok()) == Some(port);
            if let (true, Some(inode)) = (listening, fields.get(9)) {
                inodes.push(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
}

fn listens(pid: i32, inodes: &[String]) -> bool {
    let Ok(open_files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open_files.flatten().any(|file| {
        fs::read_link(file.path())
            .ok()
            .is_some_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Self {
            Self(Command::new("sleep").arg("300").spawn().unwrap())
        }
        fn process(&self) -> Process {
            Process::of_pid(i32::try_from(self.0.id()).unwrap()).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn selector(value: serde_json::Value) -> ProcessSelector {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_process_is_found_by_its_pid_file_and_command_line() {
        let sleeper = Sleeper::new();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.pid");
        fs::write(&file, format!("{}\n", sleeper.0.id())).unwrap();
        let found = Process::find(&selector(serde_json::json!({"pid_file": file}))).unwrap();
        assert_eq!(found, sleeper.process());
        let strict = selector(serde_json::json!({"pid_file": file, "command_line": "some other program"}));
        assert!(Process::find(&strict).unwrap_err().to_string().contains("some other program"));
    }

    #[test]
    fn a_process_is_found_by_the_port_it_listens_on() {
        let script = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()";
        let mut server = Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line).unwrap();
        let server = Sleeper(server);
        let found =
            Process::find(&selector(serde_json::json!({"listening_port": line.trim().parse::<u16>().unwrap()})))
                .unwrap();
        assert_eq!(found, server.process());
    }

    #[test]
    fn kennel_itself_is_never_selected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = Process::find(&selector(serde_json::json!({"listening_port": port}))).unwrap_err().to_string();
        assert!(error.contains("Kennel's own"), "{error}");
    }

    #[test]
    fn a_stale_pid_file_is_not_believed() {
        let sleeper = Sleeper::new();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.pid");
        fs::write(&path, sleeper.0.id().to_string()).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
        let error = Process::find(&selector(serde_json::json!({"pid_file": path}))).unwrap_err().to_string();
        assert!(error.contains("stale"), "{error}");
    }

    #[test]
    fn a_recycled_pid_is_never_signalled() {
        let sleeper = Sleeper::new();
        let earlier = Process { start_time: 1, ..sleeper.process() };
        assert!(!earlier.is_alive());
        earlier.signal(Signal::SIGKILL).unwrap();
        assert!(sleeper.process().is_alive());
    }

    #[test]
    fn a_missing_pid_file_is_named() {
        let error =
            Process::find(&selector(serde_json::json!({"pid_file": "/nowhere/x.pid"}))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.pid"), "{error}");
    }
}
