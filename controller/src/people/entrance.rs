//! Under which names this Kennel is reached, and what it was told about people when it was started.

use std::net::SocketAddr;
use std::str::FromStr;

use axum::http::Uri;
use kennel_accounts::secret::Secret;
use kennel_accounts::sign_on;

/// What the server knows when it opens its doors.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    /// The address it listens on.
    pub bound: Option<SocketAddr>,
    /// What browsers call it, where that is not its address: behind a proxy, with a name.
    pub public_url: Option<PublicUrl>,
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

    /// Whether browsers reach it over TLS only, so that cookies never need to go without.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.secure)
    }

    /// Its address as browsers know it; `host` is what a request called it.
    #[must_use]
    pub fn origin(&self, host: &str) -> String {
        match &self.public_url {
            Some(url) => url.origin(),
            None => format!("http://{host}"),
        }
    }

    /// Name of the session's cookie. Browsers send cookies to every port of a host, so each port has its own.
    pub(crate) fn cookie(&self) -> String {
        match (self.is_secure(), self.bound) {
            // Browsers accept this prefix only over TLS, for this very host and its root.
            (true, _) => "__Host-kennel".to_owned(),
            (false, Some(bound)) => format!("kennel-{}", bound.port()),
            (false, None) => "kennel".to_owned(),
        }
    }
}

/// An address such as `https://kennel.example.org`: scheme and host, perhaps a port, no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    secure: bool,
    /// Host and port as browsers send it.
    authority: String,
}

/// A text that is no public address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no address of a Kennel; expected is one without path, such as https://kennel.example.org", text.escape_debug())]
pub struct WrongUrl {
    text: String,
}

impl PublicUrl {
    /// The address: scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }

    /// Host and port as browsers send it.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for PublicUrl {
    type Err = WrongUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || WrongUrl { text: text.to_owned() };
        let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let usual = if secure { ":443" } else { ":80" };
        let authority = authority.as_str().to_ascii_lowercase();
        Ok(Self { secure, authority: authority.strip_suffix(usual).unwrap_or(&authority).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_a_scheme_and_a_host() {
        let origin = |text: &str| text.parse::<PublicUrl>().map(|url| url.origin());
        assert_eq!(origin("https://Kennel.example.org/"), Ok("https://kennel.example.org".to_owned()));
        assert_eq!(origin("https://kennel.example.org:443"), Ok("https://kennel.example.org".to_owned()));
        assert_eq!(origin("http://10.0.0.7:7676"), Ok("http://10.0.0.7:7676".to_owned()));
        for wrong in ["kennel.example.org", "ftp://a", "https://a/b", "https://a?b", "https://u@a", "", "https://"] {
            let error = origin(wrong).unwrap_err().to_string();
            assert!(error.contains("such as https://kennel.example.org"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_cookie_is_bound_to_its_host_over_tls_and_to_its_port_otherwise() {
        let bound = Some("127.0.0.1:7676".parse().unwrap());
        assert_eq!(Entrance::at(bound).cookie(), "kennel-7676");
        let public_url = Some("https://kennel.example.org".parse().unwrap());
        assert_eq!(Entrance { public_url, ..Entrance::at(bound) }.cookie(), "__Host-kennel");
    }
}
