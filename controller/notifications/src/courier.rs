//! Carries what is to be sent to where a channel leads, once, and says what came of it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::address::{Resolve, system};
use crate::destination::Destination;
use crate::signature::Key;
use crate::webhook::{Answer, PostError};
use crate::{mail, webhook};

/// Carries deliveries. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    resolve: Resolve,
    roots: Vec<CertificateDer<'static>>,
    tls: Arc<ClientConfig>,
}

/// No encrypted connections are possible.
#[derive(Debug, thiserror::Error)]
#[error("the certificates that this system trusts cannot be read: {0}")]
pub struct NoTrust(#[from] rustls::Error);

/// Something to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// Its identity, the same at every attempt.
    pub id: &'a str,
    /// Where it goes.
    pub destination: &'a Destination,
    /// Whether loopback and private addresses may be reached.
    pub allow_private_addresses: bool,
    /// What is sent.
    pub body: &'a str,
    /// The present moment.
    pub now: Timestamp,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How it ended.
    pub end: End,
    /// Status of the answer: of HTTP, or of SMTP.
    pub code: Option<u16>,
    /// What the other side said, or why it could not be reached.
    pub answer: String,
    /// Headers as they were sent; empty for mail.
    pub head: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other side took it.
    Sent,
    /// It may be taken later; after this time, where the other side says so.
    Again(Option<Duration>),
    /// It will never be taken.
    Never,
}

impl Courier {
    /// A courier who trusts the certificates that the system trusts.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn new() -> Result<Self, NoTrust> {
        Self::trusting(Vec::new(), system())
    }

    /// A courier who trusts these authorities too, and resolves names this way.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn trusting(roots: Vec<CertificateDer<'static>>, resolve: Resolve) -> Result<Self, NoTrust> {
        // Given by hand: another crate of the same program may have chosen another one as its default.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots.clone(), Arc::clone(&provider))?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { resolve, roots, tls: Arc::new(tls) })
    }

    /// Makes one attempt.
    pub async fn deliver(&self, parcel: Parcel<'_>) -> Attempt {
        match parcel.destination {
            Destination::Webhook { url, secret } => {
                let Ok(key) = Key::read(&secret.0) else {
                    return never("the channel's signing secret cannot be read; give it a new one");
                };
                let timestamp = parcel.now.as_second().to_string();
                let signature = key.sign(parcel.id, parcel.now, parcel.body);
                let signed = [
                    ("webhook-id", parcel.id),
                    ("webhook-timestamp", timestamp.as_str()),
                    ("webhook-signature", signature.as_str()),
                ];
                self.post(&url.0, &signed, parcel).await
            }
            Destination::Slack { url } => self.post(&url.0, &[], parcel).await,
            Destination::Email(mailing) => {
                let sent =
                    mail::send(mailing, parcel.body, parcel.allow_private_addresses, &self.resolve, &self.roots).await;
                match sent {
                    Ok((code, answer)) => Attempt { end: End::Sent, code: Some(code), answer, head: String::new() },
                    Err(error) => Attempt {
                        end: if error.is_final() { End::Never } else { End::Again(None) },
                        code: error.code(),
                        answer: error.to_string(),
                        head: String::new(),
                    },
                }
            }
        }
    }

    async fn post(&self, url: &str, signed: &[(&'static str, &str)], parcel: Parcel<'_>) -> Attempt {
        let headers = webhook::headers(signed);
        let head = webhook::shown(&headers);
        let allow = parcel.allow_private_addresses;
        let posted = webhook::post(url, headers, parcel.body, allow, &self.resolve, &self.tls).await;
        Attempt { head, ..answered(posted) }
    }
}

fn never(why: &str) -> Attempt {
    Attempt { end: End::Never, code: None, answer: why.to_owned(), head: String::new() }
}

fn answered(posted: Result<Answer, PostError>) -> Attempt {
    let answer = match posted {
        Ok(answer) => answer,
        Err(error) => {
            let end = if error.is_final() { End::Never } else { End::Again(None) };
            return Attempt { end, code: None, answer: error.to_string(), head: String::new() };
        }
    };
    let code = Some(answer.status.as_u16());
    let (end, text) = if answer.status.is_success() {
        (End::Sent, answer.text)
    } else if answer.status.is_redirection() {
        let to = answer.location.unwrap_or_else(|| "another address".to_owned());
        (End::Never, format!("it redirects to {to}; redirects are not followed: give the channel the final address"))
    } else if answer.status == StatusCode::GONE {
        (End::Never, format!("the receiver is gone for good. {}", answer.text))
    } else {
        (End::Again(answer.retry_after), answer.text)
    };
    Attempt { end, code, answer: text, head: String::new() }
}
