//! Importing: over HTTP, through the inbox, and what is refused.

use kennel_model::RunId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stage::{DEADLINE, Stage, junit};

#[tokio::test]
async fn an_import_is_a_run_with_its_tests_counts_verdict_and_file() {
    let stage = Stage::new().await;
    let document = junit(&["adds: p", "pays[visa]: f no money", "ships: s", "looks: r slow"]);
    let (status, body) = stage.post_document("suite=nightly&labels=main,%20build%207&file=ci/out.xml", &document).await;
    assert_eq!(status, 201, "{body}");
    let run = &body["run"];
    assert_eq!(body["results"], 5, "every attempt counts");
    assert_eq!(run["tests"], json!({"passed": 2, "failed": 1, "error": 0, "skipped": 1}));
    assert_eq!((&run["verdict"], &run["origin"], &run["state"]), (&json!("failed"), &json!("import"), &json!("ended")));
    assert_eq!(run["labels"], json!(["main", "build 7"]));
    assert_eq!(run["reasons"], json!(["1 of 4 tests failed"]));
    let id = run["id"].as_str().unwrap();

    let tests = stage.get(&format!("/suite-runs/{id}/tests")).await;
    let first = &tests[0];
    assert_eq!((&first["standing"]["name"], &first["standing"]["parameters"]), (&json!("pays"), &json!("visa")));
    assert_eq!((&first["result"]["outcome"], &first["result"]["step"]), (&json!("failed"), &json!("import")));
    assert_eq!(tests[1]["standing"]["name"], "looks", "what needed a retry comes next");
    assert_eq!(tests[1]["on_retry"], true);
    let looks = tests[1]["standing"]["id"].as_i64().unwrap();
    let attempts = stage.get(&format!("/suite-runs/{id}/tests/{looks}")).await;
    let outcomes: Vec<&Value> = attempts.as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "passed"]);

    let artifacts = stage.get(&format!("/suite-runs/{id}/artifacts")).await;
    assert_eq!(artifacts[0]["name"], "out.xml");
    let artifact = artifacts[0]["id"].as_str().unwrap();
    let kept = stage.client.get(format!("{}/artifacts/{artifact}", stage.base)).send().await.unwrap();
    assert_eq!(kept.text().await.unwrap(), document);
    let uploads = std::fs::read_dir(stage.data().join("uploads")).unwrap().count();
    assert_eq!(uploads, 0, "what was set aside is gone");
    stage.close().await;
}

#[tokio::test]
async fn a_form_with_a_file_is_as_good_as_a_body() {
    let stage = Stage::new().await;
    let document = junit(&["adds: p"]);
    let boundary = "kennel-boundary";
    let body = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../../x.xml\"\r\n\r\n{document}\r\n--{boundary}--\r\n"
    );
    let request = stage.client.post(format!("{}/imports?suite=nightly", stage.base));
    let request = request.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let body: Value = answer.json().await.unwrap();
    let artifacts = stage.get(&format!("/suite-runs/{}/artifacts", body["run"]["id"].as_str().unwrap())).await;
    assert_eq!(artifacts[0]["name"], "x.xml");
    stage.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_words_and_leaves_nothing() {
    let stage = Stage::new().await;
    let good = junit(&["adds: p"]);
    let xxe =
        "<?xml version='1.0'?>\n<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>\n<testsuites>&e;</testsuites>";
    let cases = [
        ("suite=nightly", "", 422, "results was not imported: the document is empty"),
        (
            "suite=nightly&file=a.xml",
            "<testsuites>\n<testcase name='a'>",
            422,
            "a.xml was not imported: line 2: the document ends within <testcase>",
        ),
        ("suite=nightly", "<testsuites/>", 422, "it holds no test"),
        ("suite=nightly", "<html/>", 422, "the document is <html>"),
        ("suite=nightly", xxe, 422, "line 2: <!DOCTYPE> is refused"),
        ("suite=nightly&format=robot", good.as_str(), 422, "not Robot Framework output.xml"),
        ("suite=nightly&format=word", good.as_str(), 422, "there is no format `word`"),
        ("suite=%20", good.as_str(), 422, "suite: is missing"),
        ("suite=a%0Ab", good.as_str(), 422, "suite: expected 1 to 200 characters"),
        ("labels=x", good.as_str(), 400, "missing field `suite`"),
        (
            "suite=nightly&labels=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            good.as_str(),
            422,
            "labels: ",
        ),
    ];
    for (query, document, expected, sentence) in cases {
        let (status, body) = stage.post_document(query, document).await;
        assert_eq!(status, expected, "{query}: {body}");
        assert!(body["error"].as_str().unwrap().contains(sentence), "{query}: {body}");
    }
    assert_eq!(stage.get("/tests").await, json!({"tests": [], "total": 0}));
    assert_eq!(stage.get("/storage").await["artifacts"], 0);
    assert_eq!(std::fs::read_dir(stage.data().join("uploads")).unwrap().count(), 0);
    stage.close().await;
}

