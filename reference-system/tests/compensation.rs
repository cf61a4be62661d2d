//! Refunds that are sent where nobody looks any more (L15): no answer tells, the audit and the canary do.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use reference_system::Tier;
use reference_system::audit::Verdict;
use serde_json::{Value, json};
use world::{World, eventually, id_of, obeyed, set};

on_both_tiers! {
    refunds_to_a_stale_address_leave_no_trace_but_in_the_audit_and_the_canary_tells
}

/// A paid order that its user cancels; the system says that the money is back.
async fn cancelled(world: &World, user: i64) {
    let id = id_of(&world.create(user, 12, None).await);
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.status_is(&id, 0).await;
    assert_eq!(world.ok(&format!("/orders/{id}/cancel"), Value::Null).await["status"], -1);
    eventually("the money is said to be back", || async {
        let (_, order) = world.get(&format!("/orders/{id}")).await;
        (order["refund_status"] == 6).then_some(())
    })
    .await;
}

async fn has_all_its_money(world: &World, user: i64) -> bool {
    world.get(&format!("/users/{user}")).await.1["balance_fen"] == json!(1_000_000)
}

async fn alarm_is(world: &World, on: bool) {
    let line = format!("refund_canary_alarm{{instance=\"eos-x-1\"}} {}", u8::from(on));
    eventually(&line, || async { world.metrics("eos-x-1").await.contains(&line).then_some(()) }).await;
}

async fn refunds_to_a_stale_address_leave_no_trace_but_in_the_audit_and_the_canary_tells(tier: Tier) {
    let world = World::on(tier).await;
    let turn = async |name: &'static str, value: &'static str| {
        set(&world, name, Some(value), None).await;
        obeyed(&world, name, value, &["eos-x-1"]).await;
    };
    cancelled(&world, 31).await;
    assert!(has_all_its_money(&world, 31).await);
    world.assert_valid().await;

    turn("refund.canary", "off").await;
    turn("refund.address", "stale").await;
    cancelled(&world, 32).await;
    assert!(!has_all_its_money(&world, 32).await, "it went where nobody looks");
    let report = world.audit().await;
    let invalid: Vec<&str> = report
        .invariants
        .iter()
        .filter(|finding| finding.verdict == Verdict::Invalid)
        .map(|finding| finding.id.as_str())
        .collect();
    assert_eq!(invalid, ["I11"], "{report:#?}");
    alarm_is(&world, false).await;

    turn("refund.canary", "on").await;
    alarm_is(&world, true).await;
    // The metric may be there a moment before the line is.
    let log = world.system.state().dir.join("log/eos-x-1.log");
    eventually("the log says so, too", || async {
        std::fs::read_to_string(&log).unwrap().contains("refunds do not reach their users").then_some(())
    })
    .await;
    turn("refund.address", "current").await;
    alarm_is(&world, false).await;
    cancelled(&world, 33).await;
    assert!(has_all_its_money(&world, 33).await);
    world.system.stop().await.unwrap();
}
