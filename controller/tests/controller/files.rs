//! Files with their versions, over a real socket: saving, conflicts, hostile names, differences, carrying in and out.

use reqwest::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::stage::{Stage, experiment};

/// An experiment of this name, with a comment that no change may lose.
fn named(name: &str) -> String {
    format!("# kept\n{}", experiment("").replacen("name: checkout", &format!("name: {}", json!(name)), 1))
}

fn target(name: &str) -> String {
    format!("name: {}\nbase_url: http://127.0.0.1:1\nallowed_hosts: ['127.0.0.1']\n", json!(name))
}

/// A name as one part of an address.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Names that try to be something else: paths, markup, commands, other characters.
const HOSTILE: [&str; 8] = [
    "../../etc/passwd",
    "a/b",
    "<script>alert(1)</script>",
    "name with spaces & ümläuts 🐕",
    "' OR 1=1 --",
    "%2e%2e%2f",
    "new",
    "a?b#c",
];

#[tokio::test]
async fn a_file_is_saved_read_changed_and_every_version_stays() {
    let stage = Stage::new().await;
    let body = json!({"source": named("night"), "message": "first", "expected": 0});
    let (status, saved) = stage.put("/files/experiment/night", &body).await;
    assert_eq!((status, &saved["version"], &saved["author"]), (200, &json!(1), &json!("local")), "{saved}");

    let changed = named("night").replace("10/s", "20/s");
    let (status, saved) = stage.put("/files/experiment/night", &json!({"source": changed, "expected": 1})).await;
    assert_eq!((status, &saved["version"]), (200, &json!(2)), "{saved}");
    // The same text once more is no version.
    let (_, same) = stage.put("/files/experiment/night", &json!({"source": changed})).await;
    assert_eq!(same["version"], 2);

    let answer = stage.client.get(format!("{}/files/experiment/night", stage.base)).send().await.unwrap();
    assert_eq!(answer.headers()[ETAG], "\"2\"");
    assert!(answer.json::<Value>().await.unwrap()["source"].as_str().unwrap().contains("20/s"));
    let fresh = stage.client.get(format!("{}/files/experiment/night", stage.base)).header(IF_NONE_MATCH, "\"2\"");
    assert_eq!(fresh.send().await.unwrap().status(), 304);

    let (_, versions) = stage.get("/files/experiment/night/versions").await;
    let seen: Vec<_> =
        versions.as_array().unwrap().iter().map(|v| (v["version"].as_u64(), v["message"].as_str())).collect();
    assert_eq!(seen, [(Some(2), Some("")), (Some(1), Some("first"))]);
    let (_, first) = stage.get("/files/experiment/night/versions/1").await;
    assert_eq!(first["source"], named("night"));
    assert_eq!(stage.get("/files/experiment/night/versions/3").await.0, 404);

    let (_, listed) = stage.get("/files/experiment").await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("night")));
    assert!(listed[0].get("source").is_none(), "a list carries no texts");
    stage.close().await;
}

#[tokio::test]
async fn an_invalid_file_is_refused_with_every_problem_in_its_place_and_not_saved() {
    let stage = Stage::new().await;
    let wrong = named("night").replace("rate: 10/s", "rate: fast");
    let (status, refused) = stage.put("/files/experiment/night", &json!({"source": wrong})).await;
    assert_eq!(status, 422);
    assert_eq!(refused["problems"][0]["field"], "load.stages[0].rate", "{refused}");
    assert!(refused["problems"][0]["line"].as_u64().unwrap() > 1, "{refused}");
    assert_eq!(stage.get("/files/experiment/night").await.0, 404);
    assert_eq!(stage.get("/files/experiment").await.1, json!([]));
    assert_eq!(stage.get("/files/poem").await.0, 400);
    stage.close().await;
}

#[tokio::test]
async fn whoever_saves_second_sees_both_texts() {
    let stage = Stage::new().await;
    stage.put("/files/experiment/night", &json!({"source": named("night"), "expected": 0})).await;
    let (mine, theirs) = (named("night").replace("10/s", "11/s"), named("night").replace("10/s", "12/s"));
    let (status, _) = stage.put("/files/experiment/night", &json!({"source": theirs, "expected": 1})).await;
    assert_eq!(status, 200);
    let (status, conflict) = stage.put("/files/experiment/night", &json!({"source": mine, "expected": 1})).await;
    assert_eq!(status, 409);
    assert_eq!((&conflict["current"]["version"], &conflict["current"]["source"]), (&json!(2), &json!(theirs)));
    assert_eq!(conflict["yours"], mine);
    assert!(conflict["error"].as_str().unwrap().contains("local saved version 2"), "{conflict}");

    // By header too, and for what must not be there yet or is gone.
    let request = stage.client.put(format!("{}/files/experiment/night", stage.base)).header(IF_MATCH, "\"1\"");
    assert_eq!(request.json(&json!({"source": mine})).send().await.unwrap().status(), 409);
    assert_eq!(stage.put("/files/experiment/night", &json!({"source": mine, "expected": 0})).await.0, 409);
    let (status, gone) = stage.put("/files/experiment/gone", &json!({"source": named("gone"), "expected": 3})).await;
    assert_eq!((status, &gone["current"]), (409, &Value::Null));
    assert_eq!(stage.get("/files/experiment/night").await.1["version"], 2);
    stage.close().await;
}

