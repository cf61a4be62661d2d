//! Pages about tests as a browser gets them: results imported through the form, read back on every page that tells of
//! them, with names made to harm.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use reqwest::StatusCode;
use support::House;
use support::browsing::{Answer, client, get, read, submit};
use support::scripted_agent::Script;

const HOSTILE: &str = "<script>alert(1)</script>\"'";
const ESCAPED: &str = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&apos;";

async fn house() -> House {
    House::open(Script::fast(), 0, Vec::new()).await
}

/// What the form at `/import` sends.
async fn import(house: &House, suite: &str, file: &str, document: &str) -> Answer {
    let boundary = "kennel-boundary";
    let part = |name: &str, more: &str, text: &str| {
        format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"{more}\r\n\r\n{text}\r\n")
    };
    let body = part("_csrf", "", "")
        + &part("suite", "", suite)
        + &part("labels", "", "main")
        + &part("file", &format!("; filename=\"{file}\""), document)
        + &format!("--{boundary}--\r\n");
    let request = client().post(house.url("/import"));
    let request = request.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body);
    read(request).await
}

/// A failing and a passing test, named to harm.
fn document(message: &str) -> String {
    format!(
        "<testsuites><testcase classname=\"{ESCAPED}\" name=\"pays {ESCAPED}[{ESCAPED}]\" time=\"0.2\"><failure message=\"{message} {ESCAPED}\">{ESCAPED}</failure></testcase><testcase classname=\"c\" name=\"looks\"/></testsuites>"
    )
}

/// The run that an import led to.
fn run_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer.location.trim_start_matches("/suite-runs/").to_owned()
}

