//! `noop`: lets everything pass at once. Toxiproxy has it, and it is the shortest example of a kind.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Event, Line, Toxic};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Noop {}

impl Toxic for Noop {
    const KIND: &'static str = "noop";
    type Memory = ();

    fn pass(&self, event: Event, at: Instant, (): &mut (), line: &mut Line) {
        match event {
            Event::Data(bytes) => line.send_at(at, bytes),
            Event::End(end) => line.end_at(at, end),
            Event::Start | Event::Stop => {}
        }
    }
}
