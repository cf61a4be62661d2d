//! Mutes, notes and labels.

use kennel_model::RunId;
use reqwest::Method;
use serde_json::json;

use crate::stage::{Stage, junit};

#[tokio::test]
async fn a_muted_failure_is_counted_but_does_not_fail_the_suite() {
    let stage = Stage::new().await;
    stage.import(&junit(&["a: p", "b: f x"])).await;
    let b = stage.test("b").await;
    let request = json!({"reason": "issue 7", "owner": "ann", "expires": "14d"});
    let (status, mute) = stage.send(Method::PUT, &format!("/tests/{b}/mute"), Some(request)).await;
    assert_eq!((status, &mute["owner"], &mute["created_by"]), (200, &json!("ann"), &json!("local")), "{mute}");

    let (_, body) = stage.post_document("suite=nightly", &junit(&["a: p", "b: f x"])).await;
    assert_eq!((&body["run"]["verdict"], &body["run"]["tests"]["failed"]), (&json!("passed"), &json!(1)));
    assert_eq!(body["run"]["reasons"], json!(["1 muted test failed and is not counted"]));
    let run: RunId = body["run"]["id"].as_str().unwrap().parse().unwrap();
    let now = jiff::Timestamp::now();
    let failures = stage.controller.failures(run, "nightly", now).await.unwrap();
    assert_eq!((failures.counted.len(), failures.muted.len()), (0, 1));
    let later = now + jiff::SignedDuration::from_hours(24 * 15);
    let failures = stage.controller.failures(run, "nightly", later).await.unwrap();
    assert_eq!((failures.counted.len(), failures.muted.len()), (1, 0), "a mute ends by itself");
    assert!(stage.controller.muted_tests("other", now).await.unwrap().is_empty());

    assert_eq!(stage.get("/failing?muted=false").await["total_tests"], 0);
    assert_eq!(stage.get("/failing?muted=true").await["groups"][0]["muted"], 1);
    assert_eq!(stage.get("/tests?muted=true").await["tests"][0]["mute"]["reason"], "issue 7");
    assert_eq!(stage.send(Method::DELETE, &format!("/tests/{b}/mute"), None).await.0, 204);
    let (_, body) = stage.post_document("suite=nightly", &junit(&["a: p", "b: f x"])).await;
    assert_eq!(body["run"]["verdict"], "failed");
    stage.close().await;
}

#[tokio::test]
async fn a_mute_says_why_and_until_when() {
    let stage = Stage::new().await;
    stage.import(&junit(&["a: p"])).await;
    let a = stage.test("a").await;
    for (request, sentence) in [
        (json!({"reason": " ", "expires": "14d"}), "reason: is empty"),
        (json!({"reason": "x", "expires": "never"}), "expires: `never` is no end; expected a day such as 2026-12-31"),
        (json!({"reason": "x", "expires": "2020-01-01"}), "is over"),
        (json!({"reason": "x", "expires": "3000d"}), "more than a year away"),
        (json!({"reason": "x"}), "missing field `expires`"),
    ] {
        let (status, body) = stage.send(Method::PUT, &format!("/tests/{a}/mute"), Some(request)).await;
        assert_eq!(status, 422, "{body}");
        assert!(body["error"].as_str().unwrap().contains(sentence), "{body}");
    }
    assert_eq!(stage.get("/tests?muted=true").await["total"], 0);
    stage.close().await;
}

#[tokio::test]
async fn runs_carry_labels_and_notes() {
    let stage = Stage::new().await;
    let run = stage.import(&junit(&["a: p"])).await;
    let path = format!("/annotations/{run}");
    let labels = json!({"labels": ["release", " release ", "", "ünï"]});
    let (status, kept) = stage.send(Method::PUT, &format!("{path}/labels"), Some(labels)).await;
    assert_eq!((status, kept), (200, json!({"labels": ["release", "ünï"]})));
    let (status, note) =
        stage.send(Method::POST, &format!("{path}/notes"), Some(json!({"text": " looked into \n it "}))).await;
    assert_eq!((status, &note["text"], &note["author"]), (201, &json!("looked into \n it"), &json!("local")));
    let (status, _) = stage.send(Method::POST, &format!("{path}/notes"), Some(json!({"text": " "}))).await;
    assert_eq!(status, 422);
    assert_eq!(stage.send(Method::PUT, &format!("{path}/pin"), None).await.0, 204);
    let all = stage.get(&path).await;
    assert_eq!(
        (&all["labels"], &all["pinned"], all["notes"].as_array().unwrap().len()),
        (&json!(["release", "ünï"]), &json!(true), 1)
    );
    let (status, body) = stage.send(Method::PUT, &format!("{path}/labels"), Some(json!({"labels": ["a,b"]}))).await;
    assert_eq!(status, 422, "{body}");
    stage.close().await;
}
