//! Histories: of a test, of a suite, and two runs side by side.

use kennel_model::RunId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Stage, junit};

#[tokio::test]
async fn a_test_knows_its_last_results_its_first_bad_run_and_how_flaky_it_is() {
    let stage = Stage::new().await;
    let mut runs = Vec::new();
    for how in ["p", "f one", "p", "f two", "r three", "f 4", "f 5"] {
        runs.push(stage.import(&junit(&[&format!("swings@20: {how}"), "steady: p"])).await);
    }
    let test = stage.get(&format!("/tests/{}?limit=3", stage.test("swings").await)).await;
    let strip: Vec<&Value> = test["strip"].as_array().unwrap().iter().map(|mark| &mark["outcome"]).collect();
    assert_eq!(strip, ["passed", "failed", "passed", "failed", "passed", "failed", "failed"]);
    assert_eq!(test["strip"][4]["on_retry"], true);
    assert_eq!((&test["failing_since"], &test["failing_runs"]), (&json!(runs[5]), &json!(2)));
    assert_eq!(test["last_passed"], json!(runs[4]));
    assert_eq!(test["flaky"], json!({"score": 6.0 / 7.0, "changes": 5, "on_retry": 1, "results": 7, "flaky": true}));
    assert!(test["flaky_definition"].as_str().unwrap().contains("last 30 results"));
    let results: Vec<&Value> = test["results"].as_array().unwrap().iter().map(|result| &result["suite_run"]).collect();
    assert_eq!(results, [&json!(runs[6]), &json!(runs[5]), &json!(runs[4])]);
    assert_eq!(test["results"][0]["duration_ms"], 20.0);
    let older = stage.get(&format!("/tests/{}?limit=50&before={}", test["id"], runs[4])).await;
    assert_eq!(older["results"].as_array().unwrap().len(), 4);

    let flaky = stage.get("/tests?flaky=true").await;
    assert_eq!((&flaky["total"], &flaky["tests"][0]["name"]), (&json!(1), &json!("swings")));
    stage.close().await;
}

#[tokio::test]
async fn the_matrix_is_paged_both_ways_and_has_holes_where_a_test_did_not_run() {
    let stage = Stage::new().await;
    let mut runs = Vec::new();
    for round in 0..3 {
        let mut cases = vec!["a@5: p", "b: f x"];
        if round == 2 {
            cases.push("c: r y");
        }
        runs.push(stage.import(&junit(&cases)).await);
    }
    let matrix = stage.get("/suites/nightly/matrix?runs=2").await;
    assert_eq!((&matrix["total_runs"], &matrix["total_tests"]), (&json!(3), &json!(3)));
    assert_eq!((&matrix["runs"][0]["id"], &matrix["runs"][1]["id"]), (&json!(runs[2]), &json!(runs[1])));
    assert_eq!(matrix["rows"][0]["cells"][0], json!({"outcome": "passed", "on_retry": false, "duration_ms": 5.0}));
    assert_eq!(
        (&matrix["rows"][2]["cells"][0]["on_retry"], &matrix["rows"][2]["cells"][1]),
        (&json!(true), &Value::Null)
    );
    let corner = stage.get("/suites/nightly/matrix?runs=2&skip_runs=2&limit=1&offset=1").await;
    assert_eq!((&corner["runs"][0]["id"], corner["runs"].as_array().unwrap().len()), (&json!(runs[0]), 1));
    assert_eq!(
        (&corner["rows"][0]["test"]["name"], &corner["rows"][0]["cells"][0]["outcome"]),
        (&json!("b"), &json!("failed"))
    );
    assert_eq!(stage.get("/suites/nightly/matrix?failing=true").await["total_tests"], 1);
    assert_eq!(stage.get("/suites/none/matrix").await["total_runs"], 0);

    let trend = stage.get("/suites/nightly/trend?limit=2").await;
    assert_eq!((&trend[0]["run"], &trend[1]["run"]), (&json!(runs[1]), &json!(runs[2])));
    assert_eq!(trend[1]["tests"], json!({"passed": 2, "failed": 1, "error": 0, "skipped": 0}));
    stage.close().await;
}

