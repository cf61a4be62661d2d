//! What each step of an order's life changes: the rows, the money and the task rows of a transition,
//! planned without clock or store.

use serde::{Deserialize, Serialize};

use super::change::{
    Change, MoneyState, MoneyWrite, RefundSource, RefundWrite, Step, TaskKind, TaskWrite, fields_only, refund_id,
};
use super::lifecycle::{self, Status, Trigger};
use super::{
    DELIVERED, Order, REFUND_APPLIED, REFUND_GRANTED, REFUND_IN_ARBITRATION, REFUND_REJECTED, REFUND_SUCCEEDED,
};
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

impl Default for Timers {
    fn default() -> Self {
        Self {
            unpaid_ms: 15 * 60_000,
            unanswered_ms: 5 * 60_000,
            unconfirmed_ms: 30 * 60_000,
            charge_again_ms: 3_000,
            after_sales_ms: 7 * 86_400_000,
            settle_accepted_ms: None,
        }
    }
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
    #[error("a refund of {asked} fen was asked for; {left} fen are left, all of them until the order is completed")]
    WrongRefund { asked: i64, left: i64 },
    #[error("the merchant has not been paid yet; try again in a moment")]
    NotSettled,
    #[error("the order was completed too long ago for a refund")]
    WindowClosed,
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
            Self::WrongRefund { .. } => "wrong_refund",
            Self::NotSettled => "not_settled",
            Self::WindowClosed => "window_closed",
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
            change.add(TaskKind::Courier, now_ms);
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

/// Plans what a courier tells: a field, no transition. `Ok(None)`: known already, or it has come further.
pub(crate) fn delivery(order: &Order, to: i64, timers: &Timers, now_ms: i64) -> Result<Option<Change>, Refusal> {
    if order.delivery_status >= to {
        return Ok(None);
    }
    if order.status != Status::Accepted {
        return Err(Refusal::WrongStatus(order.status));
    }
    let mut change = fields_only(order, now_ms);
    change.delivery_status = Some(to);
    if to == DELIVERED {
        change.add(TaskKind::Complete, now_ms + timers.unconfirmed_ms);
    }
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

/// What the reverse flow tells an order of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefundStep {
    /// Somebody has applied for it.
    Apply,
    /// The merchant, or the platform, has refused.
    Reject,
    /// The user has asked the platform.
    Arbitrate,
    /// T12 or T13.
    Grant,
}

/// Whether so much of the order may be asked back now: all of it until completion, a part of it for a while after.
pub(crate) fn refundable(order: &Order, amount_fen: i64, timers: &Timers, now_ms: i64) -> Result<(), Refusal> {
    if refund_open(order) || order.refund_status == REFUND_GRANTED {
        return Err(Refusal::RefundOpen);
    }
    grantable(order, amount_fen)?;
    let window = order.completed_at_ms.map(|at_ms| at_ms + timers.after_sales_ms);
    if window.is_some_and(|until_ms| now_ms > until_ms) {
        return Err(Refusal::WindowClosed);
    }
    Ok(())
}

fn grantable(order: &Order, amount_fen: i64) -> Result<(), Refusal> {
    let left = order.paid_fen - order.refunded_fen;
    let fits = match order.status {
        Status::Accepted => amount_fen == left,
        // Before that, the money is not the merchant's to give.
        Status::Completed if order.settled_at_ms.is_none() => return Err(Refusal::NotSettled),
        Status::Completed => (1..=left).contains(&amount_fen),
        status => return Err(Refusal::WrongStatus(status)),
    };
    if fits { Ok(()) } else { Err(Refusal::WrongRefund { asked: amount_fen, left }) }
}

/// Plans what the reverse flow tells. `Ok(None)`: the order knows already, or it is about an older refund.
pub(crate) fn refund(
    order: &Order,
    asked: RefundStep,
    refund_no: i64,
    amount_fen: i64,
    timers: &Timers,
    now_ms: i64,
) -> Result<Option<Change>, Refusal> {
    let known = order.refund_no == Some(refund_no);
    let mut change = fields_only(order, now_ms);
    change.refund_no = Some(refund_no);
    match asked {
        RefundStep::Apply if known => return Ok(None),
        RefundStep::Apply => {
            refundable(order, amount_fen, timers, now_ms)?;
            change.refund_status = Some(REFUND_APPLIED);
        }
        RefundStep::Reject => {
            if !(known && refund_open(order)) {
                return Ok(None);
            }
            change.refund_status = Some(REFUND_REJECTED);
            if order.status == Status::Accepted && order.delivery_status == DELIVERED {
                // The timer may have run out while the refund was open.
                change.add(TaskKind::Complete, now_ms + timers.unconfirmed_ms);
            }
        }
        RefundStep::Arbitrate => {
            if known && order.refund_status != REFUND_REJECTED {
                return Ok(None);
            }
            if !known && refund_open(order) {
                return Err(Refusal::RefundOpen);
            }
            change.refund_status = Some(REFUND_IN_ARBITRATION);
        }
        RefundStep::Grant => {
            if known && matches!(order.refund_status, REFUND_GRANTED | REFUND_SUCCEEDED) {
                return Ok(None);
            }
            if !known && refund_open(order) {
                return Err(Refusal::RefundOpen);
            }
            grantable(order, amount_fen)?;
            if order.status == Status::Accepted {
                change = step(order, Trigger::RefundApproved, timers, now_ms)?;
            } else {
                change = step(order, Trigger::AfterSales, timers, now_ms)?;
                let payment = order.payment_id.as_deref().unwrap_or_default();
                change.grant(order, payment, amount_fen, RefundSource::Merchant);
                change.add(TaskKind::AfterSales, now_ms);
            }
            change.refund_no = Some(refund_no);
        }
    }
    Ok(Some(change))
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
    use crate::ids::{CouponId, RestaurantId, Slots, UserId};

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
            order_id: OrderId::compose(1, 1, Slots { user: 5, merchant: 6 }),
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

    #[test]
    fn what_was_planned_before_others_told_more_takes_nothing_back() {
        let accepted = Order { status: Status::Accepted, paid_fen: 3_100, ..order() };
        let assigned = delivery(&accepted, 1, &TIMERS, 0).unwrap().unwrap();
        let arrived = apply(&accepted, &delivery(&accepted, DELIVERED, &TIMERS, 0).unwrap().unwrap(), 0).unwrap();
        assert_eq!(apply(&arrived, &assigned, 0).unwrap().delivery_status, DELIVERED);
        let tell = |at: &Order, asked| refund(at, asked, 1, 3_100, &TIMERS, 0).unwrap().unwrap();
        let applied_for = tell(&accepted, RefundStep::Apply);
        let open = apply(&accepted, &applied_for, 0).unwrap();
        let rejected = apply(&open, &tell(&open, RefundStep::Reject), 0).unwrap();
        assert_eq!(apply(&rejected, &applied_for, 0), None);
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Trigger(Trigger),
        PaymentOk,
        PaymentFailed,
        Delivered,
        Refunded,
        Settled,
        Refund(RefundStep, i64, i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            proptest::sample::select(&Trigger::ALL[..]).prop_filter_map("has facts", |trigger| {
                let facts = [Trigger::PaymentOk, Trigger::PaymentFailed, Trigger::RefundApproved, Trigger::AfterSales];
                (!facts.contains(&trigger)).then_some(Act::Trigger(trigger))
            }),
            Just(Act::Trigger(Trigger::Pay)),
            Just(Act::PaymentOk),
            Just(Act::PaymentFailed),
            Just(Act::Delivered),
            Just(Act::Refunded),
            Just(Act::Settled),
            (
                proptest::sample::select(vec![
                    RefundStep::Apply,
                    RefundStep::Reject,
                    RefundStep::Arbitrate,
                    RefundStep::Grant,
                ]),
                1_i64..4,
                proptest::sample::select(vec![-1_i64, 0, 1, 100, 1_600, 3_100, 3_101]),
            )
                .prop_map(|(asked, no, amount)| Act::Refund(asked, no, amount)),
        ]
    }

    proptest! {
        #[test]
        fn any_life_is_legal_and_gives_back_what_it_should_and_never_more_than_was_paid(
            acts in proptest::collection::vec(act(), 0..120),
        ) {
            let mut at = order();
            let (mut paid, mut granted, mut done) = (0, 0, 0);
            for act in acts {
                let change = match act {
                    Act::Trigger(trigger) => step(&at, trigger, &TIMERS, 0).ok(),
                    Act::PaymentOk => payment_result(&at, "p", true, 3_100, &TIMERS, 0).ok().flatten(),
                    Act::PaymentFailed => payment_result(&at, "p", false, 3_100, &TIMERS, 0).ok().flatten(),
                    Act::Delivered => delivery(&at, DELIVERED, &TIMERS, 0).ok().flatten(),
                    Act::Refunded => refunded(&at, 0),
                    Act::Settled => may_settle(&at).then(|| settled(&at, 0)).flatten(),
                    Act::Refund(asked, no, amount) => refund(&at, asked, no, amount, &TIMERS, 0).ok().flatten(),
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
                if let Some(refund) = &change.refund {
                    if refund.state == MoneyState::Open {
                        prop_assert!(refund.amount_fen > 0);
                        granted += refund.amount_fen;
                        let task = match refund.source {
                            RefundSource::Escrow => TaskKind::Refund,
                            RefundSource::Merchant => TaskKind::AfterSales,
                        };
                        prop_assert!(has(&change, task));
                        prop_assert_eq!(refund.source == RefundSource::Escrow, after.status.is_dead());
                        // Money of an order that was settled is no longer in escrow.
                        prop_assert_eq!(refund.source == RefundSource::Merchant, after.completed_at_ms.is_some());
                    } else {
                        done += 1;
                        prop_assert_eq!(&refund.refund_id, &refund_id(at.order_id, granted), "the one that is open");
                    }
                }
                if after.status == Status::Completed && at.status != Status::Completed {
                    prop_assert!(has(&change, TaskKind::Settle));
                    prop_assert!(!refund_open(&at), "completed while a refund was open");
                }
                prop_assert_eq!(after.refunded_fen, granted);
                prop_assert!(after.refunded_fen <= after.paid_fen);
                at = after;
            }
            prop_assert!(paid <= 1, "paid {paid} times");
            prop_assert!(done <= 3);
            if at.status.is_dead() {
                prop_assert_eq!(granted, at.paid_fen, "a dead order gives back all of it");
            }
        }
    }

    #[test]
    fn a_refund_is_asked_for_in_time_and_for_no_more_than_is_left() {
        let completed = Order {
            status: Status::Completed,
            paid_fen: 3_100,
            refunded_fen: 100,
            completed_at_ms: Some(5_000),
            settled_at_ms: Some(5_001),
            payment_id: Some("p".to_owned()),
            ..order()
        };
        assert_eq!(refundable(&completed, 3_000, &TIMERS, 6_000), Ok(()));
        assert_eq!(refundable(&completed, 3_000, &TIMERS, 6_001), Err(Refusal::WindowClosed));
        assert_eq!(refundable(&completed, 3_001, &TIMERS, 6_000).unwrap_err().code(), "wrong_refund");
        let unsettled = Order { settled_at_ms: None, ..completed.clone() };
        assert_eq!(refundable(&unsettled, 1, &TIMERS, 6_000), Err(Refusal::NotSettled));
        let accepted = Order { status: Status::Accepted, refunded_fen: 0, completed_at_ms: None, ..completed };
        assert_eq!(
            refundable(&accepted, 1, &TIMERS, 0).unwrap_err().to_string(),
            "a refund of 1 fen was asked for; 3100 fen are left, all of them until the order is completed"
        );
        assert_eq!(refundable(&accepted, 3_100, &TIMERS, 0), Ok(()));
        assert_eq!(refundable(&order(), 1, &TIMERS, 0), Err(Refusal::WrongStatus(Status::Unpaid)));
    }
}
