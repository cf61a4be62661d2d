//! Locks on the key-value server for them: who works on a user's submission, on a coupon, on an order right now.
//!
//! A lock saves two from doing the same at the same time; whether something may be written, the store decides. So a lock
//! server that is away stops nobody. `lock.impl` has the historic designs, in which the lock itself was believed:
//! `SETNX` without a life, or with one and a release that asks nobody, or with a token but nothing that a store could
//! check (<https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>,
//! <https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config::now_ms;
use crate::frame::Frame;
use crate::kv::Purpose;
use crate::kv::client::{Kv, KvClients, KvError};
use crate::kv::script::{ACQUIRE, RELEASE};
use crate::rpc::{Budget, Caller, Failure};
use crate::switches::LockImpl;

/// How long a lock outlives its holder, where it ends by itself.
const LIFE: Duration = Duration::from_secs(2);
/// Where the last fence is kept. One for all locks: it only has to rise.
const FENCE: &str = "fence";
/// What goes before the key of a lock on the server.
pub(crate) const PREFIX: &str = "lock:";
/// The first and the longest pause between two tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(32)];

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockUse {
    /// One submission of a user at a time: a doubled one finds the answer of the first.
    Submit,
    /// One order at a time binds a coupon.
    Coupon,
    /// The merchant's answer or the user's cancelling, not both.
    Order,
}

impl LockUse {
    const ALL: [Self; 3] = [Self::Submit, Self::Coupon, Self::Order];

    const fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Coupon => "coupon",
            Self::Order => "order",
        }
    }

    /// What somebody else is busy with.
    const fn busy(self) -> &'static str {
        match self {
            Self::Submit => "another order of this user is just being made",
            Self::Coupon => "the coupon is just being used by another order",
            Self::Order => "somebody else is just changing the order",
        }
    }
}

/// What a write under a lock tells the store: it keeps this with what it writes, and refuses a holder who comes after a
/// later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guard {
    /// Such as `order:17`.
    pub(crate) key: String,
    /// Who holds it: [`Holder`].
    pub(crate) token: String,
    /// Higher with each taking; 0 where the lock has none.
    pub(crate) fence: i64,
    /// When the holder knew that the lock was its own.
    pub(crate) acquired_at_ms: i64,
}

/// A holder came to write when a later one had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fenced;

impl From<Fenced> for Failure {
    fn from(_: Fenced) -> Self {
        Self::conflict("fenced", "this took so long that somebody else went ahead; look at what is there and try again")
    }
}

/// Who takes a lock: the process, when, and which of its takings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The process.
    pub(crate) pid: u32,
    /// When it asked for the lock.
    pub(crate) at_ms: i64,
}

impl Holder {
    fn token(instance: &str, number: u64) -> String {
        format!("{instance}/{}/{}/{number}", std::process::id(), now_ms())
    }

    /// The holder of a token.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('/').skip(1);
        Some(Self { pid: parts.next()?.parse().ok()?, at_ms: parts.next()?.parse().ok()? })
    }
}

/// The locks as one instance takes them.
#[derive(Clone)]
pub(crate) struct Locks {
    kv: KvClients,
    caller: Caller,
    instance: String,
    /// Owns releases: also that of a request that was cut off.
    tracker: TaskTracker,
    /// How long a request waits for somebody else.
    patience: Duration,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    takings: AtomicU64,
    acquired: [AtomicU64; 3],
    contended: [AtomicU64; 3],
    errors: [AtomicU64; 3],
    lost: [AtomicU64; 3],
}

impl Counts {
    fn write(&self, instance: &str, out: &mut String) {
        for (name, counts) in [
            ("lock_acquired_total", &self.acquired),
            ("lock_contended_total", &self.contended),
            ("lock_errors_total", &self.errors),
            ("lock_lost_total", &self.lost),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# TYPE {name} counter");
            for (of, count) in LockUse::ALL.into_iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                let _ = writeln!(out, "{name}{{instance=\"{instance}\",use=\"{}\"}} {count}", of.name());
            }
        }
    }
}

fn count(counts: &[AtomicU64; 3], of: LockUse) {
    counts[of as usize].fetch_add(1, Ordering::Relaxed);
}

impl Locks {
    /// The locks of a role's instance, told of in its metrics.
    pub(crate) fn new(frame: &Frame) -> Self {
        let counts = Arc::new(Counts::default());
        let (told, instance) = (Arc::clone(&counts), frame.plan.instance.clone());
        frame.tell_more(Box::new(move |out| told.write(&instance, out)));
        Self {
            kv: frame.kv.clone(),
            caller: frame.caller.clone(),
            instance: frame.plan.instance.clone(),
            tracker: frame.tracker.clone(),
            patience: Duration::from_millis(frame.config.timeouts.dependency_ms),
            counts,
        }
    }

    fn server(&self) -> &Kv {
        self.kv.of(Purpose::Lock)
    }

