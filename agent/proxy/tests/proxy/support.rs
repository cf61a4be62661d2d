//! Upstreams to talk to, proxies in front of them, and waiting with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use kennel_proxy::{FaultProxy, ProxySpec, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything in a test takes, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What `future` gives, or a failure that names `what` was awaited.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends back what it gets, connection by connection, until the listener's task is aborted.
pub(crate) async fn echo_upstream() -> (SocketAddr, JoinHandle<()>) {
    let (listener, address) = listener().await;
    let serving = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            connections.spawn(async move {
                socket.set_nodelay(true)?;
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await
            });
            while connections.try_join_next().is_some() {}
        }
    });
    (address, serving)
}

/// A fault proxy, and the address of one proxy named `link` in it that leads to `upstream`.
pub(crate) async fn proxy_to(upstream: SocketAddr) -> (FaultProxy, SocketAddr) {
    let proxies = FaultProxy::new(CancellationToken::new());
    let spec = ProxySpec::new("link", "127.0.0.1:0", upstream.to_string());
    let address = proxies.create(spec).await.unwrap().listen.parse().unwrap();
    (proxies, address)
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let socket = soon("connecting", TcpStream::connect(address)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Both ends of one connection through the proxy: the client's, and the upstream's.
pub(crate) async fn connected_pair(upstream: &TcpListener, link: SocketAddr) -> (TcpStream, TcpStream) {
    let client = connect(link).await;
    let (server, _) = soon("the proxy's connection", upstream.accept()).await.unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

pub(crate) async fn read_exact(socket: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    soon("reading", socket.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// One byte there and back.
pub(crate) async fn round_trip(socket: &mut TcpStream) -> Duration {
    let start = std::time::Instant::now();
    socket.write_all(b"x").await.unwrap();
    read_exact(socket, 1).await;
    start.elapsed()
}

/// The API of a fault proxy on a port of its own.
pub(crate) struct Api {
    pub(crate) proxies: FaultProxy,
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let shutdown = CancellationToken::new();
        let proxies = FaultProxy::new(shutdown.clone());
        let (listener, address) = listener().await;
        let serving = tokio::spawn(serve(listener, proxies.clone(), shutdown.clone()));
        Self { proxies, address, http: reqwest::Client::new(), shutdown, serving }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    /// Status and body of the answer; the body as a JSON string where it is not JSON.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let request = self.request(method, path).body(body.to_owned());
        let response = soon("an answer", request.send()).await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("the API's end", self.serving).await.unwrap().unwrap();
        soon("the proxies' end", self.proxies.shutdown()).await;
    }
}
