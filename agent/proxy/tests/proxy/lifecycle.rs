//! Proxies start, stop and end; nothing of them stays behind.

use kennel_proxy::{FaultProxy, ProxyError, ProxySpec, ProxyUpdate, ToxicSpec};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::{connect, echo_upstream, proxy_to, round_trip, soon, until};

fn enabled(enabled: bool) -> ProxyUpdate {
    ProxyUpdate { enabled: Some(enabled), ..ProxyUpdate::default() }
}

#[tokio::test]
async fn disabling_closes_listener_and_connections_and_enabling_listens_there_again() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    proxies.add_toxic("link", ToxicSpec::new("latency").with("latency", 1)).unwrap();
    let mut socket = connect(link).await;
    round_trip(&mut socket).await;
    let disabled = proxies.update("link", enabled(false)).await.unwrap();
    assert!(!disabled.enabled);
    assert_eq!(proxies.task_count(), 1, "only the clock");
    let end = soon("the close", socket.read(&mut [0; 8])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(TcpStream::connect(link).await.is_err());
    let again = proxies.update("link", enabled(true)).await.unwrap();
    assert_eq!(again.listen, link.to_string());
    assert_eq!(again.toxics.len(), 1);
    round_trip(&mut connect(link).await).await;
    proxies.shutdown().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_leave_no_task() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    proxies.add_toxic("link", ToxicSpec::new("latency").with("latency", 5).toxicity(0.5)).unwrap();
    for _ in 0..10 {
        let mut sockets = Vec::new();
        for _ in 0..100 {
            sockets.push(connect(link).await);
        }
        for (at, mut socket) in sockets.into_iter().enumerate() {
            round_trip(&mut socket).await;
            if at % 3 == 0 {
                socket.set_zero_linger().unwrap();
            }
        }
    }
    until("the end of every connection", || proxies.task_count() == 2).await;
    soon("the shutdown", proxies.shutdown()).await;
    assert_eq!(proxies.task_count(), 0);
    serving.abort();
}

#[tokio::test]
async fn shutting_down_ends_live_connections_and_refuses_new_proxies() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    let mut socket = connect(link).await;
    round_trip(&mut socket).await;
    soon("the shutdown", proxies.shutdown()).await;
    assert_eq!(proxies.task_count(), 0);
    assert!(TcpStream::connect(link).await.is_err());
    let spec = ProxySpec::new("late", "127.0.0.1:0", echo.to_string());
    assert_eq!(proxies.create(spec).await, Err(ProxyError::ShuttingDown));
    assert_eq!(proxies.update("link", enabled(true)).await, Err(ProxyError::ShuttingDown));
    serving.abort();
}

#[tokio::test]
async fn dropping_the_last_handle_closes_everything() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    let mut socket = connect(link).await;
    round_trip(&mut socket).await;
    drop(proxies);
    let end = soon("the close", socket.read(&mut [0; 8])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    serving.abort();
}

#[tokio::test]
async fn cancelling_the_callers_token_ends_the_proxies_and_not_the_other_way_round() {
    let (echo, serving) = echo_upstream().await;
    let token = CancellationToken::new();
    let (first, second) = (FaultProxy::new(token.clone()), FaultProxy::new(token.clone()));
    first.shutdown().await;
    assert!(!token.is_cancelled());
    let spec = ProxySpec::new("link", "127.0.0.1:0", echo.to_string());
    second.create(spec).await.unwrap();
    token.cancel();
    until("the end of every task", || second.task_count() == 0).await;
    assert!(!second.get("link").unwrap().enabled);
    serving.abort();
}

#[tokio::test]
async fn an_upstream_that_is_not_allowed_is_refused_by_every_way_in() {
    let (echo, serving) = echo_upstream().await;
    let allowed = vec![echo.to_string(), "Localhost:1".to_owned()];
    let proxies = FaultProxy::with_allowed_upstreams(CancellationToken::new(), allowed);
    let refused = ProxyError::UpstreamNotAllowed { upstream: "127.0.0.1:9".to_owned() };
    let (good, bad) =
        (ProxySpec::new("good", "127.0.0.1:0", "localhost:1"), ProxySpec::new("bad", "127.0.0.1:0", "127.0.0.1:9"));
    assert_eq!(proxies.create(bad.clone()).await, Err(refused.clone()));
    let populated = proxies.populate(vec![good.clone(), bad]).await.unwrap_err();
    assert_eq!((populated.error, populated.done), (refused.clone(), Vec::new()));
    proxies.create(good).await.unwrap();
    let update = ProxyUpdate { upstream: Some("127.0.0.1:9".to_owned()), ..ProxyUpdate::default() };
    assert_eq!(proxies.update("good", update).await, Err(refused.clone()));
    assert_eq!((refused.status(), refused.to_string()), (403, "upstream not allowed: 127.0.0.1:9".to_owned()));
    let update = ProxyUpdate { upstream: Some(echo.to_string()), ..ProxyUpdate::default() };
    let moved = proxies.update("good", update).await.unwrap();
    round_trip(&mut connect(moved.listen.parse().unwrap()).await).await;
    proxies.shutdown().await;
    serving.abort();
}
