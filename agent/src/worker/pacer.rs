//! The pacer hands out arrivals when they are due, in batches no finer than a quarter of a millisecond.
//!
//! It sleeps on a timerfd: Tokio's timer wheel is a millisecond coarse, which would be read as response time.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::recorder;
use crate::arrivals::Schedule;

/// Shortest pause between two batches: bounds wake-ups at high rates without being felt.
const BATCH: Duration = Duration::from_micros(250);

/// A timer of microsecond precision.
struct PreciseTimer(AsyncFd<RawTimer>);

struct RawTimer(TimerFd);

impl AsRawFd for RawTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl PreciseTimer {
    fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; this descriptor is owned by, and lives as long as, the AsyncFd"
        )]
        Ok(Self(AsyncFd::with_interest(RawTimer(timer), Interest::READABLE)?))
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        self.0.get_ref().0.set(Expiration::OneShot(TimeSpec::from(time)), TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from)) {
                Ok(done) => return done,
                Err(_would_block) => {}
            }
        }
    }
}

/// Hands every arrival of the schedule to its scenario's queue when it is due.
pub(super) async fn pace(start: Instant, schedule: Schedule, queues: &[flume::Sender<Instant>]) -> io::Result<()> {
    let timer = PreciseTimer::new()?;
    for arrival in schedule {
        let due = start + arrival.due;
        loop {
            let now = Instant::now();
            if due <= now {
                break;
            }
            timer.sleep((due - now).max(BATCH)).await?;
        }
        recorder::scheduled(arrival.scenario);
        if let Some(queue) = queues.get(arrival.scenario) {
            // Fails only when every user of the scenario is gone, and then the run is over.
            let _ = queue.send(due);
        }
    }
    Ok(())
}
