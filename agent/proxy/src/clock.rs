//! Sleeps that end within a fraction of a millisecond of their deadline, and never before it.
//!
//! Tokio's own timer rounds up to whole milliseconds. One timerfd(2), armed for the earliest deadline of all
//! sleepers, does better at the price of one file descriptor per fault proxy.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Hands out sleeps; cheap to clone. They end only while [`Clock::run`] runs.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Shared>);

struct Shared {
    /// `None` where the system has no fine timer: sleeps are then Tokio's, up to 1 ms late.
    timer: Option<timer::Timer>,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    /// By deadline; the number tells equal deadlines apart.
    wakers: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
    /// What the timer is set to, to spare a system call when a later deadline is added.
    armed: Option<Instant>,
}

impl Clock {
    /// A clock on a fine timer if the system gives one.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn new() -> Self {
        let timer = timer::Timer::new()
            .inspect_err(|error| tracing::warn!(%error, "no fine timer: delays may be 1 ms late"))
            .ok();
        Self(Arc::new(Shared { timer, sleepers: Mutex::default() }))
    }

    /// Wakes sleepers until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Some(timer) = &self.0.timer else { return };
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                fired = timer.fired() => if let Err(error) = fired {
                    tracing::error!(%error, "the fine timer failed");
                    return;
                },
            }
            self.0.wake_due(Instant::now());
        }
    }

    /// Sleeps until `deadline`.
    pub(crate) async fn sleep_until(&self, deadline: Instant) {
        if self.0.timer.is_some() {
            Sleep { shared: &self.0, deadline, number: None }.await;
        } else {
            tokio::time::sleep_until(deadline.into()).await;
        }
    }
}

impl Shared {
    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_due(&self, now: Instant) {
        let mut sleepers = self.sleepers();
        let later = sleepers.wakers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut sleepers.wakers, later);
        sleepers.armed = None;
        self.arm(&mut sleepers, now);
        drop(sleepers);
        due.into_values().for_each(Waker::wake);
    }

    /// Sets the timer to the earliest deadline, unless it is set to that or to an earlier one.
    fn arm(&self, sleepers: &mut Sleepers, now: Instant) {
        let (Some(timer), Some((&(earliest, _), _))) = (&self.timer, sleepers.wakers.first_key_value()) else {
            return;
        };
        if sleepers.armed.is_some_and(|armed| armed <= earliest) {
            return;
        }
        match timer.set(earliest.saturating_duration_since(now)) {
            Ok(()) => sleepers.armed = Some(earliest),
            Err(error) => tracing::error!(%error, "cannot set the fine timer"),
        }
    }
}

struct Sleep<'a> {
    shared: &'a Shared,
    deadline: Instant,
    number: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now >= self.deadline {
            return Poll::Ready(());
        }
        let shared = self.shared;
        let mut sleepers = shared.sleepers();
        let number = *self.number.get_or_insert_with(|| {
            sleepers.next_number += 1;
            sleepers.next_number
        });
        sleepers.wakers.insert((self.deadline, number), context.waker().clone());
        shared.arm(&mut sleepers, now);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.sleepers().wakers.remove(&(self.deadline, number));
        }
    }
}

/// Longer sleeps are cut into pieces of this length, so that any deadline fits the system call.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) struct Timer(AsyncFd<Fd>);

    struct Fd(TimerFd);

    impl AsRawFd for Fd {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            // Its replacement is `unsafe`: it asks for a descriptor that stays open and the same, as `Fd`'s does.
            #[allow(deprecated)]
            AsyncFd::with_interest(Fd(fd), Interest::READABLE).map(Self)
        }

        /// Fires once after `wait`.
        pub(super) fn set(&self, wait: Duration) -> io::Result<()> {
            // Zero would disarm the timer.
            let wait = wait.clamp(Duration::from_nanos(1), super::LONGEST);
            let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
            Ok(self.0.get_ref().0.set(expiration, TimerSetTimeFlags::empty())?)
        }

        /// Waits until it fires. Epoll is edge-triggered, so the expiration count need not be read.
        pub(super) async fn fired(&self) -> io::Result<()> {
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    /// There is no timerfd here; this type has no values.
    pub(super) enum Timer {}

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn set(&self, _wait: Duration) -> io::Result<()> {
            match *self {}
        }

        pub(super) async fn fired(&self) -> io::Result<()> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn with_clock(clock: Clock, test: impl AsyncFnOnce(&Clock)) {
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(clock.clone().run(shutdown.clone()));
        test(&clock).await;
        assert!(clock.0.sleepers().wakers.is_empty(), "every sleeper is forgotten");
        shutdown.cancel();
        running.await.unwrap();
    }

    async fn sleeps_end_in_order_and_never_early(clock: &Clock) {
        let start = Instant::now();
        let sleeps = [31_500, 2_300, 17_900, 2_300, 0].map(|us| {
            let (clock, deadline) = (clock.clone(), start + Duration::from_micros(us));
            tokio::spawn(async move {
                clock.sleep_until(deadline).await;
                (deadline, Instant::now())
            })
        });
        for sleep in sleeps {
            let (deadline, end) = sleep.await.unwrap();
            assert!(end >= deadline, "{:?} early", deadline - end);
        }
    }

    #[tokio::test]
    async fn no_sleep_ends_early_on_the_fine_timer() {
        with_clock(Clock::new(), sleeps_end_in_order_and_never_early).await;
    }

    #[tokio::test]
    async fn no_sleep_ends_early_without_a_fine_timer() {
        let coarse = Clock(Arc::new(Shared { timer: None, sleepers: Mutex::default() }));
        with_clock(coarse, sleeps_end_in_order_and_never_early).await;
    }

    #[tokio::test]
    async fn an_abandoned_sleep_leaves_the_later_ones_alone() {
        with_clock(Clock::new(), async |clock: &Clock| {
            let deadline = Instant::now() + Duration::from_millis(20);
            let abandoned = clock.sleep_until(deadline - Duration::from_millis(15));
            let _ = tokio::time::timeout(Duration::from_millis(1), abandoned).await;
            let slept = tokio::time::timeout(Duration::from_secs(5), clock.sleep_until(deadline)).await;
            assert!(slept.is_ok());
        })
        .await;
    }
}
