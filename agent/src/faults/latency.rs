//! `latency`: delays what passes over a link towards its caller, on the agent's own fault proxy or on a
//! Toxiproxy-compatible server, whichever carries the link.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use kennel_model::experiment::select_links;
use kennel_model::fault::Fault;
use kennel_model::target::{Link, Target};
use kennel_proxy::{FaultProxy, ProxyError, Stream, ToxicSpec};

use super::toxiproxy::TOXIC;
use super::{FaultError, Injection, Surroundings, Undo, toxiproxy};

struct Latency {
    link: String,
    carrier: Carrier,
    latency: Duration,
    jitter: Duration,
}

/// What carries the link.
enum Carrier {
    Embedded(FaultProxy),
    Toxiproxy { api: SocketAddr, proxy: String },
}

/// Name of a link on the agent's own fault proxy, which carries the links of every target.
pub(crate) fn carried_name(target: &Target, link: &Link) -> String {
    format!("{}/{}", target.name, link.name())
}

pub(super) async fn resolve(
    fault: &Fault,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Box<dyn Injection>>, FaultError> {
    let selector = fault.selector.link.as_deref().unwrap_or("");
    let links = select_links(surroundings.target, selector);
    if links.is_empty() {
        return Err(FaultError::NotDeclared { what: format!("a link `{selector}`") });
    }
    let mut injections: Vec<Box<dyn Injection>> = Vec::new();
    for link in links {
        let carrier = match &link.toxiproxy {
            None => {
                let known = surroundings.proxy.get(&carried_name(surroundings.target, link));
                known.map_err(|e| embedded_failed("find the link", &e))?;
                Carrier::Embedded(surroundings.proxy.clone())
            }
            Some(server) => {
                let addresses = surroundings.boundary.addresses(&server.api).await?;
                let what = || format!("an address of `{}`", server.api);
                let api = *addresses.first().ok_or_else(|| FaultError::NotDeclared { what: what() })?;
                toxiproxy::check_free(api, &server.proxy).await?;
                Carrier::Toxiproxy { api, proxy: server.proxy.clone() }
            }
        };
        injections.push(Box::new(Latency {
            link: carried_name(surroundings.target, link),
            carrier,
            latency: fault.parameters.latency.unwrap_or_default().get(),
            jitter: fault.parameters.jitter.unwrap_or_default().get(),
        }));
    }
    Ok(injections)
}

fn embedded_failed(action: &str, error: &ProxyError) -> FaultError {
    FaultError::Server {
        server: "the embedded fault proxy".to_owned(),
        action: action.to_owned(),
        problem: error.to_string(),
    }
}

impl Injection for Latency {
    fn owns(&self) -> String {
        format!("link {}", self.link)
    }

    /// Toxics of the embedded proxy end with the agent's process by construction.
    fn undo(&self) -> Option<Undo> {
        match &self.carrier {
            Carrier::Embedded(_) => None,
            Carrier::Toxiproxy { api, proxy } => Some(Undo::RemoveToxics { api: *api, proxy: proxy.clone() }),
        }
    }

    fn inject(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async {
            match &self.carrier {
                Carrier::Embedded(proxy) => {
                    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                    let spec = ToxicSpec::new("latency")
                        .named(TOXIC)
                        .on(Stream::Downstream)
                        .with("latency", millis(self.latency))
                        .with("jitter", millis(self.jitter));
                    proxy
                        .add_toxic(&self.link, spec)
                        .map(|_| ())
                        .map_err(|e| embedded_failed("add the latency toxic", &e))?;
                    proxy
                        .toxic(&self.link, TOXIC)
                        .map(|_| ())
                        .map_err(|e| embedded_failed("list the latency toxic", &e))
                }
                Carrier::Toxiproxy { api, proxy } => {
                    toxiproxy::add_latency(*api, proxy, self.latency, self.jitter).await
                }
            }
        })
    }

    fn revert(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async {
            match &self.carrier {
                Carrier::Embedded(proxy) => match proxy.remove_toxic(&self.link, TOXIC) {
                    Ok(()) | Err(ProxyError::ToxicNotFound { .. } | ProxyError::ProxyNotFound { .. }) => Ok(()),
                    Err(error) => Err(embedded_failed("remove the latency toxic", &error)),
                },
                Carrier::Toxiproxy { api, proxy } => toxiproxy::remove_toxic(*api, proxy).await,
            }
        })
    }
}
