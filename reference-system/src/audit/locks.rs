//! Locks in the audit: what the stores noted of writes under locks, what is left on the server of locks, and I21.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{Connection, Row};
use tokio::time::Instant;

use super::Finding;
use crate::config::now_ms;
use crate::kv::Purpose;
use crate::kv::client::{Kv, KvClients, KvError};
use crate::locks::{Holder, PREFIX};
use crate::migration::OLD_STORE;
use crate::process;
use crate::roles::eps;
use crate::store::{Place, Places};

/// The stores that take writes under locks, beside an old order table.
const STORES: [&str; 3] = ["st-u0", "st-u1", eps::STORE];
/// How long a server of locks that does not answer is asked again: it may be starting.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// No request lasts so long.
const LONGEST_REQUEST_MS: i64 = 60_000;

/// What is known of locks.
#[derive(Default)]
pub(crate) struct LockHistory {
    /// By store and key, in the order in which the store took them.
    writes: BTreeMap<(&'static str, String), Vec<LockedWrite>>,
    /// Keys without an end, and who left them there.
    left: Vec<(String, String)>,
}

/// A write under a lock.
#[derive(Debug, Clone)]
struct LockedWrite {
    token: String,
    fence: i64,
    acquired_at_ms: i64,
    written_at_ms: i64,
}

/// Reads it. The keys of a system that is stopped are gone with their server.
pub(super) async fn read(stores: &Places, kv: Option<&KvClients>) -> Result<LockHistory, String> {
    let mut all = LockHistory::default();
    let old =
        stores.has(OLD_STORE).await.map_err(|error| format!("nobody knows whether there is {OLD_STORE}: {error}"))?;
    for store in STORES.into_iter().chain(old.then_some(OLD_STORE)) {
        read_writes(&stores.of(store), store, &mut all)
            .await
            .map_err(|error| format!("the lock history of {store} cannot be read: {error}"))?;
    }
    if let Some(kv) = kv {
        all.left = left_in_time(kv.of(Purpose::Lock))
            .await
            .map_err(|error| format!("the locks that are held cannot be read: {error}"))?;
    }
    Ok(all)
}

async fn read_writes(place: &Place, store: &'static str, all: &mut LockHistory) -> Result<(), sqlx::Error> {
    let mut file = place.reader().await?;
    let rows = sqlx::query(
        "SELECT lock_key, token, fence, acquired_at_ms, written_at_ms FROM lock_writes ORDER BY lock_key, nth",
    )
    .fetch_all(&mut file)
    .await?;
    file.close().await?;
    for row in rows {
        let write = LockedWrite {
            token: row.try_get(1)?,
            fence: row.try_get(2)?,
            acquired_at_ms: row.try_get(3)?,
            written_at_ms: row.try_get(4)?,
        };
        all.writes.entry((store, row.try_get(0)?)).or_default().push(write);
    }
    Ok(())
}

async fn left_in_time(server: &Kv) -> Result<Vec<(String, String)>, KvError> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        match left_behind(server).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
            result => return result,
        }
    }
}

/// The locks that nobody will release: they have no end, and their holder is gone.
async fn left_behind(server: &Kv) -> Result<Vec<(String, String)>, KvError> {
    let mut keys = server.keys(&format!("{PREFIX}*")).await?;
    keys.sort_unstable();
    keys.dedup();
    let tokens = server.get_all(&keys).await?;
    let mut left = Vec::new();
    for (key, token) in keys.into_iter().zip(tokens) {
        let Some(token) = token else { continue };
        let token = String::from_utf8_lossy(&token).into_owned();
        if is_gone(&token) && server.life_left_ms(&key).await? == -1 {
            left.push((key, token));
        }
    }
    Ok(left)
}

/// Whether a holder will not come back: its process has ended, or its request must have.
fn is_gone(token: &str) -> bool {
    Holder::of(token).is_none_or(|holder| !process::exists(holder.pid) || holder.at_ms + LONGEST_REQUEST_MS < now_ms())
}

