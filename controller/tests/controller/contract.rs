//! The API's contract: routes, statuses, bodies and errors, over a real socket.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use kennel_model::api::LiveEvent;
use kennel_model::protocol::FromAgent;
use kennel_model::{RunId, RunState};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::stage::{DEADLINE, Stage, experiment};

const ROUTES: [(&str, &str); 25] = [
    ("get", "/api/v1/runs"),
    ("post", "/api/v1/runs"),
    ("get", "/api/v1/runs/{id}"),
    ("get", "/api/v1/runs/{id}/series"),
    ("get", "/api/v1/runs/{id}/live"),
    ("post", "/api/v1/runs/{id}/halt"),
    ("post", "/api/v1/halt"),
    ("post", "/api/v1/validate"),
    ("get", "/api/v1/compare"),
    ("get", "/api/v1/library"),
    ("get", "/api/v1/schema"),
    ("get", "/api/v1/openapi.json"),
    ("get", "/api/v1/health"),
    ("get", "/api/v1/files/{kind}"),
    ("post", "/api/v1/files/{kind}"),
    ("get", "/api/v1/files/{kind}/{name}"),
    ("put", "/api/v1/files/{kind}/{name}"),
    ("delete", "/api/v1/files/{kind}/{name}"),
    ("post", "/api/v1/files/{kind}/{name}/rename"),
    ("post", "/api/v1/files/{kind}/{name}/restore"),
    ("get", "/api/v1/files/{kind}/{name}/versions"),
    ("get", "/api/v1/files/{kind}/{name}/versions/{version}"),
    ("get", "/api/v1/files/{kind}/{name}/diff"),
    ("get", "/api/v1/files/{kind}/{name}/download"),
    ("get", "/api/v1/surroundings"),
];

#[tokio::test]
async fn the_document_lists_every_route_and_every_listed_route_answers() {
    let stage = Stage::new().await;
    let (status, document) = stage.get("/openapi.json").await;
    assert_eq!(status, 200);
    let paths = document["paths"].as_object().unwrap();
    let listed: BTreeSet<(&str, &str)> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.as_str(), path.as_str())))
        .collect();
    let missing: Vec<_> = ROUTES.iter().filter(|route| !listed.contains(*route)).collect();
    assert!(missing.is_empty(), "the document lacks {missing:?}");
    for (method, path) in listed {
        // Every parameter is `last`: a run that there is not, or a word that is none of those expected.
        let parts = path.trim_start_matches("/api/v1").split('/');
        let path = parts.map(|part| if part.starts_with('{') { "last" } else { part }).collect::<Vec<_>>().join("/");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let asked = stage.client.request(method, format!("{}{path}", stage.base)).send();
        let answer = timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("{path} does not answer")).unwrap();
        let status = answer.status();
        assert!(!status.is_server_error() && status != 405, "{path}: {status}");
        // Some streams never end.
        if answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            continue;
        }
        let text = timeout(DEADLINE, answer.text()).await.unwrap_or_else(|_| panic!("{path} does not end")).unwrap();
        assert!(!text.contains("lists what there is"), "{path} is not routed: {text}");
    }
    // Every schema that is referred to is there.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "no schema for {name}");
    }
    stage.close().await;
}

#[tokio::test]
async fn once_there_are_accounts_strangers_learn_only_that_kennel_answers() {
    let stage = Stage::new().await;
    let _agent = stage.agent("a1").await;
    let token = json!({"name": "monitoring", "role": "viewer", "scope": "read"});
    let (status, token) = stage.post("/tokens", &token).await;
    assert_eq!(status, 201, "{token}");
    let admin = json!({"name": "ada", "role": "admin", "password": "correct horse battery staple"});
    let (status, added) = stage.post("/people", &admin).await;
    assert_eq!(status, 201, "{added}");
    assert_eq!(stage.get("/health").await, (200, json!({"status": "ok"})));
    let request = stage.client.get(format!("{}/health", stage.base)).bearer_auth("kennel_wrong");
    assert_eq!(request.send().await.unwrap().json::<Value>().await.unwrap(), json!({"status": "ok"}));
    let request = stage.client.get(format!("{}/health", stage.base));
    let known = request.bearer_auth(token["secret"].as_str().unwrap()).send().await.unwrap();
    let known = known.json::<Value>().await.unwrap();
    assert_eq!((&known["status"], &known["agents"]), (&json!("ok"), &json!(["a1"])), "{known}");
    stage.close().await;
}

