//! The public URL: what browsers call this Kennel, where that is not the address it listens on. Links in messages and
//! commands to copy begin with it, the gate answers to its name, and over TLS cookies are kept to it.

use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

use axum::http::Uri;

use crate::store::StoreError;
use crate::{Caller, Controller};

/// An address such as `https://kennel.example.org`: scheme and host, perhaps a port, no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    secure: bool,
    /// Host and port as browsers send it.
    authority: String,
}

/// A text that is no public URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no address of a Kennel; expected one without a path, such as `https://kennel.example.org`", text.escape_debug())]
pub struct WrongUrl {
    text: String,
}

impl PublicUrl {
    /// The address: scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }

    /// Whether browsers reach it over TLS only, so that cookies never need to go without.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
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
        // What is behind a `#` is nothing that `Uri` tells of.
        if text.contains('#') {
            return Err(wrong());
        }
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

/// The public URL as far as it is known: given at start, else set in the browser.
#[derive(Debug)]
pub(crate) struct KnownUrl {
    given: Option<PublicUrl>,
    set: RwLock<Option<PublicUrl>>,
}

impl KnownUrl {
    /// `kept` is what was set before; what was given at start wins over it.
    pub(crate) fn new(given: Option<PublicUrl>, kept: Option<&str>) -> Self {
        let set = kept.and_then(|kept| {
            kept.parse().inspect_err(|error| tracing::warn!(%error, "the public URL that was set is not used")).ok()
        });
        Self { given, set: RwLock::new(set) }
    }

    /// The one that counts.
    pub(crate) fn get(&self) -> Option<PublicUrl> {
        self.given.clone().or_else(|| self.set.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Scheme and host of the one that counts.
    pub(crate) fn origin(&self) -> Option<String> {
        self.get().map(|url| url.origin())
    }
}

/// The public URL could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum PublicUrlError {
    /// It is none.
    #[error(transparent)]
    Wrong(#[from] WrongUrl),
    /// It was given at start.
    #[error("`{}` was given at start, by `--public-url` or KENNEL_PUBLIC_URL, and wins; change it there", given.origin())]
    Given {
        /// What was given.
        given: PublicUrl,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// What browsers call this Kennel, if that is known.
    #[must_use]
    pub fn public_url(&self) -> Option<PublicUrl> {
        self.inner.public_url.get()
    }

    /// Whether the public URL was given at start, so that it cannot be changed in the browser.
    #[must_use]
    pub fn is_public_url_given(&self) -> bool {
        self.inner.public_url.given.is_some()
    }

    /// This Kennel's address as browsers know it; `host` is what a request called it.
    #[must_use]
    pub fn origin(&self, host: &str) -> String {
        self.inner.public_url.origin().unwrap_or_else(|| format!("http://{host}"))
    }

    /// Keeps a public URL; an empty text forgets it. Whether cookies are kept to TLS follows at the next start.
    ///
    /// # Errors
    /// When it is none, another one was given at start, or the store fails.
    pub async fn set_public_url(&self, caller: &Caller, text: &str) -> Result<(), PublicUrlError> {
        let url = match text.trim() {
            "" => None,
            text => Some(text.parse::<PublicUrl>()?),
        };
        let known = &self.inner.public_url;
        if let Some(given) = &known.given {
            return if url.as_ref() == Some(given) {
                Ok(())
            } else {
                Err(PublicUrlError::Given { given: given.clone() })
            };
        }
        let origin = url.as_ref().map(PublicUrl::origin);
        self.inner.store.keep_public_url(origin.as_deref()).await?;
        *known.set.write().unwrap_or_else(PoisonError::into_inner) = url;
        self.record(caller, "set the public URL", "settings", origin.as_deref().unwrap_or("none")).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_scheme_and_a_host() {
        let origin = |text: &str| text.parse::<PublicUrl>().map(|url| url.origin());
        assert_eq!(origin("https://Kennel.example.org/"), Ok("https://kennel.example.org".to_owned()));
        assert_eq!(origin("https://kennel.example.org:443"), Ok("https://kennel.example.org".to_owned()));
        assert_eq!(origin("http://10.0.0.7:7676"), Ok("http://10.0.0.7:7676".to_owned()));
        for wrong in [
            "kennel.example.org",
            "ftp://a",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://u:p@a",
            "mailto:a@b",
            "javascript:alert(1)",
            "",
            "https://",
        ] {
            let error = origin(wrong).unwrap_err().to_string();
            assert!(error.contains("such as `https://kennel.example.org`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_was_given_at_start_wins() {
        let given = || Some("https://given.example".parse().unwrap());
        assert_eq!(KnownUrl::new(given(), Some("https://set.example")).origin().unwrap(), "https://given.example");
        assert_eq!(KnownUrl::new(None, Some("https://set.example")).origin().unwrap(), "https://set.example");
        assert_eq!(KnownUrl::new(None, Some("https://set.example/path")).origin(), None);
    }
}
