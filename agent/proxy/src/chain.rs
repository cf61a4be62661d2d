//! The toxics of one pipe in order, and the data they hold back. It is told the time and touches no socket.

use std::any::Any;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};

use crate::spec::Stream;
use crate::toxics::{AnyToxic, End, Event, Item, Line};

/// One toxic of a proxy, as its pipes see it.
#[derive(Clone)]
pub(crate) struct Placed {
    /// Never given again, so that a toxic removed and added under one name is another toxic.
    pub(crate) id: u64,
    /// Counts the changes.
    pub(crate) revision: u64,
    pub(crate) name: String,
    pub(crate) stream: Stream,
    pub(crate) toxicity: f32,
    pub(crate) toxic: Arc<dyn AnyToxic>,
}

/// What a pipe has read and not yet written.
#[derive(Default)]
pub(crate) struct Chain {
    stages: Vec<Stage>,
    /// What has passed every stage and waits to be written.
    out: VecDeque<Item>,
    out_cost: usize,
    /// Whether the sender itself ended the stream, rather than a toxic.
    sender_ended: bool,
}

/// One toxic on one pipe.
struct Stage {
    id: u64,
    revision: u64,
    /// Drawn once; the toxic acts where this is less than its toxicity.
    draw: f32,
    toxic: Arc<dyn AnyToxic>,
    /// Present while the toxic acts on this connection.
    memory: Option<Box<dyn Any + Send>>,
    line: Line,
}

impl Stage {
    fn pass(&mut self, event: Event, at: Instant) {
        if let Some(memory) = &mut self.memory {
            self.toxic.pass(event, at, memory.as_mut(), &mut self.line);
        }
    }

    fn start(&mut self, now: Instant) {
        self.memory = Some(self.toxic.fresh_memory());
        self.pass(Event::Start, now);
    }

    /// Ends the acting and gives back what was held.
    fn stop(&mut self, now: Instant) -> Vec<Item> {
        self.pass(Event::Stop, now);
        self.memory = None;
        self.line.take_all().into_iter().map(|held| held.item).collect()
    }

    /// Passes what is held once more, at the times at which it arrived.
    fn pass_again(&mut self) {
        for held in self.line.take_all() {
            self.pass(held.item.into(), held.arrived);
        }
    }
}

impl Chain {
    /// Takes over the toxics of `stream` as they are now. Data held by a toxic that is gone goes on at once; data
    /// held by one that changed is delayed anew from its arrival.
    pub(crate) fn adopt(&mut self, toxics: &[Placed], stream: Stream, now: Instant) {
        let placed = |id| toxics.iter().find(|placed| placed.id == id);
        let mut at = 0;
        while at < self.stages.len() {
            let stage = &mut self.stages[at];
            match placed(stage.id) {
                None => {
                    let held = stage.stop(now);
                    self.feed_all(at + 1, held, now);
                    self.stages.remove(at);
                }
                Some(placed) => {
                    let held = stage.change_to(placed, now);
                    self.feed_all(at + 1, held, now);
                    at += 1;
                }
            }
        }
        for placed in toxics.iter().filter(|placed| placed.stream == stream) {
            if self.stages.iter().all(|stage| stage.id != placed.id) {
                self.stages.push(Stage::new(placed, now));
            }
        }
    }

    /// Takes in what the sender sent at `at`.
    pub(crate) fn push(&mut self, item: Item, at: Instant) {
        self.sender_ended |= matches!(item, Item::End(_));
        self.feed(0, item, at);
    }

    /// Moves on what is due at `now`.
    pub(crate) fn advance(&mut self, now: Instant) {
        for at in 0..self.stages.len() {
            while let Some(held) = self.stages[at].line.pop_due(now) {
                // The next toxic counts from the time meant, so that late wake-ups do not add up.
                self.feed(at + 1, held.item, held.due);
            }
        }
    }

    /// When `advance` will have something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.stages.iter().filter_map(|stage| stage.line.next_due()).min()
    }

    /// Whether no toxic acts and nothing is held.
    pub(crate) fn is_idle(&self) -> bool {
        self.out.is_empty() && !self.sender_ended && self.stages.iter().all(|stage| stage.memory.is_none())
    }

    /// What is held, in bytes, bookkeeping included.
    pub(crate) fn cost(&self) -> usize {
        self.out_cost + self.stages.iter().map(|stage| stage.line.cost()).sum::<usize>()
    }

    /// Fills `slices` with the bytes to be written next, and tells how many it filled.
    pub(crate) fn next_bytes<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let bytes = self.out.iter().map_while(|item| match item {
            Item::Data(bytes) => Some(bytes),
            Item::End(_) => None,
        });
        slices.iter_mut().zip(bytes).map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count()
    }

    /// Forgets the `written` first bytes.
    pub(crate) fn wrote(&mut self, mut written: usize) {
        while written > 0 {
            let Some(Item::Data(bytes)) = self.out.front_mut() else {
                return;
            };
            if written < bytes.len() {
                bytes.advance(written);
                self.out_cost -= written;
                return;
            }
            written -= bytes.len();
            if let Some(item) = self.out.pop_front() {
                self.out_cost -= item.cost();
            }
        }
    }

    /// How the stream ends, once everything before has been written.
    pub(crate) fn ended(&self) -> Option<End> {
        match self.out.front() {
            Some(Item::End(end)) => Some(*end),
            _ => None,
        }
    }

    /// Whether the sender ended the stream, rather than a toxic.
    pub(crate) fn sender_ended(&self) -> bool {
        self.sender_ended
    }

    fn feed_all(&mut self, stage: usize, items: Vec<Item>, at: Instant) {
        for item in items {
            self.feed(stage, item, at);
        }
    }

    /// Gives the item to the first stage from `from` on that acts.
    fn feed(&mut self, from: usize, item: Item, at: Instant) {
        match self.stages.iter_mut().skip(from).find(|stage| stage.memory.is_some()) {
            Some(stage) => stage.pass(item.into(), at),
            None if item == Item::Data(Bytes::new()) => {}
            None => {
                self.out_cost += item.cost();
                self.out.push_back(item);
            }
        }
    }
}

impl Stage {
    fn new(placed: &Placed, now: Instant) -> Self {
        let mut stage = Stage {
            id: placed.id,
            revision: placed.revision,
            draw: rand::random(),
            toxic: Arc::clone(&placed.toxic),
            memory: None,
            line: Line::default(),
        };
        if stage.draw < placed.toxicity {
            stage.start(now);
        }
        stage
    }

    /// Takes over changed parameters and gives back what is no longer to be held.
    fn change_to(&mut self, placed: &Placed, now: Instant) -> Vec<Item> {
        if self.revision == placed.revision {
            return Vec::new();
        }
        self.revision = placed.revision;
        self.toxic = Arc::clone(&placed.toxic);
        match (self.memory.is_some(), self.draw < placed.toxicity) {
            (true, true) => self.pass_again(),
            (true, false) => return self.stop(now),
            (false, true) => self.start(now),
            (false, false) => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
