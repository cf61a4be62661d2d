//! Telling people: from a run that ends to a receiver that verifies what it gets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::{Timestamp, ToSpan as _};
use kennel_controller::Caller;
use kennel_model::api::StartRun;
use kennel_model::{Role, RunId, Verdict};
use kennel_notifications::signature::Key;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use crate::stage::{Agent, DEADLINE, LEASE, Stage, experiment, open};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Orders of 20 ms pass, of 300 ms fail.
const OBJECTIVE: &str = "objectives: ['p95(create order) < 100ms']";

/// A receiver of webhooks that refuses the first few posts.
#[derive(Clone, Default)]
struct Receiver {
    refusals: Arc<Mutex<u32>>,
    /// Every post: whether it was taken, its id and its body.
    posts: Arc<Mutex<Vec<(bool, String, Value)>>>,
}

impl Receiver {
    async fn serve(refusals: u32, at: Option<SocketAddr>) -> (Self, SocketAddr) {
        let receiver = Self { refusals: Arc::new(Mutex::new(refusals)), posts: Arc::default() };
        let listener = TcpListener::bind(at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().route("/hook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (receiver, address)
    }

    /// What was taken: type and subject.
    fn taken(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let posts = self.posts.lock().unwrap();
        let taken = posts.iter().filter(|(taken, ..)| *taken);
        taken.map(|(_, _, body)| (text(&body["type"]), text(&body["data"]["subject"]["name"]))).collect()
    }

    async fn until_taken(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.taken().len() < count {
            assert!(Instant::now() < deadline, "only {:?} came", self.posts.lock().unwrap());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let id = header("webhook-id");
    let at = Timestamp::from_second(header("webhook-timestamp").parse().unwrap()).unwrap();
    if !Key::read(SECRET).unwrap().verifies(&header("webhook-signature"), &id, at, &body) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let body = serde_json::from_str(&body).unwrap();
    let mut refusals = receiver.refusals.lock().unwrap();
    let is_refused = *refusals > 0;
    *refusals = refusals.saturating_sub(1);
    receiver.posts.lock().unwrap().push((!is_refused, id, body));
    if is_refused {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "not now").into_response();
    }
    "taken".into_response()
}

fn channel(address: SocketAddr) -> Value {
    let url = format!("http://{address}/hook?key=t0psecret");
    json!({
        "name": "ops",
        "allow_private_addresses": true,
        "destination": {"kind": "webhook", "url": url, "secret": SECRET},
    })
}

/// Adds a channel to a receiver and a rule of these events; answers the channel's number.
async fn subscribe(stage: &Stage, address: SocketAddr, events: Value, extra: Value) -> i64 {
    let (status, added) = stage.post("/notifications/channels", &channel(address)).await;
    assert_eq!(status, 201, "{added}");
    let id = added["id"].as_i64().unwrap();
    let mut rule = json!({"channel": id, "events": events});
    rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (status, added) = stage.post("/notifications/rules", &rule).await;
    assert_eq!(status, 201, "{added}");
    id
}

/// Carries out a run whose orders take `ms`, and says how it ended.
async fn run(stage: &Stage, agent: &mut Agent, ms: u64) -> (RunId, Verdict) {
    let id = stage.start(&experiment(OBJECTIVE)).await;
    agent.carry_out(ms).await;
    (id, stage.judged(id).await.summary.verdict.unwrap())
}

/// The delivery log once it is as wanted.
async fn log(stage: &Stage, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (_, log) = stage.get("/notifications/deliveries").await;
        let log = log.as_array().unwrap().clone();
        if wanted(&log) {
            return log;
        }
        assert!(Instant::now() < deadline, "the log stays {log:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_failure_and_its_recovery_are_told_once_each_though_the_receiver_refuses_twice() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let (receiver, address) = Receiver::serve(2, None).await;
    subscribe(&stage, address, json!(["first-failure", "recovery"]), json!({})).await;

    assert_eq!(run(&stage, &mut agent, 20).await.1, Verdict::Passed);
    let (first, verdict) = run(&stage, &mut agent, 300).await;
    assert_eq!(verdict, Verdict::Failed);
    run(&stage, &mut agent, 300).await;
    receiver.until_taken(1).await;
    assert_eq!(run(&stage, &mut agent, 20).await.1, Verdict::Passed);
    receiver.until_taken(2).await;
    let about = |event: &str| (event.to_owned(), "checkout".to_owned());
    assert_eq!(receiver.taken(), [about("first-failure"), about("recovery")]);

    let posts = receiver.posts.lock().unwrap().clone();
    let ids: Vec<&str> = posts[..3].iter().map(|(_, id, _)| id.as_str()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "a repetition is told by its id: {ids:?}");
    let failure = &posts[2].2;
    assert_eq!(failure["data"]["run"], first.to_string());
    assert_eq!(failure["data"]["title"], "checkout failed: 1 objective");
    let log = log(&stage, |log| log.len() == 2 && log.iter().all(|entry| entry["state"] == "sent")).await;
    assert_eq!(
        (log[1]["attempts"].as_u64(), log[1]["code"].as_u64(), &log[1]["answer"]),
        (Some(3), Some(200), &json!("taken"))
    );
    let (_, detail) = stage.get(&format!("/notifications/deliveries/{}", log[1]["id"].as_str().unwrap())).await;
    assert_eq!(serde_json::from_str::<Value>(detail["body"].as_str().unwrap()).unwrap(), *failure);
    assert!(detail["head"].as_str().unwrap().contains("webhook-signature: v1,"), "{detail}");
    stage.close().await;
}

#[tokio::test]
async fn links_lead_to_the_public_address_once_it_is_set() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let (receiver, address) = Receiver::serve(0, None).await;
    subscribe(&stage, address, json!(["every-failure"]), json!({"only": {"experiment": "checkout"}})).await;
    let put = |body: Value| stage.client.put(format!("{}/notifications/settings", stage.base)).json(&body).send();
    assert_eq!(put(json!({"public_url": "kennel.example"})).await.unwrap().status(), 422);
    run(&stage, &mut agent, 300).await;
    receiver.until_taken(1).await;
    assert_eq!(put(json!({"public_url": "https://kennel.example/"})).await.unwrap().status(), 200);
    let (id, _) = run(&stage, &mut agent, 300).await;
    receiver.until_taken(2).await;
    let posts = receiver.posts.lock().unwrap().clone();
    let urls: Vec<&Value> = posts.iter().map(|(_, _, body)| &body["data"]["url"]).collect();
    assert_eq!(urls, [&Value::Null, &json!(format!("https://kennel.example/runs/{id}"))]);
    stage.close().await;
}

#[test]
fn what_a_crash_cuts_off_is_told_after_the_next_start() {
    let dir = TempDir::new().unwrap();
    // A runtime that is dropped takes every task with it where it stands, as a crash does.
    let crashing = Runtime::new().unwrap();
    let (address, agent, controller) = crashing.block_on(async {
        let controller = open(dir.path(), LEASE).await.unwrap();
        // Nobody listens there yet.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let local = Caller::local();
        let written = serde_json::from_value(channel(address)).unwrap();
        let channel = controller.save_channel(&local, None, written).await.unwrap().id;
        let rule = json!({"channel": channel, "events": ["first-failure", "run-error"]});
        controller.save_notification_rule(&local, None, serde_json::from_value(rule).unwrap()).await.unwrap();
        let mut agent = Agent::attach(&controller, "a1").await;
        let start = |source: String| StartRun { experiment: source, file: None, raw_log: None };
        let failed = controller.start_run(start(experiment(OBJECTIVE))).await.unwrap();
        agent.carry_out(300).await;
        // It is in the outbox, and was tried in vain.
        while !controller
            .deliveries(kennel_controller::DeliveryQuery { limit: 9, ..Default::default() })
            .await
            .unwrap()
            .iter()
            .any(|delivery| delivery.attempts > 0 && delivery.run == Some(failed))
        {
            sleep(Duration::from_millis(10)).await;
        }
        let other = experiment("").replace("name: checkout", "name: browsing");
        controller.start_run(start(other)).await.unwrap();
        agent.begin().await;
        (address, agent, controller)
    });
    crashing.shutdown_timeout(Duration::from_secs(10));
    drop((agent, controller));

    Runtime::new().unwrap().block_on(async {
        let (receiver, _) = Receiver::serve(0, Some(address)).await;
        let controller = open(dir.path(), LEASE).await.unwrap();
        receiver.until_taken(2).await;
        let mut taken = receiver.taken();
        taken.sort();
        let about = |event: &str, name: &str| (event.to_owned(), name.to_owned());
        assert_eq!(taken, [about("first-failure", "browsing"), about("first-failure", "checkout")]);
        controller.close().await;
    });
}

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let stage = Stage::new().await;
    let (_, address) = Receiver::serve(0, None).await;
    let id = subscribe(&stage, address, json!(["recovery"]), json!({})).await;
    let mail = json!({"name": "mail", "destination": {
        "kind": "email", "host": "mail.example.org", "username": "kennel", "password": "hunter2hunter2",
        "from": "kennel@example.org", "to": ["team@example.org"],
    }});
    assert_eq!(stage.post("/notifications/channels", &mail).await.0, 201);
    // A channel keeps what is not given again.
    let url = format!("{}/notifications/channels/{id}", stage.base);
    let renamed = json!({"name": "ops 2", "allow_private_addresses": true, "destination": {"kind": "webhook"}});
    let answer = stage.client.put(&url).json(&renamed).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (status, tested) = stage.post(&format!("/notifications/channels/{id}/test"), &Value::Null).await;
    assert_eq!((status, &tested["state"]), (200, &json!("sent")), "{tested}");
    for path in
        ["/notifications/channels", "/notifications/rules", "/notifications/deliveries", "/notifications/settings"]
    {
        let text = stage.get(path).await.1.to_string();
        for secret in ["t0psecret", &SECRET[6..], "hunter2"] {
            assert!(!text.contains(secret), "{path} tells {secret}: {text}");
        }
    }
    let taken = stage
        .post("/notifications/channels", &json!({"name": "mail", "destination": channel(address)["destination"]}))
        .await;
    assert_eq!(taken.0, 422);
    assert_eq!(taken.1["problems"][0]["field"], "name");
    stage.close().await;
}

#[tokio::test]
async fn private_addresses_are_refused_unless_the_channel_allows_them() {
    let stage = Stage::new().await;
    let (receiver, address) = Receiver::serve(0, None).await;
    let mut careless = channel(address);
    careless["allow_private_addresses"] = json!(false);
    let id = stage.post("/notifications/channels", &careless).await.1["id"].as_i64().unwrap();
    let (_, tested) = stage.post(&format!("/notifications/channels/{id}/test"), &Value::Null).await;
    assert_eq!((&tested["state"], &tested["attempts"]), (&json!("failed"), &json!(1)));
    assert!(tested["answer"].as_str().unwrap().contains("a loopback address"), "{tested}");
    assert!(receiver.posts.lock().unwrap().is_empty());
    careless["destination"]["url"] = json!("http://169.254.169.254/latest/meta-data");
    careless["allow_private_addresses"] = json!(true);
    careless["name"] = json!("metadata");
    assert_eq!(stage.post("/notifications/channels", &careless).await.0, 422);
    stage.close().await;
}

#[tokio::test]
async fn in_quiet_hours_it_waits_and_may_be_sent_by_hand() {
    let stage = Stage::new().await;
    let mut agent = stage.agent("a1").await;
    let (receiver, address) = Receiver::serve(0, None).await;
    let now = Timestamp::now();
    let time = |hours: i64| (now + hours.hours()).strftime("%H:%M").to_string();
    let quiet = json!({"quiet_hours": {"from": time(-2), "to": time(2), "zone": "UTC"}});
    let id = subscribe(&stage, address, json!(["first-failure"]), quiet).await;
    run(&stage, &mut agent, 300).await;
    let waiting = log(&stage, |log| log.len() == 1).await.remove(0);
    assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("waiting"), &json!(0)));
    let due: Timestamp = waiting["next_try_at"].as_str().unwrap().parse().unwrap();
    let ahead = due.duration_since(now).as_mins();
    assert!((118..=120).contains(&ahead), "{ahead} min ahead");
    // A test is not about a rule, and goes at once.
    assert_eq!(stage.post(&format!("/notifications/channels/{id}/test"), &Value::Null).await.1["state"], "sent");
    let path = format!("/notifications/deliveries/{}/retry", waiting["id"].as_str().unwrap());
    assert_eq!(stage.post(&path, &Value::Null).await.0, 202);
    receiver.until_taken(2).await;
    assert_eq!(receiver.taken()[1].0, "first-failure");
    stage.close().await;
}

