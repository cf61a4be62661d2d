//! The auditor is audited: every invariant has a seeded corruption that it tells, and what cannot be read is unknown.
//!
//! A new invariant needs a corruption, which names it among those that must tell: a row of `corruptions/seeded.rs`, whose
//! system may need something more to happen.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod corruptions;
#[macro_use]
mod world;

use std::collections::BTreeSet;

use corruptions::{seeded, spoils};
use reference_system::Tier;
use reference_system::audit::{AuditReport, History, Verdict, audit_files};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use world::sources::test_files;
use world::{World, copy_of, id_of, kill, runs, spoil};

on_both_tiers! {
    each_seeded_corruption_is_told_by_its_invariants_and_by_no_other
}

async fn each_seeded_corruption_is_told_by_its_invariants_and_by_no_other(tier: Tier) {
    let world = World::on(tier).await;
    seeded::everything_happens(&world).await;
    world.assert_valid().await;
    spoils(world, tier, seeded::all()).await;
}

fn with(report: &AuditReport, verdict: Verdict) -> BTreeSet<&str> {
    let found = report.invariants.iter().filter(|finding| finding.verdict == verdict);
    found.map(|finding| finding.id.as_str()).collect()
}

/// The invariants that a test's lists name, such as `&["I5", "C2"]`; what a loop goes over is no such list.
fn named(text: &str) -> BTreeSet<String> {
    let is_one = |word: &str| {
        word.strip_prefix(['I', 'C'])
            .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    };
    let lists = text.match_indices("[\"").filter(|(at, _)| !text[..*at].ends_with("in "));
    lists
        .filter_map(|(at, _)| text[at + 1..].split(']').next())
        .flat_map(|list| list.split(',').map(|word| word.trim().trim_matches('"').to_owned()))
        .filter(|word| is_one(word))
        .collect()
}

/// What is not in a store is spoilt while the system runs, by a test that names the invariant.
const SPOILT_LIVE: &[(&str, &str)] =
    &[("I22", "cache.rs::a_cache_that_hangs_or_dies_costs_no_error_and_the_audit_tells_one_that_lies")];

#[tokio::test]
async fn every_invariant_is_unknown_where_nothing_can_be_read_and_has_a_corruption_that_it_tells() {
    let nothing = tempfile::tempdir().unwrap();
    let report = audit_files(nothing.path(), Some(&History::default())).await;
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!(with(&report, Verdict::Unknown).len(), report.invariants.len(), "{report:#?}");
    let seeded = seeded::all().chain(seeded::OLD_SIDE).chain(seeded::NEW_SIDE);
    let mut told: BTreeSet<String> = seeded.flat_map(|corruption| corruption.breaks).map(ToString::to_string).collect();
    for file in test_files() {
        for test in file.tests() {
            let text = file.written_out(test);
            if text.contains("broken(") {
                told.extend(named(&text));
            }
        }
    }
    for (id, place) in SPOILT_LIVE {
        let (file, test) = place.split_once("::").unwrap();
        let file = test_files().into_iter().find(|known| known.name == file);
        let text = file.map(|file| file.written_out(test)).unwrap_or_default();
        assert!(text.contains(&format!("\"{id}\"")), "{place} does not spoil what {id} guards");
        told.insert((*id).to_owned());
    }
    let untold: Vec<&str> =
        report.invariants.iter().map(|finding| finding.id.as_str()).filter(|id| !told.contains(*id)).collect();
    assert!(
        untold.is_empty(),
        "no test spoils what these invariants guard: {untold:?}. Add a Corruption that names them to \
         reference-system/tests/corruptions/seeded.rs: it must break exactly the invariants that it names. Or spoil a \
         running system, and put the test into SPOILT_LIVE"
    );
}

/// A store that cannot be read, and some of what nobody knows then.
const NEEDED: &[(&str, &[&str])] = &[
    (
        "st-u0",
        &["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I10", "I11", "I12", "I13", "I14", "I16", "I24", "I26", "C4"],
    ),
    ("st-u1", &["I1", "I3", "I5", "I24"]),
    ("st-r0", &["I4", "I5", "I15", "C2", "C4"]),
    ("st-r1", &["I4", "I5", "I15", "C2", "C4"]),
    ("eus", &["I9", "I10", "I12", "I25", "C2", "C3"]),
    ("ledger", &["I9", "I10", "I12", "C2", "C3"]),
    ("eps", &["I13"]),
    ("ers", &["I14"]),
    ("rev", &["I8", "I11", "I24"]),
    ("vgo", &["I24", "I25"]),
    ("pay", &["I8"]),
    ("sms", &["I16", "I17", "I18", "I19", "I24"]),
    ("mq", &["I16", "I17", "I18", "I19", "I24"]),
    ("audit", &["I16", "I17", "I18", "I19", "I20", "I24"]),
];