#[tokio::test]
async fn a_run_is_started_listed_read_and_halted_over_http() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let (status, started) = stage.post("/runs", &json!({"experiment": experiment("")})).await;
    assert_eq!(status, 201, "{started}");
    let id: RunId = started["id"].as_str().unwrap().parse().unwrap();
    agent.begin().await;
    agent.seconds(id, 0..4, 20, 0).await;
    stage.until(id, |run| run.summary.measured_s == 4).await;

    let (_, health) = stage.get("/health").await;
    assert_eq!((&health["agents"], &health["active"]), (&json!(["a1"]), &json!([id])));
    let short = id.short();
    for name in [id.to_string(), short.clone(), "last".to_owned(), id.to_string()[..13].to_owned()] {
        let (status, run) = stage.get(&format!("/runs/{name}")).await;
        assert_eq!(
            (status, run["id"].as_str(), run["state"].as_str()),
            (200, Some(id.to_string().as_str()), Some("steady"))
        );
    }
    let (_, series) = stage.get(&format!("/runs/{short}/series")).await;
    assert_eq!(series["series"]["create order"].as_array().map(Vec::len), Some(4));

    let (status, second) = stage.post("/runs", &json!({"experiment": experiment(""), "file": "again.yaml"})).await;
    assert_eq!(status, 201);
    let (_, newest) = stage.get("/runs?limit=1").await;
    assert_eq!((newest.as_array().unwrap().len(), &newest[0]["id"]), (1, &second["id"]));
    let (_, older) = stage.get(&format!("/runs?before={}", second["id"].as_str().unwrap())).await;
    assert_eq!((older.as_array().unwrap().len(), older[0]["id"].as_str()), (1, Some(id.to_string().as_str())));
    assert_eq!(stage.get("/runs/last-1").await.1["id"], json!(id));

    assert_eq!(stage.post(&format!("/runs/{short}/halt"), &json!({})).await, (202, json!({"halted": [id]})));
    agent.expect_halt(id).await;
    agent.tell(FromAgent::Halted { run: id, took_ms: 2 }).await;
    stage.judged(id).await;
    let (status, over) = stage.post(&format!("/runs/{short}/halt"), &json!({})).await;
    assert_eq!((status, over["error"].as_str().unwrap().ends_with("is already over")), (409, true));
    stage.until_active(&[second["id"].as_str().unwrap().parse().unwrap()]).await;
    let (status, halted) = stage.post("/halt", &json!({})).await;
    assert_eq!((status, &halted["halted"]), (202, &json!([second["id"]])));
    let (status, compared) = stage.get(&format!("/compare?a={short}&b=last")).await;
    assert_eq!(status, 200);
    assert!(compared["rows"].as_array().unwrap().iter().any(|row| row["metric"] == "p99"), "{compared}");
    drop(agent);
    stage.close().await;
}

#[tokio::test]
async fn the_live_stream_starts_with_the_run_and_delivers_seconds_while_it_goes() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let id = stage.start(&experiment("")).await;
    agent.begin().await;
    let answer = stage.client.get(format!("{}/runs/{id}/live", stage.base)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = Box::pin(events(answer));
    let first = timeout(DEADLINE, events.next()).await.unwrap().unwrap();
    assert!(matches!(&first, LiveEvent::State { run } if run.id == id), "{first:?}");
    for second in 0..16 {
        agent.second(id, second, 20, 0).await;
        // Each second arrives before the next one is measured.
        loop {
            let event = timeout(DEADLINE, events.next()).await.unwrap().unwrap();
            if let LiveEvent::Second { seconds } = event {
                assert_eq!((seconds["all"].second, seconds["create order"].rate), (second, 10));
                break;
            }
        }
    }
    agent.tell(FromAgent::LoadEnded { run: id, failure: None }).await;
    let mut last = None;
    while let Some(event) = timeout(DEADLINE, events.next()).await.expect("the stream never ends") {
        last = Some(event);
    }
    assert!(matches!(&last, Some(LiveEvent::State { run }) if run.state == RunState::Judged), "{last:?}");
    stage.close().await;
}

fn events(answer: reqwest::Response) -> impl futures::Stream<Item = LiveEvent> {
    futures::stream::unfold((answer, String::new()), |(mut answer, mut text)| async {
        loop {
            if let Some((event, rest)) = text.split_once("\n\n") {
                let event = event.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap());
                text = rest.to_owned();
                match event {
                    Some(event) => return Some((event, (answer, text))),
                    None => continue,
                }
            }
            text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap()?).unwrap());
        }
    })
}

