//! The gate between P3 and P4: the new stores take over only when both sides have been equal for a while and no write
//! is missing there. Pure: what is known comes in, reasons come out.

use crate::ids::OrderId;
use crate::store::migration_tables::Difference;

/// The most orders that a reason names.
const NAMED: usize = 5;

/// What is known when the gate is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) now_ms: i64,
    /// When P3 began.
    pub(crate) since_ms: i64,
    /// For how long both sides must have been equal.
    pub(crate) calm_ms: i64,
    /// When the last whole comparison began, and how many orders differed in it.
    pub(crate) swept: Option<(i64, u64)>,
    /// How many orders differed within the last `calm_ms`.
    pub(crate) differ: i64,
    /// Some of them, the latest first.
    pub(crate) differences: Vec<Difference>,
    /// How many writes have failed and are not repaired.
    pub(crate) failed: i64,
    /// Some of their orders.
    pub(crate) failed_orders: Vec<OrderId>,
    /// Whether what failed, or differs, is repaired by itself.
    pub(crate) repairs: bool,
}

/// Why the new stores may not take over yet; nothing if they may.
pub(crate) fn reasons(facts: &Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    if facts.failed > 0 {
        let orders = named(facts.failed_orders.iter().map(OrderId::to_string), facts.failed);
        reasons.push(format!(
            "{} writes have not reached the new stores (orders {orders}); they are tried again until they do: see that \
             st-u0 and st-u1 are up (`system status`)",
            facts.failed
        ));
    }
    let swept = facts.swept.filter(|(began_ms, _)| *began_ms >= facts.since_ms);
    let differ = facts.differ.max(swept.map_or(0, |(_, differ)| i64::try_from(differ).unwrap_or(i64::MAX)));
    if differ > 0 {
        let orders = named(facts.differences.iter().map(|one| format!("{} ({})", one.order_id, one.what)), differ);
        let help = if facts.repairs {
            "they are being repaired, and compared again"
        } else {
            "nothing repairs them while mig.log_failures is off: `system migrate back --to P1` and `system migrate \
             continue` copy every order again"
        };
        reasons.push(format!("{differ} orders differ: {orders}; {help}"));
    }
    if swept.is_none() {
        reasons.push("not every order has been compared yet".to_owned());
    }
    let calm_ms = facts.now_ms - facts.since_ms;
    if calm_ms < facts.calm_ms && reasons.is_empty() {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        reasons.push(format!("both sides are equal for {:.1} of {:.1} s", seconds(calm_ms), seconds(facts.calm_ms)));
    }
    reasons
}

fn named(orders: impl Iterator<Item = String>, count: i64) -> String {
    let shown: Vec<String> = orders.take(NAMED).collect();
    let more = count - shown.len() as i64;
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Facts {
        Facts {
            now_ms: 10_000,
            since_ms: 1_000,
            calm_ms: 5_000,
            swept: Some((2_000, 0)),
            repairs: true,
            ..Facts::default()
        }
    }

    #[test]
    fn it_opens_when_everything_was_compared_and_nothing_differed_for_a_while() {
        assert_eq!(reasons(&calm()), Vec::<String>::new());
        let early = Facts { now_ms: 3_000, ..calm() };
        assert_eq!(reasons(&early), ["both sides are equal for 2.0 of 5.0 s"]);
        let before_p3 = Facts { swept: Some((500, 0)), ..calm() };
        assert_eq!(reasons(&before_p3), ["not every order has been compared yet"]);
    }

    #[test]
    fn it_names_what_is_missing_and_what_to_do() {
        let failed = Facts { failed: 7, failed_orders: (1..=7).map(OrderId).collect(), ..calm() };
        assert_eq!(
            reasons(&failed),
            ["7 writes have not reached the new stores (orders 1, 2, 3, 4, 5 and 2 more); they are tried again until \
              they do: see that st-u0 and st-u1 are up (`system status`)"]
        );
        let differences = vec![Difference { order_id: OrderId(9), at_ms: 9_000, what: "old: a; new: b".to_owned() }];
        let differs = Facts { differ: 1, differences, repairs: false, ..calm() };
        assert_eq!(
            reasons(&differs),
            [
                "1 orders differ: 9 (old: a; new: b); nothing repairs them while mig.log_failures is off: `system migrate \
              back --to P1` and `system migrate continue` copy every order again"
            ]
        );
    }
}