#[tokio::test]
async fn a_store_that_cannot_be_read_makes_unknown_what_needs_it_and_accuses_nobody() {
    let world = World::start().await;
    world.settled(61, 62, Some(61)).await;
    world.assert_valid().await;
    let data = world.data();
    let World { system, dir, .. } = world;
    system.stop().await.unwrap();
    let stores = std::fs::read_dir(&data).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let is_store = path.extension().is_some_and(|ending| ending == "db");
        is_store.then(|| path.file_stem().unwrap().to_string_lossy().into_owned())
    });
    let stores: BTreeSet<String> = stores.collect();
    for (store, _) in NEEDED {
        assert!(stores.contains(*store), "{store} is no store any more: {stores:?}");
    }
    // Of the other tenant's messages no invariant tells.
    for store in stores.iter().filter(|store| *store != "mq-noise") {
        let copy = copy_of(&data, dir.path().join(format!("without-{store}")));
        std::fs::write(copy.join(format!("{store}.db")), b"this is no database, whatever its name says").unwrap();
        let _ = std::fs::remove_file(copy.join(format!("{store}.db-wal")));
        let report = audit_files(&copy, Some(&History::default())).await;
        assert_eq!(report.verdict, Verdict::Unknown, "{store}: {report:#?}");
        let needed = NEEDED.iter().find(|(name, _)| name == store).map_or(&[][..], |(_, needed)| needed);
        let unknown = with(&report, Verdict::Unknown);
        assert!(needed.iter().all(|id| unknown.contains(id)), "{store}: {unknown:?}");
    }
    // What is known to be wrong goes before what is not known.
    let copy = dir.path().join("without-pay");
    spoil(&copy.join("eps.db"), "INSERT INTO coupons (coupon_id, order_id, state, locked_at_ms) VALUES (9, 5, 1, 0)")
        .await;
    let report = audit_files(&copy, None).await;
    assert_eq!(report.verdict, Verdict::Invalid);
    assert_eq!((with(&report, Verdict::Unknown), with(&report, Verdict::Invalid)), (["I8"].into(), ["I13"].into()));
}

async fn audit_now(world: &World) -> AuditReport {
    let url = format!("{}/audit?quiesce_ms=500", world.system.state().auditor);
    let (status, report) = world.send("GET", url, None, "audit").await;
    assert_eq!(status, 200, "{report}");
    serde_json::from_value(report).unwrap()
}

/// Nobody is accused, and these are unknown.
fn assert_unknown(report: &AuditReport, needed: &[&str]) {
    assert_eq!(report.verdict, Verdict::Unknown, "{report:#?}");
    let unknown = with(report, Verdict::Unknown);
    assert!(needed.iter().all(|id| unknown.contains(id)), "{unknown:?}");
}

#[tokio::test]
async fn a_database_that_is_closed_and_a_dead_broker_or_registry_make_unknown_what_needs_them() {
    let world = World::start_with(|options| {
        options.tier = Tier::Real;
        options.respawn_after = std::time::Duration::from_secs(60);
    })
    .await;
    let id = id_of(&world.create(7, 11, None).await);
    world.ok(&format!("/orders/{id}/pay"), Value::Null).await;
    world.assert_valid().await;

    let (server, prefix) = world.databases();
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    let open = |to: bool| format!("ALTER DATABASE {prefix}_st_r0 ALLOW_CONNECTIONS {to}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(open(false))).execute(&mut admin).await.unwrap();
    assert_unknown(&audit_now(&world).await, &["I4", "I5", "I15", "C2", "C4"]);
    sqlx::raw_sql(sqlx::AssertSqlSafe(open(true))).execute(&mut admin).await.unwrap();
    world.assert_valid().await;

    for (victim, needed) in [("rabbitmq-1", &["I16", "I17", "I18", "I19", "I24"][..]), ("reg-1", &["I20"])] {
        let pid = world.pid(victim).unwrap();
        kill(pid);
        world::eventually("it is dead", || async { (!runs(pid)).then_some(()) }).await;
        assert_unknown(&audit_now(&world).await, needed);
    }
    world.system.stop().await.unwrap();
}
