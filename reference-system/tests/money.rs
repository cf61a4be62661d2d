//! Money: escrow, settlement, and the audit of both books.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use reference_system::Tier;
use reference_system::audit::Verdict;
use serde_json::{Value, json};
use world::{World, verdict_of};

on_both_tiers! {
    a_completed_order_is_settled_once_with_the_coupon_paid_by_the_platform
}

async fn a_completed_order_is_settled_once_with_the_coupon_paid_by_the_platform(tier: Tier) {
    let world = World::on(tier).await;
    let id = world.settled(50, 51, Some(50)).await;
    let order = world.get(&format!("/orders/{id}")).await.1;
    let of = |field: &str| order[field].as_i64().unwrap();
    assert!(of("settled_at_ms") >= of("completed_at_ms"));
    let (_, settlement) = world.ask("GET", "ledger", &format!("/settlements/{id}"), None).await;
    let share = |field: &str| settlement[field].as_i64().unwrap();
    assert_eq!(share("gross_fen"), of("items_fen") + of("delivery_fee_fen"), "also what the coupon took off");
    assert_eq!(share("rider_fen"), of("delivery_fee_fen"));
    assert_eq!(share("fee_fen"), of("items_fen") * 6 / 100);
    assert_eq!(share("merchant_fen") + share("fee_fen") + share("rider_fen"), share("gross_fen"));
    let again = json!([{ "order_id": id, "restaurant_id": 51, "gross_fen": 5, "delivery_fee_fen": 0 }]);
    assert_eq!(world.ask("POST", "ledger", "/settlements", Some(again)).await.0, 200);
    assert_eq!(world.ask("GET", "ledger", &format!("/settlements/{id}"), None).await.1, settlement);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn bad_settlements_are_refused_and_book_nothing() {
    let world = World::start().await;
    let settlement = |restaurant: i64, gross: Value, fee: i64| json!([{ "order_id": 9, "restaurant_id": restaurant, "gross_fen": gross, "delivery_fee_fen": fee }]);
    let granted = |user: i64, amount: i64| json!([{ "order_id": 9, "user_id": user, "restaurant_id": 1, "refunded_fen": amount }]);
    for (service, path, body, expected) in [
        ("ledger", "/settlements", settlement(0, json!(1), 0), 404),
        ("ledger", "/settlements", settlement(1, json!(0), 0), 422),
        ("ledger", "/settlements", settlement(1, json!(-5), 0), 422),
        ("ledger", "/settlements", settlement(1, json!(5), -1), 422),
        ("ledger", "/settlements", settlement(1, json!(1e30), 0), 422),
        ("ledger", "/settlements", json!({}), 422),
        ("eus", "/wallet/after-sales", granted(0, 1), 404),
        ("eus", "/wallet/after-sales", granted(1, 0), 422),
        ("eus", "/wallet/after-sales", granted(1, -1), 422),
    ] {
        let (status, answer) = world.ask("POST", service, path, Some(body)).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"].is_string());
    }
    assert_eq!(world.ask("GET", "ledger", "/settlements/9", None).await.0, 404);
    world.assert_valid().await;
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn settlement_by_a_timer_after_acceptance_comes_before_completion_and_the_auditor_tells() {
    let world = World::start().await;
    let fixed = world.accepted(52, 53, None).await;
    world.switch("settle.basis", "accepted_timer", &["eos-m"]).await;
    let flawed = world.accepted(54, 53, None).await;
    assert_eq!(world.is_settled(&flawed).await["status"], 2);
    let untouched = world.get(&format!("/orders/{fixed}")).await.1;
    assert_eq!((&untouched["status"], &untouched["settled_at_ms"]), (&json!(2), &Value::Null));
    let report = world.audit().await;
    assert_eq!(verdict_of(&report, "I12"), Verdict::Invalid, "{report:#?}");
    // Nothing is paid twice when the meal comes after all.
    world.ok(&format!("/orders/{flawed}/delivered"), Value::Null).await;
    world.ok(&format!("/orders/{flawed}/confirm"), Value::Null).await;
    let report = world.audit().await;
    for id in ["I9", "I10", "C2", "C3"] {
        assert_eq!(verdict_of(&report, id), Verdict::Valid, "{report:#?}");
    }
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn a_book_that_cannot_be_read_leaves_the_money_unknown() {
    let world = World::start().await;
    let data = world.data();
    world.system.stop().await.unwrap();
    std::fs::write(data.join("ledger.db"), b"this is no database, whatever its name says").unwrap();
    let _ = std::fs::remove_file(data.join("ledger.db-wal"));
    let report = reference_system::audit::audit_files(&data, None).await;
    for id in ["I9", "I10", "I12", "C2", "C3"] {
        assert_eq!(verdict_of(&report, id), Verdict::Unknown, "{report:#?}");
    }
    assert_eq!(verdict_of(&report, "I11"), Verdict::Valid);
}