/// I21.
pub(super) fn safety(finding: &mut Finding, locks: &LockHistory) {
    for ((store, key), writes) in &locks.writes {
        finding.checked += writes.len() as u64;
        fences_rise(finding, store, key, writes);
        one_at_a_time(finding, key, writes);
    }
    for (key, token) in &locks.left {
        finding.checked += 1;
        finding.violate(|| format!("{key} is held for ever by {token}, which is gone"));
    }
}

fn fences_rise(finding: &mut Finding, store: &str, key: &str, writes: &[LockedWrite]) {
    let mut highest: Option<&LockedWrite> = None;
    for write in writes.iter().filter(|write| write.fence > 0) {
        if let Some(before) = highest
            && (write.fence < before.fence || (write.fence == before.fence && write.token != before.token))
        {
            finding.violate(|| {
                format!(
                    "{store} took a write under {key} with fence {} of {} after {} of {}",
                    write.fence, write.token, before.fence, before.token
                )
            });
        }
        highest = highest.filter(|before| before.fence > write.fence).or(Some(write));
    }
}

/// A holder has the lock at least from when it knew so until its write. Two at a time are harmless only where the store
/// could tell them apart: it let the later one write last.
fn one_at_a_time(finding: &mut Finding, key: &str, writes: &[LockedWrite]) {
    let mut sections: Vec<(usize, &LockedWrite)> = writes.iter().enumerate().collect();
    sections.sort_by_key(|(_, write)| write.acquired_at_ms);
    let mut open: Vec<(usize, &LockedWrite)> = Vec::new();
    for (nth, write) in sections {
        open.retain(|(_, other)| other.written_at_ms > write.acquired_at_ms);
        for (other_nth, other) in open.iter().filter(|(_, other)| other.token != write.token) {
            let told_apart = write.fence > 0 && other.fence > 0 && (write.fence > other.fence) == (nth > *other_nth);
            if !told_apart {
                finding.violate(|| {
                    format!("{} and {} held {key} at the same time, and both wrote", other.token, write.token)
                });
            }
        }
        open.push((nth, write));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn write(token: &str, fence: i64, acquired_at_ms: i64, written_at_ms: i64) -> LockedWrite {
        LockedWrite { token: token.to_owned(), fence, acquired_at_ms, written_at_ms }
    }

    fn verdict(writes: Vec<LockedWrite>) -> Verdict {
        let mut finding = Finding::new("I21", "");
        let writes = [(("st-u0", "order:1".to_owned()), writes)].into();
        safety(&mut finding, &LockHistory { writes, left: Vec::new() });
        finding.verdict
    }

    #[test]
    fn two_holders_at_a_time_are_a_fault_unless_the_store_could_tell_who_was_later() {
        use Verdict::{Invalid, Valid};
        for (writes, expected) in [
            (vec![write("a", 0, 10, 20), write("b", 0, 20, 30)], Valid),
            (vec![write("a", 0, 10, 21), write("b", 0, 20, 30)], Invalid),
            // The late one writes last: its section is around the other's.
            (vec![write("b", 0, 20, 30), write("a", 0, 10, 40)], Invalid),
            (vec![write("a", 0, 10, 30), write("a", 0, 10, 31)], Valid),
            (vec![write("a", 1, 10, 21), write("b", 2, 20, 30)], Valid),
            (vec![write("b", 2, 20, 30), write("a", 1, 10, 40)], Invalid),
            (vec![write("a", 0, 10, 21), write("b", 2, 20, 30)], Invalid),
            (vec![write("a", 2, 10, 11), write("b", 2, 20, 30)], Invalid),
            (vec![write("a", 2, 10, 11), write("b", 1, 20, 30), write("c", 2, 40, 50)], Invalid),
        ] {
            assert_eq!(verdict(writes.clone()), expected, "{writes:?}");
        }
    }

    #[test]
    fn a_holder_is_gone_with_its_process_and_with_its_time() {
        let token = |pid: u32, at_ms: i64| format!("eos-c-1/{pid}/{at_ms}/1");
        assert!(!is_gone(&token(std::process::id(), now_ms())));
        assert!(is_gone(&token(std::process::id(), now_ms() - 61_000)));
        assert!(is_gone(&token(2_147_483_647, now_ms())));
        assert!(is_gone("1"), "whoever wrote this is none of ours");
    }
}
