//! A system whose stores are looked at around each request.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::endpoints::Endpoint;
use crate::spoiling::{self, Must, Spoilt, shown};
use crate::stores::Stores;
use crate::world::{World, eventually, key};

/// What says that a request did not reach whom it was for, or not in time: it is sent again. What becomes of it then is
/// the answer, so none of these hides another one.
const BUSY: [&str; 7] = [
    "not_ready",
    "no_instance",
    "connection_refused",
    "connection_lost",
    "breaker_open",
    "bulkhead_full",
    "deadline_exceeded",
];
/// The one refusal with a 503: the ID that a new order came with has been given away, and its maker takes another one.
const ID_TAKEN: &str = "id_taken";
/// The most faults that are told at once.
const MOST: usize = 30;

pub(crate) struct Tested {
    pub(crate) world: World,
    pub(crate) stores: Stores,
    /// What the registry told at the last look.
    registry: Value,
    /// Who ran at the beginning.
    pids: Vec<(String, Option<u32>)>,
    /// For bodies of which the sender may not get rid.
    alone: reqwest::Client,
}

struct Answer {
    status: u16,
    text: String,
    body: Value,
}

impl Answer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Why this is no proper refusal.
    fn flaw_of_refusal(&self) -> Option<&'static str> {
        if !(400..500).contains(&self.status) && self.code() != ID_TAKEN {
            return Some("is no refusal");
        }
        let told = self.body["error"].as_str().is_some_and(|reason| !reason.is_empty()) && !self.code().is_empty();
        (!told).then_some("is a refusal without a reason")
    }
}

