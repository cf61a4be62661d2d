//! An external Toxiproxy server, driven through the crate `toxiproxy_rust`.
//!
//! The crate blocks, panics on some errors, ignores HTTP statuses and removes toxics only all at once per proxy. So each
//! call has a thread and a deadline of its own, what was done is read back, and Kennel's links have proxies of their own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::FaultError;

/// A proxy's toxics as the server lists them: kind and stream.
pub(super) type Toxics = Vec<(String, String)>;

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Adds a latency toxic towards the caller and reads it back.
pub(super) async fn add_latency(
    api: SocketAddr,
    proxy: &str,
    latency: Duration,
    jitter: Duration,
) -> Result<(), FaultError> {
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let (latency, jitter) = (millis(latency), millis(jitter));
    let add = move |found: Option<&Found>| {
        let found = found.ok_or("it has no such proxy")?;
        found.add_latency(latency, jitter)?;
        found.toxics()
    };
    // Should it come too late to be waited for, it takes back what it did.
    let toxics = call(api, proxy, "add the latency toxic", add, |found| drop(found.remove_toxics())).await?;
    if toxics.iter().any(|(kind, _)| kind == "latency") { Ok(()) } else { Err(not_seen(proxy, "the latency toxic")) }
}

/// Removes every toxic of a proxy and reads back that none is left. A proxy or server that is gone has none.
pub(super) async fn remove_toxics(api: SocketAddr, proxy: &str) -> Result<(), FaultError> {
    match tokio::time::timeout(DEADLINE, tokio::net::TcpStream::connect(api)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
        // Any other failure says something about this host or the network, not about the toxics.
        Ok(Err(error)) => return Err(failed(api, proxy, "remove the toxics", error.to_string())),
        Err(_) => return Err(failed(api, proxy, "remove the toxics", format!("no connection within {DEADLINE:?}"))),
    }
    let remove = |found: Option<&Found>| match found {
        Some(found) => {
            found.remove_toxics()?;
            found.toxics()
        }
        None => Ok(Toxics::new()),
    };
    let toxics = call(api, proxy, "remove the toxics", remove, |_| {}).await?;
    if toxics.is_empty() { Ok(()) } else { Err(not_seen(proxy, "the removal of the toxics")) }
}

/// Checks that the server has this proxy, and that nobody else's toxics are on it: they would be removed with Kennel's.
pub(super) async fn check_free(api: SocketAddr, proxy: &str) -> Result<(), FaultError> {
    let look = |found: Option<&Found>| found.ok_or("it has no such proxy")?.toxics();
    let toxics = call(api, proxy, "find the proxy", look, |_| {}).await?;
    if toxics.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = toxics.into_iter().map(|(kind, stream)| format!("{kind} ({stream})")).collect();
    let problem = format!("it already carries {}; remove them, or give the link a proxy of its own", kinds.join(", "));
    Err(failed(api, proxy, "offer the proxy", problem))
}

fn not_seen(proxy: &str, what: &str) -> FaultError {
    FaultError::Unconfirmed { what: format!("{what} on proxy `{proxy}`"), within: Duration::ZERO }
}

fn failed(api: SocketAddr, proxy: &str, action: &str, problem: String) -> FaultError {
    FaultError::Server {
        server: format!("the Toxiproxy server at {api}"),
        action: format!("{action} on `{proxy}`"),
        problem,
    }
}

#[cfg(feature = "toxiproxy")]
use client::{Found, call};

#[cfg(feature = "toxiproxy")]
mod client {
    use std::net::SocketAddr;

    use super::{DEADLINE, FaultError, Toxics, failed};

    const PROXY_VARIABLES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

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

    /// Runs one call of the blocking client on a thread of its own. When the call comes to its end after nobody waits for
    /// it any more, `too_late` takes back what it did.
    pub(in crate::faults) async fn call<T: Send + 'static>(
        api: SocketAddr,
        proxy: &str,
        action: &str,
        work: impl FnOnce(Option<&Found>) -> Result<T, String> + Send + 'static,
        too_late: impl FnOnce(&Found) + Send + 'static,
    ) -> Result<T, FaultError> {
        let failed = |problem: String| failed(api, proxy, action, problem);
        if let Some(variable) =
            PROXY_VARIABLES.iter().find(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
        {
            // The client obeys them, and calls would go to a host that no target declares.
            return Err(failed(format!(
                "{variable} is set, and its client would go through that proxy; unset it for Kennel"
            )));
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let name = proxy.to_owned();
        let thread = std::thread::Builder::new().name("toxiproxy".to_owned()).spawn(move || {
            let proxies = toxiproxy_rust::client::Client::new(api).all();
            if tell.is_closed() {
                return;
            }
            let found = proxies.map(|mut proxies| proxies.remove(&name).map(Found));
            let result = found.as_ref().map_err(Clone::clone).and_then(|found| work(found.as_ref()));
            if let (Err(_), Ok(Some(found))) = (tell.send(result), &found) {
                too_late(found);
            }
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
use absent::{Found, call};

#[cfg(not(feature = "toxiproxy"))]
mod absent {
    use std::net::SocketAddr;

    use super::{FaultError, Toxics, failed};

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
        _: impl FnOnce(Option<&Found>) -> Result<T, String>,
        _: impl FnOnce(&Found),
    ) -> Result<T, FaultError> {
        Err(failed(api, proxy, action, "this kennel was built without the feature `toxiproxy`".to_owned()))
    }
}
