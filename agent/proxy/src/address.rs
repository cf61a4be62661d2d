//! Listen addresses: how they are resolved, and when two of them mean the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, lookup_host};

use crate::error::ProxyError;

/// Where a proxy listens: as asked for, and as bound since its first start.
#[derive(Clone, Debug)]
pub(crate) struct ListenAddress {
    requested: String,
    /// Kept while the proxy is stopped, so that a port taken as "any free one" is the same after a restart.
    bound: Option<SocketAddr>,
}

impl ListenAddress {
    pub(crate) fn new(requested: String) -> Self {
        Self { requested, bound: None }
    }

    /// The bound address, or the requested one if it was never bound.
    pub(crate) fn shown(&self) -> String {
        self.bound.map_or_else(|| self.requested.clone(), |bound| bound.to_string())
    }

    /// Opens a listener and remembers the address it got.
    pub(crate) async fn bind(&mut self) -> Result<TcpListener, ProxyError> {
        let address = match self.bound {
            Some(bound) => bound,
            None => resolve(&self.requested).await?,
        };
        let failed = |error: std::io::Error| ProxyError::Listen {
            address: address.to_string(),
            resolved: true,
            reason: match error.kind() {
                std::io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
                _ => format!("bind: {error}"),
            },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        self.bound = Some(listener.local_addr().map_err(failed)?);
        Ok(listener)
    }

    /// Whether `other` asks for the address that this one already is: in the same words, resolved, or
    /// "any free port" of the same host as before.
    pub(crate) async fn is(&self, other: &str) -> Result<bool, ProxyError> {
        if other == self.requested || other == self.shown() {
            return Ok(true);
        }
        let other = resolve(other).await?;
        let requested = resolve(&self.requested).await;
        Ok(match self.bound {
            Some(bound) => other == bound || (other.port() == 0 && requested.is_ok_and(|requested| requested == other)),
            None => requested.is_ok_and(|requested| requested == other),
        })
    }
}

/// Resolves `host:port`, preferring IPv4 as Toxiproxy does.
async fn resolve(address: &str) -> Result<SocketAddr, ProxyError> {
    let failed = |reason: String| ProxyError::Listen { address: address.to_owned(), resolved: false, reason };
    if address.is_empty() {
        return Ok((Ipv4Addr::LOCALHOST, 0).into());
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(|| failed("missing port in address".to_owned()))?;
    if host.is_empty() {
        let port = port.parse().map_err(|_| failed("invalid port".to_owned()))?;
        return Ok((IpAddr::from(Ipv6Addr::UNSPECIFIED), port).into());
    }
    let mut found: Vec<SocketAddr> = lookup_host(address).await.map_err(|error| failed(error.to_string()))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| failed("no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_address_in_other_words_is_the_same() {
        let mut listen = ListenAddress::new("localhost:0".to_owned());
        let listener = listen.bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for same in ["localhost:0", "127.0.0.1:0", &format!("127.0.0.1:{port}"), &format!("localhost:{port}")] {
            assert!(listen.is(same).await.unwrap(), "{same} is {}", listen.shown());
        }
        for other in ["127.0.0.2:0", &format!("127.0.0.2:{port}"), "127.0.0.1:1"] {
            assert!(!listen.is(other).await.unwrap(), "{other} is not {}", listen.shown());
        }
    }

    #[tokio::test]
    async fn an_explicit_port_is_not_exchanged_for_any_free_one() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut listen = ListenAddress::new(free.to_string());
        let _listener = listen.bind().await.unwrap();
        assert!(!listen.is("127.0.0.1:0").await.unwrap());
    }

    #[tokio::test]
    async fn an_address_without_port_is_refused_in_the_words_of_toxiproxy() {
        let error = ListenAddress::new("local373".to_owned()).bind().await.unwrap_err();
        assert_eq!(error.to_string(), "listen tcp: address local373: missing port in address");
    }

    #[tokio::test]
    async fn a_taken_port_is_refused_in_the_words_of_toxiproxy() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = ListenAddress::new(address.to_string()).bind().await.unwrap_err();
        assert_eq!(error.to_string(), format!("listen tcp {address}: bind: address already in use"));
    }
}
