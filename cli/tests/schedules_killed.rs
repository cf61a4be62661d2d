//! A real SIGKILL, many times, around the moment at which what is due is noted and handed in: every occurrence has one
//! run or a told reason, never two, never none.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/database.rs"]
mod database;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use database::Database;
use jiff::{Timestamp, ToSpan as _};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::{HttpProcess, Kennel, eventually};

const SEED: u64 = 20_151_001;
/// Kills at least.
const ROUNDS: u32 = 45;
/// Kills at most, while the narrow windows were not hit often enough.
const MOST_ROUNDS: u32 = 200;
/// Kills that must have fallen between an occurrence's row and its run, and between its run and what its row says of it.
const HITS: [u32; 2] = [8, 1];

/// Occurrences that are being handed in and whose run is not there, and those whose run is. What an earlier kill left may
/// be among them.
const CUT_OFF: [&str; 2] = [
    "SELECT schedule, due_at FROM occurrences o WHERE state = 'starting'
     AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = o.run) AND NOT EXISTS (SELECT 1 FROM suite_runs s WHERE s.id = o.run)",
    "SELECT schedule, due_at FROM occurrences o WHERE state = 'starting'
     AND (EXISTS (SELECT 1 FROM runs r WHERE r.id = o.run) OR EXISTS (SELECT 1 FROM suite_runs s WHERE s.id = o.run))",
];
const OCCURRENCES: &str = "SELECT COUNT(*) FROM occurrences";
const RUNS: &str = "SELECT (SELECT COUNT(*) FROM runs) + (SELECT COUNT(*) FROM suite_runs)";

/// What is not over: occurrences that are to start, and runs.
const OPEN: &str = "SELECT (SELECT COUNT(*) FROM occurrences WHERE state IN ('starting', 'waiting'))
    + (SELECT COUNT(*) FROM runs WHERE state <> 'judged') + (SELECT COUNT(*) FROM suite_runs WHERE state <> 'ended')";

/// Name, what it runs, and its policies.
const SCHEDULES: [(&str, &str, &str, &[&str]); 4] = [
    ("caught up", "--suite", "one", &["--missed", "catch-up", "--catch-up-limit", "3", "--overlap", "queue"]),
    ("once", "--suite", "two", &["--missed", "once", "--overlap", "forbid"]),
    ("skipped", "--suite", "three", &["--missed", "skip", "--overlap", "replace"]),
    ("load", "--experiment", "load", &["--missed", "once", "--overlap", "queue"]),
];

fn keep(kennel: &Kennel, kind: &str, name: &str, source: &str) {
    let file = kennel.file(&format!("{name}.yaml"), source);
    kennel.expect(0, &["file", "put", kind, name, file.to_str().unwrap()]);
}

