//! The pages of experiments, targets and suites without any script: lists, editor, versions, conflicts.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use kennel_controller::Caller;
use kennel_model::Role;
use kennel_model::api::{FileKind, LibraryEntry, SaveFile};
use reqwest::StatusCode;
use support::browsing::{Answer, client, get, read, submit};
use support::scripted_agent::Script;
use support::{House, experiment};

const HOSTILE: &str = "<script>alert(1)</script> / & \"x\"";

async fn house() -> House {
    let entry = LibraryEntry {
        name: "order demo & more".to_owned(),
        description: "About it".to_owned(),
        source: experiment("x", 8),
    };
    House::open(Script::fast(), 0, vec![entry]).await
}

async fn save(house: &House, name: &str, seconds: u32, who: &str) {
    let caller = Caller { name: who.to_owned(), role: Role::Operator };
    let request = SaveFile { source: experiment(name, seconds), message: format!("{seconds} seconds"), expected: None };
    house.controller.save_file(&caller, FileKind::Experiment, None, request).await.expect("a valid file");
}

/// The text in the editor, as a browser would have it.
fn typed(page: &Answer) -> String {
    let area = page.body.split("<textarea").nth(1).and_then(|rest| rest.split_once('>')).expect("a text area").1;
    let text = area.split("</textarea>").next().expect("its end").trim_start_matches('\n');
    let text = text.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">");
    text.replace("&#38;", "&")
}

