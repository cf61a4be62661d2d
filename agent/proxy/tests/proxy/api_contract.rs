//! The HTTP contract of Toxiproxy 2.12: every route, status, body, default and error.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{Api, echo_upstream, listener};

const LATENCY: &str = r#"{"type": "latency", "attributes": {"latency": 100, "jitter": 10}}"#;

fn latency_view(name: &str, stream: &str) -> Value {
    json!({
        "attributes": {"latency": 100, "jitter": 10},
        "name": name, "type": "latency", "stream": stream, "toxicity": 1.0,
    })
}

/// An API with one enabled proxy `one`, whose view is returned, with one toxic `latency_downstream`.
async fn api_with_one() -> (Api, Value) {
    let api = Api::start().await;
    let body = json!({"name": "one", "listen": "localhost:0", "upstream": "localhost:1"});
    assert_eq!(api.call("POST", "/proxies", &body.to_string()).await.0, 201);
    assert_eq!(api.call("POST", "/proxies/one/toxics", LATENCY).await.0, 200);
    let (_, view) = api.call("GET", "/proxies/one", "").await;
    (api, view)
}

async fn is_up(listen: &Value) -> bool {
    TcpStream::connect(listen.as_str().unwrap()).await.is_ok()
}

#[tokio::test]
async fn errors_have_the_status_and_words_of_toxiproxy() {
    let (api, view) = api_with_one().await;
    let listen = view["listen"].as_str().unwrap();
    let taken = json!({"name": "two", "listen": listen, "upstream": "localhost:1"}).to_string();
    let taken_message = format!("listen tcp {listen}: bind: address already in use");
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/proxies", "", 400, "bad request body: EOF"),
        ("POST", "/proxies", "{", 400, "bad request body: "),
        ("POST", "/proxies", "[]", 400, "bad request body: "),
        ("POST", "/proxies", r#"{"name": 1}"#, 400, "bad request body: "),
        ("POST", "/proxies", "{}", 400, "missing required field: name"),
        ("POST", "/proxies", r#"{"name": "x"}"#, 400, "missing required field: upstream"),
        ("POST", "/proxies", r#"{"name": "one", "upstream": "a:1"}"#, 409, "proxy already exists"),
        ("POST", "/proxies", &taken, 500, &taken_message),
        (
            "POST",
            "/proxies",
            r#"{"name": "x", "upstream": "a:1", "listen": "local373"}"#,
            500,
            "listen tcp: address local373: missing port in address",
        ),
        ("GET", "/proxies/none", "", 404, "proxy not found"),
        ("POST", "/proxies/none", "{}", 404, "proxy not found"),
        ("PATCH", "/proxies/none", "{", 404, "proxy not found"),
        ("DELETE", "/proxies/none", "", 404, "proxy not found"),
        ("PATCH", "/proxies/one", "{", 400, "bad request body: "),
        ("GET", "/proxies/none/toxics", "", 404, "proxy not found"),
        ("POST", "/proxies/none/toxics", LATENCY, 404, "proxy not found"),
        ("GET", "/proxies/none/toxics/x", "", 404, "proxy not found"),
        ("PATCH", "/proxies/none/toxics/x", "{}", 404, "proxy not found"),
        ("DELETE", "/proxies/none/toxics/x", "", 404, "proxy not found"),
        ("GET", "/proxies/one/toxics/none", "", 404, "toxic not found"),
        ("POST", "/proxies/one/toxics/none", "{}", 404, "toxic not found"),
        ("PATCH", "/proxies/one/toxics/none", "{}", 404, "toxic not found"),
        ("DELETE", "/proxies/one/toxics/none", "", 404, "toxic not found"),
        ("POST", "/proxies/one/toxics", "", 400, "bad request body: EOF"),
        ("POST", "/proxies/one/toxics", "{}", 400, "invalid toxic type"),
        ("POST", "/proxies/one/toxics", r#"{"type": "plague"}"#, 400, "invalid toxic type"),
        (
            "POST",
            "/proxies/one/toxics",
            r#"{"type": "latency", "stream": "walrustream"}"#,
            400,
            "stream was invalid, can be either upstream or downstream",
        ),
        ("POST", "/proxies/one/toxics", LATENCY, 409, "toxic already exists"),
        (
            "POST",
            "/proxies/one/toxics",
            r#"{"type": "noop", "stream": "upstream", "name": "latency_downstream"}"#,
            409,
            "toxic already exists",
        ),
        (
            "POST",
            "/proxies/one/toxics",
            r#"{"type": "latency", "name": "x", "attributes": {"latency": "long"}}"#,
            400,
            "bad request body: ",
        ),
        (
            "PATCH",
            "/proxies/one/toxics/latency_downstream",
            r#"{"attributes": {"latency": 1.5}}"#,
            400,
            "bad request body: ",
        ),
        ("POST", "/populate", "{}", 400, "bad request body: "),
        (
            "POST",
            "/populate",
            r#"[{"name": "x", "upstream": "a:1"}, {"upstream": "a:1"}]"#,
            400,
            "missing required field: name at proxy 2",
        ),
        ("POST", "/populate", r#"[{"name": "x"}]"#, 400, "missing required field: upstream at proxy 1"),
    ];
    for (method, path, body, status, message) in cases {
        let (answered, answer) = api.call(method, path, body).await;
        assert_eq!(answered, *status, "{method} {path} {body}: {answer}");
        assert_eq!(answer["status"], *status, "{method} {path} {body}: {answer}");
        let error = answer["error"].as_str().unwrap();
        let matches = if message.ends_with(": ") { error.starts_with(message) } else { error == *message };
        assert!(matches, "{method} {path} {body}: {error}");
    }
    let (_, all) = api.call("GET", "/proxies", "").await;
    assert_eq!(all, json!({ "one": view }), "errors change nothing");
    api.stop().await;
}

#[tokio::test]
async fn a_proxy_is_enabled_and_without_toxics_unless_said_otherwise() {
    let api = Api::start().await;
    let body = r#"{"name": "one", "listen": "localhost:0", "upstream": "localhost:1"} and the rest"#;
    let (status, view) = api.call("POST", "/proxies", body).await;
    assert_eq!(status, 201);
    let listen = view["listen"].as_str().unwrap();
    assert!(listen.starts_with("127.0.0.1:") && !listen.ends_with(":0"), "{listen}");
    let expected = json!({"name": "one", "listen": listen, "upstream": "localhost:1", "enabled": true, "toxics": []});
    assert_eq!(view, expected);
    assert!(is_up(&view["listen"]).await);
    assert_eq!(api.call("GET", "/proxies/one", "").await, (200, view.clone()));
    assert_eq!(api.call("GET", "/proxies", "").await, (200, json!({ "one": view })));
    api.stop().await;
}

#[tokio::test]
async fn a_disabled_proxy_shows_its_address_as_given_until_it_starts() {
    let api = Api::start().await;
    let body = r#"{"name": "one", "listen": "localhost:0", "upstream": "localhost:1", "enabled": false}"#;
    let (status, view) = api.call("POST", "/proxies", body).await;
    assert_eq!((status, &view["listen"], &view["enabled"]), (201, &json!("localhost:0"), &json!(false)));
    let (status, view) = api.call("POST", "/proxies/one", r#"{"enabled": true}"#).await;
    assert_eq!((status, &view["enabled"]), (200, &json!(true)));
    assert!(is_up(&view["listen"]).await);
    let (_, again) = api.call("PATCH", "/proxies/one", r#"{"enabled": false}"#).await;
    assert_eq!((&again["listen"], &again["enabled"]), (&view["listen"], &json!(false)));
    assert!(!is_up(&view["listen"]).await);
    api.stop().await;
}

#[tokio::test]
async fn deleting_a_proxy_closes_it() {
    let (api, view) = api_with_one().await;
    assert_eq!(api.call("DELETE", "/proxies/one", "").await, (204, json!("")));
    assert!(!is_up(&view["listen"]).await);
    assert_eq!(api.call("GET", "/proxies", "").await, (200, json!({})));
    api.stop().await;
}

#[tokio::test]
async fn a_toxic_has_the_defaults_of_toxiproxy() {
    let (api, _) = api_with_one().await;
    let cases = [
        (
            r#"{"type": "latency", "name": "a"}"#,
            json!({
                "attributes": {"latency": 0, "jitter": 0},
                "name": "a", "type": "latency", "stream": "downstream", "toxicity": 1.0,
            }),
        ),
        (
            r#"{"type": "latency", "stream": "UPSTREAM", "toxicity": 0.2, "attributes": null}"#,
            json!({
                "attributes": {"latency": 0, "jitter": 0},
                "name": "latency_upstream", "type": "latency", "stream": "upstream", "toxicity": 0.2,
            }),
        ),
        (
            r#"{"type": "noop", "name": "", "attributes": {"unknown": 1}}"#,
            json!({
                "attributes": {},
                "name": "noop_downstream", "type": "noop", "stream": "downstream", "toxicity": 1.0,
            }),
        ),
    ];
    for (body, expected) in cases {
        let (status, view) = api.call("POST", "/proxies/one/toxics", body).await;
        // As text, for 0.2 is not the same in 32 and in 64 bits.
        assert_eq!((status, view.to_string()), (200, expected.to_string()), "{body}");
        let path = format!("/proxies/one/toxics/{}", view["name"].as_str().unwrap());
        assert_eq!(api.call("GET", &path, "").await, (200, view));
    }
    let (status, toxics) = api.call("GET", "/proxies/one/toxics", "").await;
    let names: Vec<_> = toxics.as_array().unwrap().iter().map(|toxic| toxic["name"].clone()).collect();
    assert_eq!(status, 200);
    assert_eq!(names, ["latency_upstream", "latency_downstream", "a", "noop_downstream"]);
    api.stop().await;
}

#[tokio::test]
async fn updating_a_toxic_changes_only_what_is_given() {
    let (api, _) = api_with_one().await;
    let path = "/proxies/one/toxics/latency_downstream";
    for (method, body, latency, jitter, toxicity) in [
        ("POST", r#"{"attributes": {"latency": 1000}, "toxicity": 0.5}"#, 1000, 10, 0.5),
        ("PATCH", r#"{"attributes": {"jitter": 3}}"#, 1000, 3, 0.5),
        ("PATCH", r#"{"toxicity": 1, "name": "x", "stream": "upstream", "type": "noop"}"#, 1000, 3, 1.0),
    ] {
        let (status, view) = api.call(method, path, body).await;
        let expected = json!({
            "attributes": {"latency": latency, "jitter": jitter},
            "name": "latency_downstream", "type": "latency", "stream": "downstream", "toxicity": toxicity,
        });
        assert_eq!((status, view), (200, expected.clone()), "{body}");
        assert_eq!(api.call("GET", path, "").await, (200, expected));
    }
    assert_eq!(api.call("DELETE", path, "").await, (204, json!("")));
    assert_eq!(api.call("GET", "/proxies/one/toxics", "").await, (200, json!([])));
    api.stop().await;
}

#[tokio::test]
async fn an_update_with_the_same_address_in_other_words_keeps_connections() {
    let (echo, serving) = echo_upstream().await;
    let api = Api::start().await;
    let body = json!({"name": "one", "listen": "localhost:0", "upstream": echo.to_string()}).to_string();
    let (_, view) = api.call("POST", "/proxies", &body).await;
    let listen = view["listen"].as_str().unwrap();
    let port = listen.rsplit_once(':').unwrap().1;
    let mut socket = crate::support::connect(listen.parse().unwrap()).await;
    crate::support::round_trip(&mut socket).await;
    for same in ["localhost:0", listen, &format!("localhost:{port}"), "127.0.0.1:0"] {
        let body = json!({"name": "one", "listen": same, "upstream": echo.to_string()}).to_string();
        assert_eq!(api.call("PATCH", "/proxies/one", &body).await, (200, view.clone()), "{same}");
        let (status, populated) = api.call("POST", "/populate", &format!("[{body}]")).await;
        assert_eq!((status, &populated["proxies"][0]), (201, &view), "{same}");
        crate::support::round_trip(&mut socket).await;
    }
    api.stop().await;
    serving.abort();
}

#[tokio::test]
async fn an_update_with_another_address_moves_the_proxy_and_keeps_its_toxics() {
    let (api, view) = api_with_one().await;
    let (free, address) = listener().await;
    drop(free);
    let body = json!({ "listen": address.to_string() }).to_string();
    let (status, moved) = api.call("POST", "/proxies/one", &body).await;
    assert_eq!((status, &moved["listen"]), (200, &json!(address.to_string())));
    assert_eq!(moved["toxics"], json!([latency_view("latency_downstream", "downstream")]));
    assert!(is_up(&moved["listen"]).await && !is_up(&view["listen"]).await);
    api.stop().await;
}

#[tokio::test]
async fn populate_adds_replaces_and_leaves_alone_what_is_the_same() {
    let (api, one) = api_with_one().await;
    let body = json!([
        {"name": "one", "listen": one["listen"], "upstream": "localhost:1", "enabled": false},
        {"name": "two", "listen": "127.0.0.1:0", "upstream": "localhost:2", "toxics": []},
        {"name": "three", "listen": "127.0.0.1:0", "upstream": "localhost:3", "enabled": false},
    ]);
    let (status, answer) = api.call("POST", "/populate", &body.to_string()).await;
    assert_eq!(status, 201);
    assert_eq!(answer["proxies"][0], one, "the same proxy keeps its toxics and stays enabled");
    assert_eq!(answer["proxies"][1]["enabled"], true);
    assert_eq!(answer["proxies"][2]["enabled"], false);
    assert!(is_up(&answer["proxies"][1]["listen"]).await);

    let body = json!([{"name": "one", "listen": one["listen"], "upstream": "localhost:9"}]);
    let (status, answer) = api.call("POST", "/populate", &body.to_string()).await;
    assert_eq!(status, 201);
    let expected = json!({
        "name": "one", "listen": one["listen"], "upstream": "localhost:9", "enabled": true, "toxics": [],
    });
    assert_eq!(answer, json!({ "proxies": [expected] }), "another upstream replaces it, toxics and all");
    assert_eq!(api.call("POST", "/populate", "[]").await, (201, json!({"proxies": []})));
    api.stop().await;
}

#[tokio::test]
async fn populate_that_fails_midway_tells_what_is_done() {
    let api = Api::start().await;
    let body = json!([
        {"name": "one", "listen": "127.0.0.1:0", "upstream": "localhost:1"},
        {"name": "two", "listen": "local373", "upstream": "localhost:1"},
        {"name": "three", "listen": "127.0.0.1:0", "upstream": "localhost:1"},
    ]);
    let (status, answer) = api.call("POST", "/populate", &body.to_string()).await;
    let (_, one) = api.call("GET", "/proxies/one", "").await;
    let error = "listen tcp: address local373: missing port in address";
    assert_eq!((status, answer), (500, json!({"error": error, "status": 500, "proxies": [one]})));
    assert_eq!(api.call("GET", "/proxies", "").await.1, json!({ "one": one }));
    api.stop().await;
}

#[tokio::test]
async fn reset_enables_every_proxy_and_removes_every_toxic() {
    let (api, view) = api_with_one().await;
    api.call("POST", "/proxies/one", r#"{"enabled": false}"#).await;
    assert_eq!(api.call("POST", "/reset", "").await, (204, json!("")));
    let (_, reset) = api.call("GET", "/proxies/one", "").await;
    assert_eq!((&reset["enabled"], &reset["toxics"]), (&json!(true), &json!([])));
    assert_eq!(reset["listen"], view["listen"]);
    assert!(is_up(&reset["listen"]).await);
    api.stop().await;
}

#[tokio::test]
async fn the_other_routes_answer_as_toxiproxy_does() {
    let api = Api::start().await;
    let (status, version) = api.call("GET", "/version", "").await;
    assert_eq!((status, version), (200, json!({"version": kennel_proxy::api::VERSION})));
    assert!(kennel_proxy::api::VERSION.starts_with("2.12.0"));
    for (method, path, status) in [
        ("GET", "/metrics", 404),
        ("GET", "/", 404),
        ("GET", "/reset", 405),
        ("GET", "/populate", 405),
        ("DELETE", "/proxies", 405),
        ("PUT", "/proxies/one", 405),
        ("POST", "/version", 405),
    ] {
        assert_eq!(api.call(method, path, "").await.0, status, "{method} {path}");
    }
    api.stop().await;
}

#[tokio::test]
async fn browsers_are_refused_on_every_route_and_others_are_not() {
    let api = Api::start().await;
    for path in ["/proxies", "/version", "/nowhere"] {
        let request = api.request("GET", path).header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
        assert_eq!(request.send().await.unwrap().status(), 403, "{path}");
    }
    let response = api.request("GET", "/proxies").header("user-agent", "Wget/2.1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("x-toxiproxy-request-id"));
    assert_eq!(response.headers()["content-type"], "application/json");
    api.stop().await;
}
