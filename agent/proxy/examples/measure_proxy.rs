//! Measures the fault proxy on loopback: megabytes per second, and how far a delay is from what was asked.
//!
//! Run through `bench/run proxy`. Prints one table; nothing is written anywhere else.

#![allow(clippy::print_stdout, reason = "its purpose is to print a table")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kennel_proxy::{FaultProxy, ProxySpec, ToxicSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What is sent to measure throughput.
const VOLUME_BYTES: usize = 2 << 30;
const LATENCY_MS: u64 = 200;
/// Connections that carry one byte at a time, at once.
const CONNECTIONS: usize = 20;
const TRIPS: usize = 25;

#[tokio::main]
async fn main() -> Result<()> {
    let shutdown = CancellationToken::new();
    let servers = TaskTracker::new();
    let (sink, echo) = (sink(&servers, &shutdown).await?, echo(&servers, &shutdown).await?);
    let proxies = FaultProxy::new(shutdown.clone());
    let to_sink = open(&proxies, "to sink", sink).await?;
    let to_echo = open(&proxies, "to echo", echo).await?;

    println!("{:<44} {:>10}", "throughput, one connection", "MB/s");
    row("direct, without a proxy", throughput(sink).await?);
    row("proxy without toxics", throughput(to_sink).await?);
    proxies.add_toxic("to sink", ToxicSpec::new("noop").on(kennel_proxy::Stream::Upstream))?;
    row("proxy with a toxic that does nothing", throughput(to_sink).await?);

    let direct = round_trips(echo).await?;
    let untouched = round_trips(to_echo).await?;
    proxies.add_toxic("to echo", ToxicSpec::new("latency").with("latency", LATENCY_MS))?;
    let delayed = round_trips(to_echo).await?;
    println!();
    println!("{:<44} {:>10} {:>10} {:>10} {:>10}", "round trip of one byte, ms", "least", "median", "99 %", "most");
    times("direct, without a proxy", &direct, 0.0);
    times("proxy without toxics", &untouched, 0.0);
    let asked = LATENCY_MS as f64 + at(&direct, 0.5);
    times(&format!("error of {LATENCY_MS} ms against the direct median"), &delayed, asked);

    shutdown.cancel();
    proxies.shutdown().await;
    servers.close();
    servers.wait().await;
    Ok(())
}

fn row(what: &str, megabytes_per_second: f64) {
    println!("{what:<44} {megabytes_per_second:>10.0}");
}

fn times(what: &str, sorted_ms: &[f64], subtract_ms: f64) {
    print!("{what:<44}");
    for share in [0.0, 0.5, 0.99, 1.0] {
        print!(" {:>10.3}", at(sorted_ms, share) - subtract_ms);
    }
    println!();
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

async fn open(proxies: &FaultProxy, name: &str, upstream: SocketAddr) -> Result<SocketAddr> {
    let view = proxies.create(ProxySpec::new(name, "127.0.0.1:0", upstream.to_string())).await?;
    Ok(view.listen.parse()?)
}

/// Reads everything, and answers the end of a connection with one byte.
async fn sink(servers: &TaskTracker, shutdown: &CancellationToken) -> Result<SocketAddr> {
    serve(servers, shutdown, |mut socket| async move {
        let mut buffer = vec![0; 256 << 10];
        while socket.read(&mut buffer).await? > 0 {}
        socket.write_all(b".").await
    })
    .await
}

async fn echo(servers: &TaskTracker, shutdown: &CancellationToken) -> Result<SocketAddr> {
    serve(servers, shutdown, |mut socket| async move {
        socket.set_nodelay(true)?;
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await.map(|_| ())
    })
    .await
}

async fn serve<F>(
    servers: &TaskTracker,
    shutdown: &CancellationToken,
    answer: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> Result<SocketAddr>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (tasks, shutdown) = (servers.clone(), shutdown.clone());
    servers.spawn(async move {
        while let Some(Ok((socket, _))) = shutdown.run_until_cancelled(listener.accept()).await {
            let (answering, shutdown) = (answer(socket), shutdown.clone());
            // A client that went away is no concern of the server's.
            tasks.spawn(async move { shutdown.run_until_cancelled(answering).await.map(drop) });
        }
    });
    Ok(address)
}

/// Megabytes (10⁶ bytes) per second from connecting until the other end has read everything.
async fn throughput(address: SocketAddr) -> Result<f64> {
    let mut socket = TcpStream::connect(address).await?;
    let chunk = vec![7; 256 << 10];
    let start = Instant::now();
    for _ in 0..VOLUME_BYTES / chunk.len() {
        socket.write_all(&chunk).await?;
    }
    socket.shutdown().await?;
    socket.read_u8().await?;
    Ok(VOLUME_BYTES as f64 / 1e6 / start.elapsed().as_secs_f64())
}

/// Sorted round trips in milliseconds.
async fn round_trips(address: SocketAddr) -> Result<Vec<f64>> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CONNECTIONS {
        clients.spawn(async move {
            let mut socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            // So that they do not all wake at the same moment.
            tokio::time::sleep(Duration::from_millis(client as u64 * 7)).await;
            let mut times = Vec::with_capacity(TRIPS);
            for _ in 0..TRIPS {
                let start = Instant::now();
                socket.write_all(b"x").await?;
                socket.read_u8().await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            std::io::Result::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = clients.join_next().await {
        all.extend(times??);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}
