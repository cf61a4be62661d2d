//! Plans for orders in every state: what is refused, what changes, and which tasks follow.

use proptest::prelude::*;

use super::super::change::apply;
use super::*;
use crate::orders::unpaid_order as order;

const TIMERS: Timers = Timers {
    unpaid_ms: 1_000,
    unanswered_ms: 500,
    unconfirmed_ms: 500,
    charge_again_ms: 10,
    after_sales_ms: 1_000,
    settle_accepted_ms: None,
};

fn payment() -> String {
    payment_id(order().order_id)
}

fn has(change: &Change, kind: TaskKind) -> bool {
    change.tasks.iter().any(|task| task.kind == kind)
}

#[test]
fn a_late_payment_is_booked_and_given_back_without_a_transition() {
    let closed = Order { status: Status::Closed, version: 3, ..order() };
    let change = payment_result(&closed, &payment(), true, 3_100, &TIMERS, 9).unwrap().unwrap();
    assert!(change.step.is_none());
    assert!(has(&change, TaskKind::Capture) && has(&change, TaskKind::Refund));
    let after = apply(&closed, &change, 9).unwrap();
    assert_eq!((after.status, after.version), (Status::Closed, 3));
    assert_eq!((after.paid_fen, after.refund_status), (3_100, REFUND_GRANTED));
    assert_eq!(change.refund.unwrap().payment_id, payment());
    assert_eq!(payment_result(&after, &payment(), true, 3_100, &TIMERS, 9), Ok(None));
}

#[test]
fn refusals_say_what_to_do() {
    let paying = Order { status: Status::Paying, ..order() };
    assert_eq!(step(&paying, Trigger::Cancel, &TIMERS, 0).unwrap_err().to_string(), "a payment is in progress");
    let accepted = Order { status: Status::Accepted, ..order() };
    assert_eq!(step(&accepted, Trigger::Cancel, &TIMERS, 0), Err(Refusal::NeedsRefund));
    assert_eq!(step(&accepted, Trigger::Complete, &TIMERS, 0), Err(Refusal::NotDelivered));
    assert_eq!(
        payment_result(&paying, &payment(), true, 1, &TIMERS, 0).unwrap_err().to_string(),
        "the payment is 1 fen, the order 3100 fen"
    );
    assert_eq!(
        payment_result(&paying, "p1", true, 3_100, &TIMERS, 0).unwrap_err().to_string(),
        "p1 is no payment of this order"
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
                Act::PaymentOk => payment_result(&at, &payment(), true, 3_100, &TIMERS, 0).ok().flatten(),
                Act::PaymentFailed => payment_result(&at, &payment(), false, 3_100, &TIMERS, 0).ok().flatten(),
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
        payment_id: Some(payment()),
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
