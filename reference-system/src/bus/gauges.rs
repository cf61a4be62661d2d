//! How full the queues are: asked of the broker now and then, told in metrics. Whoever tells it must be no consumer that
//! can hang together with its queue.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Bus, Depth, Queue, Topology};

/// How often.
const LOOK: Duration = Duration::from_secs(1);

/// The depths as they were at the last look.
pub(crate) struct Gauges {
    bus: Bus,
    queues: Vec<Queue>,
    /// By queue; empty while the broker is away.
    seen: Mutex<BTreeMap<String, Depth>>,
}

impl Gauges {
    pub(crate) fn new(bus: Bus, topology: Topology) -> Arc<Self> {
        Arc::new(Self { bus, queues: topology.queues, seen: Mutex::default() })
    }

    /// Looks until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let mut seen = BTreeMap::new();
            for queue in &self.queues {
                match self.bus.depth(&queue.name).await {
                    Ok(depth) => drop(seen.insert(queue.name.clone(), depth)),
                    Err(error) => {
                        tracing::debug!(%error, queue = queue.name, "nobody tells how full it is");
                        seen.clear();
                        break;
                    }
                }
            }
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
    }

    /// For `/metrics`.
    pub(crate) fn write(&self, instance: &str, out: &mut String) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE bus_up gauge\nbus_up{{instance=\"{instance}\"}} {}", u8::from(!seen.is_empty()));
        let _ = writeln!(out, "# TYPE bus_queue_messages gauge");
        for (queue, depth) in &*seen {
            for (state, count) in [("waiting", depth.waiting), ("resting", depth.resting), ("dead", depth.dead)] {
                let _ = writeln!(
                    out,
                    "bus_queue_messages{{instance=\"{instance}\",queue=\"{queue}\",state=\"{state}\"}} {count}"
                );
            }
        }
    }
}
