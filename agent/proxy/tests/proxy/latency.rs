//! How long data takes through a link with latency, and what a change does to data in flight.

use std::time::{Duration, Instant};

use kennel_proxy::{ProxySpec, Stream, ToxicSpec, ToxicUpdate};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{connect, connected_pair, echo_upstream, listener, proxy_to, read_exact, round_trip, soon};

fn latency(ms: u64) -> ToxicSpec {
    ToxicSpec::new("latency").with("latency", ms)
}

const HOUR_MS: u64 = 3_600_000;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn median_of(socket: &mut tokio::net::TcpStream, trips: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..trips {
        times.push(round_trip(socket).await);
    }
    median(times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latency_of_200_ms_adds_200_ms_and_leaves_the_other_link_alone() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, slow) = proxy_to(echo).await;
    let other = ProxySpec::new("other", "127.0.0.1:0", echo.to_string());
    let other = proxies.create(other).await.unwrap().listen.parse().unwrap();
    proxies.add_toxic("link", latency(200)).unwrap();
    let (mut direct, mut slow, mut other) = (connect(echo).await, connect(slow).await, connect(other).await);
    let direct = median_of(&mut direct, 15).await;
    let slow = median_of(&mut slow, 15).await;
    let other = median_of(&mut other, 15).await;
    let added = slow.saturating_sub(direct);
    println!("median round trips: direct {direct:?}, untouched link {other:?}, slow link {slow:?}, added {added:?}");
    assert!(added >= Duration::from_millis(199), "added {added:?}");
    assert!(added < Duration::from_millis(400), "added {added:?}");
    assert!(other < direct + Duration::from_millis(50), "untouched {other:?}, direct {direct:?}");
    proxies.shutdown().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_delayed_side_by_side_and_not_one_after_another() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    proxies.add_toxic("link", latency(150).on(Stream::Upstream)).unwrap();
    let mut socket = connect(link).await;
    let start = Instant::now();
    for chunk in 0..20u8 {
        socket.write_all(&[chunk]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let echoed = read_exact(&mut socket, 20).await;
    let took = start.elapsed();
    assert_eq!(echoed, (0..20).collect::<Vec<u8>>());
    assert!(took >= Duration::from_millis(188), "{took:?}");
    assert!(took < Duration::from_millis(1500), "20 chunks one after another take 3 s; these took {took:?}");
    proxies.shutdown().await;
    serving.abort();
}

#[tokio::test]
async fn a_toxic_acts_on_the_direction_it_names_only() {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    let (mut client, mut server) = connected_pair(&upstream, link).await;
    proxies.add_toxic("link", latency(HOUR_MS).on(Stream::Upstream)).unwrap();
    client.write_all(b"late").await.unwrap();
    server.write_all(b"at once").await.unwrap();
    assert_eq!(read_exact(&mut client, 7).await, b"at once");
    let late = tokio::time::timeout(Duration::from_millis(50), server.read_u8()).await;
    assert!(late.is_err(), "delayed by an hour, but got {late:?}");
    proxies.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_acts_on_an_open_connection_at_once() {
    let (echo, serving) = echo_upstream().await;
    let (proxies, link) = proxy_to(echo).await;
    let mut socket = connect(link).await;
    round_trip(&mut socket).await;
    proxies.add_toxic("link", latency(120)).unwrap();
    let slow = round_trip(&mut socket).await;
    assert!(slow >= Duration::from_millis(120), "{slow:?}");
    let slower = ToxicUpdate { attributes: latency(240).attributes, ..ToxicUpdate::default() };
    proxies.update_toxic("link", "latency_downstream", slower).unwrap();
    let slow = round_trip(&mut socket).await;
    assert!(slow >= Duration::from_millis(240), "{slow:?}");
    let never = ToxicUpdate { toxicity: Some(0.0), ..ToxicUpdate::default() };
    proxies.update_toxic("link", "latency_downstream", never).unwrap();
    let quick = median_of(&mut socket, 5).await;
    assert!(quick < Duration::from_millis(100), "{quick:?}");
    proxies.shutdown().await;
    serving.abort();
}

#[tokio::test]
async fn a_shorter_latency_frees_data_that_waits() {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    let (mut client, mut server) = connected_pair(&upstream, link).await;
    proxies.add_toxic("link", latency(HOUR_MS)).unwrap();
    server.write_all(b"waiting").await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
    assert!(nothing.is_err());
    let short = ToxicUpdate { attributes: latency(1).attributes, ..ToxicUpdate::default() };
    proxies.update_toxic("link", "latency_downstream", short).unwrap();
    assert_eq!(read_exact(&mut client, 7).await, b"waiting");
    proxies.shutdown().await;
}

#[tokio::test]
async fn removing_a_toxic_lets_data_in_flight_pass_before_what_follows() {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    let (mut client, mut server) = connected_pair(&upstream, link).await;
    proxies.add_toxic("link", latency(HOUR_MS)).unwrap();
    server.write_all(b"first ").await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
    assert!(nothing.is_err());
    proxies.remove_toxic("link", "latency_downstream").unwrap();
    server.write_all(b"second").await.unwrap();
    assert_eq!(read_exact(&mut client, 12).await, b"first second");
    proxies.shutdown().await;
}

#[tokio::test]
async fn the_delay_line_pushes_back_when_it_is_full() {
    let (upstream, address) = listener().await;
    let (proxies, link) = proxy_to(address).await;
    let (mut client, mut server) = connected_pair(&upstream, link).await;
    proxies.add_toxic("link", latency(HOUR_MS)).unwrap();
    let chunk = vec![7u8; 1 << 20];
    let mut sent = 0;
    soon("the push-back", async {
        loop {
            let write = server.write(&chunk);
            match tokio::time::timeout(Duration::from_millis(300), write).await {
                Ok(wrote) => sent += wrote.unwrap(),
                // The line takes 8 MiB; the socket buffers of both sides a few more.
                Err(_) if sent >= 8 << 20 => break,
                Err(_) => {}
            }
            assert!(sent < 64 << 20, "64 MiB went into a link that lets nothing out");
        }
    })
    .await;
    proxies.remove_toxic("link", "latency_downstream").unwrap();
    drop(server);
    let mut received = Vec::new();
    soon("the rest", client.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), sent);
    proxies.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bytes_through_sockets_are_the_same_bytes_whatever_the_toxics_do(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5000), 1..24),
        latency_ms in 0..15u64,
        jitter_ms in 0..20u64,
        change_after in 0..24usize,
        remove_after in 0..24usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sent = chunks.concat();
        let received = runtime.block_on(async {
            let (echo, serving) = echo_upstream().await;
            let (proxies, link) = proxy_to(echo).await;
            let toxic = latency(latency_ms).with("jitter", jitter_ms).named("toxic");
            proxies.add_toxic("link", toxic.clone()).unwrap();
            let (mut from, mut to) = connect(link).await.into_split();
            let writing = tokio::spawn(async move {
                for (at, chunk) in chunks.into_iter().enumerate() {
                    to.write_all(&chunk).await.unwrap();
                    tokio::task::yield_now().await;
                    if at == change_after {
                        let attributes = latency(jitter_ms).with("jitter", latency_ms).attributes;
                        let update = ToxicUpdate { attributes, ..ToxicUpdate::default() };
                        // It may have been removed before.
                        let _ = proxies.update_toxic("link", "toxic", update);
                    }
                    if at == remove_after {
                        proxies.remove_toxic("link", "toxic").unwrap();
                        proxies.add_toxic("link", toxic.clone().on(Stream::Upstream)).unwrap();
                    }
                }
                to.shutdown().await.unwrap();
                proxies
            });
            let mut received = Vec::new();
            soon("the end of the stream", from.read_to_end(&mut received)).await.unwrap();
            writing.await.unwrap().shutdown().await;
            serving.abort();
            received
        });
        prop_assert_eq!(received, sent);
    }
}
