//! The audit with the record of a load's writes, through the auditor's door and through the command.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::path::Path;
use std::process::{Command, Output};

use reference_system::Tier;
use reference_system::audit::{AuditReport, Verdict};
use serde_json::{Value, json};
use world::{World, id_of};

on_both_tiers! {
    what_was_acknowledged_and_is_not_there_is_told_and_nothing_else
}

/// A line of a history; an answer that nobody kept is empty.
fn write(path: &str, key: &str, outcome: &str, answer: &Value) -> String {
    let answer = if answer.is_null() { &json!({}) } else { answer };
    let line =
        json!({ "method": "POST", "path": path, "key": key, "outcome": outcome, "status": 200, "answer": answer });
    format!("{line}\n")
}

async fn audit(world: &World, history: String) -> (u16, Value) {
    let url = format!("{}/audit?quiesce_ms=20000", world.system.state().auditor);
    let answer = world.http.post(url).body(history).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn broken(world: &World, history: &str) -> Vec<String> {
    let (status, report) = audit(world, history.to_owned()).await;
    assert_eq!(status, 200, "{report}");
    let report: AuditReport = serde_json::from_value(report).unwrap();
    let invalid = report.invariants.iter().filter(|finding| finding.verdict == Verdict::Invalid);
    let told: Vec<String> = invalid.map(|finding| finding.id.clone()).collect();
    assert_eq!(told.is_empty(), report.verdict == Verdict::Valid, "{report:#?}");
    for id in ["I1", "I2", "I8", "C4"] {
        assert!(report.invariants.iter().any(|finding| finding.id == id), "{id} was not looked at");
    }
    told
}

async fn what_was_acknowledged_and_is_not_there_is_told_and_nothing_else(tier: Tier) {
    let world = World::on(tier).await;
    let basket = world.basket(7, 11, None).await;
    let (status, order) = world.post_as("night-1", "/orders", basket).await;
    assert_eq!(status, 200, "{order}");
    let id = id_of(&order);
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.status_is(&id, 0).await;
    // Somebody else's order is nobody's fault.
    world.create(8, 11, None).await;

    let (create, pay) = (write("/orders", "night-1", "ok", &order), format!("/orders/{id}/pay"));
    let true_history = format!("{create}{}", write(&pay, "night-1", "ok", &Value::Null));
    assert_eq!(broken(&world, &true_history).await, Vec::<String>::new());
    // Unknown outcomes accuse nobody, whether it happened or not.
    let unknown = format!(
        "{}{}",
        write("/orders", "night-1", "info", &Value::Null),
        write("/orders", "night-2", "info", &Value::Null)
    );
    assert_eq!(broken(&world, &unknown).await, Vec::<String>::new());

    let mut lost = order.clone();
    lost["order_id"] = json!((id.parse::<i64>().unwrap() + (1 << 20)).to_string());
    assert_eq!(
        broken(&world, &format!("{true_history}{}", write("/orders", "night-3", "ok", &lost))).await,
        ["I1", "C4"]
    );
    let mut dearer = order.clone();
    dearer["total_fen"] = json!(order["total_fen"].as_i64().unwrap() + 1);
    assert_eq!(broken(&world, &write("/orders", "night-1", "ok", &dearer)).await, ["I1"]);
    assert_eq!(broken(&world, &write("/orders", "night-1", "fail", &Value::Null)).await, ["I2", "C4"]);
    let accept = write(&format!("/restaurants/11/orders/{id}/accept"), "night-4", "ok", &Value::Null);
    assert_eq!(broken(&world, &format!("{true_history}{accept}")).await, ["I8"]);
    let delivered = write(&format!("/orders/{id}/delivered"), "night-5", "ok", &Value::Null);
    assert_eq!(broken(&world, &format!("{true_history}{delivered}")).await, ["I8"]);

    let granted = write("/refunds/77/approve", "night-6", "ok", &Value::Null);
    assert_eq!(broken(&world, &format!("{true_history}{granted}")).await, ["I8"]);

    let (status, answer) = audit(&world, format!("{create}nonsense\n")).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().starts_with("line 2 of the history is no write"), "{answer}");
    world.system.stop().await.unwrap();
}

fn system_audit(dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reference-system"));
    command.arg("audit").arg("--dir").arg(dir).args(more).output().unwrap()
}

#[tokio::test]
async fn the_command_exits_by_the_verdict_also_after_the_system_went_down() {
    let world = World::start().await;
    let basket = world.basket(7, 11, None).await;
    let (_, order) = world.post_as("night-1", "/orders", basket).await;
    let dir = world.system.state().dir.clone();
    let history = dir.join("history.jsonl");
    std::fs::write(&history, write("/orders", "night-1", "ok", &order)).unwrap();
    let with = ["--history", history.to_str().unwrap()];
    let up = system_audit(&dir, &with);
    let text = String::from_utf8(up.stdout).unwrap();
    assert_eq!(up.status.code(), Some(0), "{text}");
    assert!(text.contains("valid    I1   No acknowledged order is lost (1 checked)"), "{text}");
    assert!(text.ends_with("valid: 2 orders, the system at rest\n"), "{text}");
    let World { system, dir: _keep, .. } = world;
    system.stop().await.unwrap();

    let down = system_audit(&dir, &with);
    assert_eq!(down.status.code(), Some(0), "{}", String::from_utf8_lossy(&[down.stdout, down.stderr].concat()));
    std::fs::write(&history, write("/orders", "night-1", "fail", &Value::Null)).unwrap();
    let accused = system_audit(&dir, &["--json", "--history", history.to_str().unwrap()]);
    assert_eq!(accused.status.code(), Some(1));
    let report: AuditReport = serde_json::from_slice(&accused.stdout).unwrap();
    assert_eq!(report.verdict, Verdict::Invalid);
    std::fs::write(dir.join("data/st-u0.db"), b"this is no database, whatever its name says").unwrap();
    let _ = std::fs::remove_file(dir.join("data/st-u0.db-wal"));
    assert_eq!(system_audit(&dir, &[]).status.code(), Some(3), "what cannot be read is unknown");
    let nothing = tempfile::tempdir().unwrap();
    let none = system_audit(nothing.path(), &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains("no system runs in"));
}
