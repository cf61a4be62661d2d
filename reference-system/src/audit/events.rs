//! Events in the audit: what consumers have in their stores, what the broker holds, and I16 to I19.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::{AnyConnection, Connection, Row};

use super::Finding;
use super::books::UserDimension;
use crate::bus::{Bus, BusError, Topology};
use crate::orders::event::event_id;
use crate::roles::{auditor, mq, sms};
use crate::store::{Place, Places};

/// Who takes the messages of a queue, and in which store its inbox is.
const CONSUMERS: [(&str, &str, &str); 2] =
    [("q.sms", sms::CONSUMER, sms::STORE), ("q.audit", auditor::CONSUMER, auditor::STORE)];

/// A row of the outbox: the bus was to be told of this event.
#[derive(Debug, Clone)]
pub(crate) struct ToldRow {
    pub(crate) event_id: String,
    pub(crate) key: String,
}

/// What became of events.
#[derive(Default)]
pub(crate) struct Events {
    /// By queue: the events whose effect its consumer has, and how often.
    inboxes: BTreeMap<&'static str, HashMap<String, i64>>,
    /// (event, recipient) of each message that was sent for an event.
    messages: Vec<(String, String)>,
    /// (event, order, version) as they arrived in the ground-truth copy.
    copies: Vec<(String, i64, i64)>,
    /// By queue.
    dead: BTreeMap<&'static str, HashSet<String>>,
    /// Messages that are on their way to a consumer.
    pub(crate) queued: i64,
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}")]
    Store(#[from] sqlx::Error),
    #[error("{0}")]
    Broker(#[from] BusError),
}

pub(super) async fn read(stores: &Places, broker: Option<&Bus>) -> Result<Events, Unreadable> {
    let mut all = Events { queued: queued(stores, broker).await?, ..Events::default() };
    for (queue, consumer, store) in CONSUMERS {
        let mut file = stores.of(store).reader().await?;
        let mut snapshot = file.begin().await?;
        let inbox = all.inboxes.entry(queue).or_default();
        let rows = sqlx::query("SELECT event_id, effects FROM inbox WHERE consumer = $1").bind(consumer);
        for row in rows.fetch_all(&mut *snapshot).await? {
            *inbox.entry(row.try_get(0)?).or_default() += row.try_get::<i64, _>(1)?;
        }
        match store {
            sms::STORE => all.messages = messages(&mut snapshot).await?,
            _ => all.copies = copies(&mut snapshot).await?,
        }
        snapshot.rollback().await?;
        file.close().await?;
        let dead = match broker {
            None => dead_rows(&stores.of(mq::STORE), queue).await?,
            Some(bus) => bus.dead_letters(queue).await?.into_iter().map(|message| message.id).collect(),
        };
        all.dead.insert(queue, dead);
    }
    Ok(all)
}

async fn messages(snapshot: &mut AnyConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query("SELECT event_id, recipient FROM messages WHERE event_id <> ''").fetch_all(snapshot).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn copies(snapshot: &mut AnyConnection) -> Result<Vec<(String, i64, i64)>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT event_id, order_id, version FROM copies ORDER BY arrival").fetch_all(snapshot).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

async fn dead_rows(store: &Place, queue: &str) -> Result<HashSet<String>, sqlx::Error> {
    let mut file = store.reader().await?;
    let dead: Vec<String> = sqlx::query_scalar("SELECT message_id FROM messages WHERE queue = $1 AND dead = 1")
        .bind(queue)
        .fetch_all(&mut file)
        .await?;
    file.close().await?;
    Ok(dead.into_iter().collect())
}

/// How many messages wait in queues, or rest until they are tried again.
pub(crate) async fn queued(stores: &Places, broker: Option<&Bus>) -> Result<i64, Unreadable> {
    let mut all = 0;
    match broker {
        None => {
            let mut file = stores.of(mq::STORE).reader().await?;
            for (queue, _, _) in CONSUMERS {
                let of_queue: i64 = sqlx::query_scalar("SELECT count(*) FROM messages WHERE queue = $1 AND dead = 0")
                    .bind(queue)
                    .fetch_one(&mut file)
                    .await?;
                all += of_queue;
            }
            file.close().await?;
        }
        Some(bus) => {
            for (queue, _, _) in CONSUMERS {
                let depth = bus.depth(queue).await?;
                all += i64::try_from(depth.waiting + depth.resting).unwrap_or(i64::MAX);
            }
        }
    }
    Ok(all)
}

/// I16: each event that was to be told is with every subscriber, or a dead letter. Twice is no loss.
pub(super) fn nothing_lost(finding: &mut Finding, users: &UserDimension, events: &Events) {
    let topology = Topology::of_orders();
    for queue in &topology.queues {
        let has = |id: &str| {
            events.inboxes.get(queue.name.as_str()).is_some_and(|inbox| inbox.contains_key(id))
                || events.dead.get(queue.name.as_str()).is_some_and(|dead| dead.contains(id))
        };
        for told in users.told.iter().filter(|told| queue.takes(&told.key)) {
            finding.checked += 1;
            if !has(&told.event_id) {
                finding.violate(|| format!("{} never got event {} ({})", queue.name, told.event_id, told.key));
            }
        }
    }
}

/// I17: an effect is there once, and a recipient gets one message per event.
pub(super) fn effects_once(finding: &mut Finding, users: &UserDimension, events: &Events) {
    for (queue, inbox) in &events.inboxes {
        for (event, effects) in inbox {
            finding.checked += 1;
            if *effects != 1 {
                finding.violate(|| format!("{queue}: event {event} took effect {effects} times"));
            }
        }
    }
    let mut sent: HashMap<&str, BTreeMap<&str, u64>> = HashMap::new();
    for (event, recipient) in &events.messages {
        *sent.entry(event).or_default().entry(recipient).or_default() += 1;
    }
    let keys: HashMap<&str, &str> = users.told.iter().map(|told| (told.event_id.as_str(), told.key.as_str())).collect();
    let inbox = events.inboxes.get("q.sms");
    for event in inbox.into_iter().flat_map(HashMap::keys) {
        // The restaurant is told of a cancelled order, too. An event that is none is the matter of I18.
        let Some(key) = keys.get(event.as_str()) else { continue };
        let expected = if *key == "order.cancelled" { 2 } else { 1 };
        let got = sent.get(event.as_str());
        let once = got.is_some_and(|got| got.len() == expected && got.values().all(|count| *count == 1));
        if !once {
            finding.violate(|| {
                format!("event {event} ({key}) gave these messages: {:?}", got.cloned().unwrap_or_default())
            });
        }
    }
}

/// I18: what consumers and the ground-truth copy know of did happen.
pub(super) fn no_ghosts(finding: &mut Finding, users: &UserDimension, events: &Events) {
    let happened: HashSet<String> = users.events.iter().map(|event| event_id(event.order_id, event.version)).collect();
    let known = events.inboxes.values().flat_map(HashMap::keys);
    let known: BTreeSet<&String> = known.chain(events.copies.iter().map(|(event, _, _)| event)).collect();
    for event in known {
        finding.checked += 1;
        if !happened.contains(event) {
            finding.violate(|| format!("event {event} was consumed and has no row"));
        }
    }
}

/// I19: of one order, what happened first arrives first.
pub(super) fn in_order(finding: &mut Finding, events: &Events) {
    let mut last: HashMap<i64, i64> = HashMap::new();
    let mut seen: HashSet<(i64, i64)> = HashSet::new();
    for (_, order_id, version) in &events.copies {
        // Only the first appearance counts: an event may come twice.
        if !seen.insert((*order_id, *version)) {
            continue;
        }
        finding.checked += 1;
        if let Some(before) = last.insert(*order_id, *version)
            && before > *version
        {
            finding.violate(|| format!("order {order_id}: version {before} arrived before {version}"));
        }
    }
}