#[tokio::test]
async fn an_empty_list_teaches_and_a_template_becomes_a_kept_experiment() {
    let house = house().await;
    let list = get(&house, "/experiments").await;
    assert_eq!(list.status, StatusCode::OK);
    list.holds(&["No experiment yet", "/experiments/new?template=order%20demo%20%26%20more", "About it"]);
    let editor = get(&house, "/experiments/new?template=order%20demo%20%26%20more").await;
    editor.holds(&["id=\"file-editor\"", "data-kind=\"experiment\"", "name=\"expected\" value=\"0\""]);
    assert_eq!(typed(&editor).trim_end(), experiment("x", 8).trim_end());

    // Browsers send lines with CR LF.
    let text = typed(&editor).replace('\n', "\r\n");
    let form = [("source", text.as_str()), ("expected", "0"), ("message", "begin"), ("action", "save")];
    let saved = submit(&house, "/experiments/new", &form).await;
    assert_eq!(
        (saved.status, saved.location.as_str()),
        (StatusCode::SEE_OTHER, "/experiments/x/edit?saved=1"),
        "{}",
        saved.body
    );
    get(&house, &saved.location).await.holds(&[
        "Saved as version 1",
        "name=\"expected\" value=\"1\"",
        "data-saved=\"yes\"",
    ]);
    get(&house, "/experiments").await.holds(&["href=\"/experiments/x/edit\"", "by local", "Whether customers notice"]);
    assert_eq!(get(&house, "/experiments?q=nothing").await.body.matches("href=\"/experiments/x/edit\"").count(), 0);

    let run = submit(&house, "/experiments/x/run", &[]).await;
    assert!(run.status == StatusCode::SEE_OTHER && run.location.starts_with("/runs/"), "{}", run.body);
    assert_eq!(get(&house, "/experiments/new?template=none").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    house.close().await;
}

#[tokio::test]
async fn what_is_wrong_is_listed_and_nothing_that_was_typed_is_lost() {
    let house = house().await;
    let wrong = experiment("typed", 8).replace("120/s", "fast") + "# my comment <b>\n";
    for action in ["save", "run", "check"] {
        let form = [("source", wrong.as_str()), ("expected", "0"), ("message", "my message"), ("action", action)];
        let page = submit(&house, "/experiments/new", &form).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        page.holds(&[
            "id=\"problems\"",
            "load.stages[0].rate",
            "data-line=",
            "value=\"my message\"",
            "# my comment &#60;b&#62;",
        ]);
        assert_eq!(typed(&page).trim_end(), wrong.trim_end());
    }
    assert!(house.controller.files(FileKind::Experiment).await.unwrap().is_empty());
    let form = [("source", experiment("typed", 8)), ("action", "check".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = submit(&house, "/experiments/new", &form).await;
    assert_eq!(page.status, StatusCode::OK);
    page.holds(&["id=\"valid\""]);
    house.close().await;
}

#[tokio::test]
async fn a_conflict_shows_theirs_and_yours_and_saving_again_follows_theirs() {
    let house = house().await;
    save(&house, "night", 8, "ann").await;
    save(&house, "night", 16, "bob").await;
    let mine = experiment("night", 24);
    let form = [("source", mine.as_str()), ("expected", "1"), ("message", "mine"), ("action", "save")];
    let page = submit(&house, "/experiments/night/edit", &form).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.holds(&[
        "id=\"conflict\"",
        "bob saved version 2",
        "16 seconds",
        "<del>",
        "<ins>",
        "name=\"expected\" value=\"2\"",
    ]);
    assert_eq!(typed(&page).trim_end(), mine.trim_end());
    let form = [("source", mine.as_str()), ("expected", "2"), ("action", "save")];
    let saved = submit(&house, "/experiments/night/edit", &form).await;
    assert_eq!(saved.location, "/experiments/night/edit?saved=3");

    // Removed while it was edited: what was typed can be saved as a new one.
    let removed = submit(&house, "/experiments/night/remove", &[("expected", "3")]).await;
    assert_eq!(removed.status, StatusCode::SEE_OTHER);
    let form = [("source", mine.as_str()), ("expected", "3"), ("action", "save")];
    let page = submit(&house, "/experiments/night/edit", &form).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.holds(&["id=\"refused\"", "name=\"expected\" value=\"0\"", "action=\"/experiments/new\""]);
    house.close().await;
}

#[tokio::test]
async fn versions_are_listed_compared_and_restored() {
    let house = house().await;
    save(&house, "night", 8, "ann").await;
    save(&house, "night", 16, "bob").await;
    let page = get(&house, "/experiments/night/history").await;
    page.holds(&[
        "ann",
        "bob",
        "8 seconds",
        "From version 1 to 2",
        "<del>",
        "unchanged",
        "id=\"unified\"",
        "id=\"restore-1\"",
    ]);
    assert!(!page.body.contains("id=\"restore-2\""), "the current version needs no restoring");
    get(&house, "/experiments/night/history?from=2&to=2").await.holds(&["These two are the same"]);
    assert!(!get(&house, "/experiments/night/history?all=true").await.body.contains("class=\"gap\""));
    assert_eq!(get(&house, "/experiments/night/history?from=1&to=9").await.status, StatusCode::NOT_FOUND);

    let restored = submit(&house, "/experiments/night/restore", &[("version", "1")]).await;
    assert_eq!(restored.location, "/experiments/night/edit?saved=3");
    let file = house.controller.file(FileKind::Experiment, "night").await.unwrap();
    assert_eq!((file.source, file.author), (experiment("night", 8), "local".to_owned()));

    submit(&house, "/experiments/night/remove", &[]).await;
    get(&house, "/experiments").await.holds(&["Removed (1)", "/experiments/night/history"]);
    get(&house, "/experiments/night/history").await.holds(&["was removed", "id=\"restore-3\""]);
    assert_eq!(get(&house, "/experiments/night/edit").await.status, StatusCode::NOT_FOUND);
    submit(&house, "/experiments/night/restore", &[]).await;
    assert_eq!(get(&house, "/experiments/night/edit").await.status, StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn hostile_names_are_shown_and_lead_to_their_own_pages() {
    let house = house().await;
    save(&house, HOSTILE, 8, "<b>eve</b>").await;
    save(&house, HOSTILE, 16, "<b>eve</b>").await;
    let encoded = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%20%2F%20%26%20%22x%22";
    let list = get(&house, "/experiments").await;
    list.holds(&[&format!("/experiments/{encoded}/edit"), "&#60;script&#62;", "by &#60;b&#62;eve"]);
    let paths = ["edit", "history", "history?from=0&to=1"].map(|page| format!("/experiments/{encoded}/{page}"));
    for path in paths.into_iter().chain([format!("/experiments/new?copy={encoded}")]) {
        let page = get(&house, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(!page.body.contains("<script>alert") && !page.body.contains("<b>eve"), "{path}\n{}", page.body);
    }
    let removed = submit(&house, &format!("/experiments/{encoded}/remove"), &[]).await;
    assert_eq!(removed.location, "/experiments");
    for path in ["/experiments/..%2F..%2Fetc%2Fpasswd/edit", "/experiments/%00/edit", "/targets/nope/history"] {
        assert_eq!(get(&house, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn an_uploaded_file_is_kept_or_its_problems_are_listed() {
    let house = house().await;
    let send = async |text: &str, more: &str| {
        let body = format!(
            "--frontier\r\ncontent-disposition: form-data; name=\"file\"; filename=\"<i>night</i>.yaml\"\r\n\r\n{text}\r\n{more}--frontier--\r\n"
        );
        let request = client().post(house.url("/experiments/upload")).body(body);
        read(request.header("content-type", "multipart/form-data; boundary=frontier")).await
    };
    let replace = "--frontier\r\ncontent-disposition: form-data; name=\"replace\"\r\n\r\ntrue\r\n";
    assert_eq!(send(&experiment("night", 8), "").await.location, "/experiments/night/edit?saved=1");
    let taken = send(&experiment("night", 16), "").await;
    assert_eq!(taken.status, StatusCode::UNPROCESSABLE_ENTITY);
    taken.holds(&["is there already", "&#60;i&#62;night"]);
    assert_eq!(send(&experiment("night", 16), replace).await.location, "/experiments/night/edit?saved=2");
    let wrong = send("name: night\nload: 7\n", "").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.holds(&["was not uploaded", "missing field `target`"]);
    send("", "").await.holds(&["Choose a file first"]);
    house.close().await;
}

#[tokio::test]
async fn a_run_of_a_file_that_nobody_keeps_can_be_kept() {
    let house = house().await;
    let run = house.run(&experiment("tried out", 8)).await;
    let editor = get(&house, &format!("/experiments/new?run={run}")).await;
    assert_eq!(typed(&editor).trim_end(), experiment("tried out", 8).trim_end());
    // The page for new runs hands its text over under its own name for it.
    let form = [("experiment", "name: half"), ("file", "x"), ("action", "open")];
    let opened = submit(&house, "/experiments/new", &form).await;
    assert_eq!((opened.status, typed(&opened).trim_end()), (StatusCode::OK, "name: half"));
    get(&house, "/runs/new").await.holds(&[
        "id=\"to-editor\"",
        "id=\"to-experiments\"",
        "formaction=\"/experiments/new\"",
    ]);
    house.close().await;
}

#[tokio::test]
async fn targets_and_suites_are_kept_by_the_same_pages() {
    let house = house().await;
    get(&house, "/targets").await.holds(&["No target yet", "<code>shop</code>"]);
    let source = typed(&get(&house, "/targets/new").await);
    let form = [("source", source.as_str()), ("expected", "0"), ("action", "save")];
    let saved = submit(&house, "/targets/new", &form).await;
    assert_eq!(saved.location, "/targets/my-system/edit?saved=1", "{}", saved.body);
    get(&house, "/targets").await.holds(&["href=\"/targets/my-system/edit\"", "<code>shop</code>"]);

    let source = typed(&get(&house, "/suites/new").await);
    assert!(source.contains("steps: []"), "{source}");
    let source = source.replace("steps: []", "steps:\n  - { name: pause, wait: 1s }");
    let form = [("source", source.as_str()), ("expected", "0"), ("action", "save")];
    let saved = submit(&house, "/suites/new", &form).await;
    assert_eq!(saved.location, "/suites/my%20suite/edit?saved=1", "{}", saved.body);
    let form = [("source", source.as_str()), ("expected", "1"), ("action", "schedule")];
    let schedule = submit(&house, "/suites/my%20suite/edit", &form).await;
    assert_eq!(schedule.location, "/schedules/new?suite=my%20suite");
    house.close().await;
}
