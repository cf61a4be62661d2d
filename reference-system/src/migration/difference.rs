//! What it means that both sides have the same order, while orders go on changing.

use crate::orders::Order;

/// How the sides differ, for people; `None` if they do not. `before` and `after` are the row of the side that decides,
/// read before and after `copy` was read from the other one, which has had some time to be told.
pub(crate) fn difference(before: Option<&Order>, copy: Option<&Order>, after: Option<&Order>) -> Option<String> {
    let revision = |order: &Order| order.revision;
    let same = match (before, copy) {
        (_, None) => before.is_none(),
        (Some(before), Some(copy)) if copy.revision == before.revision => copy == before,
        (Some(before), Some(copy)) if copy.revision < before.revision => false,
        // It has gone on since; but no copy is ahead of what it is a copy of.
        (_, Some(copy)) => after.map(revision) >= Some(copy.revision),
    };
    let facts = |order: Option<&Order>| match order {
        Some(order) => {
            format!("status {}, version {}, revision {}", order.status.code(), order.version, order.revision)
        }
        None => "not there".to_owned(),
    };
    (!same).then(|| format!("old: {}; new: {}", facts(before), facts(copy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OrderId, RestaurantId, UserId};
    use crate::orders::lifecycle::Status;

    fn at(revision: i64, status: Status) -> Order {
        Order {
            order_id: OrderId(1),
            user_id: UserId(1),
            restaurant_id: RestaurantId(1),
            req_id: "r-1".to_owned(),
            status,
            version: revision,
            revision,
            refund_status: 0,
            delivery_status: 0,
            items_fen: 1,
            delivery_fee_fen: 0,
            discount_fen: 0,
            total_fen: 1,
            paid_fen: 0,
            refunded_fen: 0,
            refund_no: None,
            completed_at_ms: None,
            settled_at_ms: None,
            coupon_id: None,
            payment_id: None,
            lines: Vec::new(),
            address: String::new(),
            day: None,
            number: None,
            created_at_ms: 0,
            updated_at_ms: 0,
        }
    }

    #[test]
    fn a_copy_that_lags_differs_and_one_that_follows_does_not() {
        let (one, two) = (at(1, Status::Unpaid), at(2, Status::Paying));
        assert_eq!(difference(Some(&one), Some(&one), Some(&one)), None);
        assert_eq!(difference(Some(&one), Some(&two), Some(&two)), None, "both have gone on");
        assert_eq!(
            difference(Some(&two), Some(&one), Some(&two)).as_deref(),
            Some("old: status -3, version 2, revision 2; new: status -5, version 1, revision 1")
        );
        assert!(difference(Some(&one), None, Some(&one)).is_some_and(|what| what.ends_with("new: not there")));
        assert!(difference(Some(&one), Some(&two), Some(&one)).is_some(), "ahead of what it is a copy of");
        assert!(difference(None, Some(&one), None).is_some());
        assert_eq!(difference(None, None, None), None);
        let other = at(1, Status::Cancelled);
        assert!(difference(Some(&one), Some(&other), Some(&one)).is_some(), "the same revision is the same row");
    }
}
