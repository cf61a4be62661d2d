//! An external Toxiproxy server, driven through the crate `toxiproxy_rust`.
//!
//! The crate blocks, panics on some errors, ignores HTTP statuses and removes toxics only all at once per proxy. So each
//! call has a thread and a deadline of its own, what was done is read back, and Kennel's links have proxies of their own.

use std::net::SocketAddr;
use std::time::Duration;

use super::FaultError;

/// A proxy's toxics as the server lists them: kind and stream.
pub(super) type Toxics = Vec<(String, String)>;

/// Adds a latency toxic towards the caller and reads it back.
pub(super) async fn add_latency(
    api: SocketAddr,
    proxy: &str,
    latency: Duration,
    jitter: Duration,
) -> Result<(), FaultError> {
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let (latency, jitter) = (millis(latency), millis(jitter));
    let toxics = call(api, proxy, "add the latency toxic", move |found| {
        found.add_latency(latency, jitter)?;
        found.toxics()
    })
    .await?;
    if toxics.iter().any(|(kind, _)| kind == "latency") { Ok(()) } else { Err(not_seen(proxy, "the latency toxic")) }
}

/// Removes every toxic of a proxy and reads back that none is left. A proxy or server that is gone has none.
pub(super) async fn remove_toxics(api: SocketAddr, proxy: &str) -> Result<(), FaultError> {
    if tokio::net::TcpStream::connect(api).await.is_err() {
        return Ok(());
    }
    let toxics = call(api, proxy, "remove the toxics", |found| {
        found.remove_toxics()?;
        found.toxics()
    })
    .await?;
    if toxics.is_empty() { Ok(()) } else { Err(not_seen(proxy, "the removal of the toxics")) }
}

/// Whether the server has this proxy.
pub(super) async fn find(api: SocketAddr, proxy: &str) -> Result<Toxics, FaultError> {
    call(api, proxy, "find the proxy", |found| found.toxics()).await
}

fn not_seen(proxy: &str, what: &str) -> FaultError {
    FaultError::Unconfirmed { what: format!("{what} on proxy `{proxy}`"), within: Duration::ZERO }
}

#[cfg(feature = "toxiproxy")]
use client::call;

#[cfg(feature = "toxiproxy")]
mod client {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::{FaultError, Toxics};

    const DEADLINE: Duration = Duration::from_secs(5);

    /// A proxy on the server.
    pub(in crate::faults) struct Found(toxiproxy_rust::proxy::Proxy);

    impl Found {
        pub(in crate::faults) fn add_latency(&self, latency_ms: u32, jitter_ms: u32) -> Result<(), String> {
            self.0.with_latency("downstream".to_owned(), latency_ms, jitter_ms, 1.0);
            Ok(())
        }

        pub(in crate::faults) fn remove_toxics(&self) -> Result<(), String> {
            self.0.delete_all_toxics()
        }

        pub(in crate::faults) fn toxics(&self) -> Result<Toxics, String> {
            let toxics = self.0.toxics()?;
            Ok(toxics.into_iter().map(|toxic| (toxic.r#type, toxic.stream)).collect())
        }
    }

    /// Runs one call of the blocking client on a thread of its own.
    pub(in crate::faults) async fn call<T: Send + 'static>(
        api: SocketAddr,
        proxy: &str,
        action: &str,
        work: impl FnOnce(&Found) -> Result<T, String> + Send + 'static,
    ) -> Result<T, FaultError> {
        let failed = |problem: String| FaultError::Server {
            server: format!("the Toxiproxy server at {api}"),
            action: format!("{action} on `{proxy}`"),
            problem,
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let name = proxy.to_owned();
        let thread = std::thread::Builder::new().name("toxiproxy".to_owned()).spawn(move || {
            let result =
                toxiproxy_rust::client::Client::new(api).find_proxy(&name).and_then(|found| work(&Found(found)));
            let _ = tell.send(result);
        });
        thread.map_err(|e| failed(e.to_string()))?;
        match tokio::time::timeout(DEADLINE, told).await {
            Ok(Ok(result)) => result.map_err(failed),
            Ok(Err(_)) => Err(failed("its client crashed on the answer".to_owned())),
            Err(_) => Err(failed(format!("no answer within {DEADLINE:?}"))),
        }
    }
}

#[cfg(not(feature = "toxiproxy"))]
use absent::call;

#[cfg(not(feature = "toxiproxy"))]
mod absent {
    use std::net::SocketAddr;

    use super::{FaultError, Toxics};

    pub(in crate::faults) enum Found {}

    impl Found {
        pub(in crate::faults) fn add_latency(&self, _: u32, _: u32) -> Result<(), String> {
            match *self {}
        }
        pub(in crate::faults) fn remove_toxics(&self) -> Result<(), String> {
            match *self {}
        }
        pub(in crate::faults) fn toxics(&self) -> Result<Toxics, String> {
            match *self {}
        }
    }

    pub(in crate::faults) async fn call<T>(
        api: SocketAddr,
        proxy: &str,
        action: &str,
        _: impl FnOnce(&Found) -> Result<T, String>,
    ) -> Result<T, FaultError> {
        Err(FaultError::Server {
            server: format!("the Toxiproxy server at {api}"),
            action: format!("{action} on `{proxy}`"),
            problem: "this kennel was built without the feature `toxiproxy`".to_owned(),
        })
    }
}
