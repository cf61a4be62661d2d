//! What a store owes the cache, and until when readers take the store's word that it owes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::vouchers::MARGIN;
use crate::ids::{OrderId, UserId};

/// The most orders that are told in one go.
const ROUND: usize = 100;
/// The most orders that are owed; beyond, copies live out their lives.
const MOST_OWED: usize = 50_000;

/// What the cache must be told.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Orders that changed.
    pub(super) orders: BTreeSet<OrderId>,
    /// Users with a new order.
    pub(super) users: BTreeSet<UserId>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.users.is_empty()
    }

    fn add(&mut self, mut more: Self) {
        self.orders.append(&mut more.orders);
        self.users.append(&mut more.users);
        while self.orders.len() > MOST_OWED {
            self.orders.pop_first();
        }
        while self.users.len() > MOST_OWED {
            self.users.pop_first();
        }
    }
}

/// The debt of a store. Pure: time comes in as an argument.
#[derive(Debug)]
pub(super) struct Debt {
    owed: Owed,
    /// A part of it is being told.
    is_paying: bool,
    /// When the last voucher ends.
    vouched_until: Instant,
}

impl Debt {
    /// That of a store that begins now. Its earlier life may have vouched a moment ago.
    pub(super) fn new(now: Instant, good_for: Duration) -> Self {
        Self { owed: Owed::default(), is_paying: false, vouched_until: now + good_for + MARGIN }
    }

    pub(super) fn orders(&self) -> usize {
        self.owed.orders.len()
    }

    /// Something is owed. From the moment on that this gives, no reader takes copies for true until it is told.
    pub(super) fn owe(&mut self, owed: Owed) -> Instant {
        self.owed.add(owed);
        self.vouched_until
    }

    /// Takes a part to tell, which is to be given to [`Self::told`] or [`Self::failed`].
    pub(super) fn take(&mut self) -> Option<Owed> {
        let mut taken = Owed { users: std::mem::take(&mut self.owed.users), ..Owed::default() };
        while taken.orders.len() < ROUND
            && let Some(order) = self.owed.orders.pop_first()
        {
            taken.orders.insert(order);
        }
        self.is_paying = !taken.is_empty();
        self.is_paying.then_some(taken)
    }

    pub(super) fn told(&mut self) {
        self.is_paying = false;
    }

    pub(super) fn failed(&mut self, taken: Owed) {
        self.is_paying = false;
        self.owed.add(taken);
    }

    /// Whether readers may believe copies because of a voucher.
    pub(super) fn is_vouched(&self, now: Instant) -> bool {
        now < self.vouched_until
    }

    /// A voucher is given now, unless something is owed. Gives when the one before ends.
    pub(super) fn vouch(&mut self, now: Instant, good_for: Duration) -> Option<Instant> {
        if !self.owed.is_empty() || self.is_paying {
            return None;
        }
        Some(std::mem::replace(&mut self.vouched_until, now + good_for + MARGIN))
    }

    /// The last voucher did not arrive, and never will; the one before it ends at this moment.
    pub(super) fn is_not_given(&mut self, before: Instant) {
        self.vouched_until = before;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD_FOR: Duration = Duration::from_millis(200);

    fn order(id: i64) -> Owed {
        Owed { orders: BTreeSet::from([OrderId(id)]), ..Owed::default() }
    }

    #[test]
    fn all_that_is_owed_is_taken_in_rounds_and_nothing_twice() {
        let mut debt = Debt::new(Instant::now(), GOOD_FOR);
        (0..250).for_each(|id| _ = debt.owe(order(id)));
        let mut sizes = Vec::new();
        while let Some(taken) = debt.take() {
            sizes.push(taken.orders.len());
            debt.told();
        }
        assert_eq!((sizes, debt.orders()), (vec![100, 100, 50], 0));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Owe,
        Take,
        Told,
        Failed,
        Vouch,
        Refused,
    }

    proptest! {
        /// Whatever the order of things: once something is owed, no voucher is good from the moment on that was said,
        /// until it is told.
        #[test]
        fn nobody_vouches_for_what_is_owed(
            steps in prop::collection::vec((0_u64..300, prop::sample::select(vec![
                Step::Owe, Step::Take, Step::Told, Step::Failed, Step::Vouch, Step::Refused,
            ])), 1..60),
        ) {
            let mut now = Instant::now();
            let mut debt = Debt::new(now, GOOD_FOR);
            let (mut voucher_ends, mut taken) = (now + GOOD_FOR, None);
            let mut open: Vec<(i64, Instant)> = Vec::new();
            for (n, (ms, step)) in (0_i64..).zip(steps) {
                now += Duration::from_millis(ms);
                match step {
                    Step::Owe => open.push((n, debt.owe(order(n)))),
                    Step::Take if taken.is_none() => taken = debt.take(),
                    Step::Told => if let Some(told) = taken.take() {
                        open.retain(|(id, _)| !told.orders.contains(&OrderId(*id)));
                        debt.told();
                    },
                    Step::Failed => if let Some(taken) = taken.take() { debt.failed(taken) },
                    Step::Vouch => if debt.vouch(now, GOOD_FOR).is_some() { voucher_ends = now + GOOD_FOR },
                    Step::Refused => if let Some(before) = debt.vouch(now, GOOD_FOR) { debt.is_not_given(before) },
                    Step::Take => {}
                }
                for (id, silent_from) in &open {
                    prop_assert!(voucher_ends < *silent_from, "{id} is owed");
                }
            }
        }
    }
}