#[tokio::test]
async fn pages_without_any_test_teach_what_to_do() {
    let house = house().await;
    for (path, sentence) in [
        ("/failing", "No test has run yet"),
        ("/tests", "No test has run yet"),
        ("/muted", "No test is muted"),
        ("/suites/nothing/results", "No run yet"),
        ("/import", "Drop it here, or choose it."),
        ("/settings/storage", "How long artifacts stay"),
    ] {
        let page = get(&house, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        page.holds(&[sentence]);
        assert_eq!(page.body.matches("<h1").count(), 1, "{path}");
    }
    for path in ["/tests/7", "/tests/x", "/suite-runs/zzz/tests/1", "/suite-runs/zzz/artifacts"] {
        assert_eq!(get(&house, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn names_from_imported_documents_are_shown_and_never_run() {
    let house = house().await;
    let suite = format!("nightly {HOSTILE}");
    let a = run_of(&import(&house, &suite, "a&b<c>.xml", &document("first")).await);
    let b = run_of(&import(&house, &suite, "a.xml", &document("second")).await);
    let test = 1;
    let mute = [("reason", HOSTILE), ("owner", HOSTILE), ("expires", "14d")];
    assert_eq!(submit(&house, &format!("/tests/{test}/mute"), &mute).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        submit(&house, &format!("/tests/{test}/notes"), &[("text", HOSTILE)]).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        submit(&house, &format!("/suite-runs/{a}/notes"), &[("text", HOSTILE)]).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        submit(&house, &format!("/suite-runs/{a}/labels"), &[("labels", HOSTILE)]).await.status,
        StatusCode::SEE_OTHER
    );
    let encoded = "nightly%20%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27";
    for path in [
        "/failing?muted=with".to_owned(),
        format!("/failing?muted=with&text={encoded}&since={encoded}&label={encoded}"),
        "/tests".to_owned(),
        format!("/tests?text={encoded}&suite={encoded}&order={encoded}"),
        "/muted".to_owned(),
        format!("/tests/{test}"),
        format!("/suite-runs/{a}/tests/{test}"),
        format!("/suite-runs/{a}/artifacts"),
        format!("/suites/{encoded}/results"),
        format!("/suites/{encoded}/results?text={encoded}"),
        format!("/compare?a={a}&b={b}"),
        format!("/import?suite={encoded}"),
        format!("/?label={encoded}&text={encoded}"),
    ] {
        let page = get(&house, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        assert!(!page.body.contains("<script>alert"), "{path} lets markup through:\n{}", page.body);
        page.holds(&["&#60;script&#62;alert(1)"]);
    }
    house.close().await;
}

#[tokio::test]
async fn what_fails_is_found_from_the_failing_page_down_to_its_trace() {
    let house = house().await;
    let first = run_of(&import(&house, "nightly", "a.xml", &document("order 7 is lost")).await);
    let second = run_of(&import(&house, "nightly", "a.xml", &document("order 8 is lost")).await);
    let failing = get(&house, "/failing").await;
    failing.holds(&["order 8 is lost", "1 test fails in 1 way.", "2 runs", &format!("/suite-runs/{first}/tests/1")]);
    get(&house, "/failing?text=nothing+like+it").await.holds(&["Nothing that fails is like that"]);
    get(&house, "/failing?since=soon").await.holds(&["is no beginning", "value=\"soon\""]);
    let test = get(&house, "/tests/1").await;
    test.holds(&["id=\"first-bad\"", "Flaky score 0 %", "0 changes and 0 passes on a retry in 2 results", "never"]);
    let attempt = get(&house, &format!("/suite-runs/{second}/tests/1")).await;
    attempt.holds(&["order 8 is lost", "<pre class=\"source detail\""]);
    let history = get(&house, "/suites/nightly/results").await;
    history.holds(&["data-matrix", "2 tests, 2 runs", "aria-label=\"failed\"", "<svg viewBox"]);
    house.close().await;
}

#[tokio::test]
async fn a_mute_keeps_what_was_typed_until_it_is_right_and_can_be_ended() {
    let house = house().await;
    run_of(&import(&house, "nightly", "a.xml", &document("x")).await);
    let wrong = submit(&house, "/tests/1/mute", &[("reason", "issue 7"), ("owner", "ann"), ("expires", "soon")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.holds(&["value=\"issue 7\"", "value=\"soon\"", "id=\"expires-error\""]);
    let right = submit(&house, "/tests/1/mute", &[("reason", "issue 7"), ("owner", "ann"), ("expires", "2d")]).await;
    assert_eq!(right.location, "/tests/1");
    get(&house, "/muted").await.holds(&["issue 7", ">ann<"]);
    get(&house, "/failing").await.holds(&["Nothing fails"]);
    assert_eq!(submit(&house, "/tests/1/unmute", &[]).await.status, StatusCode::SEE_OTHER);
    get(&house, "/muted").await.holds(&["No test is muted"]);
    house.close().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_beside_its_field() {
    let house = house().await;
    let answer = import(&house, "nightly", "cut.xml", "<testsuites>\n<testcase name='a'>").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    answer.holds(&["id=\"file-error\"", "cut.xml was not imported: line 2", "value=\"nightly\"", "value=\"main\""]);
    let nameless = import(&house, " ", "a.xml", &document("x")).await;
    nameless.holds(&["id=\"suite-error\""]);
    let fileless = import(&house, "nightly", "", "").await;
    fileless.holds(&["Choose a file"]);
    let large = format!(
        "<testsuites><testcase name='t'><system-out>{}</system-out></testcase></testsuites>",
        "x".repeat(6 << 20)
    );
    run_of(&import(&house, "nightly", "large.xml", &large).await);
    house.close().await;
}

#[tokio::test]
async fn runs_of_experiments_are_found_by_their_labels_and_notes() {
    let house = house().await;
    let run = house.run(&support::experiment("shoppers", 4)).await;
    let other = house.run(&support::experiment("shoppers", 4)).await;
    let labels = submit(&house, &format!("/runs/{run}/labels"), &[("labels", "release, 100%")]).await;
    assert_eq!(labels.location, format!("/runs/{run}#notes"));
    submit(&house, &format!("/runs/{run}/notes"), &[("text", "Looked INTO it")]).await;
    get(&house, &format!("/runs/{run}")).await.holds(&["Looked INTO it", ">release</span>"]);
    for path in ["/?label=release", "/?label=100%25", "/?text=looked+into", "/?label=release&text=into&name=shop"] {
        let page = get(&house, path).await;
        page.holds(&[&format!("data-run-id=\"{run}\"")]);
        assert!(!page.body.contains(&format!("data-run-id=\"{other}\"")), "{path}");
    }
    get(&house, "/?label=rel").await.holds(&["No run is like that"]);
    house.close().await;
}

#[tokio::test]
async fn the_retention_is_set_in_days_and_gigabytes() {
    let house = house().await;
    get(&house, "/settings").await.holds(&["href=\"/settings/storage\""]);
    get(&house, "/settings/storage").await.holds(&[
        "value=\"90\"",
        "value=\"20\"",
        "<dt>Database</dt><dd>",
        "<dt>Runs of suites</dt><dd>0</dd>",
    ]);
    let wrong = submit(&house, "/settings/storage", &[("days", "soon"), ("gigabytes", "5")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.holds(&["id=\"days-error\"", "value=\"soon\""]);
    submit(&house, "/settings/storage", &[("days", ""), ("gigabytes", "0.5")]).await.holds(&["Saved."]);
    get(&house, "/settings/storage").await.holds(&["value=\"0.5\""]);
    house.close().await;
}
