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
    use crate::orders::lifecycle::Status;
    use crate::orders::unpaid_order;

    fn at(revision: i64, status: Status) -> Order {
        Order { status, version: revision, revision, ..unpaid_order() }
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
