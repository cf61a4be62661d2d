//! The workers of an instance: how many requests it serves at the same time. The rest wait for their turn.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The workers of one instance. Their number may change while they work.
#[derive(Debug)]
pub(crate) struct Workers {
    free: Semaphore,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    /// How many there shall be.
    wanted: usize,
    /// How many too many there are, all of them at work: they go when they are done.
    surplus: usize,
}

/// A worker at work; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct AtWork<'a> {
    workers: &'a Workers,
    permit: Option<SemaphorePermit<'a>>,
}

impl Workers {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Semaphore::new(count), count: Mutex::new(Count { wanted: count, surplus: 0 }) }
    }

    /// Waits for a worker of `wanted`.
    pub(crate) async fn next(&self, wanted: usize) -> AtWork<'_> {
        self.resize(wanted);
        // Fails only when the semaphore is closed, which nobody does.
        AtWork { workers: self, permit: self.free.acquire().await.ok() }
    }

    fn resize(&self, wanted: usize) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > count.wanted {
            let more = wanted - count.wanted;
            let stay = more.min(count.surplus);
            count.surplus -= stay;
            self.free.add_permits(more - stay);
        } else if wanted < count.wanted {
            let fewer = count.wanted - wanted;
            count.surplus += fewer - self.free.forget_permits(fewer);
        }
        count.wanted = wanted;
    }

    /// How many there shall be, and how many are at work.
    pub(crate) fn describe(&self) -> (usize, usize) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        (count.wanted, count.wanted + count.surplus - self.free.available_permits())
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut count = self.workers.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            count.surplus -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn their_number_changes_while_they_work() {
        let workers = Workers::new(4);
        let at_work = |wanted| workers.next(wanted).now_or_never();
        let mut busy: Vec<_> = (0..4).map(|_| at_work(4).unwrap()).collect();
        assert!(at_work(4).is_none(), "all four are at work");
        busy.push(at_work(5).unwrap());
        assert!(at_work(2).is_none());
        assert_eq!(workers.describe(), (2, 5), "three too many go when they are done");
        busy.truncate(2);
        assert!(at_work(2).is_none());
        assert_eq!(workers.describe(), (2, 2));
        busy.truncate(1);
        assert!(at_work(2).is_some());
        busy.push(at_work(2).unwrap());
        assert!(at_work(1).is_none());
        busy.push(at_work(3).unwrap());
        assert_eq!(workers.describe(), (3, 3), "who was to go stays");
        drop(busy);
        assert_eq!(workers.describe(), (3, 0));
    }
}
