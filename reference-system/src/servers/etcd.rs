//! etcd: one member, for the registry.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Account, program};
use crate::config::Layout;
use crate::error::SystemError;

fn folder(layout: &Layout) -> PathBuf {
    layout.data().join("etcd")
}

/// Debian's package makes this account. etcd does not mind being root, so it is no must.
fn account() -> Option<Account> {
    Account::needed("etcd").ok().flatten()
}

/// Makes the member's folder.
pub(super) fn set_up(layout: &Layout) -> Result<(), SystemError> {
    use std::os::unix::fs::PermissionsExt as _;
    program("etcd", "etcd-server", [])?;
    let folder = folder(layout);
    let failed = |source| SystemError::File { path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    match account() {
        Some(account) => account.own(layout, &[&folder]),
        None => Ok(()),
    }
}

/// Where it is reached.
pub(super) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// The server's command line, and the account that it takes.
pub(super) fn command(layout: &Layout, address: SocketAddr) -> Result<(Option<Account>, Vec<String>), SystemError> {
    // A cluster of one talks to nobody: its own port is whichever is free.
    let (folder, clients, peers) = (folder(layout), url(address), "http://127.0.0.1:0");
    let arguments = [
        ("--name", "etcd-1"),
        ("--data-dir", &folder.to_string_lossy()),
        ("--listen-client-urls", &clients),
        ("--advertise-client-urls", &clients),
        ("--listen-peer-urls", peers),
        ("--initial-advertise-peer-urls", peers),
        ("--initial-cluster", &format!("etcd-1={peers}")),
        ("--auto-compaction-retention", "1"),
        ("--logger", "zap"),
        ("--log-level", "warn"),
    ];
    let mut command = vec![program("etcd", "etcd-server", [])?.to_string_lossy().into_owned()];
    for (name, value) in arguments {
        command.extend([name.to_owned(), value.to_owned()]);
    }
    Ok((account(), command))
}
