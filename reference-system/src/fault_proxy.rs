//! The fault proxy between the services, spoken to through the Toxiproxy API: one proxy per link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::LinkPlan;
use crate::error::SystemError;
use crate::rpc::caller::{exchange, http_client};

const PATIENCE: Duration = Duration::from_secs(2);
/// How often a proxy that may have been restarted is asked for its links.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until the proxy answers.
pub(crate) async fn await_version(
    api: SocketAddr,
    name: &str,
    deadline: Instant,
    deaths: &Arc<AtomicU32>,
) -> Result<(), SystemError> {
    loop {
        if let Some((StatusCode::OK, _)) = ask(api, Method::GET, "/version", Bytes::new()).await {
            return Ok(());
        }
        let why = if deaths.load(Ordering::Relaxed) > 0 {
            "ended during the start"
        } else if Instant::now() >= deadline {
            "did not answer GET /version in time"
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        return Err(SystemError::Proxy { name: name.to_owned(), why: why.to_owned() });
    }
}

/// Creates all links that do not exist.
pub(crate) async fn populate(api: SocketAddr, name: &str, links: &[LinkPlan]) -> Result<(), SystemError> {
    let proxies: Vec<Value> = links
        .iter()
        .map(|link| {
            json!({
                "name": link.name(), "listen": link.listen, "upstream": link.upstream,
                "enabled": true,
            })
        })
        .collect();
    let body = Bytes::from(Value::from(proxies).to_string());
    let why = match ask(api, Method::POST, "/populate", body).await {
        Some((status, _)) if status.is_success() => return Ok(()),
        Some((status, answer)) => {
            format!("answered {status} to POST /populate: {}", String::from_utf8_lossy(&answer))
        }
        None => "did not answer POST /populate".to_owned(),
    };
    Err(SystemError::Proxy { name: name.to_owned(), why })
}

/// The address in a URL such as `http://127.0.0.1:8474`.
pub(crate) async fn address(url: &str) -> Result<SocketAddr, SystemError> {
    let wrong = |why: String| SystemError::Proxy { name: url.to_owned(), why };
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let found = tokio::net::lookup_host(host).await;
    let found = found.map_err(|error| wrong(format!("has no address of the form http://HOST:PORT ({error})")))?;
    // It must listen where this system's roles dial, so prefer what they prefer.
    let found: Vec<SocketAddr> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| wrong("has no address".to_owned()))
}

/// Takes the links back from a proxy that goes on, once the system stops.
pub(crate) async fn withdraw(api: SocketAddr, links: Vec<LinkPlan>, stop: CancellationToken) {
    stop.cancelled().await;
    if let Err(why) = take_back(api, &links).await {
        tracing::warn!(why, "the fault proxy may keep links");
    }
}

/// Takes back the links that a proxy has of these. Another system calls its links the same: only where they listen tells
/// whose they are.
pub(crate) async fn take_back(api: SocketAddr, links: &[LinkPlan]) -> Result<(), String> {
    let silent = || "it does not answer".to_owned();
    let Some((StatusCode::OK, body)) = ask(api, Method::GET, "/proxies", Bytes::new()).await else {
        return Err(silent());
    };
    let known: serde_json::Map<String, Value> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let is_ours = |link: &&LinkPlan| {
        known.get(&link.name()).is_some_and(|proxy| proxy["listen"] == link.listen.to_string().as_str())
    };
    for link in links.iter().filter(is_ours) {
        // One that is gone is what was wanted.
        let path = format!("/proxies/{}", link.name().replace('>', "%3E"));
        ask(api, Method::DELETE, &path, Bytes::new()).await.ok_or_else(silent)?;
    }
    Ok(())
}

/// Gives a restarted proxy its links again, and leaves alone what it has.
pub(crate) async fn repopulate(api: SocketAddr, name: String, links: Vec<LinkPlan>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let known = ask(api, Method::GET, "/proxies", Bytes::new()).await;
        let Some((StatusCode::OK, body)) = known else {
            continue;
        };
        let Ok(known) = serde_json::from_slice::<serde_json::Map<String, Value>>(&body) else { continue };
        let missing: Vec<LinkPlan> = links.iter().filter(|link| !known.contains_key(&link.name())).cloned().collect();
        if !missing.is_empty()
            && let Err(error) = populate(api, &name, &missing).await
        {
            tracing::warn!(%error, "the links wait");
        }
    }
}

async fn ask(api: SocketAddr, method: Method, path: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
    let client = http_client(PATIENCE);
    let uri = format!("http://{api}{path}");
    let asked = exchange(&client, method, &uri, body, |_| {});
    tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()
}
