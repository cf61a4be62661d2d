//! PostgreSQL: one server with a database per store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::{Account, new_secret, program};
use crate::config::Layout;
use crate::error::SystemError;

/// The database role of the system.
const ROLE: &str = "orders";

fn folder(layout: &Layout) -> PathBuf {
    layout.data().join("postgres")
}

fn password_file(layout: &Layout) -> PathBuf {
    layout.run().join("postgres.password")
}

fn find(name: &str) -> Result<PathBuf, SystemError> {
    // /usr/lib/postgresql/15/bin, the newest first.
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    program(name, "postgresql", versions.into_iter().map(|(_, folder)| folder))
}

/// Makes the cluster with a password of its own.
pub(super) async fn set_up(layout: &Layout) -> Result<(), SystemError> {
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| SystemError::File { path, source }
    };
    let folder = folder(layout);
    if folder.exists() {
        return Ok(());
    }
    // Half a cluster must not be taken for a whole one.
    let fresh = layout.data().join("postgres.fresh");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(failed(&fresh))?;
    }
    let initdb = find("initdb")?;
    let account = Account::needed("postgres")?;
    std::fs::create_dir_all(&fresh).map_err(failed(&fresh))?;
    let password = password_file(layout);
    new_secret(&password)?;
    if let Some(account) = &account {
        account.own(layout, &[&fresh, &password])?;
    }
    let mut command = Command::new(&initdb);
    command
        .arg("--pgdata")
        .arg(&fresh)
        .args(["--username", ROLE, "--auth", "scram-sha-256"])
        .arg("--pwfile")
        .arg(password_file(layout))
        .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some(account) = &account {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    let started = |source| SystemError::Process { what: format!("run {}", initdb.display()), source };
    let output = command.output().await.map_err(started)?;
    if output.status.success() {
        return std::fs::rename(&fresh, &folder).map_err(failed(&folder));
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(started(std::io::Error::other(text)))
}

/// Where the server is reached, with its password.
pub(super) fn url(layout: &Layout, address: SocketAddr) -> Result<String, SystemError> {
    let path = password_file(layout);
    let password = std::fs::read_to_string(&path).map_err(|source| SystemError::File { path, source })?;
    Ok(format!("postgres://{ROLE}:{password}@{address}"))
}

/// Removes the shared memory of a server that was killed: it keeps a few bytes by which it knows whether another runs on
/// its folder, and its next start would remove them.
pub(super) fn sweep(layout: &Layout) {
    let told = std::fs::read_to_string(folder(layout).join("postmaster.pid")).unwrap_or_default();
    // https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/utils/pidfile.h: key and ID of the segment.
    let Some((key, segment)) = told.lines().nth(6).and_then(|line| line.trim().split_once(char::is_whitespace)) else {
        return;
    };
    let known = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let is_its = known.lines().any(|line| {
        // key, ID, permissions, size, pids of creator and last user, how many use it
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(..2) == Some(&[key, segment.trim()]) && words.get(6) == Some(&"0")
    });
    if is_its {
        // What cannot be removed is gone with the next start.
        let _ = std::process::Command::new("ipcrm").args(["--shmem-id", segment.trim()]).stdin(Stdio::null()).status();
    }
}

/// The server's command line, and the account that it needs.
pub(super) fn command(layout: &Layout, address: SocketAddr) -> Result<(Option<Account>, Vec<String>), SystemError> {
    let account = Account::needed("postgres")?;
    let mut command = vec![
        find("postgres")?.to_string_lossy().into_owned(),
        "-D".to_owned(),
        folder(layout).to_string_lossy().into_owned(),
        "-p".to_owned(),
        address.port().to_string(),
    ];
    let settings = [
        format!("listen_addresses={}", address.ip()),
        "unix_socket_directories=".to_owned(),
        // Room for a second system that is told to use it, and for whoever looks around in it.
        "max_connections=200".to_owned(),
        "shared_buffers=32MB".to_owned(),
        // In its own folder, so that a killed server leaves nothing in memory.
        "dynamic_shared_memory_type=mmap".to_owned(),
        // What a killed server had answered survives in the page cache; only a power cut would lose it.
        "fsync=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "autovacuum_naptime=10s".to_owned(),
        "log_min_messages=warning".to_owned(),
    ];
    for setting in settings {
        command.extend(["-c".to_owned(), setting]);
    }
    Ok((account, command))
}

#[cfg(test)]
pub(crate) mod testing {
    //! A PostgreSQL server that a test has to itself.

    use std::net::{Ipv4Addr, TcpListener};
    use std::os::unix::process::CommandExt as _;
    use std::process::Child;
    use std::time::{Duration, Instant};

    use nix::sys::signal::Signal;

    use super::*;
    use crate::store::Places;

    /// A server that ends with this value.
    pub(crate) struct PostgresOfATest {
        server: String,
        process: Child,
        layout: Layout,
        _dir: tempfile::TempDir,
    }

    impl PostgresOfATest {
        /// As a system sets it up and starts it.
        pub(crate) async fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(&dir.path().join("system"));
            layout.create().unwrap();
            set_up(&layout).await.unwrap();
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            let (account, line) = command(&layout, address).unwrap();
            let log = std::fs::File::create(layout.log("postgres-1")).unwrap();
            let mut server = std::process::Command::new(&line[0]);
            server.args(&line[1..]).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            if let Some(account) = account {
                server.uid(account.uid.as_raw()).gid(account.gid.as_raw());
            }
            let process = server.spawn().unwrap();
            let server = url(&layout, address).unwrap();
            let running = Self { server, process, layout, _dir: dir };
            let deadline = Instant::now() + Duration::from_secs(30);
            while !running.stores("none").answers().await {
                let log = || std::fs::read_to_string(running.layout.log("postgres-1")).unwrap_or_default();
                assert!(Instant::now() < deadline, "PostgreSQL never answered: {}", log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            running
        }

        /// The stores of one system on it.
        pub(crate) fn stores(&self, prefix: &str) -> Places {
            Places::Postgres { server: self.server.clone(), prefix: prefix.to_owned() }
        }
    }

    impl Drop for PostgresOfATest {
        fn drop(&mut self) {
            // It does not wait for its clients.
            crate::process::send(self.process.id(), Signal::SIGINT);
            let _ = self.process.wait();
            sweep(&self.layout);
        }
    }
}
