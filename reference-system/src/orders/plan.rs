//! What each step of an order's life changes: the rows, the money and the task rows of a transition,
//! planned without clock or store.

use serde::{Deserialize, Serialize};

use super::change::{
    Change, MoneyState, MoneyWrite, RefundSource, RefundWrite, Step, TaskKind, TaskWrite, fields_only, refund_id,
};
use super::lifecycle::{self, Status, Trigger};
use super::{DELIVERED, Order, REFUND_APPLIED, REFUND_GRANTED, REFUND_IN_ARBITRATION, REFUND_SUCCEEDED};
use crate::ids::OrderId;

/// How long the order's timers run, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timers {
    /// T5: an unpaid order is closed.
    pub(crate) unpaid_ms: i64,
    /// T9: an order that no merchant answered is cancelled.
    pub(crate) unanswered_ms: i64,
    /// T11: a delivered order that nobody confirmed is completed.
    pub(crate) unconfirmed_ms: i64,
    /// A charge that has not been answered is asked for again (idempotent).
    pub(crate) charge_again_ms: i64,
    /// T13: a completed order may be complained about for so long.
    pub(crate) after_sales_ms: i64,
    /// The historic flaw: settlement this long after acceptance, whatever becomes of the order.
    pub(crate) settle_accepted_ms: Option<i64>,
}

/// Why a step is not possible now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a payment is in progress")]
    PaymentInProgress,
    #[error("the order is accepted: ask for a refund instead")]
    NeedsRefund,
    #[error("the order has status {status}, which does not allow this", status = .0.code())]
    WrongStatus(Status),
    #[error("the order has not been delivered")]
    NotDelivered,
    #[error("the payment is {paid} fen, the order {total} fen")]
    WrongAmount { paid: i64, total: i64 },
    #[error("a refund of this order is open")]
    RefundOpen,
}

impl Refusal {
    /// The code in the error body.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::PaymentInProgress => "payment_in_progress",
            Self::NeedsRefund => "needs_refund",
            Self::WrongStatus(_) => "wrong_status",
            Self::NotDelivered => "not_delivered",
            Self::WrongAmount { .. } => "wrong_amount",
            Self::RefundOpen => "refund_open",
        }
    }
}

/// The task rows of a new order.
pub(crate) fn tasks_of_creation(order: &Order, timers: &Timers) -> Vec<TaskWrite> {
    vec![
        TaskWrite { kind: TaskKind::MerchantRow, due_at_ms: order.created_at_ms },
        TaskWrite { kind: TaskKind::CloseUnpaid, due_at_ms: order.created_at_ms + timers.unpaid_ms },
    ]
}

/// The payment of an order. One order has one, so asking twice asks for the same.
pub(crate) fn payment_id(order_id: OrderId) -> String {
    format!("p{order_id}")
}

/// Plans the step that `trigger` asks for. Triggers that carry facts of their own have their own
/// functions below.
pub(crate) fn step(order: &Order, trigger: Trigger, timers: &Timers, now_ms: i64) -> Result<Change, Refusal> {
    let to = lifecycle::next(Some(order.status), trigger).ok_or(match (order.status, trigger) {
        (Status::Paying, Trigger::Cancel) => Refusal::PaymentInProgress,
        (Status::Accepted, Trigger::Cancel) => Refusal::NeedsRefund,
        (status, _) => Refusal::WrongStatus(status),
    })?;
    if trigger == Trigger::Complete && order.delivery_status != DELIVERED {
        return Err(Refusal::NotDelivered);
    }
    if trigger == Trigger::Complete && refund_open(order) {
        return Err(Refusal::RefundOpen);
    }
    let mut change = fields_only(order, now_ms);
    change.step = Some(Step { to, event: trigger.event().to_owned() });
    match trigger {
        Trigger::Pay => {
            change.payment = Some(MoneyWrite {
                payment_id: payment_id(order.order_id),
                amount_fen: order.total_fen,
                state: MoneyState::Open,
            });
            change.add(TaskKind::Charge, now_ms + timers.charge_again_ms);
        }
        Trigger::PaymentOk => {
            change.add(TaskKind::Capture, now_ms);
            change.add(TaskKind::Dispatch, now_ms);
            if order.coupon_id.is_some() {
                change.add(TaskKind::CouponUse, now_ms);
            }
        }
        Trigger::PaymentFailed => change.add(TaskKind::ReleaseHold, now_ms),
        Trigger::Dispatch => {
            change.add(TaskKind::RejectUnanswered, now_ms + timers.unanswered_ms);
        }
        Trigger::Accept => {
            change.add(TaskKind::StockCommit, now_ms);
            if let Some(pause) = timers.settle_accepted_ms {
                change.add(TaskKind::Settle, now_ms + pause);
            }
        }
        Trigger::Complete => change.add(TaskKind::Settle, now_ms),
        _ => {}
    }
    if to.is_dead() {
        // What a merchant has accepted is sold, also when the money goes back.
        if order.status != Status::Accepted {
            change.add(TaskKind::StockRelease, now_ms);
        }
        if order.paid_fen > 0 {
            change.refund_all(order, order.payment_id.as_deref().unwrap_or_default(), order.paid_fen, now_ms);
        }
        if order.coupon_id.is_some() {
            change.add(TaskKind::CouponReturn, now_ms);
        }
    }
    Ok(change)
}

