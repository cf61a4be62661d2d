//! Where a channel leads: checking what somebody wrote, keeping secrets that are not given again, showing all but them,
//! and giving a message the form that the other side reads.

use kennel_model::api::{DestinationView, MailSecurity, Secret, WriteDestination};
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::mail;
use crate::message::Message;
use crate::problem::{FieldProblems, Findings};
use crate::signature::Key;

/// Longest name of a channel, in characters.
const LONGEST_NAME: usize = 100;
/// Most people that one channel's mail goes to.
const MOST_RECIPIENTS: usize = 50;

/// Where a channel leads, with its secrets; as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Destination {
    /// Signed JSON to an address.
    Webhook {
        /// Where to post.
        url: Secret,
        /// What to sign with.
        secret: Secret,
    },
    /// Slack, or whatever understands its incoming webhooks.
    Slack {
        /// Where to post.
        url: Secret,
    },
    /// Mail over SMTP.
    Email(Mailing),
}

/// How mail goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailing {
    /// Name or address of the mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: MailSecurity,
    /// Name to log in with; empty for none.
    pub username: String,
    /// Password to log in with.
    pub password: Option<Secret>,
    /// Sender.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// A message cannot be given the form that a channel speaks.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The mail cannot be written.
    #[error("the mail cannot be written: {0}")]
    Mail(#[from] mail::WriteError),
    /// The HTML cannot be written.
    #[error("the HTML cannot be written: {0}")]
    Html(#[from] askama::Error),
}

/// Checks the name of a channel.
///
/// # Errors
/// A sentence, when it cannot be one.
pub fn check_name(name: &str) -> Result<String, String> {
    let name = crate::message::line(name);
    match name.chars().count() {
        0 => Err("a channel needs a name, such as `on-call`".to_owned()),
        count if count > LONGEST_NAME => {
            Err(format!("{count} characters are too long for a name; expected at most {LONGEST_NAME}"))
        }
        _ => Ok(name),
    }
}

impl Destination {
    /// Reads what somebody wrote; secrets that are absent are those of `before`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(name: &str, written: WriteDestination, before: Option<&Self>) -> Result<(String, Self), FieldProblems> {
        let mut findings = Findings::default();
        let name = findings.take("name", check_name(name)).unwrap_or_default();
        let destination = match written {
            WriteDestination::Webhook { url, secret } => {
                let (old_url, old_secret) = match before {
                    Some(Self::Webhook { url, secret }) => (Some(url), Some(secret)),
                    _ => (None, None),
                };
                let url = post_address(&mut findings, given(url), old_url, "https://ci.example.org/hooks/kennel");
                let secret = match (given(secret), old_secret) {
                    (Some(secret), _) => Some(Secret(secret.0.trim().to_owned())),
                    (None, old) => old.cloned(),
                };
                let secret = secret.unwrap_or_else(|| Secret(String::new()));
                findings.take("destination.secret", Key::read(&secret.0).map_err(|error| error.to_string()));
                Self::Webhook { url, secret }
            }
            WriteDestination::Slack { url } => {
                let old = if let Some(Self::Slack { url }) = before { Some(url) } else { None };
                let example = "https://hooks.slack.com/services/…";
                Self::Slack { url: post_address(&mut findings, given(url), old, example) }
            }
            WriteDestination::Email { host, port, security, username, password, from, to } => {
                let old = if let Some(Self::Email(mailing)) = before { mailing.password.clone() } else { None };
                let mailing = Mailing {
                    host: host.trim().to_owned(),
                    port: port.unwrap_or(match security {
                        MailSecurity::Starttls => 587,
                        MailSecurity::Tls => 465,
                        MailSecurity::Plain => 25,
                    }),
                    security,
                    password: if username.trim().is_empty() { None } else { given(password).or(old) },
                    username: username.trim().to_owned(),
                    from: from.trim().to_owned(),
                    to: to.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect(),
                };
                check_mailing(&mut findings, &mailing);
                Self::Email(mailing)
            }
        };
        findings.or(|| (name, destination))
    }

    /// All but its secrets.
    #[must_use]
    pub fn view(&self) -> DestinationView {
        match self {
            Self::Webhook { url, .. } => DestinationView::Webhook { address: shown(url, true) },
            Self::Slack { url } => DestinationView::Slack { address: shown(url, false) },
            Self::Email(mailing) => DestinationView::Email {
                host: mailing.host.clone(),
                port: mailing.port,
                security: mailing.security,
                username: mailing.username.clone(),
                has_password: mailing.password.is_some(),
                from: mailing.from.clone(),
                to: mailing.to.clone(),
            },
        }
    }

    /// The body that carries a message, exactly as it goes over the wire.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn render(&self, message: &Message, id: &str, public_url: Option<&str>) -> Result<String, RenderError> {
        match self {
            Self::Webhook { .. } => Ok(message.json(id, public_url).to_string()),
            Self::Slack { .. } => Ok(message.slack(public_url).to_string()),
            Self::Email(mailing) => mail::write(mailing, message, id, public_url),
        }
    }
}

