//! A change of one order: rows, money and task rows as one value, which the store applies in one
//! local transaction.

use serde::{Deserialize, Serialize};

use super::lifecycle::Status;
use super::routing::Named;
use super::{Order, REFUND_GRANTED};
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::locks::Guard;

/// Work that eos-x does after a change, at least once, until it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskKind {
    /// Copy the row to the merchant dimension.
    MerchantRow,
    /// T7, once the merchant row is visible.
    Dispatch,
    /// Ask for the charge again while the order is paying.
    Charge,
    /// Book the held money: wallet → escrow.
    Capture,
    /// Give held money back after a failed payment.
    ReleaseHold,
    /// Escrow → wallet.
    Refund,
    /// The coupon is spent.
    CouponUse,
    /// The coupon is free again.
    CouponReturn,
    /// T5.
    CloseUnpaid,
    /// T9 by timer.
    RejectUnanswered,
    /// T11 by timer.
    Complete,
    /// T8: the reserved stock is sold.
    StockCommit,
    /// The reserved stock goes back.
    StockRelease,
    /// Escrow → merchant, platform and rider.
    Settle,
    /// T13: merchant → wallet.
    AfterSales,
    /// Find a courier.
    Courier,
}

impl TaskKind {
    const ALL: [Self; 16] = [
        Self::MerchantRow,
        Self::Dispatch,
        Self::Charge,
        Self::Capture,
        Self::ReleaseHold,
        Self::Refund,
        Self::CouponUse,
        Self::CouponReturn,
        Self::CloseUnpaid,
        Self::RejectUnanswered,
        Self::Complete,
        Self::StockCommit,
        Self::StockRelease,
        Self::Settle,
        Self::AfterSales,
        Self::Courier,
    ];

    /// The number in the store.
    pub(crate) fn code(self) -> i64 {
        self as i64
    }

    /// The kind with this number.
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// A task row to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskWrite {
    /// What to do.
    pub(crate) kind: TaskKind,
    /// When, in milliseconds since 1970.
    pub(crate) due_at_ms: i64,
}

/// Which account gives a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefundSource {
    /// The order's escrow: the order has ended without a meal.
    Escrow,
    /// The merchant: the order was completed and settled.
    Merchant,
}

impl RefundSource {
    /// The number in the store.
    pub(crate) fn code(self) -> i64 {
        self as i64
    }
}

/// A refund row to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefundWrite {
    /// One refund of one order.
    pub(crate) refund_id: String,
    /// The payment that it gives back, or a part of.
    pub(crate) payment_id: String,
    /// In fen.
    pub(crate) amount_fen: i64,
    /// Who gives it.
    pub(crate) source: RefundSource,
    /// Its state after the change.
    pub(crate) state: MoneyState,
}

/// Where a payment or refund row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MoneyState {
    /// Asked for, not answered.
    Open,
    /// Done.
    Ok,
    /// Refused.
    Failed,
}

impl MoneyState {
    /// The number in the store.
    pub(crate) fn code(self) -> i64 {
        self as i64
    }
}

/// A payment row to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoneyWrite {
    /// The payment.
    pub(crate) payment_id: String,
    /// In fen.
    pub(crate) amount_fen: i64,
    /// Its state after the change.
    pub(crate) state: MoneyState,
}

/// One change of one order: a compare-and-set on (status, version) and everything that must be
/// written in the same local transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Which order.
    pub(crate) order_id: OrderId,
    /// Whose; must be named where the ID does not carry it.
    #[serde(default)]
    pub(crate) user_id: Option<UserId>,
    /// At which restaurant; must be named where the ID does not carry it.
    #[serde(default)]
    pub(crate) restaurant_id: Option<RestaurantId>,
    /// Compare: the status that the planner saw.
    pub(crate) expected_status: Status,
    /// Compare: the version that the planner saw.
    pub(crate) expected_version: i64,
    /// Compare, if the refund's state is to change: number and state that the planner saw. They change without a new
    /// version.
    pub(crate) expected_refund: (Option<i64>, i64),
    /// The new status and its event; `None` changes fields only, and raises no version.
    pub(crate) step: Option<Step>,
    /// Set, if given.
    pub(crate) paid_fen: Option<i64>,
    /// Set, if given.
    pub(crate) refund_status: Option<i64>,
    /// Set, if given.
    pub(crate) refunded_fen: Option<i64>,
    /// Set, if given.
    pub(crate) refund_no: Option<i64>,
    /// Set, if given.
    pub(crate) settled_at_ms: Option<i64>,
    /// Set, if given.
    pub(crate) delivery_status: Option<i64>,
    /// Day and kitchen number; set, if given.
    pub(crate) kitchen: Option<(i64, i64)>,
    /// The payment row, if it changes.
    pub(crate) payment: Option<MoneyWrite>,
    /// The refund row, if it changes.
    pub(crate) refund: Option<RefundWrite>,
    /// Work for eos-x.
    pub(crate) tasks: Vec<TaskWrite>,
    /// The lock under which the order was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guard: Option<Guard>,
}

