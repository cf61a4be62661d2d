//! Bytes and ends of connections through a link without toxics, and with them.

use std::io::ErrorKind;

use kennel_proxy::{Stream, ToxicSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{connect, connected_pair, echo_upstream, listener, proxy_to, read_exact, soon};

fn latency(ms: u64) -> ToxicSpec {
    ToxicSpec::new("latency").with("latency", ms)
}

#[tokio::test]
async fn much_data_passes_unchanged_in_both_directions() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    let sent: Vec<u8> = (0..12u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut from, mut to) = connect(link).await.into_split();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        to.write_all(&copy).await?;
        to.shutdown().await
    });
    let mut received = Vec::new();
    soon("the echo", from.read_to_end(&mut received)).await.unwrap();
    writing.await.unwrap().unwrap();
    assert!(received == sent, "{} of {} bytes, or others", received.len(), sent.len());
    proxies.shutdown().await;
    serving.abort();
}

async fn one_direction_ends_and_the_other_goes_on(toxic: Option<ToxicSpec>) {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    if let Some(toxic) = toxic {
        proxies.add_toxic("link", toxic).unwrap();
    }
    let (mut client, mut server) = connected_pair(&upstream, link).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    soon("the client's end", server.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    server.write_all(b"answer").await.unwrap();
    assert_eq!(read_exact(&mut client, 6).await, b"answer");
    server.write_all(b", more").await.unwrap();
    drop(server);
    let mut more = Vec::new();
    soon("the server's end", client.read_to_end(&mut more)).await.unwrap();
    assert_eq!(more, b", more");
    crate::support::until("the connection's end", || proxies.task_count() == 2).await;
    proxies.shutdown().await;
}

#[tokio::test]
async fn a_half_closed_connection_stays_open_the_other_way() {
    one_direction_ends_and_the_other_goes_on(None).await;
}

#[tokio::test]
async fn a_half_close_follows_delayed_data() {
    one_direction_ends_and_the_other_goes_on(Some(latency(30).on(Stream::Upstream))).await;
}

#[tokio::test]
async fn a_half_close_passes_the_other_direction_with_a_toxic() {
    one_direction_ends_and_the_other_goes_on(Some(latency(30).on(Stream::Downstream))).await;
}

async fn a_reset_passes(toxic: Option<ToxicSpec>, from_client: bool) {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    if let Some(toxic) = toxic {
        proxies.add_toxic("link", toxic).unwrap();
    }
    let (client, server) = connected_pair(&upstream, link).await;
    let (resetting, mut other) = if from_client { (client, server) } else { (server, client) };
    resetting.set_zero_linger().unwrap();
    drop(resetting);
    let end = soon("the reset", other.read_u8()).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{end}");
    crate::support::until("the connection's end", || proxies.task_count() == 2).await;
    proxies.shutdown().await;
}

#[tokio::test]
async fn a_reset_by_the_client_reaches_the_upstream() {
    a_reset_passes(None, true).await;
}

#[tokio::test]
async fn a_reset_by_the_upstream_reaches_the_client() {
    a_reset_passes(None, false).await;
}

#[tokio::test]
async fn a_reset_passes_a_toxic() {
    a_reset_passes(Some(latency(20)), false).await;
}

#[tokio::test]
async fn a_reset_comes_after_the_data_before_it() {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    let (mut client, mut server) = connected_pair(&upstream, link).await;
    // Once this is through, the proxy carries the connection and has not merely opened it.
    client.write_all(b"?").await.unwrap();
    read_exact(&mut server, 1).await;
    proxies.add_toxic("link", latency(80)).unwrap();
    server.write_all(b"last words").await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(read_exact(&mut client, 10).await, b"last words");
    let end = soon("the reset", client.read_u8()).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{end}");
    proxies.shutdown().await;
}

#[tokio::test]
async fn a_client_is_closed_when_the_upstream_cannot_be_reached() {
    let (upstream, address) = listener().await;
    drop(upstream);
    let (proxies, link) = proxy_to(address).await;
    let mut client = connect(link).await;
    let end = soon("the close", client.read(&mut [0; 8])).await;
    assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    proxies.shutdown().await;
}