#[test]
fn a_kill_between_row_and_run_leaves_each_occurrence_one_run_or_a_reason() {
    let (kennel, http) = (Kennel::new(), HttpProcess::start());
    let serving = kennel.serve();
    for suite in ["one", "two", "three"] {
        keep(
            &kennel,
            "suite",
            suite,
            &format!("{{version: 1, name: {suite}, steps: [{{name: breathe, wait: 10ms}}]}}"),
        );
    }
    let target = http.target("");
    let load = format!(
        "{{version: 1, name: load, target: {target}, load: {{model: closed, users: 1, duration: 1s}}, scenarios: [{{name: s, steps: [{{name: version, path: /version}}]}}]}}"
    );
    keep(&kennel, "experiment", "load", &load);
    for (name, kind, subject, policies) in SCHEDULES {
        let arguments = [&["schedule", "add", name, kind, subject, "--cron", "* * * * *"], policies].concat();
        kennel.expect(0, &arguments);
    }
    serving.process.signal(Signal::SIGKILL);
    drop(serving);

    let mut random = StdRng::seed_from_u64(SEED);
    let mut database = Database::open(kennel.dir());
    let begin: Vec<Timestamp> = moments(&mut database, "SELECT handled_at FROM schedules ORDER BY created_at");
    let (mut passed, mut hits, mut round) = (0_i64, [0, 0], 0);
    let mut start_up = Duration::from_millis(300);
    while round < ROUNDS || (hits.iter().zip(HITS).any(|(hit, wanted)| *hit < wanted) && round < MOST_ROUNDS) {
        round += 1;
        let minutes = random.random_range(1..=4);
        passed += i64::from(minutes);
        database.minutes_pass(minutes);
        let before = CUT_OFF.map(|sql| database.rows(sql));
        let (occurrences, runs) = (database.count(OCCURRENCES), database.count(RUNS));
        let started = Instant::now();
        let process = kennel.start_serving();
        let until = |what: &str, reached: &mut dyn FnMut() -> bool| {
            while !reached() {
                assert!(started.elapsed() < Duration::from_secs(30), "round {round}: {what}");
            }
        };
        match round % 3 {
            // Anywhere from before it begins to after everything is handed in.
            0 => {
                let moment = start_up.mul_f64(random.random_range(0.0..2.0));
                until("time stands still", &mut || started.elapsed() >= moment);
            }
            1 => {
                until("what is due is not noted", &mut || database.count(OCCURRENCES) > occurrences);
                start_up = started.elapsed();
                let moment = start_up + Duration::from_micros(random.random_range(0..4_000));
                until("time stands still", &mut || started.elapsed() >= moment);
            }
            _ => until("what is due is not handed in", &mut || database.count(RUNS) > runs),
        }
        process.signal(Signal::SIGKILL);
        drop(process);
        for (window, sql) in CUT_OFF.into_iter().enumerate() {
            // Only what this kill itself cut off shows that it fell there.
            hits[window] += u32::from(database.rows(sql).iter().any(|one| !before[window].contains(one)));
        }
    }
    assert!(
        hits.iter().zip(HITS).all(|(hit, wanted)| *hit >= wanted),
        "{round} kills fell into the windows {hits:?} times"
    );

    let serving = kennel.serve();
    eventually("everything that was due is settled", Duration::from_secs(120), || {
        (database.count(OPEN) == 0).then_some(())
    });
    serving.process.signal(Signal::SIGKILL);
    drop(serving);
    for (at, (name, kind, subject, _)) in SCHEDULES.into_iter().enumerate() {
        let from = begin[at] - passed.minutes();
        check(&mut database, name, kind, subject, from);
    }
}

fn moments(database: &mut Database, sql: &str) -> Vec<Timestamp> {
    database.rows(sql).iter().map(|row| row[0].parse().unwrap()).collect()
}

/// That each minute since `from` has its row, and each row one run or a reason.
fn check(database: &mut Database, name: &str, kind: &str, subject: &str, from: Timestamp) {
    let of_this = format!("schedule = (SELECT id FROM schedules WHERE name = '{name}')");
    let handled = moments(database, &format!("SELECT handled_at FROM schedules WHERE name = '{name}'"))[0];
    let due: BTreeSet<Timestamp> =
        moments(database, &format!("SELECT due_at FROM occurrences WHERE {of_this}")).into_iter().collect();
    let first = Timestamp::from_second((from.as_second().div_euclid(60) + 1) * 60).unwrap();
    let expected: BTreeSet<Timestamp> =
        std::iter::successors(Some(first), |at| Some(*at + 1.minute())).take_while(|at| *at <= handled).collect();
    assert_eq!(due, expected, "`{name}`: each minute is an occurrence");

    let rows = database.rows(&format!("SELECT due_at, state, reason, run FROM occurrences WHERE {of_this}"));
    let mut runs = BTreeSet::new();
    for row in &rows {
        let [due_at, state, reason, run] = row.as_slice() else { panic!("{row:?}") };
        if state == "started" {
            assert!(runs.insert(run.clone()), "`{name}` at {due_at}: run {run} belongs to two occurrences");
        } else {
            assert!(["missed", "forbidden", "replaced"].contains(&state.as_str()), "`{name}`: {row:?}");
            assert!(!reason.is_empty() && run.is_empty(), "`{name}`: {row:?}");
        }
    }
    let started = match kind {
        "--suite" => format!("SELECT id FROM suite_runs WHERE suite = '{subject}'"),
        _ => format!("SELECT id FROM runs WHERE name = '{subject}'"),
    };
    let started: Vec<String> = database.rows(&started).into_iter().map(|mut row| row.remove(0)).collect();
    assert!(!started.is_empty() && started.len() < rows.len(), "`{name}`: {} of {}", started.len(), rows.len());
    assert_eq!(runs, started.into_iter().collect(), "`{name}`: runs that are there and runs that occurrences name");
}