/// Plans the answer to a payment callback. `Ok(None)`: it is booked already.
pub(crate) fn payment_result(
    order: &Order,
    payment: &str,
    succeeded: bool,
    amount_fen: i64,
    timers: &Timers,
    now_ms: i64,
) -> Result<Option<Change>, Refusal> {
    if order.paid_fen > 0 {
        return Ok(None);
    }
    let write = |state| MoneyWrite { payment_id: payment.to_owned(), amount_fen, state };
    if !succeeded {
        if order.status.is_dead() {
            return Ok(None);
        }
        let mut change = step(order, Trigger::PaymentFailed, timers, now_ms)?;
        change.payment = Some(write(MoneyState::Failed));
        return Ok(Some(change));
    }
    if amount_fen != order.total_fen {
        return Err(Refusal::WrongAmount { paid: amount_fen, total: order.total_fen });
    }
    // A late success does not resurrect an order: it books the payment and gives it back.
    let mut change = if order.status.is_dead() {
        let mut change = fields_only(order, now_ms);
        change.add(TaskKind::Capture, now_ms);
        change
    } else {
        step(order, Trigger::PaymentOk, timers, now_ms)?
    };
    change.payment = Some(write(MoneyState::Ok));
    change.paid_fen = Some(amount_fen);
    if order.status.is_dead() {
        change.refund_all(order, payment, amount_fen, now_ms);
    }
    Ok(Some(change))
}

/// Plans T7 with the kitchen number that the merchant dimension issued.
pub(crate) fn dispatch(order: &Order, kitchen: (i64, i64), timers: &Timers, now_ms: i64) -> Result<Change, Refusal> {
    let mut change = step(order, Trigger::Dispatch, timers, now_ms)?;
    change.kitchen = Some(kitchen);
    Ok(change)
}

/// Plans the arrival of the meal: a field, no transition. `Ok(None)`: known already.
pub(crate) fn delivered(order: &Order, timers: &Timers, now_ms: i64) -> Result<Option<Change>, Refusal> {
    if order.delivery_status == DELIVERED {
        return Ok(None);
    }
    if order.status != Status::Accepted {
        return Err(Refusal::WrongStatus(order.status));
    }
    let mut change = fields_only(order, now_ms);
    change.delivery_status = Some(DELIVERED);
    change.add(TaskKind::Complete, now_ms + timers.unconfirmed_ms);
    Ok(Some(change))
}

/// Plans the note that the refund has reached the wallet. `None`: noted already.
pub(crate) fn refunded(order: &Order, now_ms: i64) -> Option<Change> {
    let payment_id = order.payment_id.clone()?;
    if order.refund_status != REFUND_GRANTED {
        return None;
    }
    let mut change = fields_only(order, now_ms);
    change.refund_status = Some(REFUND_SUCCEEDED);
    change.refund = Some(RefundWrite {
        refund_id: refund_id(order.order_id, order.refunded_fen),
        payment_id,
        amount_fen: order.refunded_fen,
        source: if order.status.is_dead() { RefundSource::Escrow } else { RefundSource::Merchant },
        state: MoneyState::Ok,
    });
    Some(change)
}

/// Whether somebody still has to answer a refund that was applied for.
fn refund_open(order: &Order) -> bool {
    matches!(order.refund_status, REFUND_APPLIED | REFUND_IN_ARBITRATION)
}

/// Whether an order's escrow may be settled now: never that of an order that has ended without a meal.
pub(crate) fn may_settle(order: &Order) -> bool {
    order.settled_at_ms.is_none() && matches!(order.status, Status::Accepted | Status::Completed)
}

