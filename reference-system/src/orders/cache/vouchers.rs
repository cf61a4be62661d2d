//! Vouchers: how readers know that a cache which answers has been told everything.
//!
//! A cache that hung, or was cut off from a store, has old copies when it is back, and nobody who reads there can see
//! that. So a store that owes the cache nothing says so in it, again and again, with the moment at which it says it. Such a
//! voucher is good for a moment only, and a store that could not tell a change answers for it only when the last voucher it
//! gave is no longer good: whoever reads after that answer finds the change, or nobody who vouches for what he finds.
//!
//! The moments are of the clocks of the store's and the reader's machines, which must agree to within a few milliseconds.

use std::time::Duration;

use crate::config::Timeouts;

/// How much longer than good its giver takes a voucher for: clocks of milliseconds are rounded.
pub(super) const MARGIN: Duration = Duration::from_millis(5);

/// The key of a store's voucher.
pub(super) fn voucher_key(store: &str) -> String {
    format!("vouch:{store}")
}

/// How long a voucher is good: three timeouts, 150 ms. A store that learns by a timeout that its cache hangs, and then waits
/// for the end of a voucher that it gave meanwhile, must be able to answer within its own 300.
pub(super) fn good_for(timeouts: &Timeouts) -> Duration {
    3 * Duration::from_millis(timeouts.kv_ms)
}

/// Whether a voucher is good, in milliseconds since 1970. Text that is no moment is no voucher.
pub(super) fn is_good(voucher: Option<&[u8]>, now_ms: i64, good_for: Duration) -> bool {
    let given = voucher.and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    let (margin_ms, good_for_ms) = (MARGIN.as_millis() as i64, good_for.as_millis() as i64);
    // One from the future is of a clock that does not agree.
    given.is_some_and(|at_ms| (-margin_ms..good_for_ms).contains(&now_ms.saturating_sub(at_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voucher_is_good_for_a_moment() {
        let good = |voucher: Option<&[u8]>| is_good(voucher, 10_000, Duration::from_millis(200));
        assert!(good(Some(b"9999")) && good(Some(b"9801")));
        assert!(!good(Some(b"9800")) && !good(Some(b"")) && !good(Some(b"x")) && !good(None));
        assert!(good(Some(b"10005")) && !good(Some(b"10006")), "the clocks do not agree");
        assert!(!good(Some(b"-9223372036854775808")));
    }
}