#[tokio::test]
async fn a_channel_that_is_removed_takes_its_rules_along_and_leaves_its_log() {
    let stage = Stage::new().await;
    let (_, address) = Receiver::serve(0, None).await;
    let id = subscribe(&stage, address, json!(["recovery"]), json!({})).await;
    stage.post(&format!("/notifications/channels/{id}/test"), &Value::Null).await;
    let url = format!("{}/notifications/channels/{id}", stage.base);
    assert_eq!(stage.client.delete(&url).send().await.unwrap().status(), 204);
    assert_eq!(stage.client.delete(&url).send().await.unwrap().status(), 404);
    assert_eq!(stage.get("/notifications/rules").await.1, json!([]));
    let log = stage.get("/notifications/deliveries").await.1;
    assert_eq!((&log[0]["channel"], &log[0]["channel_name"]), (&Value::Null, &json!("ops")));
    let path = format!("/notifications/deliveries/{}/retry", log[0]["id"].as_str().unwrap());
    assert_eq!(stage.post(&path, &Value::Null).await.0, 409);
    stage.close().await;
}

#[tokio::test]
async fn operators_look_and_admins_change() {
    let stage = Stage::new().await;
    for (role, sees, changes) in [(Role::Viewer, 403, 403), (Role::Operator, 200, 403), (Role::Admin, 200, 201)] {
        let (_, token) = stage.post("/tokens", &json!({"name": "ann", "role": role, "scope": "all"})).await;
        let token = token["secret"].as_str().unwrap();
        let base = format!("{}/notifications", stage.base);
        for path in ["channels", "rules", "deliveries", "settings", "digest"] {
            let status = stage.client.get(format!("{base}/{path}")).bearer_auth(token).send().await.unwrap().status();
            assert_eq!(status, sees, "{role} {path}");
        }
        let added = stage.client.post(format!("{base}/channels")).json(&channel("127.0.0.1:9".parse().unwrap()));
        assert_eq!(added.bearer_auth(token).send().await.unwrap().status(), changes, "{role}");
    }
    stage.close().await;
}
