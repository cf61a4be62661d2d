//! A request can be followed through every process: by its trace in their logs, and by what each tells in its metrics.

#![allow(clippy::unwrap_used, reason = "a test may fail at any line")]

mod world;

use std::process::Command;

use serde_json::json;
use world::{World, eventually, id_of, key, kill, launcher};

impl World {
    /// What `system logs --trace` prints: the instances in the order of their lines, and the lines.
    fn trace(&self, id: &str) -> (Vec<String>, String) {
        let mut logs = Command::new(launcher().program);
        logs.args(["logs", "--trace", id, "--dir"]).arg(&self.system.state().dir);
        let out = logs.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        let instances = text.lines().filter_map(|line| Some(line.split_once(" | ")?.0.trim().to_owned()));
        (instances.collect(), text)
    }

    /// Posts with these headers; gives status and the trace that the answer tells.
    async fn traced(&self, path: &str, body: &serde_json::Value, headers: &[(&str, &str)]) -> (u16, String) {
        let url = format!("{}{path}", self.system.state().gateway);
        let mut request = self.http.post(url).header("x-req-id", key()).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let trace = answer.headers().get("x-trace").expect("every answer tells its trace").to_str().unwrap().to_owned();
        (answer.status().as_u16(), trace)
    }
}

#[tokio::test]
async fn a_request_is_followed_through_every_hop() {
    let world = World::start().await;
    let basket = world.basket(7, 17, None).await;
    let (status, trace) = world.traced("/orders", &basket, &[("x-trace", "t-order"), ("x-tag", "test")]).await;
    assert_eq!((status, trace.as_str()), (200, "t-order"));
    // Which of several instances is asked is drawn.
    let hops = ["gw-", "eos-c-", "eus-", "eps-", "ers-", "st-u"];
    let text = eventually("each hop is logged", || async {
        let (instances, text) = world.trace("t-order");
        let all = hops.iter().all(|hop| instances.iter().any(|instance| instance.starts_with(hop)));
        all.then_some(text)
    })
    .await;
    // What consumers take afterwards is no hop.
    let last_hop = text.lines().rfind(|line| line.contains(": hop ")).unwrap_or_default();
    assert!(last_hop.starts_with("gw-1"), "who answers the client is done last: {text}");
    assert!(text.contains("status=200") && text.contains("took_us="), "{text}");

    // What nobody asked for is not logged, unless it fails; but it has a trace by which it is found.
    let wish = json!({ "user_id": 7, "restaurant_id": 17, "items": [{ "dish_id": 1703, "quantity": 1 }] });
    let (status, quiet) = world.traced("/quote", &wish, &[]).await;
    assert_eq!(status, 200);
    assert!(quiet.starts_with("gw-"), "{quiet}");
    kill(world.pid("eps-1").unwrap());
    let (status, failed) = world.traced("/quote", &wish, &[]).await;
    assert!(status >= 500, "{status}");
    eventually("the failure is logged", || async {
        let (instances, text) = world.trace(&failed);
        (instances.contains(&"gw-1".to_owned()) && text.contains("hop failed")).then_some(())
    })
    .await;
    assert!(world.trace(&quiet).0.is_empty());
    assert_ne!(quiet, failed);
}

#[tokio::test]
async fn what_comes_of_a_request_afterwards_is_in_its_trace_events_and_callbacks_included() {
    let world = World::start().await;
    let order = id_of(&world.create(8, 17, None).await);
    let pay = format!("/orders/{order}/pay");
    let (status, _) = world.traced(&pay, &json!({}), &[("x-trace", "t-pay"), ("x-tag", "test")]).await;
    assert_eq!(status, 200);
    world.status_is(&order, 0).await;
    // The payment service answers before it calls back, and consumers hear of what the callback did.
    let takers = ["sms-", "eps-", "auditor-"];
    let text = eventually("the callback and the events are logged", || async {
        let (_, text) = world.trace("t-pay");
        let taken =
            |taker: &str| text.lines().any(|line| line.trim().starts_with(taker) && line.contains("event taken"));
        (text.contains("/internal/pay-callback") && takers.iter().all(|taker| taken(taker))).then_some(text)
    })
    .await;
    let callback = text.lines().find(|line| line.contains("/internal/pay-callback")).unwrap();
    assert!(callback.trim().starts_with("eos-c-"), "{callback}");
    // What the callback did was caused by the tagged request, too.
    assert!(
        text.lines().filter(|line| line.contains("event taken")).all(|line| line.contains("tag=\"test\"")),
        "{text}"
    );
    // A request that nobody asked to follow leaves no line of its events.
    let (_, quiet) = world.traced(&format!("/orders/{order}/cancel"), &json!({}), &[]).await;
    world.status_is(&order, -1).await;
    assert!(world.trace(&quiet).0.is_empty());
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn the_time_left_goes_with_a_request_and_shrinks_on_its_way() {
    let world = World::start().await;
    let basket = world.basket(7, 17, None).await;
    // Less than any role but the gateway would give it by itself.
    let given = 3_000;
    let deadline = given.to_string();
    world.traced("/orders", &basket, &[("x-trace", "t-time"), ("x-deadline-ms", &deadline)]).await;
    let text = eventually("the gateway has answered", || async {
        let (instances, text) = world.trace("t-time");
        instances.contains(&"gw-1".to_owned()).then_some(text)
    })
    .await;
    // What a hop says of the time with which a route of it was asked.
    let left = |hop: &str, route: &str| {
        let (asked, left) = (format!("route=\"{route}\""), "left_ms=");
        let line = text.lines().find(|line| line.trim_start().starts_with(hop) && line.contains(&asked));
        let after =
            line.and_then(|line| line.split_once(left)).unwrap_or_else(|| panic!("no {route} at {hop}: {text}")).1;
        after.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert!(left("gw-", "/orders") <= given, "{text}");
    for (hop, route) in [("eos-c-", "/orders"), ("eps-", "/quotes/redeem"), ("ers-", "/stock/reserve")] {
        assert!(left(hop, route) < given, "{hop} was asked without the time left of the request: {text}");
    }
    world.system.stop().await.unwrap();
}

#[tokio::test]
async fn every_instance_tells_its_requests_and_its_process_in_the_text_format_of_prometheus() {
    let world = World::start().await;
    world.create(7, 17, None).await;
    for one in &world.system.state().instances {
        let answer = world.http.get(format!("http://{}/metrics", one.address)).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("text/plain"), "{kind}");
        let text = answer.text().await.unwrap();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "ready"] {
            let start = format!("{name}{{instance=\"{}\"}} ", one.instance);
            assert!(text.lines().any(|line| line.starts_with(&start)), "{} does not tell {name}", one.instance);
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name: String = series.chars().take_while(|c| *c != '{').collect();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        }
    }
}
