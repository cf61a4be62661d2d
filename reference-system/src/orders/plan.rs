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
    #[error("{asked} is no payment of this order")]
    OtherPayment { asked: String },
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
            Self::OtherPayment { .. } => "other_payment",
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
        (Status::Paying, Trigger::Cancel | Trigger::Risk) => Refusal::PaymentInProgress,
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
    if payment != payment_id(order.order_id) {
        return Err(Refusal::OtherPayment { asked: payment.to_owned() });
    }
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
mod tests;