#[tokio::test]
async fn a_document_above_the_limit_of_other_routes_is_taken() {
    let stage = Stage::new().await;
    let noise = "x".repeat(3 << 20);
    let document = format!("<testsuites><testcase name='t'><system-out>{noise}</system-out></testcase></testsuites>");
    stage.import(&document).await;
    stage.close().await;
}

#[tokio::test]
async fn hostile_names_are_kept_as_text_and_cut() {
    let stage = Stage::new().await;
    let name = format!("&lt;script&gt;alert(1)&lt;/script&gt;{}", "x".repeat(5_000));
    let document = format!(
        "<testsuites><testcase name=\"{name}\" classname=\"'; DROP TABLE tests; --\"><failure message=\"&#27;[31mred\"/></testcase></testsuites>"
    );
    stage.import(&document).await;
    let tests = stage.get("/tests?text=DROP%20TABLE").await;
    let test = &tests["tests"][0];
    assert!(test["name"].as_str().unwrap().starts_with("<script>alert(1)</script>x"));
    assert!(test["name"].as_str().unwrap().len() < 1_100);
    assert_eq!(test["message"], "red");
    for text in ["%25", "_", "%5C"] {
        assert_eq!(stage.get(&format!("/tests?text={text}")).await["total"], 0, "{text} is no wildcard");
    }
    stage.close().await;
}

#[tokio::test]
async fn what_is_put_into_the_inbox_is_imported_and_put_away() {
    let stage = Stage::new().await;
    let inbox = stage.data().join("inbox").join("from the lab");
    std::fs::create_dir_all(&inbox).unwrap();
    std::fs::write(inbox.join("good.xml"), junit(&["adds: p"])).unwrap();
    std::fs::write(inbox.join("bad.xml"), "<testsuites>\n<oops").unwrap();
    std::fs::write(inbox.join("notes.txt"), "not for Kennel").unwrap();
    let reason = inbox.join("failed").join("bad.xml.reason.txt");
    let deadline = Instant::now() + DEADLINE;
    while !(reason.exists() && inbox.join("done").join("good.xml").exists()) {
        assert!(Instant::now() < deadline, "the inbox is not emptied");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let text = loop {
        let text = std::fs::read_to_string(&reason).unwrap();
        if !text.is_empty() {
            break text;
        }
        tokio::task::yield_now().await;
    };
    assert!(text.starts_with("bad.xml was not imported: line 2"), "{text}");
    assert!(inbox.join("failed").join("bad.xml").exists() && inbox.join("notes.txt").exists());
    let tests = stage.get("/tests?suite=from%20the%20lab").await;
    assert_eq!(tests["total"], 1);
    stage.close().await;
}

#[tokio::test]
async fn every_error_is_json_with_a_sentence() {
    let stage = Stage::new().await;
    let missing = RunId::new();
    for (method, path, expected) in [
        (Method::GET, "/tests/7".to_owned(), 404),
        (Method::GET, "/tests/x".to_owned(), 400),
        (Method::GET, "/tests?order=random".to_owned(), 400),
        (Method::GET, "/tests?since=soon".to_owned(), 400),
        (Method::GET, "/failing?outcome=odd".to_owned(), 400),
        (Method::GET, format!("/suite-runs/{missing}/tests"), 404),
        (Method::GET, "/suite-runs/zzz/tests/1".to_owned(), 404),
        (Method::GET, format!("/suite-runs/{missing}/artifacts"), 404),
        (Method::GET, format!("/artifacts/{missing}"), 404),
        (Method::GET, "/artifacts/..%2F..%2Fkennel.db".to_owned(), 404),
        (Method::GET, format!("/compare/suite-runs?a={missing}&b={missing}"), 404),
        (Method::GET, format!("/annotations/{missing}"), 404),
        (Method::DELETE, "/tests/7/mute".to_owned(), 404),
        (Method::PUT, format!("/annotations/{missing}/pin"), 404),
    ] {
        let (status, body) = stage.send(method.clone(), &path, None).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(body["error"].as_str().is_some_and(|error| error.len() > 10), "{method} {path}: {body}");
    }
    stage.close().await;
}