/// Plans the note that the escrow was settled. `None`: noted already.
pub(crate) fn settled(order: &Order, now_ms: i64) -> Option<Change> {
    if order.settled_at_ms.is_some() {
        return None;
    }
    let mut change = fields_only(order, now_ms);
    change.settled_at_ms = Some(now_ms);
    Some(change)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::change::apply;
    use super::*;
    use crate::ids::{CouponId, RestaurantId, UserId};

    const TIMERS: Timers = Timers {
        unpaid_ms: 1_000,
        unanswered_ms: 500,
        unconfirmed_ms: 500,
        charge_again_ms: 10,
        after_sales_ms: 1_000,
        settle_accepted_ms: None,
    };

    fn order() -> Order {
        Order {
            order_id: OrderId::compose(1, 1, 5, 6),
            user_id: UserId(1),
            restaurant_id: RestaurantId(2),
            req_id: "r".to_owned(),
            status: Status::Unpaid,
            version: 1,
            revision: 1,
            refund_status: 0,
            delivery_status: 0,
            items_fen: 3_000,
            delivery_fee_fen: 300,
            discount_fen: 200,
            total_fen: 3_100,
            paid_fen: 0,
            refunded_fen: 0,
            refund_no: None,
            completed_at_ms: None,
            settled_at_ms: None,
            coupon_id: Some(CouponId(1)),
            payment_id: None,
            lines: Vec::new(),
            address: String::new(),
            day: None,
            number: None,
            created_at_ms: 0,
            updated_at_ms: 0,
        }
    }

    fn has(change: &Change, kind: TaskKind) -> bool {
        change.tasks.iter().any(|task| task.kind == kind)
    }

    #[test]
    fn a_late_payment_is_booked_and_given_back_without_a_transition() {
        let closed = Order { status: Status::Closed, version: 3, ..order() };
        let change = payment_result(&closed, "p1", true, 3_100, &TIMERS, 9).unwrap().unwrap();
        assert!(change.step.is_none());
        assert!(has(&change, TaskKind::Capture) && has(&change, TaskKind::Refund));
        let after = apply(&closed, &change, 9).unwrap();
        assert_eq!((after.status, after.version), (Status::Closed, 3));
        assert_eq!((after.paid_fen, after.refund_status), (3_100, REFUND_GRANTED));
        assert_eq!(change.refund.unwrap().payment_id, "p1");
        assert_eq!(payment_result(&after, "p1", true, 3_100, &TIMERS, 9), Ok(None));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let paying = Order { status: Status::Paying, ..order() };
        assert_eq!(step(&paying, Trigger::Cancel, &TIMERS, 0).unwrap_err().to_string(), "a payment is in progress");
        let accepted = Order { status: Status::Accepted, ..order() };
        assert_eq!(step(&accepted, Trigger::Cancel, &TIMERS, 0), Err(Refusal::NeedsRefund));
        assert_eq!(step(&accepted, Trigger::Complete, &TIMERS, 0), Err(Refusal::NotDelivered));
        assert_eq!(
            payment_result(&paying, "p1", true, 1, &TIMERS, 0).unwrap_err().to_string(),
            "the payment is 1 fen, the order 3100 fen"
        );
        assert_eq!(
            step(&order(), Trigger::Accept, &TIMERS, 0).unwrap_err().to_string(),
            "the order has status -5, which does not allow this"
        );
    }

    #[test]
    fn a_change_planned_on_an_older_version_does_not_apply() {
        let change = step(&order(), Trigger::Pay, &TIMERS, 0).unwrap();
        let moved = Order { version: 2, ..order() };
        assert_eq!(apply(&moved, &change, 0), None);
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Trigger(Trigger),
        PaymentOk,
        PaymentFailed,
        Delivered,
        Refunded,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            proptest::sample::select(&Trigger::ALL[..]).prop_filter_map("has facts", |trigger| {
                (!matches!(trigger, Trigger::PaymentOk | Trigger::PaymentFailed)).then_some(Act::Trigger(trigger))
            }),
            Just(Act::Trigger(Trigger::Pay)),
            Just(Act::PaymentOk),
            Just(Act::PaymentFailed),
            Just(Act::Delivered),
            Just(Act::Refunded),
        ]
    }

    proptest! {
        #[test]
        fn any_life_is_legal_and_pays_back_what_a_dead_order_took(
            acts in proptest::collection::vec(act(), 0..80),
        ) {
            let mut at = order();
            let (mut paid, mut refunds) = (0, 0);
            for act in acts {
                let change = match act {
                    Act::Trigger(trigger) => step(&at, trigger, &TIMERS, 0).ok(),
                    Act::PaymentOk => payment_result(&at, "p", true, 3_100, &TIMERS, 0).ok().flatten(),
                    Act::PaymentFailed => payment_result(&at, "p", false, 3_100, &TIMERS, 0).ok().flatten(),
                    Act::Delivered => delivered(&at, &TIMERS, 0).ok().flatten(),
                    Act::Refunded => refunded(&at, 0),
                };
                let Some(change) = change else { continue };
                let after = apply(&at, &change, 0).unwrap();
                prop_assert!(has(&change, TaskKind::MerchantRow));
                prop_assert_eq!(after.revision, at.revision + 1);
                prop_assert_eq!(after.version, at.version + i64::from(change.step.is_some()));
                if change.step.is_some() {
                    prop_assert!(lifecycle::is_legal(Some(at.status), after.status));
                }
                if change.payment.as_ref().is_some_and(|row| row.state == MoneyState::Ok) {
                    paid += 1;
                }
                if let Some(refund) = &change.refund && refund.state == MoneyState::Open {
                    refunds += 1;
                    prop_assert_eq!(refund.amount_fen, 3_100);
                }
                at = after;
            }
            prop_assert!(paid <= 1, "paid {paid} times");
            // T12 and T13 belong to the reverse flow; from here a dead order is refunded once.
            prop_assert_eq!(refunds, i64::from(paid > 0 && at.status.is_dead()));
        }
    }
}