/// A secret that was given: an empty field of a form is none.
fn given(secret: Option<Secret>) -> Option<Secret> {
    secret.filter(|secret| !secret.0.trim().is_empty())
}

fn post_address(findings: &mut Findings, given: Option<Secret>, old: Option<&Secret>, example: &str) -> Secret {
    let Some(url) = given.or_else(|| old.cloned()) else {
        findings.add("destination.url", format!("an address is missing; expected one such as `{example}`"));
        return Secret(String::new());
    };
    let text = url.0.trim();
    let wrong = match Url::parse(text) {
        Err(error) => Some(format!("this is no address ({error}); expected one such as `{example}`")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some(format!(
            "`{}` is not spoken here; expected an address that begins with https:// or http://",
            url.scheme()
        )),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("an address with a password in it ends up in logs; leave it out".to_owned())
        }
        Ok(url) => forbidden(&url),
    };
    if let Some(wrong) = wrong {
        findings.add("destination.url", wrong);
    }
    Secret(text.to_owned())
}

/// Why an address that is written as a number can never be posted to. Names are looked at when they are resolved.
fn forbidden(url: &Url) -> Option<String> {
    let address = match url.host()? {
        url::Host::Ipv4(address) => address.into(),
        url::Host::Ipv6(address) => address.into(),
        url::Host::Domain(_) => return None,
    };
    match crate::address::reach(address) {
        crate::address::Reach::Never(what) => Some(format!("{address} is {what}: notifications are never sent there")),
        _ => None,
    }
}

fn check_mailing(findings: &mut Findings, mailing: &Mailing) {
    if url::Host::parse(&mailing.host).is_err() {
        findings.add(
            "destination.host",
            format!("`{}` is no name of a server; expected one such as `mail.example.org`", mailing.host),
        );
    }
    if mailing.port == 0 {
        findings.add("destination.port", "0 is no port; expected 1 to 65535");
    }
    if !mailing.username.is_empty() && mailing.password.is_none() {
        findings.add("destination.password", "a name to log in with needs a password");
    }
    if !mailing.username.is_empty() && mailing.security == MailSecurity::Plain {
        findings.add(
            "destination.security",
            "a password must not travel in the clear; choose STARTTLS or TLS, or leave the user name out",
        );
    }
    if let Err(error) = mailing.from.parse::<Mailbox>() {
        findings.add(
            "destination.from",
            format!("`{}` is no sender ({error}); expected one such as `Kennel <kennel@example.org>`", mailing.from),
        );
    }
    match mailing.to.len() {
        0 => {
            findings.add("destination.to", "somebody must get the mail; expected an address such as `team@example.org`")
        }
        count if count > MOST_RECIPIENTS => {
            findings.add(
                "destination.to",
                format!("{count} recipients are too many; expected at most {MOST_RECIPIENTS}: use a mailing list"),
            );
        }
        _ => {}
    }
    for to in &mailing.to {
        if let Err(error) = to.parse::<Mailbox>() {
            findings.add("destination.to", format!("`{to}` is no mail address ({error})"));
        }
    }
}

