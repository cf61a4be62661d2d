//! The audit with the record of a load's writes, through the auditor's door and through the command.
#![allow(clippy::unwrap_used, reason = "tests whose bodies run on two tiers are functions")]

#[macro_use]
mod world;

use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use reference_system::Tier;
use reference_system::audit::{ANSWER_FIELDS, AuditReport, Verdict};
use serde_json::{Map, Value, json};
use sqlx::{Connection, PgConnection};
use world::{World, eventually, id_of, spoil};

on_both_tiers! {
    what_was_acknowledged_and_is_not_there_is_told_and_nothing_else
    refunds_and_virtual_goods_that_are_lost_or_rewound_after_their_answer_are_told
}

/// What is kept of an answer.
fn kept(answer: &Value) -> Map<String, Value> {
    let mut answer = answer.as_object().cloned().unwrap_or_default();
    answer.retain(|field, _| ANSWER_FIELDS.contains(&field.as_str()));
    answer
}

/// A line of a history; an answer that nobody kept is empty.
fn write(path: &str, key: &str, outcome: &str, answer: &Value) -> String {
    let line = json!({
        "method": "POST", "path": path, "key": key, "outcome": outcome, "status": 200, "answer": kept(answer),
    });
    format!("{line}\n")
}

/// A load that keeps what it was answered.
struct Load<'a> {
    world: &'a World,
    /// What each line is about, and the line.
    lines: Vec<(&'static str, String)>,
}

impl Load<'_> {
    async fn post(&mut self, about: &'static str, path: &str, body: Value) -> Value {
        let now_us = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64;
        let (key, sent) = (format!("load-{}", self.lines.len()), now_us());
        let (status, answer) = self.world.post_as(&key, path, body).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
        let line = json!({
            "method": "POST", "path": path, "key": key, "outcome": "ok", "status": status, "answer": kept(&answer),
            "t_invoke_us": sent, "t_done_us": now_us(),
        });
        self.lines.push((about, format!("{line}\n")));
        answer
    }

    async fn audit(&self) -> AuditReport {
        let history = self.lines.iter().map(|(_, line)| line.as_str()).collect();
        let (status, report) = audit(self.world, history).await;
        assert_eq!(status, 200, "{report}");
        serde_json::from_value(report).unwrap()
    }
}

/// A way to lose what was acknowledged, in the rows of a system that runs.
struct Loss {
    store: &'static str,
    spoil: String,
    /// Statements that undo it, or about what nothing is left to ask.
    after: Result<String, &'static str>,
    breaks: &'static [&'static str],
    /// What the counter-example says.
    told: String,
}

/// Runs statements on a store of a system that runs.
async fn change(world: &World, tier: Tier, store: &str, sql: &str) {
    if tier == Tier::Embedded {
        return spoil(&world.data().join(format!("{store}.db")), sql).await;
    }
    let (server, prefix) = world.databases();
    let mut database = PgConnection::connect(&format!("{server}/{prefix}_{store}")).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
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

    // What is read after an answer is what was answered, or newer.
    let revision = world.get(&format!("/orders/{id}")).await.1["revision"].as_i64().unwrap();
    let line = |method: &str, path: &str, status: u16, revision: Option<i64>, sent: u64| {
        let answer = revision.map(|revision| json!({ "order_id": id, "revision": revision }));
        let outcome = if status == 200 { "ok" } else { "fail" };
        let line = json!({
            "method": method, "path": path, "key": "night-1", "outcome": outcome, "status": status,
            "answer": answer.unwrap_or_else(|| json!({})), "t_invoke_us": sent, "t_done_us": sent + 10,
        });
        format!("{line}\n")
    };
    let read = |status, revision, sent| line("GET", &format!("/orders/{id}"), status, revision, sent);
    let paid = format!("{create}{}", line("POST", &pay, 200, Some(revision), 1_000));
    for (reads, told) in [
        ([read(200, Some(revision), 1_020), read(200, Some(revision + 1), 1_030)].concat(), &[][..]),
        // Both were under way at the same time; nobody knows; and what is read was no promise.
        (read(200, Some(revision - 1), 1_005), &[]),
        (read(503, None, 1_020), &[]),
        ([read(200, Some(revision + 1), 1_020), read(200, Some(revision), 1_040)].concat(), &[]),
        (read(200, Some(revision - 1), 1_020), &["I22"]),
        (read(404, None, 1_020), &["I22"]),
    ] {
        assert_eq!(broken(&world, &format!("{paid}{reads}")).await, told, "{reads}");
    }

    let granted = write("/refunds/77/approve", "night-6", "ok", &Value::Null);
    assert_eq!(broken(&world, &format!("{true_history}{granted}")).await, ["I8"]);

    let (status, answer) = audit(&world, format!("{create}nonsense\n")).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().starts_with("line 2 of the history is no write"), "{answer}");
    world.system.stop().await.unwrap();
}

