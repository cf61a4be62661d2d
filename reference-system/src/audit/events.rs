//! Events in the audit: what consumers have in their stores, what the broker holds, and I16 to I19.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::{AnyConnection, Connection, Row};

use super::Finding;
use super::books::UserDimension;
use super::names::Names;
use super::reading::each;
use super::told::Told;
use crate::bus::{Bus, BusError, Topology, topology};
use crate::config::now_ms;
use crate::orders::event::version_of;
use crate::roles::{auditor, eos_x, eps, ers, ledger, mq, sms};
use crate::store::{Place, Places};

/// Who takes the messages of a queue.
struct Subscriber {
    queue: &'static str,
    /// Its name in its inbox.
    consumer: &'static str,
    store: &'static str,
    /// The table of its effects, a row for each.
    effects: &'static str,
}

const SUBSCRIBERS: [Subscriber; 6] = [
    Subscriber { queue: topology::SMS, consumer: sms::CONSUMER, store: sms::STORE, effects: "messages" },
    Subscriber { queue: topology::ERS, consumer: ers::CONSUMER, store: ers::STORE, effects: "pushes" },
    Subscriber { queue: topology::EPS, consumer: eps::CONSUMER, store: eps::STORE, effects: "coupon_history" },
    Subscriber { queue: topology::SETTLE, consumer: ledger::CONSUMER, store: ledger::STORE, effects: "statements" },
    Subscriber { queue: topology::TIMER, consumer: eos_x::CONSUMER, store: eos_x::STORE, effects: "timers" },
    Subscriber { queue: topology::AUDIT, consumer: auditor::CONSUMER, store: auditor::STORE, effects: "copies" },
];

/// What a consumer has in its store of an event.
#[derive(Default)]
struct Taken {
    /// How often it took effect, as the inbox says; `None` if the inbox does not know it.
    effects: Option<i32>,
    /// How many rows came of it.
    rows: i32,
}

/// An event as it arrived in the ground-truth copy.
pub(super) struct Copy {
    pub(super) event_id: Arc<str>,
    subject: Arc<str>,
    version: i64,
    pub(super) key: Arc<str>,
}

/// What became of events.
#[derive(Default)]
pub(crate) struct Events {
    /// By queue and event.
    taken: BTreeMap<&'static str, HashMap<Arc<str>, Taken>>,
    /// (event, recipient) of each message that was sent for an event.
    messages: Vec<(Arc<str>, Arc<str>)>,
    /// In order of arrival.
    copies: Vec<Copy>,
    /// By queue.
    dead: BTreeMap<&'static str, HashSet<String>>,
    /// Messages that are on their way to a consumer.
    pub(crate) queued: i64,
    /// Timers that are due.
    pub(crate) due: i64,
}

