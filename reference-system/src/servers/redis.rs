//! Redis: three servers, one for each purpose, so that a full cache does not take locks and counters with it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Account, program};
use crate::config::Layout;
use crate::error::SystemError;
use crate::kv::Purpose;

fn folder(layout: &Layout, purpose: Purpose) -> PathBuf {
    layout.data().join(super::Server::Redis(purpose).service())
}

/// Debian's package makes this account. Redis itself does not mind being root, so it is no must.
fn account() -> Option<Account> {
    Account::needed("redis").ok().flatten()
}

/// Makes the folder of its snapshot.
pub(super) fn set_up(layout: &Layout, purpose: Purpose) -> Result<(), SystemError> {
    program("redis-server", "redis-server", [])?;
    let folder = folder(layout, purpose);
    std::fs::create_dir_all(&folder).map_err(|source| SystemError::File { path: folder.clone(), source })?;
    if let Some(account) = account() {
        account.own(layout, &[&folder])?;
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            account.own(layout, &[&entry.path()])?;
        }
    }
    Ok(())
}

/// The server's command line, and the account that it takes.
pub(super) fn command(
    layout: &Layout,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<(Option<Account>, Vec<String>), SystemError> {
    // Counters are kept as Redis keeps things by default: now and then, so a killed server goes back in time.
    let save = if purpose == Purpose::Id { "10 1" } else { "" };
    let (folder, ip, port) = (folder(layout, purpose), address.ip().to_string(), address.port().to_string());
    let arguments = [
        ("--bind", ip.as_str()),
        ("--port", &port),
        ("--dir", &folder.to_string_lossy()),
        ("--save", save),
        ("--appendonly", "no"),
        ("--daemonize", "no"),
        ("--databases", "1"),
        ("--io-threads", "1"),
    ];
    let mut command = vec![program("redis-server", "redis-server", [])?.to_string_lossy().into_owned()];
    for (name, value) in arguments {
        command.extend([name.to_owned(), value.to_owned()]);
    }
    Ok((account(), command))
}
