//! Webhooks and chat.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use kennel_model::api::Secret;
use kennel_notifications::address::{Resolve, system};
use kennel_notifications::courier::{Courier, End};
use kennel_notifications::destination::Destination;
use kennel_notifications::signature::Key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::trust::authority;
use crate::{deliver, every_name_is};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn webhook(url: String) -> Destination {
    Destination::Webhook { url: Secret(url), secret: Secret(SECRET.to_owned()) }
}

fn courier(resolve: Resolve) -> Courier {
    Courier::trusting(Vec::new(), resolve).unwrap()
}

type Posts = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// A receiver that answers everything this way and remembers what came.
async fn receiver(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (SocketAddr, Posts) {
    let posts = Posts::default();
    let take = move |State(posts): State<Posts>, headers: HeaderMap, body: String| {
        let answer = answer.clone();
        async move {
            posts.lock().unwrap().push((headers, body));
            answer()
        }
    };
    let router = Router::new().route("/{*path}", post(take)).with_state(Arc::clone(&posts));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, posts)
}

#[tokio::test]
async fn a_webhook_is_signed_so_that_its_receiver_can_verify_it() {
    let (address, posts) = receiver(|| (StatusCode::ACCEPTED, "thanks,\n queued").into_response()).await;
    let attempt = deliver(&courier(system()), &webhook(format!("http://{address}/hooks/kennel?key=k")), true).await;
    assert_eq!((attempt.end, attempt.code, attempt.answer.as_str()), (End::Sent, Some(202), "thanks, queued"));

    let (headers, body) = posts.lock().unwrap().remove(0);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let at = Timestamp::from_second(header("webhook-timestamp").parse().unwrap()).unwrap();
    let (id, signature) = (header("webhook-id"), header("webhook-signature"));
    assert!(Key::read(SECRET).unwrap().verifies(&signature, &id, at, &body), "{headers:?} {body}");
    assert!(!Key::read(SECRET).unwrap().verifies(&signature, &id, at, &format!("{body} ")));
    assert_eq!((id.as_str(), header("content-type").as_str()), ("0198-1", "application/json"));
    assert_eq!(header("host"), address.to_string());
    assert!(body.contains("\"type\":\"first-failure\"") && body.contains("größer"), "{body}");
    assert!(attempt.head.contains(&format!("webhook-signature: {signature}\n")), "{}", attempt.head);
}

#[tokio::test]
async fn chat_gets_blocks_and_no_signature() {
    let (address, posts) = receiver(|| "ok".into_response()).await;
    let slack = Destination::Slack { url: Secret(format!("http://{address}/services/T/B/x")) };
    assert_eq!(deliver(&courier(system()), &slack, true).await.end, End::Sent);
    let (headers, body) = posts.lock().unwrap().remove(0);
    assert!(!headers.contains_key("webhook-signature") && body.contains("\"blocks\":["), "{body}");
}

#[tokio::test]
async fn a_refusal_is_tried_again_when_the_receiver_says() {
    let (address, _) =
        receiver(|| (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "7")], "busy").into_response()).await;
    let attempt = deliver(&courier(system()), &webhook(format!("http://{address}/h")), true).await;
    assert_eq!((attempt.end, attempt.code), (End::Again(Some(Duration::from_secs(7))), Some(503)));
    let (address, _) = receiver(|| StatusCode::GONE.into_response()).await;
    assert_eq!(deliver(&courier(system()), &webhook(format!("http://{address}/h")), true).await.end, End::Never);
}

#[tokio::test]
async fn a_redirect_to_a_link_local_address_is_not_followed() {
    let to = [(header::LOCATION, "http://169.254.169.254/latest/meta-data/")];
    let (address, _) = receiver(move || (StatusCode::FOUND, to.clone()).into_response()).await;
    let attempt = deliver(&courier(system()), &webhook(format!("http://{address}/h")), true).await;
    assert_eq!((attempt.end, attempt.code), (End::Never, Some(302)));
    assert!(attempt.answer.contains("redirects are not followed"), "{}", attempt.answer);
}

#[tokio::test]
async fn names_of_link_local_and_private_addresses_are_refused() {
    for (address, allow_private, why) in [
        ("169.254.169.254:80", true, "a link-local address"),
        ("[fe80::1]:80", true, "a link-local address"),
        ("[::ffff:169.254.169.254]:80", true, "a link-local address"),
        ("10.0.0.1:80", false, "a private address"),
        ("127.0.0.1:80", false, "a loopback address"),
    ] {
        let courier = courier(every_name_is(address.parse().unwrap()));
        let attempt = deliver(&courier, &webhook("http://innocent.example/h".to_owned()), allow_private).await;
        assert_eq!((attempt.end, attempt.code), (End::Never, None), "{address}");
        assert!(attempt.answer.contains(why) && attempt.answer.contains("innocent.example"), "{}", attempt.answer);
    }
}

#[tokio::test]
async fn numbers_that_mean_this_machine_are_no_way_around_the_choice() {
    let (address, posts) = receiver(|| "ok".into_response()).await;
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
        let url = format!("http://{host}:{}/h", address.port());
        let attempt = deliver(&courier(system()), &webhook(url), false).await;
        assert_eq!(attempt.end, End::Never, "{host}: {}", attempt.answer);
    }
    assert!(posts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_is_resolved_once_so_that_it_cannot_change_after_it_was_looked_at() {
    let (address, posts) = receiver(|| "ok".into_response()).await;
    let asked = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&asked);
    // The second answer would lead to the metadata service.
    let resolve: Resolve = Arc::new(move |_, port| {
        let first = counting.fetch_add(1, Ordering::SeqCst) == 0;
        let answer = if first { address } else { SocketAddr::from(([169, 254, 169, 254], port)) };
        Box::pin(async move { Ok(vec![answer]) })
    });
    let attempt = deliver(&courier(resolve), &webhook("http://rebind.example/h".to_owned()), true).await;
    assert_eq!((attempt.end, asked.load(Ordering::SeqCst)), (End::Sent, 1), "{}", attempt.answer);
    assert_eq!(posts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    });
    let attempt = deliver(&courier(system()), &webhook(format!("http://{address}/h")), true).await;
    assert_eq!(attempt.end, End::Sent);
    assert_eq!(attempt.answer.chars().count(), 500);
}

#[tokio::test]
async fn who_answers_no_http_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"220 I am a mail server\r\n").await;
    });
    let attempt = deliver(&courier(system()), &webhook(format!("http://{address}/h")), true).await;
    assert_eq!((attempt.end, attempt.code), (End::Again(None), None), "{}", attempt.answer);
    // Nobody listens any more.
    let attempt = deliver(&courier(system()), &webhook(format!("http://{address}/h")), true).await;
    assert_eq!(attempt.end, End::Again(None), "{}", attempt.answer);
}

#[tokio::test]
async fn only_trusted_certificates_are_spoken_to() {
    let (root, acceptor) = authority("hooks.example");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 65_536];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = stream.shutdown().await;
        }
    });
    let here = every_name_is(address);
    let trusting = Courier::trusting(vec![root], Arc::clone(&here)).unwrap();
    let attempt = deliver(&trusting, &webhook("https://hooks.example/h".to_owned()), true).await;
    assert_eq!((attempt.end, attempt.answer.as_str()), (End::Sent, "ok"));
    for (courier, name) in [(&trusting, "other.example"), (&courier(here), "hooks.example")] {
        let attempt = deliver(courier, &webhook(format!("https://{name}/h")), true).await;
        assert_eq!(attempt.end, End::Again(None));
        assert!(attempt.answer.contains("no encrypted connection"), "{}", attempt.answer);
    }
}
