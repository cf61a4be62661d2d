//! Mail: writing it, and handing it to a mail server over SMTP.

use std::time::Duration;

use kennel_model::api::MailSecurity;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::CertificateDer;

use crate::address::{Resolve, Unreachable, permitted};
use crate::destination::{Mailing, RenderError};
use crate::message::{Message, line};

/// How long each word of the mail server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mail cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An address is none.
    #[error("`{address}` is no mail address: {source}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: lettre::address::AddressError,
    },
    /// The parts make no mail.
    #[error(transparent)]
    Parts(#[from] lettre::error::Error),
}

fn mailbox(address: &str) -> Result<Mailbox, WriteError> {
    address.parse().map_err(|source| WriteError::Address { address: address.to_owned(), source })
}

/// The mail that carries a message: text and HTML, with an id that stays the same at every attempt.
///
/// # Errors
/// When an address is none.
pub(crate) fn write(
    mailing: &Mailing,
    message: &Message,
    id: &str,
    public_url: Option<&str>,
) -> Result<String, RenderError> {
    let from = mailbox(&mailing.from)?;
    let domain = from.email.domain().to_owned();
    let mut mail = lettre::Message::builder()
        .from(from)
        .subject(line(&message.title))
        .message_id(Some(format!("<{id}@{domain}>")))
        .date_now();
    for to in &mailing.to {
        mail = mail.to(mailbox(to)?);
    }
    let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(message.html(public_url)?);
    let parts = MultiPart::alternative().singlepart(SinglePart::plain(message.text(public_url))).singlepart(html);
    let mail = mail.multipart(parts).map_err(WriteError::Parts)?;
    Ok(String::from_utf8_lossy(&mail.formatted()).into_owned())
}

/// A mail server did not take a mail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// It cannot be reached, or must not be.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// An address is none.
    #[error(transparent)]
    Address(#[from] WriteError),
    /// It refused, broke off, or its certificate is not to be trusted.
    #[error("{}", told(.0))]
    Smtp(#[from] lettre::transport::smtp::Error),
}

/// An SMTP error with what caused it.
fn told(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl SendError {
    /// The status that the server answered with.
    pub(crate) fn code(&self) -> Option<u16> {
        if let Self::Smtp(error) = self { error.status().map(u16::from) } else { None }
    }

    /// Whether trying again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.is_final(),
            Self::Address(_) => true,
            Self::Smtp(error) => error.is_permanent(),
        }
    }
}

/// Hands a mail to its server; answers the server's code and words.
pub(crate) async fn send(
    mailing: &Mailing,
    mail: &str,
    allow_private: bool,
    resolve: &Resolve,
    roots: &[CertificateDer<'static>],
) -> Result<(u16, String), SendError> {
    let addresses = permitted(resolve, &mailing.host, mailing.port, allow_private).await?;
    let envelope = envelope(mailing)?;
    let tls = || {
        let mut tls = TlsParameters::builder(mailing.host.clone());
        for root in roots {
            tls = tls.add_root_certificate(Certificate::from_der(root.to_vec())?);
        }
        tls.build_rustls()
    };
    let hello = ClientId::default();
    let from_the_start = if mailing.security == MailSecurity::Tls { Some(tls()?) } else { None };
    // Addresses that were looked at: the name is not resolved again.
    let connecting = AsyncSmtpConnection::connect_tokio1(&addresses[..], Some(PATIENCE), &hello, from_the_start, None);
    let mut connection = connecting.await?;
    if mailing.security == MailSecurity::Starttls {
        connection.starttls(tls()?, &hello).await?;
    }
    if let Some(password) = &mailing.password {
        let credentials = Credentials::new(mailing.username.clone(), password.0.clone());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
    }
    let answer = connection.send(&envelope, mail.as_bytes()).await?;
    // The mail is taken: how the server says goodbye changes nothing. After a failure nothing more is said, for the
    // connection may be broken in the middle of becoming encrypted.
    let _ = connection.quit().await;
    let words: Vec<&str> = answer.message().collect();
    Ok((u16::from(answer.code()), line(&words.join(" "))))
}

fn envelope(mailing: &Mailing) -> Result<Envelope, SendError> {
    let from: Address = mailbox(&mailing.from)?.email;
    let to: Result<Vec<Address>, WriteError> = mailing.to.iter().map(|to| Ok(mailbox(to)?.email)).collect();
    Envelope::new(Some(from), to?).map_err(|error| WriteError::Parts(error).into())
}