async fn refunds_and_virtual_goods_that_are_lost_or_rewound_after_their_answer_are_told(tier: Tier) {
    let world = World::on(tier).await;
    let (completed, accepted) = (world.settled(30, 31, None).await, world.accepted(32, 31, None).await);
    let mut load = Load { world: &world, lines: Vec::new() };
    let ask = |amount: i64| json!({ "order": completed, "amount_fen": amount, "reason": "cold" });
    let rejected = load.post("rejected", "/refunds", ask(100)).await["refund_no"].clone();
    for decision in ["reject", "arbitrate", "reject"] {
        load.post("rejected", &format!("/refunds/{rejected}/{decision}"), Value::Null).await;
    }
    let granted = load.post("granted", "/refunds", ask(200)).await["refund_no"].clone();
    load.post("granted", &format!("/refunds/{granted}/approve"), Value::Null).await;
    let begun = load.post("begun", &format!("/orders/{accepted}/cancel"), Value::Null).await["refund_no"].clone();
    let wish = json!({ "user_id": 33, "product": "breakfast_ticket", "quantity": 2, "promotion": null });
    let fresh = load.post("fresh", "/vorders", wish.clone()).await["vorder_id"].clone();
    let dropped = load.post("dropped", "/vorders", wish.clone()).await["vorder_id"].clone();
    load.post("dropped", &format!("/vorders/{dropped}/cancel"), Value::Null).await;
    let paid = load.post("paid", "/vorders", wish).await["vorder_id"].clone();
    load.post("paid", &format!("/vorders/{paid}/pay"), Value::Null).await;
    for (path, state) in [(format!("/refunds/{granted}"), 6), (format!("/vorders/{paid}"), 9)] {
        eventually("it is done", || async { (world.get(&path).await.1["state"] == state).then_some(()) }).await;
    }
    let checked = |report: &AuditReport, id: &str| report.invariants.iter().find(|one| one.id == id).unwrap().checked;
    let (without, with) = (world.assert_valid().await, load.audit().await);
    assert_eq!(with.verdict, Verdict::Valid, "{with:#?}");
    for (id, writes) in [("I8", 7), ("I25", 5)] {
        assert_eq!(checked(&with, id), checked(&without, id) + writes, "each write is looked for: {with:#?}");
    }

    let refund = |number: &Value, set: &str| format!("UPDATE requests SET {set} WHERE refund_no = {number}");
    let rewound = |number: &Value, to: &str, from: &str, told: String| Loss {
        store: "rev",
        spoil: refund(number, to),
        after: Ok(refund(number, from)),
        breaks: &["I8"],
        told,
    };
    let virtual_order = |id: &Value, set: &str| format!("UPDATE vorders SET {set} WHERE vorder_id = {id}");
    let goods = |id: &Value, to: &str, from: &str, told: String| Loss {
        store: "vgo",
        spoil: virtual_order(id, to),
        after: Ok(virtual_order(id, from)),
        breaks: &["I25"],
        told,
    };
    let gone = |about, store, spoil, breaks, path: &str| Loss {
        store,
        spoil,
        after: Err(about),
        breaks,
        told: format!("{path} was acknowledged"),
    };
    let without = |number: &Value| format!("DELETE FROM requests WHERE refund_no = {number}");
    let losses = [
        rewound(&rejected, "state = 3", "state = 2", format!("/refunds/{rejected}/reject was")),
        rewound(
            &rejected,
            "state = 2, arbitrated = 0",
            "arbitrated = 1",
            format!("/refunds/{rejected}/arbitrate was acknowledged"),
        ),
        rewound(
            &rejected,
            "state = 1, arbitrated = 0",
            "state = 2, arbitrated = 1",
            format!("/refunds/{rejected}/reject was acknowledged"),
        ),
        rewound(&granted, "state = 1", "state = 6", format!("/refunds/{granted}/approve was acknowledged")),
        rewound(
            &granted,
            "amount_fen = 199",
            "amount_fen = 200",
            format!("refund {granted} was acknowledged with amount_fen 200, it has 199"),
        ),
        goods(&dropped, "state = 1", "state = -1", format!("/vorders/{dropped}/cancel was acknowledged")),
        goods(&paid, "state = 1", "state = 9", format!("/vorders/{paid}/pay was acknowledged")),
        goods(
            &fresh,
            "amount_fen = amount_fen - 1",
            "amount_fen = amount_fen + 1",
            format!("virtual order {fresh} was acknowledged with amount_fen 1600, it has 1599"),
        ),
        gone("begun", "rev", without(&begun), &["I8"], &format!("/orders/{accepted}/cancel")),
        gone("rejected", "rev", without(&rejected), &["I8"], "/refunds"),
        gone(
            "fresh",
            "vgo",
            format!(
                "DELETE FROM vorder_extensions WHERE vorder_id = {fresh}; DELETE FROM vorders WHERE vorder_id = {fresh}"
            ),
            &["I25"],
            "/vorders",
        ),
    ];
    for Loss { store, spoil, after, breaks, told } in losses {
        change(&world, tier, store, &spoil).await;
        let report = load.audit().await;
        let broken: Vec<_> = report.invariants.iter().filter(|finding| finding.verdict == Verdict::Invalid).collect();
        let ids: Vec<&str> = broken.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, breaks, "{spoil}: {report:#?}");
        let example = broken.iter().flat_map(|finding| &finding.examples).any(|example| example.starts_with(&told));
        assert!(example, "{spoil} is not told as {told}: {report:#?}");
        match after {
            Ok(undo) => change(&world, tier, store, &undo).await,
            Err(about) => load.lines.retain(|(of, _)| *of != about),
        }
    }
    let report = load.audit().await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
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