#[tokio::test]
async fn of_many_who_save_at_once_one_wins_each_version() {
    let stage = Stage::new().await;
    stage.put("/files/experiment/race", &json!({"source": named("race"), "expected": 0})).await;
    let attempts = (0..12).map(|n| {
        let body = json!({"source": named("race").replace("10/s", &format!("{}/s", n + 20)), "expected": 1});
        let stage = &stage;
        async move { stage.put("/files/experiment/race", &body).await.0 }
    });
    let statuses = futures::future::join_all(attempts).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 11, "{statuses:?}");
    assert_eq!(stage.get("/files/experiment/race/versions").await.1.as_array().unwrap().len(), 2);
    stage.close().await;
}

#[tokio::test]
async fn hostile_names_are_names_and_nothing_else() {
    let stage = Stage::new().await;
    for name in HOSTILE {
        let path = format!("/files/experiment/{}", encoded(name));
        let (status, saved) = stage.put(&path, &json!({"source": named(name), "expected": 0})).await;
        assert_eq!((status, &saved["name"]), (200, &json!(name)), "{saved}");
        assert_eq!(stage.get(&path).await.1["name"], name);
        let answer = stage.client.get(format!("{}{path}/download", stage.base)).send().await.unwrap();
        let disposition = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert!(disposition.starts_with("attachment; filename=\"") && !disposition.contains('/'), "{disposition}");
        assert_eq!(answer.text().await.unwrap(), named(name));
    }
    assert_eq!(stage.get("/files/experiment").await.1.as_array().unwrap().len(), HOSTILE.len());
    for name in ["..", ".", " a", "a\u{0}b", "a\nb", "\u{202e}gpj", &"x".repeat(201)] {
        let (status, refused) = stage.put("/files/experiment/x", &json!({"source": named(name)})).await;
        assert_eq!(status, 422, "{name:?}: {refused}");
        assert_eq!(refused["problems"][0]["field"], "name", "{name:?}: {refused}");
    }
    // Nothing was written beside the database.
    let mut beside: Vec<_> = std::fs::read_dir(stage.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    beside.retain(|file| !file.to_string_lossy().starts_with("kennel."));
    assert!(beside.is_empty(), "{beside:?}");
    stage.close().await;
}

#[tokio::test]
async fn a_new_file_is_kept_under_the_name_it_says() {
    let stage = Stage::new().await;
    let (status, refused) = stage.put("/files/experiment/day", &json!({"source": named("night")})).await;
    assert_eq!(status, 422);
    assert!(refused["error"].as_str().unwrap().contains("the text says `name: night`"), "{refused}");
    stage.close().await;
}

#[tokio::test]
async fn renaming_takes_the_versions_along_and_keeps_comments() {
    let stage = Stage::new().await;
    stage.put("/files/experiment/old", &json!({"source": named("old")})).await;
    stage.put("/files/experiment/other", &json!({"source": named("other")})).await;
    let (status, taken) = stage.post("/files/experiment/old/rename", &json!({"to": "other"})).await;
    assert_eq!(status, 409, "{taken}");
    let (status, renamed) = stage.post("/files/experiment/old/rename", &json!({"to": "brand/new: one"})).await;
    assert_eq!(
        (status, &renamed["name"], &renamed["version"]),
        (200, &json!("brand/new: one"), &json!(2)),
        "{renamed}"
    );
    assert!(renamed["source"].as_str().unwrap().starts_with("# kept\n"));
    assert_eq!(stage.get("/files/experiment/old").await.0, 404);
    let versions = format!("/files/experiment/{}/versions", encoded("brand/new: one"));
    assert_eq!(stage.get(&versions).await.1.as_array().unwrap().len(), 2);

    // Another name in the text does the same, and a name that was free again does not mix histories up.
    stage.put("/files/experiment/old", &json!({"source": named("old")})).await;
    stage.delete("/files/experiment/old").await;
    let path = format!("/files/experiment/{}", encoded("brand/new: one"));
    let (status, back) = stage.put(&path, &json!({"source": named("old"), "expected": 2})).await;
    assert_eq!((status, &back["name"], &back["version"]), (200, &json!("old"), &json!(4)), "{back}");
    assert_eq!(stage.get("/files/experiment/old/versions").await.1.as_array().unwrap().len(), 4);
    let (status, bad) = stage.post("/files/experiment/old/rename", &json!({"to": ".."})).await;
    assert_eq!(status, 422, "{bad}");
    stage.close().await;
}

#[tokio::test]
async fn what_is_removed_can_be_restored_and_so_can_each_version() {
    let stage = Stage::new().await;
    stage.put("/files/experiment/night", &json!({"source": named("night")})).await;
    let changed = named("night").replace("10/s", "20/s");
    stage.put("/files/experiment/night", &json!({"source": changed})).await;
    assert_eq!(stage.delete("/files/experiment/night?expected=1").await, 409);
    assert_eq!(stage.delete("/files/experiment/night").await, 204);
    assert_eq!(stage.delete("/files/experiment/night").await, 404);
    assert_eq!(stage.get("/files/experiment").await.1, json!([]));
    let (_, removed) = stage.get("/files/experiment?removed=true").await;
    assert_eq!((&removed[0]["name"], &removed[0]["version"]), (&json!("night"), &json!(2)));

    let (status, back) = stage.post("/files/experiment/night/restore", &json!({})).await;
    assert_eq!((status, &back["version"], &back["source"]), (200, &json!(3), &json!(changed)), "{back}");
    let (_, back) = stage.post("/files/experiment/night/restore", &json!({"version": 1})).await;
    assert_eq!((&back["version"], &back["message"]), (&json!(4), &json!("version 1 restored")));
    assert_eq!(back["source"], named("night"));
    assert_eq!(stage.post("/files/experiment/never/restore", &json!({})).await.0, 404);
    assert_eq!(stage.get("/files/experiment?removed=true").await.1, json!([]));
    stage.close().await;
}

#[tokio::test]
async fn two_versions_are_compared_as_one_text_and_side_by_side() {
    let stage = Stage::new().await;
    stage.put("/files/experiment/night", &json!({"source": named("night")})).await;
    let changed = named("night").replace("10/s", "20/s") + "# the end\n";
    stage.put("/files/experiment/night", &json!({"source": changed})).await;
    let (status, diff) = stage.get("/files/experiment/night/diff").await;
    assert_eq!((status, &diff["from"], &diff["to"]), (200, &json!(1), &json!(2)), "{diff}");
    assert_eq!((&diff["added"], &diff["removed"]), (&json!(2), &json!(1)));
    let unified = diff["unified"].as_str().unwrap();
    for line in ["--- version 1", "+++ version 2", "+# the end"] {
        assert!(unified.contains(line), "{unified}");
    }
    let rows = diff["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["change"] == "changed").expect("a changed row");
    assert!(row["left"]["text"].as_str().unwrap().contains("10/s"), "{row}");
    assert!(row["right"]["text"].as_str().unwrap().contains("20/s"), "{row}");
    assert_eq!(row["left"]["number"], row["right"]["number"]);
    let last = rows.last().unwrap();
    assert_eq!(
        (&last["change"], &last["right"]["text"], &last["left"]),
        (&json!("added"), &json!("# the end"), &Value::Null)
    );

    let (_, same) = stage.get("/files/experiment/night/diff?from=2&to=2").await;
    assert_eq!(same["unified"], "");
    let (_, whole) = stage.get("/files/experiment/night/diff?from=0&to=1").await;
    assert_eq!(whole["added"].as_u64(), Some(named("night").lines().count() as u64));
    assert_eq!(stage.get("/files/experiment/night/diff?from=1&to=9").await.0, 404);
    stage.close().await;
}

#[tokio::test]
async fn files_are_carried_in_as_text_and_as_a_form() {
    let stage = Stage::new().await;
    let url = format!("{}/files/experiment", stage.base);
    let raw = |text: String| stage.client.post(&url).header("content-type", "application/yaml").body(text).send();
    let answer = raw(named("night")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()[ETAG].to_str().unwrap()), (201, "\"1\""));
    assert_eq!(raw(named("night")).await.unwrap().status(), 409);
    assert_eq!(raw("name: [".to_owned()).await.unwrap().status(), 422);
    assert_eq!(raw("x".repeat((1 << 20) + 1)).await.unwrap().status(), 413);

    let part = |text: &str| {
        format!(
            "--frontier\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../x.yaml\"\r\n\r\n{text}\r\n--frontier--\r\n"
        )
    };
    let form = |path: &str, text: &str| {
        let request = stage.client.post(format!("{url}{path}"));
        request.header("content-type", "multipart/form-data; boundary=frontier").body(part(text)).send()
    };
    let answer = form("?message=from%20git", &named("form")).await.unwrap();
    assert_eq!(answer.status(), 201);
    let saved: Value = answer.json().await.unwrap();
    assert_eq!((&saved["name"], &saved["message"]), (&json!("form"), &json!("from git")));
    let changed = named("form").replace("10/s", "20/s");
    assert_eq!(form("?replace=true", &changed).await.unwrap().status(), 201);
    assert_eq!(stage.get("/files/experiment/form").await.1["version"], 2);
    let nothing = stage.client.post(&url).header("content-type", "multipart/form-data; boundary=frontier");
    assert_eq!(nothing.body("--frontier--\r\n").send().await.unwrap().status(), 422);
    let bytes = stage.client.post(&url).body(vec![0xff_u8, 0xfe]).send().await.unwrap();
    assert_eq!(bytes.status(), 422);
    stage.close().await;
}

#[tokio::test]
async fn a_kept_target_is_known_to_experiments_until_it_is_removed_and_after_a_restart() {
    let stage = Stage::new().await;
    let on_target = |name: &str| {
        format!(
            "version: 1\nname: e\ntarget: {name}\nload: {{model: open, stages: [{{rate: 10/s, duration: 5s}}]}}\nscenarios: [{{name: s, steps: [{{name: a, path: /}}]}}]\n"
        )
    };
    let valid = async |name: &str| stage.post("/validate", &json!({"source": on_target(name)})).await;
    assert_eq!(valid("shop").await.0, 422);
    stage.put("/files/target/shop", &json!({"source": target("shop")})).await;
    let (status, view) = valid("shop").await;
    assert_eq!((status, &view["target"]), (200, &json!("shop")), "{view}");
    let (_, refused) = valid("shap").await;
    assert!(refused["problems"][0]["expected"].as_str().unwrap().contains("`shop` (kept here)"), "{refused}");
    let (_, known) = stage.get("/surroundings").await;
    assert_eq!(known["targets"][0]["name"], "shop");
    assert_eq!(known["experiments"][0], json!({"name": "quick", "description": "d", "kept": false}));
    assert!(
        known["faults"]
            .as_array()
            .unwrap()
            .iter()
            .any(|fault| fault["kind"] == "latency" && fault["selects"] == "link")
    );

    stage.post("/files/target/shop/rename", &json!({"to": "store"})).await;
    assert_eq!((valid("shop").await.0, valid("store").await.0), (422, 200));
    let stage = stage.reopened().await;
    let (status, view) = stage.post("/validate", &json!({"source": on_target("store")})).await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(stage.delete("/files/target/store").await, 204);
    assert_eq!(stage.post("/validate", &json!({"source": on_target("store")})).await.0, 422);
    stage.close().await;
}

#[tokio::test]
async fn each_kind_is_checked_by_its_own_rules() {
    let stage = Stage::new().await;
    let (status, view) = stage.post("/validate", &json!({"kind": "target", "source": target("shop")})).await;
    assert_eq!((status, &view["kind"], &view["name"]), (200, &json!("target"), &json!("shop")), "{view}");
    let suite = "version: 1\nname: s\nsteps: [{name: pause, wait: 1s}]\n";
    let (status, view) = stage.post("/validate", &json!({"kind": "suite", "source": suite})).await;
    assert_eq!((status, &view["name"]), (200, &json!("s")), "{view}");
    let (status, view) =
        stage.post("/validate", &json!({"kind": "suite", "source": "version: 1\nname: s\nsteps: []\n"})).await;
    assert_eq!((status, &view["problems"][0]["field"]), (422, &json!("steps")), "{view}");
    assert_eq!(stage.post("/validate", &json!({"kind": "suite"})).await.0, 422);
    // An editor asks for a report: that something is wrong is an answer then, and no error.
    let (status, report) = stage.post("/validate?report=true", &json!({"kind": "target", "source": "name: 7\n"})).await;
    assert_eq!((status, &report["valid"]), (200, &Value::Null), "{report}");
    assert!(!report["problems"].as_array().unwrap().is_empty(), "{report}");
    let (_, report) = stage.post("/validate?report=true", &json!({"kind": "target", "source": target("shop")})).await;
    assert_eq!((&report["valid"]["name"], &report["problems"]), (&json!("shop"), &json!([])), "{report}");
    // Names are apart by kind.
    stage.put("/files/target/s", &json!({"source": target("s")})).await;
    assert_eq!(stage.get("/files/suite/s").await.0, 404);
    stage.close().await;
}
