//! A file under another name: everything that knows it by name follows, or the renaming is refused with a reason.

use serde_json::{Value, json};

use crate::stage::{Stage, experiment};

const SUITE: &str = "# why it is there\nversion: 1\nname: nightly\nsteps: [{name: pause, wait: 1ms}]\n";

fn junit(outcome: &str) -> String {
    format!("<testsuite><testcase classname=\"c\" name=\"pays\">{outcome}</testcase></testsuite>")
}

async fn import(stage: &Stage, suite: &str, document: String) -> Value {
    let request = stage.client.post(format!("{}/imports?suite={suite}", stage.base)).body(document);
    let answer = request.header("content-type", "application/xml").send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer.json().await.unwrap()
}

async fn schedule(stage: &Stage, kind: &str, subject: &str) {
    let draft = json!({"name": "at night", "kind": kind, "subject": subject, "cron": "30 2 * * *", "zone": "UTC"});
    let (status, made) = stage.post("/schedules", &draft).await;
    assert_eq!(status, 201, "{made}");
}

/// A rule that tells of one suite or experiment only.
async fn rule(stage: &Stage, kind: &str, name: &str) {
    let channel = json!({"name": "ops", "destination": {"kind": "webhook", "url": "https://ci.example/hook", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "enabled": false});
    let (status, channel) = stage.post("/notifications/channels", &channel).await;
    assert_eq!(status, 201, "{channel}");
    let rule = json!({"channel": channel["id"], "events": ["recovery"], "only": {kind: name}});
    let (status, rule) = stage.post("/notifications/rules", &rule).await;
    assert_eq!(status, 201, "{rule}");
}

async fn rename(stage: &Stage, path: &str, to: &str) -> (u16, Value) {
    stage.post(&format!("/files/{path}/rename"), &json!({"to": to})).await
}

#[tokio::test]
async fn a_suites_runs_tests_mutes_schedules_and_rules_follow_its_name() {
    let stage = Stage::new().await;
    stage.put("/files/suite/nightly", &json!({"source": SUITE})).await;
    import(&stage, "nightly", junit("<failure message=\"no\"/>")).await;
    let test = stage.get("/tests?suite=nightly").await.1["tests"][0]["id"].clone();
    let mute = json!({"reason": "issue 7", "owner": "ann", "expires": "14d"});
    assert_eq!(stage.put(&format!("/tests/{test}/mute"), &mute).await.0, 200);
    schedule(&stage, "suite", "nightly").await;
    rule(&stage, "suite", "nightly").await;

    let (status, renamed) = rename(&stage, "suite/nightly", "weekly").await;
    assert_eq!((status, &renamed["version"]), (200, &json!(2)), "{renamed}");
    let (_, suite) = stage.get("/suites/weekly").await;
    assert_eq!(suite["last_runs"].as_array().map(Vec::len), Some(1), "{suite}");
    assert_eq!(stage.get("/suites/nightly").await.0, 404);
    assert_eq!(stage.get("/schedules").await.1[0]["subject"], "weekly");
    let (_, rules) = stage.get("/notifications/rules").await;
    assert_eq!(rules[0]["only"]["suite"], "weekly", "{rules}");
    // The next results belong to the same test, which is still muted.
    let imported = import(&stage, "weekly", junit("<failure message=\"no\"/>")).await;
    assert_eq!(imported["run"]["verdict"], "passed", "{imported}");
    let (_, tests) = stage.get("/tests?suite=weekly").await;
    assert_eq!((&tests["total"], &tests["tests"][0]["id"]), (&json!(1), &test), "{tests}");
    assert_eq!(tests["tests"][0]["mute"]["reason"], "issue 7");
    stage.close().await;
}

#[tokio::test]
async fn a_run_from_before_the_renaming_is_run_again_under_the_new_name() {
    let stage = Stage::new().await;
    stage.put("/files/suite/nightly", &json!({"source": SUITE})).await;
    let (status, started) = stage.post("/suite-runs", &json!({"suite": "nightly"})).await;
    assert_eq!(status, 201, "{started}");
    let over = async |id: &Value| {
        let deadline = tokio::time::Instant::now() + crate::stage::DEADLINE;
        loop {
            let (_, run) = stage.get(&format!("/suite-runs/{}", id.as_str().unwrap())).await;
            if run["state"] == "ended" {
                return run;
            }
            assert!(tokio::time::Instant::now() < deadline, "it never ended: {run}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    over(&started["id"]).await;
    assert_eq!(rename(&stage, "suite/nightly", "weekly").await.0, 200);
    let path = format!("/suite-runs/{}/rerun", started["id"].as_str().unwrap());
    let (status, again) = stage.post(&path, &json!({"which": "all"})).await;
    assert_eq!(status, 201, "{again}");
    let run = over(&again["id"]).await;
    assert_eq!((&run["suite"], &run["verdict"], &run["attempt"]), (&json!("weekly"), &json!("passed"), &json!(2)));
    stage.close().await;
}

#[tokio::test]
async fn an_experiments_runs_schedules_rules_and_suites_follow_its_name() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a").await;
    let source = format!("# kept\n{}", experiment(""));
    stage.put("/files/experiment/checkout", &json!({"source": source})).await;
    let suite = SUITE.replace("{name: pause, wait: 1ms}", "{name: load, experiment: checkout} # the point of it\n");
    let suite = suite.replace("steps: [", "steps:\n- ").replace("\n]", "");
    let (status, saved) = stage.put("/files/suite/nightly", &json!({"source": suite})).await;
    assert_eq!(status, 200, "{saved}");
    schedule(&stage, "experiment", "checkout").await;
    rule(&stage, "experiment", "checkout").await;

    let run = stage.start(&source).await;
    let (status, refused) = rename(&stage, "experiment/checkout", "pay").await;
    assert_eq!(status, 409, "{refused}");
    let sentence = refused["error"].as_str().unwrap();
    assert!(
        sentence.contains("a run of the experiment `checkout` waits or is under way; rename it once"),
        "{sentence}"
    );
    assert_eq!(agent.carry_out(20).await, run);
    stage.judged(run).await;
    stage.until_active(&[]).await;

    let (status, renamed) = rename(&stage, "experiment/checkout", "pay").await;
    assert_eq!((status, &renamed["version"]), (200, &json!(2)), "{renamed}");
    assert_eq!(stage.get(&format!("/runs/{run}")).await.1["name"], "pay");
    assert_eq!(stage.get("/runs?name=pay").await.1[0]["id"], json!(run));
    assert_eq!(stage.get("/schedules").await.1[0]["subject"], "pay");
    assert_eq!(stage.get("/notifications/rules").await.1[0]["only"]["experiment"], "pay");
    let (_, suite) = stage.get("/files/suite/nightly").await;
    assert_eq!(
        (&suite["version"], &suite["message"]),
        (&json!(2), &json!("experiment `checkout` is now `pay`")),
        "{suite}"
    );
    assert!(suite["source"].as_str().unwrap().contains("- {name: load, experiment: pay} # the point of it"), "{suite}");

    // Its history does not mix with that of another one.
    stage.put("/files/experiment/checkout", &json!({"source": source})).await;
    stage.delete("/files/experiment/pay").await;
    let (status, refused) = rename(&stage, "experiment/checkout", "pay").await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("the two histories would mix"), "{refused}");
    stage.close().await;
}

#[tokio::test]
async fn files_and_runs_on_a_target_follow_its_name() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a").await;
    let target = "name: stall\nbase_url: http://127.0.0.1:1\nallowed_hosts: ['127.0.0.1']\n";
    stage.put("/files/target/stall", &json!({"source": target})).await;
    let source = "version: 1\nname: e\ntarget: stall # for now\nload: {model: open, stages: [{rate: 10/s, duration: 16s}], warm_up: 2s}\nscenarios: [{name: s, steps: [{name: create order, path: /}]}]\n";
    let (status, saved) = stage.put("/files/experiment/e", &json!({"source": source})).await;
    assert_eq!(status, 200, "{saved}");
    let run = stage.start(source).await;
    assert_eq!(rename(&stage, "target/stall", "market").await.0, 409, "a run is under way");
    assert_eq!(agent.carry_out(20).await, run);
    stage.judged(run).await;
    stage.until_active(&[]).await;
    let (status, renamed) = rename(&stage, "target/stall", "market").await;
    assert_eq!(status, 200, "{renamed}");
    let (_, file) = stage.get("/files/experiment/e").await;
    assert!(file["source"].as_str().unwrap().contains("\ntarget: market # for now\n"), "{file}");
    assert_eq!(stage.get(&format!("/runs/{run}")).await.1["target"], "market");
    stage.close().await;
}