/// A transition within a [`Change`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The new status.
    pub(crate) to: Status,
    /// The event's name.
    pub(crate) event: String,
}

/// The order after `change`, at `now_ms`; `None` if the compare fails.
pub(crate) fn apply(order: &Order, change: &Change, now_ms: i64) -> Option<Order> {
    if (order.status, order.version) != (change.expected_status, change.expected_version) {
        return None;
    }
    if change.refund_status.is_some() && (order.refund_no, order.refund_status) != change.expected_refund {
        return None;
    }
    let mut after = order.clone();
    after.revision += 1;
    after.updated_at_ms = now_ms;
    if let Some(step) = &change.step {
        if step.to == Status::Completed && after.completed_at_ms.is_none() {
            after.completed_at_ms = Some(now_ms);
        }
        after.status = step.to;
        after.version += 1;
    }
    after.paid_fen = change.paid_fen.unwrap_or(after.paid_fen);
    after.refund_status = change.refund_status.unwrap_or(after.refund_status);
    after.refunded_fen = change.refunded_fen.unwrap_or(after.refunded_fen);
    after.refund_no = change.refund_no.or(after.refund_no);
    after.settled_at_ms = change.settled_at_ms.or(after.settled_at_ms);
    // Deliveries are told by several, without a new version each: they only go forward.
    after.delivery_status = change.delivery_status.map_or(after.delivery_status, |to| to.max(after.delivery_status));
    if let Some((day, number)) = change.kitchen {
        after.day = Some(day);
        after.number = Some(number);
    }
    if let Some(payment) = &change.payment {
        after.payment_id = Some(payment.payment_id.clone());
    }
    Some(after)
}

/// A change that, so far, only copies the row to the merchant dimension.
pub(super) fn fields_only(order: &Order, now_ms: i64) -> Change {
    Change {
        order_id: order.order_id,
        user_id: Some(order.user_id),
        restaurant_id: Some(order.restaurant_id),
        expected_status: order.status,
        expected_version: order.version,
        expected_refund: (order.refund_no, order.refund_status),
        step: None,
        paid_fen: None,
        refund_status: None,
        refunded_fen: None,
        refund_no: None,
        settled_at_ms: None,
        delivery_status: None,
        kitchen: None,
        payment: None,
        refund: None,
        tasks: vec![TaskWrite { kind: TaskKind::MerchantRow, due_at_ms: now_ms }],
        guard: None,
    }
}

impl Change {
    /// What it names.
    pub(crate) fn named(&self) -> Named {
        Named { order_id: Some(self.order_id), user_id: self.user_id, restaurant_id: self.restaurant_id }
    }

    /// Adds a task row.
    pub(super) fn add(&mut self, kind: TaskKind, due_at_ms: i64) {
        self.tasks.push(TaskWrite { kind, due_at_ms });
    }

    /// Plans to give back everything that was paid as `payment`.
    pub(super) fn refund_all(&mut self, order: &Order, payment: &str, amount_fen: i64, now_ms: i64) {
        self.grant(order, payment, amount_fen, RefundSource::Escrow);
        self.add(TaskKind::Refund, now_ms);
    }

    /// Writes that an amount is given back, from one account or the other.
    pub(super) fn grant(&mut self, order: &Order, payment: &str, amount_fen: i64, source: RefundSource) {
        let refunded_fen = order.refunded_fen + amount_fen;
        self.refund_status = Some(REFUND_GRANTED);
        self.refunded_fen = Some(refunded_fen);
        self.refund = Some(RefundWrite {
            refund_id: refund_id(order.order_id, refunded_fen),
            payment_id: payment.to_owned(),
            amount_fen,
            source,
            state: MoneyState::Open,
        });
    }
}

/// The refund that brought what an order gave back to `refunded_fen`: one is open at a time, so this names it.
pub(super) fn refund_id(order_id: OrderId, refunded_fen: i64) -> String {
    format!("r{order_id}-{refunded_fen}")
}