#[tokio::test]
async fn a_bad_experiment_is_refused_whole_with_every_problem_placed() {
    let stage = Stage::new().await;
    let bad = experiment("objectives: ['p99(nothing) < 1s', 'p50 < 1s during never']\naudits: [stock]");
    for path in ["/validate", "/runs"] {
        let (status, body) = stage.post(path, &json!({"experiment": bad, "file": "night.yaml"})).await;
        assert_eq!((status, body["error"].as_str()), (422, Some("night.yaml has 3 problems")), "{path}");
        let fields: Vec<&str> =
            body["problems"].as_array().unwrap().iter().map(|p| p["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["objectives[0]", "objectives[1]", "audits[0]"]);
        assert!(body["problems"][0]["line"].as_u64().unwrap() > 10);
    }
    assert_eq!(stage.get("/runs").await.1, json!([]));
    let (status, valid) = stage.post("/validate", &json!({"experiment": experiment("")})).await;
    assert_eq!(
        (status, valid),
        (200, json!({"kind": "experiment", "name": "checkout", "target": "shop", "planned_s": 16.0}))
    );
    stage.close().await;
}

#[tokio::test]
async fn every_error_is_json_with_a_sentence() {
    let stage = Stage::new().await;
    let send = |method: Method, path: &str, body: &str, content_type: &str| {
        let request = stage.client.request(method, format!("{}{path}", stage.base));
        let request = request.header("content-type", content_type).body(body.to_owned());
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.unwrap();
            (status, body["error"].as_str().unwrap().to_owned())
        }
    };
    let big = format!(r#"{{"experiment": "{}"}}"#, "x".repeat(1 << 20));
    let json = "application/json";
    let missing = RunId::new().to_string();
    let cases = [
        (Method::GET, "/nothing", "", json, 404, "there is no GET"),
        (Method::DELETE, "/runs", "", json, 405, "takes no DELETE"),
        (Method::POST, "/runs", "{", json, 400, "JSON"),
        (Method::POST, "/runs", "{}", json, 422, "missing field `experiment`"),
        (Method::POST, "/runs", r#"{"experiment": 5}"#, json, 422, "experiment: invalid type"),
        (Method::POST, "/validate", r#"{"experiment": "", "fast": true}"#, json, 422, "unknown field `fast`"),
        (Method::POST, "/runs", "version: 1", "text/yaml", 415, "application/json"),
        (Method::POST, "/runs", big.as_str(), json, 413, "length limit"),
        (Method::GET, "/runs?limit=many", "", json, 400, "limit"),
        (Method::GET, "/runs?page=2", "", json, 400, "unknown field `page`"),
        (Method::GET, "/compare?a=last", "", json, 400, "missing field `b`"),
        (Method::GET, "/runs/last", "", json, 404, "there is no run `last`"),
        (Method::GET, "/runs/last-x", "", json, 404, "there is no run `last-x`"),
        (Method::GET, "/runs/%25", "", json, 404, "there is no run `%`"),
        (Method::GET, &format!("/runs/{missing}/series"), "", json, 404, "there is no run"),
        (Method::GET, &format!("/runs/{missing}/live"), "", json, 404, "there is no run"),
        (Method::POST, &format!("/runs/{missing}/halt"), "", json, 404, "there is no run"),
    ];
    for (method, path, body, content_type, expected, sentence) in cases {
        let (status, error) = send(method, path, body, content_type).await;
        assert_eq!(status, expected, "{path} {body:.40}: {error}");
        assert!(error.contains(sentence), "{path} {body:.40}: {error}");
    }
    stage.close().await;
}

#[tokio::test]
async fn an_id_that_fits_several_runs_is_refused() {
    let stage = Stage::new().await;
    let a = stage.start(&experiment("")).await;
    let b = stage.start(&experiment("")).await;
    let both = a
        .to_string()
        .chars()
        .zip(b.to_string().chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect::<String>();
    let (status, body) = stage.get(&format!("/runs/{both}")).await;
    assert_eq!(status, 404);
    assert!(body["error"].as_str().unwrap().contains("could be any of 2 runs"), "{body}");
    stage.close().await;
}

#[tokio::test]
async fn foreign_pages_and_foreign_names_get_nowhere() {
    let stage = Stage::new().await;
    let start = json!({"experiment": experiment("")});
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        let request = stage.client.post(format!("{}/runs", stage.base)).header(name, value).json(&start);
        assert_eq!(request.send().await.unwrap().status(), 403, "{name}: {value}");
    }
    assert_eq!(stage.get("/runs").await.1, json!([]));
    let address = stage.base.trim_start_matches("http://").split('/').next().unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /api/v1/runs HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not a name of this machine"), "{answer}");
    stage.close().await;
}

#[tokio::test]
async fn library_and_schema_are_served() {
    let stage = Stage::new().await;
    let (_, library) = stage.get("/library").await;
    assert_eq!(library, json!([{"name": "quick", "description": "d", "source": "s"}]));
    let (_, schema) = stage.get("/schema").await;
    assert_eq!(schema["title"], "Kennel experiment");
    stage.close().await;
}
