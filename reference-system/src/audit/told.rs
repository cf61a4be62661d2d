//! What the bus was to be told, as the stores of those who tell it have it; and C5.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sqlx::{AnyConnection, Connection, Row};

use super::Finding;
use super::books::UserDimension;
use super::events::Events;
use super::migration;
use super::names::Names;
use super::reading::each;
use crate::bus::event::order_key;
use crate::roles::{rev, vgo};
use crate::store::outbox::SILENT;
use crate::store::{Place, Places};

/// Who tells the bus something, beside the stores that decide about orders.
const TELLERS: [&str; 2] = [rev::STORE, vgo::STORE];

/// A mark in an outbox.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) event_id: Arc<str>,
    pub(crate) key: Arc<str>,
    /// Nobody was to be told, as the switch was.
    silent: bool,
}

/// The outboxes, and what happened beside the transitions of orders.
#[derive(Default)]
pub(crate) struct Told {
    marks: Vec<Mark>,
    /// (event, key).
    pub(super) happened: Vec<(Arc<str>, Arc<str>)>,
    /// Events that wait to be published.
    pub(crate) waiting: i64,
}

impl Told {
    /// What subscribers have been promised.
    pub(super) fn promised(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter(|mark| !mark.silent)
    }
}

pub(super) async fn read(stores: &Places, names: &mut Names) -> Result<Told, sqlx::Error> {
    let mut all = Told::default();
    for teller in migration::masters(stores).await?.into_iter().chain(TELLERS) {
        read_one(&stores.of(teller), &mut all, names).await?;
    }
    Ok(all)
}

async fn read_one(store: &Place, all: &mut Told, names: &mut Names) -> Result<(), sqlx::Error> {
    let mut file = store.reader().await?;
    // One transaction, one snapshot.
    let mut snapshot = file.begin().await?;
    all.waiting += count_waiting(&mut snapshot).await?;
    each(sqlx::query("SELECT message_id, message_key, state FROM outbox"), &mut snapshot, |row| {
        let (event_id, key) = (names.of(row.try_get(0)?), names.of(row.try_get(1)?));
        all.marks.push(Mark { event_id, key, silent: row.try_get::<i64, _>(2)? == SILENT });
        Ok(())
    })
    .await?;
    each(sqlx::query("SELECT event_id, message_key FROM happened"), &mut snapshot, |row| {
        all.happened.push((names.of(row.try_get(0)?), names.of(row.try_get(1)?)));
        Ok(())
    })
    .await?;
    snapshot.rollback().await?;
    file.close().await
}

async fn count_waiting(file: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM outbox WHERE state = 0").fetch_one(file).await
}

/// How many events wait in outboxes.
pub(super) async fn waiting(stores: &Places) -> Result<i64, sqlx::Error> {
    let mut all = 0;
    for teller in migration::masters(stores).await?.into_iter().chain(TELLERS) {
        let mut file = stores.of(teller).reader().await?;
        all += count_waiting(&mut file).await?;
        file.close().await?;
    }
    Ok(all)
}

/// C5: of each kind, every event has its mark in an outbox, and no more copies arrived than there are events.
pub(super) fn marks_events_copies(finding: &mut Finding, users: &UserDimension, told: &Told, events: &Events) {
    /// Marks, events and copies of one kind.
    #[derive(Default)]
    struct Sums<'a> {
        marks: u64,
        events: u64,
        copies: HashSet<&'a str>,
    }
    let mut kinds: BTreeMap<Arc<str>, Sums<'_>> = BTreeMap::new();
    for mark in &told.marks {
        kinds.entry(Arc::clone(&mark.key)).or_default().marks += 1;
    }
    for key in users.events.iter().filter_map(|event| order_key(&event.kind)) {
        kinds.entry(key.into()).or_default().events += 1;
    }
    for (_, key) in &told.happened {
        kinds.entry(Arc::clone(key)).or_default().events += 1;
    }
    for copy in events.copies() {
        kinds.entry(Arc::clone(&copy.key)).or_default().copies.insert(&copy.event_id);
    }
    for (kind, sums) in kinds {
        finding.checked += 1;
        let copies = sums.copies.len() as u64;
        if sums.marks < sums.events || sums.events < copies {
            finding.violate(|| format!("{kind}: {} marks, {} events, {copies} copies", sums.marks, sums.events));
        }
    }
}
