//! A client made for Toxiproxy, `toxiproxy_rust`, drives the API: what it does has its effect.
//!
//! The client is blocking, so it lives on a thread of its own. It ignores HTTP statuses, so effects are read back.

use std::time::Duration;

use kennel_proxy::Stream;
use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::{Proxy, ProxyPack};

use crate::support::{Api, connect, echo_upstream, round_trip, soon};

/// Runs `drive` with a client for the API, on a thread where blocking is allowed.
async fn with_client<T: Send + 'static>(api: &Api, drive: impl FnOnce(&Client) -> T + Send + 'static) -> T {
    let address = api.address;
    let driving = tokio::task::spawn_blocking(move || drive(&Client::new(address)));
    soon("the client's calls", driving).await.unwrap()
}

fn proxy(client: &Client) -> Proxy {
    client.find_proxy("one").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn toxiproxy_rust_populates_adds_latency_removes_it_and_resets() {
    let (echo, serving) = echo_upstream().await;
    let api = Api::start().await;

    let populated = with_client(&api, move |client| {
        assert!(client.is_running());
        assert!(client.version().unwrap().contains("2.12.0"));
        let pack = ProxyPack::new("one".into(), "localhost:0".into(), echo.to_string());
        let populated = client.populate(vec![pack]).unwrap();
        assert_eq!(populated.len(), 1);
        assert_eq!(client.all().unwrap().len(), 1);
        populated[0].proxy_pack.listen.clone()
    })
    .await;
    let mut socket = connect(populated.parse().unwrap()).await;
    round_trip(&mut socket).await;

    with_client(&api, |client| {
        proxy(client).with_latency("downstream".into(), 150, 0, 1.0);
        let toxics = proxy(client).toxics().unwrap();
        assert_eq!(toxics.len(), 1);
        assert_eq!((toxics[0].name.as_str(), toxics[0].attributes["latency"]), ("latency_downstream", 150));
    })
    .await;
    assert_eq!(api.proxies.toxics("one").unwrap()[0].stream, Stream::Downstream);
    let slow = round_trip(&mut socket).await;
    assert!(slow >= Duration::from_millis(150), "{slow:?}");

    with_client(&api, |client| {
        proxy(client).delete_all_toxics().unwrap();
        assert!(proxy(client).toxics().unwrap().is_empty());
    })
    .await;
    assert_eq!(api.proxies.toxics("one").unwrap(), []);
    round_trip(&mut socket).await;

    with_client(&api, |client| {
        proxy(client).with_latency("upstream".into(), 150, 10, 0.5);
        proxy(client).disable().unwrap();
    })
    .await;
    let disabled = api.proxies.get("one").unwrap();
    assert!(!disabled.enabled && disabled.toxics.len() == 1, "{disabled:?}");

    with_client(&api, |client| client.reset().unwrap()).await;
    let reset = api.proxies.get("one").unwrap();
    assert!(reset.enabled && reset.toxics.is_empty(), "{reset:?}");
    round_trip(&mut connect(populated.parse().unwrap()).await).await;

    with_client(&api, |client| proxy(client).delete().unwrap()).await;
    assert_eq!(api.proxies.list(), []);
    api.stop().await;
    serving.abort();
}
