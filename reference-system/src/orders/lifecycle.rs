//! The order's life: statuses, triggers and the table of legal transitions, as pure functions.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where an order stands. The codes are those that the historic system printed; completed and
/// cancelled are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// −6: rejected by risk control (terminal).
    RiskRejected,
    /// −5: created, not paid.
    Unpaid,
    /// −4: payment failed or timed out (terminal).
    Closed,
    /// −3: a payment is under way.
    Paying,
    /// −2: paid, not yet shown to the merchant.
    Paid,
    /// −1: cancelled (terminal).
    Cancelled,
    /// 0: waiting for the merchant.
    Waiting,
    /// 2: accepted by the merchant.
    Accepted,
    /// 9: completed (terminal for the forward flow).
    Completed,
}

impl Status {
    /// All statuses, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::RiskRejected,
        Self::Unpaid,
        Self::Closed,
        Self::Paying,
        Self::Paid,
        Self::Cancelled,
        Self::Waiting,
        Self::Accepted,
        Self::Completed,
    ];

    /// The number in the store and in JSON.
    pub const fn code(self) -> i64 {
        match self {
            Self::RiskRejected => -6,
            Self::Unpaid => -5,
            Self::Closed => -4,
            Self::Paying => -3,
            Self::Paid => -2,
            Self::Cancelled => -1,
            Self::Waiting => 0,
            Self::Accepted => 2,
            Self::Completed => 9,
        }
    }

    /// The status with this code, if there is one.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// An order here has ended without a meal: what was paid goes back.
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Closed | Self::RiskRejected | Self::Cancelled)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.code())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = i64::deserialize(deserializer)?;
        Self::from_code(code).ok_or_else(|| serde::de::Error::custom(format!("{code} is no order status")))
    }
}

/// What asks for a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// T1: the user submits.
    Create,
    /// T2: the user asks to pay.
    Pay,
    /// T3: the payment succeeded.
    PaymentOk,
    /// T4: the payment failed.
    PaymentFailed,
    /// T5: the unpaid timer ran out.
    UnpaidTimeout,
    /// T6: risk control says no.
    Risk,
    /// T7: the merchant row is visible, so the merchant may be told.
    Dispatch,
    /// T8: the merchant accepts.
    Accept,
    /// T9: the merchant rejects, or did not answer in time.
    Reject,
    /// T10: the user cancels.
    Cancel,
    /// T11: delivered and confirmed, or the confirmation timer ran out.
    Complete,
    /// T12: a refund after acceptance was fully approved.
    RefundApproved,
    /// T13: a refund after completion.
    AfterSales,
}

impl Trigger {
    /// All triggers, T1 to T13.
    pub const ALL: [Self; 13] = [
        Self::Create,
        Self::Pay,
        Self::PaymentOk,
        Self::PaymentFailed,
        Self::UnpaidTimeout,
        Self::Risk,
        Self::Dispatch,
        Self::Accept,
        Self::Reject,
        Self::Cancel,
        Self::Complete,
        Self::RefundApproved,
        Self::AfterSales,
    ];

    /// The name of the event row that the transition writes.
    pub const fn event(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Pay => "paying",
            Self::PaymentOk => "paid",
            Self::PaymentFailed | Self::UnpaidTimeout | Self::Risk => "closed",
            Self::Dispatch => "pending",
            Self::Accept => "accepted",
            Self::Reject | Self::Cancel | Self::RefundApproved => "cancelled",
            Self::Complete => "completed",
            Self::AfterSales => "refunded",
        }
    }
}

/// Where `trigger` leads from `from` (`None`: the order does not exist yet), or `None` if the
/// table has no such transition.
pub const fn next(from: Option<Status>, trigger: Trigger) -> Option<Status> {
    use Status::{Accepted, Cancelled, Closed, Completed, Paid, Paying, RiskRejected, Unpaid, Waiting};
    Some(match (from, trigger) {
        (None, Trigger::Create) => Unpaid,
        (Some(Unpaid), Trigger::Pay) => Paying,
        (Some(Unpaid | Paying), Trigger::PaymentOk) => Paid,
        (Some(Paying), Trigger::PaymentFailed) => Closed,
        (Some(Unpaid), Trigger::UnpaidTimeout) => Closed,
        (Some(Unpaid | Paid), Trigger::Risk) => RiskRejected,
        (Some(Paid), Trigger::Dispatch) => Waiting,
        (Some(Waiting), Trigger::Accept) => Accepted,
        (Some(Waiting), Trigger::Reject) => Cancelled,
        (Some(Unpaid | Paid | Waiting), Trigger::Cancel) => Cancelled,
        (Some(Accepted), Trigger::Complete) => Completed,
        (Some(Accepted), Trigger::RefundApproved) => Cancelled,
        (Some(Completed), Trigger::AfterSales) => Completed,
        _ => return None,
    })
}

/// Whether some trigger leads from `from` to `to`: what the auditor asks of an event row.
pub fn is_legal(from: Option<Status>, to: Status) -> bool {
    Trigger::ALL.into_iter().any(|trigger| next(from, trigger) == Some(to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_has_exactly_these_transitions() {
        let mut legal = Vec::new();
        for from in std::iter::once(None).chain(Status::ALL.map(Some)) {
            for to in Status::ALL {
                if is_legal(from, to) {
                    legal.push((from.map(Status::code), to.code()));
                }
            }
        }
        let expected = [
            (None, -5),
            (Some(-5), -6),
            (Some(-5), -4),
            (Some(-5), -3),
            (Some(-5), -2),
            (Some(-5), -1),
            (Some(-3), -4),
            (Some(-3), -2),
            (Some(-2), -6),
            (Some(-2), -1),
            (Some(-2), 0),
            (Some(0), -1),
            (Some(0), 2),
            (Some(2), -1),
            (Some(2), 9),
            (Some(9), 9),
        ];
        assert_eq!(legal, expected);
    }

    #[test]
    fn codes_and_statuses_are_one_to_one() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        assert_eq!(Status::from_code(1), None);
    }

    proptest! {
        #[test]
        fn no_walk_leaves_a_terminal_status(
            walk in proptest::collection::vec(proptest::sample::select(&Trigger::ALL[..]), 1..60),
        ) {
            let mut at = None;
            let mut dead: Option<Status> = None;
            let mut completed = false;
            for trigger in walk {
                if let Some(to) = next(at, trigger) {
                    prop_assert!(dead.is_none(), "left {dead:?} by {trigger:?}");
                    prop_assert!(!completed || to == Status::Completed);
                    dead = to.is_dead().then_some(to);
                    completed |= to == Status::Completed;
                    at = Some(to);
                }
            }
        }
    }
}
