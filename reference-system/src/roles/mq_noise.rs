//! The other tenant of the broker, as a log pipeline was in the historic incident: a broker of its own, and a tenant
//! that can make a storm there, or on the broker of the orders when both share it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError, Consumer, Depth, Message, Outcome, Queue, Taking, Topology};
use crate::frame::{Frame, RoleError};
use crate::rpc::Directory;
use crate::switches::InForce;

/// The tenant's exchange and its queue.
const EXCHANGE: &str = "noise";
pub(crate) const QUEUE: &str = "q.noise";
/// The storm: so many messages each time, of so many bytes, which makes 3,000 per second.
const AT_ONCE: usize = 150;
const EVERY: Duration = Duration::from_millis(50);
const BODY_BYTES: usize = 1_024;
/// A queue that is longer gets no more: the storm must not fill a disk.
const LONGEST: u64 = 20_000;
/// How many consumers ask for single messages, and how many have them sent.
const POLLERS: usize = 50;
const CONSUMERS: usize = 2;
/// Pause between two questions that found nothing, and after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a consumer waits for messages before it looks at its switches again.
const WAIT: Duration = Duration::from_millis(200);

/// What the tenant did at one broker.
#[derive(Default)]
struct Counts {
    published: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    /// Whether it publishes, or still takes what is left.
    storms: AtomicBool,
}

/// The tenant at one of the two brokers.
#[derive(Clone)]
struct Tenant {
    bus: Bus,
    directory: Arc<Directory>,
    /// Whether this is the broker that it shares with the orders.
    shared: bool,
    counts: Arc<Counts>,
}

/// The events of the tenant, which nobody else takes.
pub(crate) fn topology() -> Topology {
    Topology {
        exchange: EXCHANGE.to_owned(),
        queues: vec![Queue::new(QUEUE, &["#"])],
        retry_ms: crate::bus::topology::RETRY_MS.to_vec(),
    }
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let instance = frame.plan.instance.clone();
    let own = Bus::at(frame.plan.address, topology(), &instance);
    let shared = Bus::of_role(&frame.config.broker, topology(), &frame.caller, &instance);
    for (bus, is_shared) in [(own, false), (shared, true)] {
        let counts = Arc::<Counts>::default();
        let (told, instance) = (Arc::clone(&counts), instance.clone());
        frame.tell_more(Box::new(move |out| told.write(&instance, is_shared, out)));
        let tenant = Tenant { bus, directory: frame.directory(), shared: is_shared, counts };
        frame.tracker.spawn(tenant.run(frame.stop.clone()));
    }
    super::mq::run(frame).await
}

impl Tenant {
    /// Storms whenever the switches say so, and takes what is left when they say so no more.
    async fn run(self, stop: CancellationToken) {
        let mut changed = self.directory.subscribe();
        while !stop.is_cancelled() {
            changed.borrow_and_update();
            if self.storms() {
                self.counts.storms.store(true, Ordering::Relaxed);
                tokio::select! {
                    () = self.storm() => {}
                    () = stop.cancelled() => return,
                }
                self.counts.storms.store(false, Ordering::Relaxed);
                continue;
            }
            tokio::select! {
                told = changed.changed() => if told.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    fn storms(&self) -> bool {
        storms_at(&self.directory.in_force(), self.shared)
    }

    /// Publishes and takes until the switches end it and the queue is empty.
    async fn storm(&self) {
        while let Err(error) = self.bus.declare().await {
            self.refused(&error);
            tokio::time::sleep(PAUSE).await;
            if !self.storms() {
                return;
            }
        }
        let taking = self.directory.in_force().taking;
        let takers = if taking == Taking::Get { POLLERS } else { CONSUMERS };
        // The last messages may be on their way when the switches end the storm.
        let over = AtomicBool::new(false);
        let publishes = async {
            self.publish().await;
            over.store(true, Ordering::Relaxed);
        };
        let takes = futures::future::join_all((0..takers).map(|_| self.take(taking, &over)));
        tokio::join!(publishes, takes);
    }

    async fn publish(&self) {
        let body = "n".repeat(BODY_BYTES);
        let mut every = tokio::time::interval(EVERY);
        // What a broker is too slow for is not made up for.
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number = 0_u64;
        let mut room = 0_u64;
        while self.storms() {
            every.tick().await;
            if room < AT_ONCE as u64 {
                room = LONGEST.saturating_sub(self.waiting().await.unwrap_or(LONGEST));
                if room < AT_ONCE as u64 {
                    continue;
                }
                // What is taken meanwhile is room, too; one look in a second will do.
                room = room.min(LONGEST / 6);
            }
            let messages: Vec<Message> = (0..AT_ONCE as u64)
                .map(|n| Message { id: format!("noise-{}", number + n), key: "noise".into(), body: body.clone() })
                .collect();
            number += AT_ONCE as u64;
            room -= AT_ONCE as u64;
            match self.bus.publish(&messages, true).await {
                Ok(()) => _ = self.counts.published.fetch_add(AT_ONCE as u64, Ordering::Relaxed),
                Err(error) => self.refused(&error),
            }
        }
    }

    async fn waiting(&self) -> Result<u64, BusError> {
        self.bus.depth(QUEUE).await.map(|Depth { waiting, .. }| waiting)
    }

    /// Takes messages, as consumers of orders do, until the storm is over and nothing is left.
    async fn take(&self, taking: Taking, over: &AtomicBool) {
        let Ok(mut consumer) = self.bus.consumer(QUEUE, taking) else { return };
        loop {
            let last = over.load(Ordering::Relaxed);
            match self.round(&mut consumer).await {
                Ok(0) if last => return,
                Ok(0) if taking == Taking::Get => tokio::time::sleep(PAUSE).await,
                Ok(taken) => _ = self.counts.taken.fetch_add(taken, Ordering::Relaxed),
                Err(error) => {
                    self.refused(&error);
                    if last {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn round(&self, consumer: &mut Consumer) -> Result<u64, BusError> {
        let deliveries = consumer.next(WAIT).await?;
        let taken = deliveries.len() as u64;
        if taken > 0 {
            consumer.settle(deliveries.into_iter().map(|delivery| (delivery, Outcome::Done)).collect()).await?;
        }
        Ok(taken)
    }

    fn refused(&self, error: &BusError) {
        tracing::debug!(%error, shared = self.shared, "the broker did not do what the tenant asked");
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the tenant storms at one of the two brokers.
fn storms_at(in_force: &InForce, shared: bool) -> bool {
    in_force.noise && in_force.shared_broker == shared
}

impl Counts {
    fn write(&self, instance: &str, shared: bool, out: &mut String) {
        let broker = if shared { "shared" } else { "dedicated" };
        for (what, count) in [
            ("noise_published_total", &self.published),
            ("noise_taken_total", &self.taken),
            ("noise_refused_total", &self.refused),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{what}{{instance=\"{instance}\",broker=\"{broker}\"}} {count}");
        }
        let storms = u8::from(self.storms.load(Ordering::Relaxed));
        let _ = writeln!(out, "noise_storms{{instance=\"{instance}\",broker=\"{broker}\"}} {storms}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_storms_at_one_broker_and_only_when_told() {
        let quiet = InForce::default();
        assert!(!storms_at(&quiet, false) && !storms_at(&quiet, true));
        let loud = InForce { noise: true, ..quiet };
        assert!(storms_at(&loud, false) && !storms_at(&loud, true));
        let shared = InForce { shared_broker: true, ..loud };
        assert!(!storms_at(&shared, false) && storms_at(&shared, true));
    }
}
