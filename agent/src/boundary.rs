//! The boundary of a target: which addresses may be reached. Everything that opens a connection asks here first.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kennel_model::experiment::host_and_port;
use kennel_model::target::{HostRule, Target};
use reqwest::Url;

/// The addresses that a target declares, resolved when the run was prepared.
#[derive(Debug, Clone)]
pub struct Boundary {
    target: String,
    rules: Vec<(HostRule, Vec<IpAddr>)>,
}

/// Why an address may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoundaryError {
    /// The name has no address.
    #[error("cannot resolve `{host}`: {cause}; check the target's declaration or this host's resolver")]
    Unresolvable {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// The address is not declared.
    #[error(
        "{address} (for `{url}`) is outside target `{target}`: its allowed_hosts do not cover it; nothing was sent"
    )]
    Outside {
        /// The address after resolution.
        address: SocketAddr,
        /// What led there.
        url: String,
        /// Name of the target.
        target: String,
    },
    /// The URL cannot be used.
    #[error("`{url}` cannot be used: {problem}")]
    BadUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Boundary {
    /// Resolves the hosts that a target declares.
    ///
    /// # Errors
    /// When one of them has no address.
    pub async fn of(target: &Target) -> Result<Self, BoundaryError> {
        let mut rules = Vec::new();
        for rule in target.host_rules() {
            let addresses = resolve(&rule.host, rule.port.unwrap_or(0)).await?;
            rules.push((rule, addresses.into_iter().map(|address| address.ip()).collect()));
        }
        Ok(Self { target: target.name.clone(), rules })
    }

    /// Whether a resolved address is declared.
    #[must_use]
    pub fn allows(&self, address: SocketAddr) -> bool {
        self.rules.iter().any(|(rule, resolved)| rule.matches_address(resolved, address.ip(), address.port()))
    }

    /// Resolves a URL's host and refuses it unless every address it may lead to is declared.
    ///
    /// # Errors
    /// When the host is unknown or outside the target.
    pub async fn addresses(&self, url: &str) -> Result<Vec<SocketAddr>, BoundaryError> {
        let (host, port) = host_and_port(url).ok_or_else(|| BoundaryError::BadUrl {
            url: url.to_owned(),
            problem: "it is no http:// URL with a host",
        })?;
        let addresses = resolve(&host, port).await?;
        for address in &addresses {
            if !self.allows(*address) {
                return Err(BoundaryError::Outside {
                    address: *address,
                    url: url.to_owned(),
                    target: self.target.clone(),
                });
            }
        }
        Ok(addresses)
    }

    /// An HTTP client that can reach nothing but this URL's checked addresses: no proxy, no redirect, no other name.
    ///
    /// # Errors
    /// When the URL leads outside the target.
    pub async fn http_client(&self, url: &str, timeout: Duration) -> Result<(reqwest::Client, Url), BoundaryError> {
        let bad = |problem| BoundaryError::BadUrl { url: url.to_owned(), problem };
        let addresses = self.addresses(url).await?;
        let parsed = Url::parse(url).map_err(|_| bad("it is malformed"))?;
        let host = parsed.host_str().ok_or_else(|| bad("it has no host"))?;
        // Two parsers read URLs here, and what one checked must be what the other connects to.
        let checked = host_and_port(url).ok_or_else(|| bad("it is no http:// URL with a host"))?;
        let same_host = host.trim_matches(['[', ']']).eq_ignore_ascii_case(&checked.0);
        if !same_host || parsed.port_or_known_default() != Some(checked.1) {
            return Err(bad("its host can be read in two ways"));
        }
        let mut builder = reqwest::Client::builder();
        if parsed.scheme() == "http" {
            // Without this a machine that has no certificates could not ask what is not encrypted either.
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(host, &addresses)
            .timeout(timeout)
            .build()
            .map_err(|_| bad("this machine has no certificates to trust; install its ca-certificates, or name a file of them in SSL_CERT_FILE where the agent runs"))?;
        Ok((client, parsed))
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, BoundaryError> {
    let fail = |cause: String| BoundaryError::Unresolvable { host: host.to_owned(), cause };
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(|e| fail(e.to_string()))?.collect();
    if found.is_empty() { Err(fail("no address".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(allowed: &[&str]) -> Target {
        serde_json::from_value(serde_json::json!({
            "name": "t", "base_url": "http://127.0.0.1:80", "allowed_hosts": allowed,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn names_are_compared_by_the_addresses_they_resolve_to() {
        let boundary = Boundary::of(&target(&["127.0.0.1:8080"])).await.unwrap();
        assert!(boundary.allows("127.0.0.1:8080".parse().unwrap()));
        assert!(!boundary.allows("127.0.0.1:8081".parse().unwrap()));
        assert!(!boundary.allows("127.0.0.2:8080".parse().unwrap()));
        let error = boundary.addresses("http://127.0.0.2:8080/x").await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.2:8080") && error.contains("outside target `t`"), "{error}");
    }

    #[tokio::test]
    async fn a_host_without_port_allows_every_port() {
        let boundary = Boundary::of(&target(&["127.0.0.1"])).await.unwrap();
        assert!(boundary.addresses("http://127.0.0.1:9").await.is_ok());
    }

    #[tokio::test]
    async fn a_url_that_two_parsers_read_differently_is_refused() {
        let boundary = Boundary::of(&target(&["127.0.0.1:8080"])).await.unwrap();
        let twisted = "http://10.0.0.5\\@127.0.0.1:8080/";
        let error = boundary.http_client(twisted, Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.contains("two ways") || error.contains("outside"), "{error}");
    }

    #[tokio::test]
    async fn a_name_without_address_is_named() {
        let error = Boundary::of(&target(&["no-such-host.invalid"])).await.unwrap_err().to_string();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
}