impl Events {
    pub(super) fn copies(&self) -> &[Copy] {
        &self.copies
    }
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}")]
    Store(#[from] sqlx::Error),
    #[error("{0}")]
    Broker(#[from] BusError),
}

pub(super) async fn read(
    stores: &Places,
    broker: Option<&Bus>,
    as_of_ms: i64,
    names: &mut Names,
) -> Result<Events, Unreadable> {
    let (queued, due) = (queued(stores, broker).await?, due(stores, as_of_ms).await?);
    let mut all = Events { queued, due, ..Events::default() };
    for Subscriber { queue, consumer, store, effects } in SUBSCRIBERS {
        let mut file = stores.of(store).reader().await?;
        let mut snapshot = file.begin().await?;
        let taken = all.taken.entry(queue).or_default();
        let rows = sqlx::query("SELECT event_id, effects FROM inbox WHERE consumer = $1").bind(consumer);
        each(rows, &mut snapshot, |row| {
            let taken: &mut Taken = taken.entry(names.of(row.try_get(0)?)).or_default();
            taken.effects = Some(taken.effects.unwrap_or_default().saturating_add(small(row.try_get(1)?)));
            Ok(())
        })
        .await?;
        // What came as a request has no event.
        let rows = format!("SELECT event_id, count(*) FROM {effects} WHERE event_id <> '' GROUP BY event_id");
        each(sqlx::query(sqlx::AssertSqlSafe(rows)), &mut snapshot, |row| {
            taken.entry(names.of(row.try_get(0)?)).or_default().rows = small(row.try_get(1)?);
            Ok(())
        })
        .await?;
        match store {
            sms::STORE => read_messages(&mut snapshot, &mut all.messages, names).await?,
            auditor::STORE => read_copies(&mut snapshot, &mut all.copies, names).await?,
            _ => {}
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

/// A count: how often one event did something.
fn small(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

async fn read_messages(
    snapshot: &mut AnyConnection,
    all: &mut Vec<(Arc<str>, Arc<str>)>,
    names: &mut Names,
) -> Result<(), sqlx::Error> {
    each(sqlx::query("SELECT event_id, recipient FROM messages WHERE event_id <> ''"), snapshot, |row| {
        all.push((names.of(row.try_get(0)?), names.of(row.try_get(1)?)));
        Ok(())
    })
    .await
}

async fn read_copies(snapshot: &mut AnyConnection, all: &mut Vec<Copy>, names: &mut Names) -> Result<(), sqlx::Error> {
    let copies = "SELECT event_id, subject, version, message_key FROM copies ORDER BY arrival";
    each(sqlx::query(copies), snapshot, |row| {
        let (event_id, subject) = (names.of(row.try_get(0)?), names.of(row.try_get(1)?));
        all.push(Copy { event_id, subject, version: row.try_get(2)?, key: names.of(row.try_get(3)?) });
        Ok(())
    })
    .await
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
async fn queued(stores: &Places, broker: Option<&Bus>) -> Result<i64, Unreadable> {
    let mut all = 0;
    match broker {
        None => {
            let mut file = stores.of(mq::STORE).reader().await?;
            for Subscriber { queue, .. } in SUBSCRIBERS {
                let of_queue: i64 = sqlx::query_scalar("SELECT count(*) FROM messages WHERE queue = $1 AND dead = 0")
                    .bind(queue)
                    .fetch_one(&mut file)
                    .await?;
                all += of_queue;
            }
            file.close().await?;
        }
        Some(bus) => {
            for Subscriber { queue, .. } in SUBSCRIBERS {
                let depth = bus.depth(queue).await?;
                all += i64::try_from(depth.waiting + depth.resting).unwrap_or(i64::MAX);
            }
        }
    }
    Ok(all)
}

/// How many timers are due.
async fn due(stores: &Places, at_ms: i64) -> Result<i64, sqlx::Error> {
    let mut file = stores.of(eos_x::STORE).reader().await?;
    let due = sqlx::query_scalar("SELECT count(*) FROM timers WHERE state = 0 AND due_at_ms <= $1")
        .bind(at_ms)
        .fetch_one(&mut file)
        .await?;
    file.close().await?;
    Ok(due)
}

/// Messages that wait in queues or rest, and timers that are due.
pub(super) async fn under_way(stores: &Places, broker: Option<&Bus>) -> Result<i64, Unreadable> {
    Ok(queued(stores, broker).await? + due(stores, now_ms()).await?)
}

/// I16: each event that was to be told is with every subscriber, or a dead letter. Twice is no loss.
pub(super) fn nothing_lost(finding: &mut Finding, told: &Told, events: &Events) {
    let topology = Topology::of_orders(&topology::RETRY_MS);
    for queue in &topology.queues {
        let has = |id: &str| {
            events
                .taken
                .get(queue.name.as_str())
                .is_some_and(|taken| taken.get(id).is_some_and(|taken| taken.effects.is_some()))
                || events.dead.get(queue.name.as_str()).is_some_and(|dead| dead.contains(id))
        };
        for mark in told.promised().filter(|mark| queue.takes(&mark.key)) {
            finding.checked += 1;
            if !has(&mark.event_id) {
                finding.violate(|| format!("{} never got event {} ({})", queue.name, mark.event_id, mark.key));
            }
        }
    }
}

/// I17: an effect is there once, with as many rows as it has, and a recipient gets one message per event.
pub(super) fn effects_once(finding: &mut Finding, users: &UserDimension, told: &Told, events: &Events) {
    let keys: HashMap<&str, &str> = told.promised().map(|mark| (&*mark.event_id, &*mark.key)).collect();
    let without_coupon: HashSet<String> =
        users.orders.iter().filter(|order| order.coupon_id.is_none()).map(|order| order.order_id.to_string()).collect();
    for (queue, taken) in &events.taken {
        for (event, Taken { effects, rows }) in taken {
            let Some(effects) = effects else { continue };
            finding.checked += 1;
            if *effects != 1 {
                finding.violate(|| format!("{queue}: event {event} took effect {effects} times"));
            }
            // An event that is none is the matter of I18.
            let Some(key) = keys.get(&**event) else { continue };
            let order = event.split('.').next().unwrap_or_default();
            let expected = match *queue {
                // The restaurant is told of a cancelled order, too.
                topology::SMS if *key == "order.cancelled" => 2,
                topology::EPS if without_coupon.contains(order) => 0,
                _ => 1,
            };
            if *rows != expected {
                finding.violate(|| format!("{queue}: event {event} ({key}) left {rows} rows, not {expected}"));
            }
        }
    }
    let mut sent = HashSet::new();
    for (event, recipient) in &events.messages {
        if !sent.insert((event, recipient)) {
            finding.violate(|| format!("{recipient} got two messages for event {event}"));
        }
    }
}

/// I18: what consumers and the ground-truth copy know of did happen.
pub(super) fn no_ghosts(finding: &mut Finding, users: &UserDimension, told: &Told, events: &Events) {
    let happened: HashSet<&str> = told.happened.iter().map(|(event, _)| &**event).collect();
    let transitions: HashSet<(i64, i64)> = users.events.iter().map(|event| (event.order_id, event.version)).collect();
    let known = events.taken.values().flat_map(HashMap::keys);
    for event in known.collect::<BTreeSet<_>>() {
        finding.checked += 1;
        if !happened.contains(&**event) && !version_of(event).is_some_and(|one| transitions.contains(&one)) {
            finding.violate(|| format!("event {event} was consumed and has no row"));
        }
    }
}

/// I19: of one subject, what happened first arrives first.
pub(super) fn in_order(finding: &mut Finding, events: &Events) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    let mut seen: HashSet<(&str, i64)> = HashSet::new();
    for Copy { subject, version, .. } in &events.copies {
        // Only the first appearance counts: an event may come twice.
        if !seen.insert((subject, *version)) {
            continue;
        }
        finding.checked += 1;
        if let Some(before) = last.insert(subject, *version)
            && before > *version
        {
            finding.violate(|| format!("{subject}: version {before} arrived before {version}"));
        }
    }
}