impl Tested {
    pub(crate) async fn new(world: World) -> Self {
        let stores = Stores::open(&world.data()).await;
        let instances = world.system.state().instances.iter();
        let pids = instances.map(|one| (one.instance.clone(), world.pid(&one.instance))).collect();
        let alone = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
        let mut tested = Self { world, stores, registry: Value::Null, pids, alone };
        // What was begun before a test is done before it: the charge of a payment is asked for again after a while.
        let deadline = Instant::now() + Duration::from_secs(30);
        while tested.stores.has_tasks_within(Duration::from_secs(120)).await {
            assert!(Instant::now() < deadline, "tasks go on and on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tested.changes().await;
        tested
    }

    /// What is not as it was at the last look.
    async fn changes(&mut self) -> Vec<String> {
        let mut changes = self.stores.changes().await;
        let registry = self.world.registry("GET", "/svc").await.1;
        if registry != self.registry {
            changes.push(format!("the registry told {} and now {registry}", self.registry));
            self.registry = registry;
        }
        changes
    }

    async fn rest(&mut self) {
        let url = format!("{}/audit?quiesce_ms=5000", self.world.system.state().auditor);
        self.world.send("GET", url, None, "rest").await;
        self.changes().await;
    }

    /// Sends until there is an answer that was meant.
    async fn send(&self, endpoint: &Endpoint, request: &Spoilt) -> Answer {
        let url = format!("http://{}{}", self.world.address(&endpoint.instance), request.path);
        let key = request.key.clone().unwrap_or_else(|| key().into_bytes());
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let large = request.body.as_ref().is_some_and(|body| body.len() > 1 << 20);
            let http = if large { &self.alone } else { &self.world.http };
            let mut asked = http
                .request(request.method.unwrap_or(endpoint.method).parse().expect("a method"), &url)
                .header("x-req-id", key.clone());
            if let Some(body) = &request.body {
                asked = asked.body(body.clone());
            }
            if let Some(left) = request.deadline_ms {
                asked = asked.header("x-deadline-ms", left);
            }
            let answer = asked.send().await.unwrap_or_else(|error| panic!("{}: {error}", told(endpoint, request)));
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap_or_default();
            let body: Value = serde_json::from_str(&text).unwrap_or_default();
            let answer = Answer { status, text, body };
            let busy = matches!(status, 503 | 504) && BUSY.contains(&answer.code());
            if !busy || Instant::now() > deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Each request as it fits is answered by its handler; what is in front of the handlers has a reason, too.
    pub(crate) async fn all_reach_their_handlers(&mut self, endpoints: &[Endpoint]) {
        let mut faults = Vec::new();
        for endpoint in endpoints {
            let nowhere = Spoilt { path: "/nowhere".to_owned(), ..spoiling::fitting(endpoint) };
            let answer = self.send(endpoint, &nowhere).await;
            if answer.status != 404 || answer.flaw_of_refusal().is_some() {
                faults.push(format!("{}\n    {} {}", told(endpoint, &nowhere), answer.status, shown(&answer.text)));
            }
            let again = endpoint.key.map(|key| key.as_bytes().to_vec());
            let request = Spoilt { key: again, ..spoiling::fitting(endpoint) };
            let answer = self.send(endpoint, &request).await;
            // What this says comes from in front of the handlers.
            let before = answer.text.contains("does not fit") || answer.text.contains("there is nothing at");
            if (answer.status, answer.code()) != endpoint.answer || before {
                faults.push(format!("{}\n    {} {}", told(endpoint, &request), answer.status, shown(&answer.text)));
            }
        }
        assert!(faults.is_empty(), "not answered as the list says:\n{}", faults.join("\n"));
    }

    /// Whatever is spoilt is refused with a reason and leaves no row behind.
    pub(crate) async fn refuses_what_is_spoilt(&mut self, endpoints: &[Endpoint]) {
        self.rest().await;
        let mut faults = Vec::new();
        for endpoint in endpoints {
            for spoilt in spoiling::all_of(endpoint) {
                let answer = self.send(endpoint, &spoilt).await;
                let flaw = match (answer.is_success(), spoilt.must) {
                    (true, Must::ChangeNothing) => None,
                    (true, Must::Refuse) => Some("is no refusal"),
                    (false, _) => answer.flaw_of_refusal(),
                };
                let changes = self.changes().await;
                if flaw.is_some() || !changes.is_empty() {
                    let (flaw, asked) = (flaw.unwrap_or("has left something behind"), told(endpoint, &spoilt));
                    faults.push(format!("{asked}\n    {} {} {flaw}", answer.status, shown(&answer.text)));
                    faults.extend(changes.into_iter().take(3).map(|change| format!("    {}", shown(&change))));
                }
                assert!(faults.len() < MOST, "{}", faults.join("\n"));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// A request is answered with success, or refused without a trace.
    pub(crate) async fn answers(&mut self, endpoint: &Endpoint, request: &Spoilt) {
        for again in 0.. {
            self.changes().await;
            let answer = self.send(endpoint, request).await;
            if answer.is_success() {
                return;
            }
            let asked = format!("{}\n    {} {}", told(endpoint, request), answer.status, shown(&answer.text));
            if let Some(flaw) = answer.flaw_of_refusal() {
                panic!("{asked} {flaw}");
            }
            let changes = self.changes().await;
            if changes.is_empty() {
                return;
            }
            // What was taken earlier may only now have had its effects.
            assert!(again < 3, "{asked} has left something behind: {changes:#?}");
            self.rest().await;
        }
    }

    /// No process has died over a request, and none has answered one with a 500 that nobody was shown.
    pub(crate) async fn end(self) {
        let mut refusals = 0;
        for (instance, pid) in &self.pids {
            assert_eq!(self.world.pid(instance), *pid, "{instance} has died");
            let metrics = eventually(instance, || async {
                let url = format!("http://{}/metrics", self.world.address(instance));
                self.world.http.get(url).send().await.ok()?.text().await.ok()
            })
            .await;
            let broken: Vec<&str> = metrics.lines().filter(|line| line.contains("status=\"500\"")).collect();
            refusals += metrics.matches("status=\"422\"").count();
            assert!(broken.is_empty(), "{instance} has answered with a 500: {broken:#?}");
        }
        assert!(refusals > 0, "nobody tells of statuses as they are looked for here");
        self.world.system.stop().await.expect("stops");
    }
}

fn told(endpoint: &Endpoint, request: &Spoilt) -> String {
    let body = request.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    format!(
        "{} {}{} {}: {}",
        request.method.unwrap_or(endpoint.method),
        endpoint.instance,
        request.path,
        request.how,
        shown(&body)
    )
}