    /// Takes a lock, waiting a little for whoever has it.
    ///
    /// # Errors
    ///
    /// 409 `locked` when somebody else keeps it; in the designs that believe the lock, 503 `lock_away` when its server
    /// does not answer.
    pub(crate) async fn take(&self, of: LockUse, id: i64, budget: &Budget) -> Result<Held, Failure> {
        let how = self.caller.in_force().lock;
        if how == LockImpl::None {
            return Ok(Held::nothing());
        }
        let number = self.counts.takings.fetch_add(1, Ordering::Relaxed);
        let mut taken = Taken {
            locks: self.clone(),
            how,
            of,
            guard: Guard {
                key: format!("{}:{id}", of.name()),
                token: Holder::token(&self.instance, number),
                fence: 0,
                acquired_at_ms: 0,
            },
            certain: true,
        };
        let until = Instant::now() + self.patience.min(budget.left() / 2);
        let [mut pause, longest] = PAUSES;
        let mut waited = false;
        loop {
            match taken.acquire().await {
                Ok(true) => {
                    count(&self.counts.acquired, of);
                    return Ok(Held { taken: Some(taken), waited });
                }
                Ok(false) => {}
                Err(error) => {
                    count(&self.counts.errors, of);
                    if !how.fails_open() {
                        return Err(Failure::unavailable("lock_away", error.to_string()));
                    }
                    tracing::debug!(%error, "goes on without a lock");
                    // The server may have done what it did not confirm.
                    taken.certain = false;
                    return Ok(Held { taken: Some(taken), waited });
                }
            }
            if !waited {
                count(&self.counts.contended, of);
                waited = true;
            }
            if Instant::now() >= until {
                return Err(Failure::conflict("locked", format!("{}; try again in a moment", of.busy())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// The time that a holder spends between what it has read and what it writes (`lock.section`).
    pub(crate) async fn section(&self) {
        let pause = self.caller.in_force().lock_section;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

struct Taken {
    locks: Locks,
    how: LockImpl,
    of: LockUse,
    guard: Guard,
    /// Whether the server said so.
    certain: bool,
}

impl Taken {
    fn key(&self) -> String {
        format!("{PREFIX}{}", self.guard.key)
    }

    /// Tries once.
    async fn acquire(&mut self) -> Result<bool, KvError> {
        let (server, key, token) = (self.locks.server(), self.key(), self.guard.token.as_str());
        let got = match self.how {
            LockImpl::None => true,
            LockImpl::SetNx => server.put_absent(&key, token, None).await?,
            LockImpl::SetNxTtlBlind | LockImpl::Token => server.put_absent(&key, token, Some(LIFE)).await?,
            LockImpl::TokenFence => {
                let life = LIFE.as_millis().to_string();
                let fence = server.run(&ACQUIRE, &[&key, FENCE], &[token.as_bytes(), life.as_bytes()]).await?;
                self.guard.fence = fence;
                fence > 0
            }
        };
        self.guard.acquired_at_ms = now_ms();
        Ok(got)
    }

    async fn release(self) {
        let (server, key) = (self.locks.server(), self.key());
        let released = match self.how {
            LockImpl::SetNx | LockImpl::SetNxTtlBlind => server.remove(&[key]).await,
            _ => server.run(&RELEASE, &[&key], &[self.guard.token.as_bytes()]).await.map(|released| {
                if released == 0 && self.certain {
                    count(&self.locks.counts.lost, self.of);
                    tracing::warn!(key = self.guard.key, "the lock had ended before it was released");
                }
            }),
        };
        if let Err(error) = released {
            count(&self.locks.counts.errors, self.of);
            tracing::debug!(%error, key = self.guard.key, "not released");
        }
    }
}

/// A lock that is held, until it is released or dropped.
#[must_use]
pub(crate) struct Held {
    taken: Option<Taken>,
    waited: bool,
}

impl Held {
    /// No lock, where none is needed.
    pub(crate) const fn nothing() -> Self {
        Self { taken: None, waited: false }
    }

    /// Whether somebody else had it first.
    pub(crate) fn waited(&self) -> bool {
        self.waited
    }

    /// What the store is to be told; `None` where the store alone decides.
    pub(crate) fn guard(&self) -> Option<Guard> {
        self.taken.as_ref().filter(|taken| taken.certain).map(|taken| taken.guard.clone())
    }

    /// Whether what was read under the lock is held to be true until it is released: the historic flaw.
    pub(crate) fn is_believed(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.certain && taken.how.is_believed())
    }

    /// Releases it before the caller goes on.
    pub(crate) async fn release(mut self) {
        if let Some(taken) = self.taken.take() {
            // A task of its own, so that a request that is cut off here leaves nothing behind. It does not panic.
            let released = taken.locks.tracker.clone().spawn(taken.release());
            let _ = released.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            taken.locks.tracker.clone().spawn(taken.release());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_holder() {
        let holder = Holder::of(&Holder::token("eos-c-1", 7)).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!((now_ms() - holder.at_ms).abs() < 60_000);
        assert_eq!(Holder::of("1"), None);
    }
}
