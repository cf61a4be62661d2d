//! Operating-system processes: pid files, logs, signals, and children that never outlive their
//! parent.

use std::fs::{File, TryLockError};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::SystemError;

/// How often a child looks whether its parent still lives, where the kernel does not tell it.
const PARENT_CHECK: Duration = Duration::from_millis(250);

/// Cancels `stop` on SIGTERM or SIGINT and when the parent dies.
///
/// On Linux the kernel kills the process when its parent dies, even while it is paused.
pub(crate) fn follow_parent(parent: u32, stop: CancellationToken) -> Result<(), SystemError> {
    die_with_parent(parent)?;
    let term = on_signals()?;
    tokio::spawn(async move {
        if cfg!(target_os = "linux") {
            term.await;
        } else {
            tokio::select! {
                () = term => {}
                () = parent_gone(parent) => {}
            }
        }
        stop.cancel();
    });
    Ok(())
}

/// Asks the kernel to kill this process with its parent, and ends if that is dead already.
fn die_with_parent(parent: u32) -> Result<(), SystemError> {
    let failed =
        |source: std::io::Error| SystemError::Process { what: "tie the process to its supervisor".to_owned(), source };
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| failed(errno.into()))?;
    if is_child_of(parent) {
        return Ok(());
    }
    Err(failed(std::io::Error::other("the supervisor is gone")))
}

fn is_child_of(parent: u32) -> bool {
    nix::unistd::getppid() == pid(parent)
}

async fn parent_gone(parent: u32) {
    while is_child_of(parent) {
        tokio::time::sleep(PARENT_CHECK).await;
    }
}

/// Ends at the first SIGTERM or SIGINT.
pub(crate) fn on_signals() -> Result<impl Future<Output = ()>, SystemError> {
    let listen =
        |kind| signal(kind).map_err(|source| SystemError::Process { what: "listen for signals".to_owned(), source });
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Becomes `command`, still tied to the parent. Returns only if that fails.
pub(crate) fn become_command(parent: u32, command: &[String]) -> SystemError {
    if let Err(error) = die_with_parent(parent) {
        return error;
    }
    let Some((program, arguments)) = command.split_first() else {
        return SystemError::Proxy { name: String::new(), why: "has no command line".to_owned() };
    };
    let source = std::process::Command::new(program).args(arguments).exec();
    SystemError::Process { what: format!("start {program}"), source }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(i32::try_from(process).unwrap_or(i32::MAX))
}

/// Sends a signal. A process that is gone already is no error.
pub(crate) fn send(process: u32, signal: Signal) {
    // The only other error is a lack of permission, and these are our own processes.
    let _ = kill(pid(process), signal);
}

/// Whether a process with this ID runs. A dead one that nobody has waited for does not.
pub(crate) fn exists(process: u32) -> bool {
    let is_zombie = || {
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
            // The state follows the name, which is in parentheses and may hold any character.
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
        })
    };
    kill(pid(process), None).is_ok() && !is_zombie()
}

/// As [`write_whole`], for the eyes of this account only.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> Result<(), SystemError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fresh = path.with_extension("fresh");
    remove(&fresh);
    let mut options = File::options();
    options.create_new(true).write(true).mode(0o600);
    options
        .open(&fresh)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text))
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|source| SystemError::File { path: path.to_owned(), source })
}

/// Writes a file so that readers see all of it or nothing.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> Result<(), SystemError> {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|source| SystemError::File { path: path.to_owned(), source })
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) {
    // A file that cannot be removed is stale at worst; readers check the lock as well.
    let _ = std::fs::remove_file(path);
}

/// The pid in a pid file.
pub(crate) fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What the kernel tells of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vitals {
    /// How long it has been running, in seconds.
    pub(crate) uptime_s: Option<u64>,
    /// Its resident set.
    pub(crate) memory_bytes: Option<u64>,
    /// Its proportional set: a page that several processes hold is divided among them.
    pub(crate) share_bytes: Option<u64>,
}

/// How a process is doing; empty where there is no `/proc`.
pub(crate) fn vitals(process: u32) -> Vitals {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    let uptime_s = || {
        let stat = read(&format!("/proc/{process}/stat"))?;
        // Fields after the name, which is in parentheses; the 22nd of all is the start, in ticks since boot.
        let started: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let up: f64 = read("/proc/uptime")?.split_whitespace().next()?.parse().ok()?;
        Some((up - started / ticks as f64).max(0.0) as u64)
    };
    let kilobytes = |file: &str, name: &str| {
        let text = read(&format!("/proc/{process}/{file}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
    };
    Vitals {
        uptime_s: uptime_s(),
        memory_bytes: kilobytes("status", "VmRSS:"),
        share_bytes: kilobytes("smaps_rollup", "Pss:"),
    }
}

/// What this process has used, as far as the kernel tells.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    /// Its resident set.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) open_files: Option<usize>,
    /// When it started, in seconds since 1970.
    pub(crate) started_at_seconds: Option<f64>,
}

/// What this process has used.
pub(crate) fn usage() -> Usage {
    let own = std::process::id();
    let vitals = vitals(own);
    let cpu_seconds = || {
        let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Some(seconds(used.user_time()) + seconds(used.system_time()))
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    Usage {
        cpu_seconds: cpu_seconds(),
        memory_bytes: vitals.memory_bytes,
        open_files: std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        started_at_seconds: now.zip(vitals.uptime_s).map(|(now, up)| (now - up as f64).round()),
    }
}

/// The end of a text file, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    const LINES: usize = 8;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Takes the lock file; `None` if another process holds it.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, SystemError> {
    let failed = |source| SystemError::File { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether a supervisor holds the lock.
pub(crate) fn is_locked(path: &Path) -> bool {
    path.exists() && matches!(lock(path), Ok(None))
}

/// Starts a session of its own, so that the starter's terminal does not end it.
pub(crate) fn leave_session() -> Result<(), SystemError> {
    nix::unistd::setsid()
        .map(|_| ())
        .map_err(|errno| SystemError::Process { what: "start a session".to_owned(), source: errno.into() })
}

/// Standard input as a pipe.
pub(crate) fn standard_input() -> Result<tokio::net::unix::pipe::Receiver, SystemError> {
    std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(tokio::net::unix::pipe::Receiver::from_owned_fd)
        .map_err(|source| SystemError::Process { what: "read standard input as a pipe".to_owned(), source })
}

/// Ends when the other side has closed the pipe.
pub(crate) async fn until_closed(mut pipe: tokio::net::unix::pipe::Receiver) {
    let mut ignored = [0; 64];
    while matches!(pipe.read(&mut ignored).await, Ok(1..)) {}
}
