//! What fails: since when, how long, and what failures have in common.

use serde_json::{Value, json};

use crate::stage::{Stage, junit};

#[tokio::test]
async fn failures_with_one_cause_are_one_group_with_its_age_and_first_run() {
    let stage = Stage::new().await;
    stage.import(&junit(&["a: p", "b: p", "c: p"])).await;
    let first = stage.import(&junit(&["a: f order 7 is lost", "b: p", "c: p"])).await;
    let second = stage.import(&junit(&["a: f order 8 is lost", "b: f order 99 is lost", "c: p"])).await;
    stage.import(&junit(&["a: f order 9 is lost", "b: s", "c: f refused"])).await;

    let failing = stage.get("/failing").await;
    assert_eq!((&failing["total_groups"], &failing["total_tests"]), (&json!(2), &json!(3)));
    let [newest, lost] = failing["groups"].as_array().unwrap().as_slice() else { panic!("{failing}") };
    assert_eq!(newest["message"], "refused", "what broke last comes first");
    assert_eq!((&lost["tests"], &lost["failing_runs"]), (&json!(2), &json!(3)));
    assert_eq!((&lost["failing_since"], &lost["newest_since"]), (&json!(first), &json!(second)));
    let members: Vec<&Value> = lost["members"].as_array().unwrap().iter().map(|test| &test["name"]).collect();
    assert_eq!(members, ["b", "a"], "a skip does not end a streak");
    assert_eq!(lost["members"][1]["failing_runs"], 3);

    let fingerprint = lost["fingerprint"].as_str().unwrap();
    assert_eq!(stage.get(&format!("/tests?failing=true&fingerprint={fingerprint}")).await["total"], 2);
    assert_eq!(stage.get("/failing?text=REFUSED").await["total_tests"], 1, "the search knows no case");
    assert_eq!(stage.get("/failing?suite=other").await["total_tests"], 0);
    assert_eq!(stage.get("/failing?since=1d").await["total_tests"], 3);
    assert_eq!(stage.get("/failing?since=2999-01-01").await["total_tests"], 0);

    stage.import(&junit(&["a: p", "b: p", "c: p"])).await;
    assert_eq!(stage.get("/failing").await["groups"], json!([]));
    stage.close().await;
}

#[tokio::test]
async fn steps_that_failed_are_known_by_their_tests() {
    let stage = Stage::new().await;
    let run = stage.import(&junit(&["a: f x", "b: p", "c: r y"])).await.parse().unwrap();
    assert_eq!(stage.controller.failed_steps(run, &[]).await.unwrap(), ["import"]);
    let now = jiff::Timestamp::now();
    let failures = stage.controller.failures(run, "nightly", now).await.unwrap();
    assert_eq!(failures.counted, [("import".to_owned(), stage.test("a").await)]);
    let green = stage.import(&junit(&["a: p", "c: r y"])).await.parse().unwrap();
    assert!(stage.controller.failed_steps(green, &[]).await.unwrap().is_empty());
    stage.close().await;
}
