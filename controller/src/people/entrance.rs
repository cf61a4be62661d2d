//! Where this Kennel listens, and what it was told about people when it was started.

use std::net::SocketAddr;

use kennel_accounts::secret::Secret;
use kennel_accounts::sign_on;

/// What the server knows when it opens its doors.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    /// The address it listens on.
    pub bound: Option<SocketAddr>,
    /// What commands on this machine send to act as `local`; lies in a file that only its owner can read.
    pub local_secret: Option<Secret>,
    /// Single sign-on as given at start; it then cannot be changed in the browser.
    pub sign_on: Option<sign_on::Settings>,
    /// What the sign-on provider knows this Kennel by.
    pub client_secret: Option<Secret>,
}

impl Entrance {
    /// Reached at the address it is bound to, and nothing else known.
    #[must_use]
    pub fn at(bound: Option<SocketAddr>) -> Self {
        Self { bound, ..Self::default() }
    }

    /// Name of the session's cookie. Browsers send cookies to every port of a host, so each port has its own.
    pub(crate) fn cookie(&self, is_secure: bool) -> String {
        match (is_secure, self.bound) {
            // Browsers accept this prefix only over TLS, for this very host and its root.
            (true, _) => "__Host-kennel".to_owned(),
            (false, Some(bound)) => format!("kennel-{}", bound.port()),
            (false, None) => "kennel".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_bound_to_its_host_over_tls_and_to_its_port_otherwise() {
        let bound = Some("127.0.0.1:7676".parse().unwrap());
        assert_eq!(Entrance::at(bound).cookie(false), "kennel-7676");
        assert_eq!(Entrance::at(bound).cookie(true), "__Host-kennel");
    }
}
