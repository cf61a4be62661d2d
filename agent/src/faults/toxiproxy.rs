//! An external Toxiproxy server, driven over its HTTP API: one toxic of Kennel's own name per proxy, read back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;

use super::FaultError;

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Name of Kennel's toxic; whatever else is on a proxy stays as it is.
pub(super) const TOXIC: &str = "kennel_latency";

/// A toxic as the server lists it.
#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Adds a latency toxic towards the caller and reads it back.
pub(super) async fn add_latency(
    api: SocketAddr,
    proxy: &str,
    latency: Duration,
    jitter: Duration,
) -> Result<(), FaultError> {
    let action = "add the latency toxic";
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let toxic = json!({
        "name": TOXIC, "type": "latency", "stream": "downstream", "toxicity": 1.0,
        "attributes": { "latency": millis(latency), "jitter": millis(jitter) },
    });
    let answer = call(api, proxy, action, Method::POST, &["toxics"], Some(&toxic)).await?;
    accepted(api, proxy, action, answer).await?;
    let toxics = list(api, proxy, action).await?.unwrap_or_default();
    let is_there = toxics.iter().any(|toxic| toxic.name == TOXIC && toxic.kind == "latency");
    if is_there { Ok(()) } else { Err(not_seen(proxy, "the latency toxic")) }
}

/// Removes Kennel's toxic of a proxy and reads back that it is gone. A proxy or server that is gone has none.
pub(super) async fn remove_toxic(api: SocketAddr, proxy: &str) -> Result<(), FaultError> {
    let action = "remove the latency toxic";
    match tokio::time::timeout(DEADLINE, tokio::net::TcpStream::connect(api)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
        // Any other failure says something about this host or the network, not about the toxic.
        Ok(Err(error)) => return Err(failed(api, proxy, action, error.to_string())),
        Err(_) => return Err(failed(api, proxy, action, format!("no connection within {DEADLINE:?}"))),
    }
    let answer = call(api, proxy, action, Method::DELETE, &["toxics", TOXIC], None).await?;
    if answer.status() != StatusCode::NOT_FOUND {
        accepted(api, proxy, action, answer).await?;
    }
    let toxics = list(api, proxy, action).await?.unwrap_or_default();
    let is_there = toxics.iter().any(|toxic| toxic.name == TOXIC);
    if is_there { Err(not_seen(proxy, "the removal of the latency toxic")) } else { Ok(()) }
}

/// Checks that the server has this proxy, and that no other Kennel slows it down already.
pub(super) async fn check_free(api: SocketAddr, proxy: &str) -> Result<(), FaultError> {
    let action = "find the proxy";
    let toxics = list(api, proxy, action).await?;
    let toxics = toxics.ok_or_else(|| failed(api, proxy, action, "it has no such proxy".to_owned()))?;
    if toxics.iter().any(|toxic| toxic.name == TOXIC) {
        let problem = format!("it already carries the toxic `{TOXIC}`, of another Kennel or one that died; remove it");
        return Err(failed(api, proxy, action, problem));
    }
    Ok(())
}

/// The toxics of a proxy; `None` when there is no such proxy.
async fn list(api: SocketAddr, proxy: &str, action: &str) -> Result<Option<Vec<Listed>>, FaultError> {
    let answer = call(api, proxy, action, Method::GET, &["toxics"], None).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let answer = accepted(api, proxy, action, answer).await?;
    let toxics = answer.json().await.map_err(|e| failed(api, proxy, action, format!("not a list of toxics: {e}")))?;
    Ok(Some(toxics))
}

async fn call(
    api: SocketAddr,
    proxy: &str,
    action: &str,
    method: Method,
    path: &[&str],
    body: Option<&serde_json::Value>,
) -> Result<Response, FaultError> {
    let fail = |problem: String| failed(api, proxy, action, problem);
    // No proxy of the environment: it would be a host that no target declares.
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE);
    // Its API is not encrypted: no certificates of this machine are asked for.
    let client = client.tls_certs_only([]).build().map_err(|e| fail(e.to_string()))?;
    let mut url = Url::parse(&format!("http://{api}")).map_err(|e| fail(e.to_string()))?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(["proxies", proxy]).extend(path);
    }
    let mut request = client.request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    request
        .send()
        .await
        .map_err(|e| fail(if e.is_timeout() { format!("no answer within {DEADLINE:?}") } else { cause(&e) }))
}

/// What lies beneath an error of reqwest, which hides it.
fn cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

async fn accepted(api: SocketAddr, proxy: &str, action: &str, answer: Response) -> Result<Response, FaultError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body: String = answer.text().await.unwrap_or_default().chars().take(300).collect();
    Err(failed(api, proxy, action, format!("it answered {status}: {}", body.trim())))
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