#[tokio::test]
async fn two_runs_are_compared_test_by_test() {
    let stage = Stage::new().await;
    let a =
        stage.import(&junit(&["breaks: p", "heals: f x", "stays: f y", "slows@100: p", "goes: p", "same@50: p"])).await;
    let b = stage
        .import(&junit(&["breaks: f z", "heals: p", "stays: f y", "slows@400: p", "comes: f w", "same@51: p"]))
        .await;
    let view = stage.get(&format!("/compare/suite-runs?a={a}&b={b}")).await;
    let changes: Vec<(&str, &str)> = view["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| (test["test"]["name"].as_str().unwrap(), test["change"].as_str().unwrap()))
        .collect();
    assert_eq!(
        changes,
        [
            ("breaks", "newly-failing"),
            ("heals", "fixed"),
            ("stays", "still-failing"),
            ("slows", "slower"),
            ("comes", "added"),
            ("goes", "removed")
        ]
    );
    assert_eq!((&view["tests"][0]["message"], &view["tests"][3]["ratio"]), (&json!("z"), &json!(4.0)));
    assert_eq!(view["tests"][4]["message"], "w");
    let same = view["counts"].as_array().unwrap().iter().find(|count| count["change"] == "same").unwrap();
    assert_eq!(same["tests"], 1);
    stage.close().await;
}

#[tokio::test]
async fn a_renamed_test_keeps_its_history_when_it_is_joined() {
    let stage = Stage::new().await;
    let first = stage.import(&junit(&["old name: f x", "other: p"])).await;
    let old = stage.test("old name").await;
    stage.send(Method::POST, &format!("/tests/{old}/notes"), Some(json!({"text": "see issue 7"}))).await;
    stage.import(&junit(&["new name: f x", "other: p"])).await;
    let new = stage.test("new name").await;
    let join = |test: i64, earlier: i64| {
        let (stage, path) = (&stage, format!("/tests/{test}/join"));
        async move { stage.send(Method::POST, &path, Some(json!({"earlier": earlier}))).await }
    };
    assert_eq!(join(new, new).await.0, 422);
    assert_eq!(join(new, 999).await.0, 404);
    assert_eq!(join(new, old).await.0, 204);

    let test = stage.get(&format!("/tests/{new}")).await;
    assert_eq!((&test["failing_since"], &test["failing_runs"]), (&json!(first), &json!(2)));
    assert_eq!((&test["known_as"][0]["name"], &test["notes"][0]["text"]), (&json!("old name"), &json!("see issue 7")));
    assert_eq!(stage.get(&format!("/tests/{old}")).await["id"], new, "links to the old number still lead somewhere");
    // A straggler still reports under the old name.
    stage.import(&junit(&["old name: p", "other: p"])).await;
    let test = stage.get(&format!("/tests/{new}")).await;
    assert_eq!((&test["failing_since"], test["results"].as_array().unwrap().len()), (&Value::Null, 3));
    assert_eq!(stage.get("/tests").await["total"], 2);
    assert_eq!(join(new, old).await.0, 404, "it is joined already");
    stage.close().await;
}

#[tokio::test]
async fn steps_that_run_the_same_test_are_no_retries_of_each_other() {
    let stage = Stage::new().await;
    let run: RunId = stage.import(&junit(&["a: p"])).await.parse().unwrap();
    let cases = |how: &str| kennel_results::read(None, junit(&[how]).as_bytes()).unwrap();
    stage.controller.record_results(run, "steps/1", 1, &cases("a: f x")).await.unwrap();
    let tests = stage.get(&format!("/suite-runs/{run}/tests")).await;
    assert_eq!((&tests[0]["result"]["outcome"], &tests[0]["result"]["step"]), (&json!("failed"), &json!("steps/1")));
    // The step is tried again, and passes.
    stage.controller.record_results(run, "steps/1", 2, &cases("a: p")).await.unwrap();
    let tests = stage.get(&format!("/suite-runs/{run}/tests")).await;
    assert_eq!((&tests[0]["result"]["outcome"], &tests[0]["on_retry"]), (&json!("passed"), &json!(true)));
    assert_eq!(stage.controller.outcomes_of_run(run).await.unwrap().passed, 1);
    assert!(stage.controller.record_results(RunId::new(), "steps/1", 1, &cases("a: p")).await.is_err());
    stage.close().await;
}
