//! The kinds of toxic, one file each, and what a kind must say. `docs/extending/toxics.md` tells how to add one.

mod latency;
mod noop;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Every kind of toxic; to register one is to add its line.
const KINDS: &[Kind] = &[Kind::of::<latency::Latency>(), Kind::of::<noop::Noop>()];

/// A kind of toxic: its type holds the parameters, as the API names them, and `pass` says what they do.
///
/// `pass` is a plain function: it gets the time as an argument and answers by putting items into the line, each
/// with the moment at which it may go on.
pub(crate) trait Toxic: Serialize + DeserializeOwned + Default + Send + Sync + 'static {
    /// The name of the kind in the API.
    const KIND: &'static str;

    /// What the toxic remembers of one connection; `()` if nothing.
    type Memory: Default + Send + 'static;

    /// Takes what happened at `at` and puts into `line` what becomes of it.
    fn pass(&self, event: Event, at: Instant, memory: &mut Self::Memory, line: &mut Line);
}

/// What a toxic sees of one direction of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The toxic begins to act on this connection.
    Start,
    /// Bytes arrived. After a change of parameters, those still in the line arrive again, at their first time.
    Data(Bytes),
    /// The sender is done; nothing follows.
    End(End),
    /// The toxic is being removed; what is in the line goes on at once.
    Stop,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// No more bytes (TCP FIN). Put into the line by a toxic before the sender is done, it closes the connection.
    Fin,
    /// The connection is broken off (TCP RST).
    Reset,
}

/// What goes through a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Data(Bytes),
    End(End),
}

impl Item {
    /// What the item counts against the limit of bytes held: its length and a share of bookkeeping, so that
    /// a million chunks of one byte are not free.
    pub(crate) fn cost(&self) -> usize {
        const BOOKKEEPING: usize = 128;
        match self {
            Item::Data(bytes) => bytes.len() + BOOKKEEPING,
            Item::End(_) => BOOKKEEPING,
        }
    }
}

impl From<Item> for Event {
    fn from(item: Item) -> Self {
        match item {
            Item::Data(bytes) => Event::Data(bytes),
            Item::End(end) => Event::End(end),
        }
    }
}

/// The delay line of one toxic on one pipe: what it holds back, in order, each with its time.
#[derive(Debug, Default)]
pub(crate) struct Line {
    held: VecDeque<Held>,
    cost: usize,
    /// When the item being passed arrived; kept with it so that it can be passed again.
    arrived: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) arrived: Instant,
    pub(crate) due: Instant,
    pub(crate) item: Item,
}

impl Line {
    /// Lets `bytes` go on at `due`, or when everything before them has gone if that is later.
    pub(crate) fn send_at(&mut self, due: Instant, bytes: Bytes) {
        self.put(due, Item::Data(bytes));
    }

    /// Ends the direction at `due`, or when everything before has gone if that is later.
    pub(crate) fn end_at(&mut self, due: Instant, end: End) {
        self.put(due, Item::End(end));
    }

    fn put(&mut self, due: Instant, item: Item) {
        let due = self.held.back().map_or(due, |last| last.due.max(due));
        self.cost += item.cost();
        self.held.push_back(Held { arrived: self.arrived.unwrap_or(due), due, item });
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held.front().map(|held| held.due)
    }

    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Held> {
        self.next_due().filter(|due| *due <= now)?;
        let held = self.held.pop_front()?;
        self.cost -= held.item.cost();
        Some(held)
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<Held> {
        self.cost = 0;
        std::mem::take(&mut self.held)
    }
}

/// A toxic of whatever kind.
pub(crate) trait AnyToxic: Send + Sync {
    fn kind(&self) -> &'static str;
    fn attributes(&self) -> Map<String, Value>;
    fn fresh_memory(&self) -> Box<dyn Any + Send>;
    /// `memory` must come from a toxic of the same kind.
    fn pass(&self, event: Event, at: Instant, memory: &mut (dyn Any + Send), line: &mut Line);
}

impl<T: Toxic> AnyToxic for T {
    fn kind(&self) -> &'static str {
        T::KIND
    }

    fn attributes(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(attributes)) => attributes,
            _ => Map::new(),
        }
    }

    fn fresh_memory(&self) -> Box<dyn Any + Send> {
        Box::new(T::Memory::default())
    }

    fn pass(&self, event: Event, at: Instant, memory: &mut (dyn Any + Send), line: &mut Line) {
        let memory = memory.downcast_mut::<T::Memory>().expect("memory of the same kind");
        line.arrived = Some(at);
        Toxic::pass(self, event, at, memory, line);
    }
}

type Built = serde_json::Result<Arc<dyn AnyToxic>>;

/// A registered kind.
pub(crate) struct Kind {
    name: &'static str,
    build: fn(Map<String, Value>) -> Built,
}

impl Kind {
    const fn of<T: Toxic>() -> Self {
        Self { name: T::KIND, build: |attributes| Ok(Arc::new(T::deserialize(Value::Object(attributes))?)) }
    }

    /// The registered kind of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// A toxic with `changes` over `attributes`; what is null in `changes` stays.
    pub(crate) fn build(&self, mut attributes: Map<String, Value>, changes: Map<String, Value>) -> Built {
        attributes.extend(changes.into_iter().filter(|(_, value)| !value.is_null()));
        (self.build)(attributes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn kinds_have_names_of_their_own_and_show_every_attribute() {
        for (at, kind) in KINDS.iter().enumerate() {
            let toxic = kind.build(Map::new(), Map::new()).unwrap();
            assert_eq!(toxic.kind(), kind.name);
            assert!(KINDS[at + 1..].iter().all(|other| other.name != kind.name));
            let again = kind.build(toxic.attributes(), Map::new()).unwrap();
            assert_eq!(again.attributes(), toxic.attributes());
        }
    }

    #[test]
    fn attributes_that_a_change_leaves_out_or_gives_as_null_stay() {
        let kind = Kind::find("latency").unwrap();
        let first = kind.build(Map::new(), object(json!({"latency": 100, "jitter": 10}))).unwrap();
        let changed = kind.build(first.attributes(), object(json!({"latency": 7, "jitter": null}))).unwrap();
        assert_eq!(Value::Object(changed.attributes()), json!({"latency": 7, "jitter": 10}));
    }

    #[test]
    fn a_line_never_lets_an_item_overtake_another() {
        let (mut line, now) = (Line::default(), Instant::now());
        let later = now + std::time::Duration::from_millis(5);
        line.send_at(later, Bytes::from_static(b"slow"));
        line.send_at(now, Bytes::from_static(b"fast"));
        assert!(line.pop_due(now).is_none());
        assert_eq!(line.pop_due(later).unwrap().item, Item::Data(Bytes::from_static(b"slow")));
        assert_eq!(line.pop_due(later).unwrap().item, Item::Data(Bytes::from_static(b"fast")));
        assert_eq!(line.cost(), 0);
    }
}