/// An address without what lets one post there: never the query, and the path only where it is no secret.
fn shown(url: &Secret, with_path: bool) -> String {
    let Ok(url) = Url::parse(&url.0) else { return String::new() };
    let mut text = url.origin().ascii_serialization();
    text.push_str(if with_path { url.path() } else { "/…" });
    if with_path && url.query().is_some() {
        text.push_str("?…");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret(text.to_owned()))
    }

    fn webhook(url: Option<Secret>, secret: Option<Secret>) -> WriteDestination {
        WriteDestination::Webhook { url, secret }
    }

    fn email(username: &str, security: MailSecurity, password: Option<Secret>) -> WriteDestination {
        WriteDestination::Email {
            host: "mail.example.org".to_owned(),
            port: None,
            security,
            username: username.to_owned(),
            password,
            from: "Kennel <kennel@example.org>".to_owned(),
            to: vec!["ada@example.org".to_owned(), " ".to_owned()],
        }
    }

    fn fields(written: WriteDestination) -> Vec<&'static str> {
        Destination::read("ops", written, None).unwrap_err().0.iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn secrets_are_kept_when_they_are_not_given_again_and_never_shown() {
        let written = webhook(secret("https://ci.example/hook?token=t0p"), secret(SECRET));
        let (_, first) = Destination::read("ops", written, None).unwrap();
        let (name, kept) = Destination::read(" new\nname ", webhook(None, secret("")), Some(&first)).unwrap();
        assert_eq!((name.as_str(), &kept), ("new name", &first));
        let told = format!("{:?} {}", first, serde_json::to_string(&first.view()).unwrap());
        assert!(!told.contains("t0p") && !told.contains("MfKQ"), "{told}");
        assert!(told.contains("https://ci.example/hook?…"), "{told}");

        let (_, slack) = Destination::read(
            "s",
            WriteDestination::Slack { url: secret("https://hooks.slack.example/services/T/B/x") },
            None,
        )
        .unwrap();
        assert_eq!(slack.view().place(), "https://hooks.slack.example/…");
        // What belongs to another kind is not taken over.
        assert!(Destination::read("s", WriteDestination::Slack { url: None }, Some(&first)).is_err());
    }

    #[test]
    fn addresses_that_cannot_be_posted_to_are_told() {
        for url in [
            "",
            "ci.example",
            "ftp://ci.example",
            "https://me:pw@ci.example/",
            "http://169.254.169.254/latest",
            "http://0xa9fea9fe/",
            "http://[fe80::1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://0/",
        ] {
            assert_eq!(fields(webhook(secret(url), secret(SECRET))), ["destination.url"], "{url}");
        }
        assert_eq!(fields(webhook(None, None)), ["destination.url", "destination.secret"]);
    }

    #[test]
    fn passwords_do_not_travel_in_the_clear() {
        let (_, plain) = Destination::read("m", email("", MailSecurity::Plain, secret("unused")), None).unwrap();
        assert!(matches!(&plain, Destination::Email(Mailing { port: 25, password: None, .. })));
        assert_eq!(fields(email("kennel", MailSecurity::Plain, secret("pw"))), ["destination.security"]);
        assert_eq!(fields(email("kennel", MailSecurity::Tls, None)), ["destination.password"]);
        let (_, tls) = Destination::read("m", email("kennel", MailSecurity::Tls, secret("pw")), None).unwrap();
        let (_, kept) = Destination::read("m", email("kennel", MailSecurity::Starttls, None), Some(&tls)).unwrap();
        assert!(matches!(kept, Destination::Email(Mailing { port: 587, password: Some(_), .. })));
    }

    #[test]
    fn mail_headers_cannot_be_smuggled_in() {
        let mut written = email("", MailSecurity::Plain, None);
        if let WriteDestination::Email { from, to, host, .. } = &mut written {
            *from = "Kennel <k@example.org>\r\nBcc: all@example.org".to_owned();
            *to = vec!["a@example.org\nRCPT TO:<b@example.org>".to_owned()];
            *host = "mail example".to_owned();
        }
        assert_eq!(fields(written), ["destination.host", "destination.from", "destination.to"]);
    }
}
