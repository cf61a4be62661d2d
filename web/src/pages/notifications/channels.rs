//! The form of a channel, new or known, and the button that tries one out. What is secret is never filled in again.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use kennel_controller::Caller;
use kennel_model::api::{
    ChannelKind, ChannelView, DestinationView, MailSecurity, Secret, WriteChannel, WriteDestination,
};
use serde::Deserialize;

use super::{broken, form_errors};
use crate::Web;
use crate::form_errors::FormErrors;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

#[derive(Template)]
#[template(path = "notifications/channel.html")]
struct ChannelPage {
    layout: Layout,
    /// The channel as it is kept; absent for a new one.
    known: Option<ChannelView>,
    kind: ChannelKind,
    written: Written,
    errors: FormErrors,
}

impl ChannelPage {
    /// What stands in the place of an address that is kept and not shown whole.
    fn kept_address(&self) -> String {
        match self.known.as_ref().map(|channel| &channel.destination) {
            Some(DestinationView::Webhook { address } | DestinationView::Slack { address }) => address.clone(),
            _ => String::new(),
        }
    }

    fn address_hint(&self) -> String {
        let kept = self.kept_address();
        match (kept.is_empty(), self.kind) {
            (false, _) => format!("Leave it empty to keep {kept}"),
            (true, ChannelKind::Slack) => "The address that Slack gives you under “Incoming Webhooks”".to_owned(),
            (true, _) => "Where Kennel posts, such as https://ci.example.org/hooks/kennel".to_owned(),
        }
    }

    fn secret_hint(&self) -> &'static str {
        if self.kept_address().is_empty() {
            "whsec_ and 24 to 64 random bytes in base64. Make one: echo whsec_$(openssl rand -base64 32)"
        } else {
            "Leave it empty to keep the one that is set"
        }
    }

    fn password_hint(&self) -> &'static str {
        match self.known.as_ref().map(|channel| &channel.destination) {
            Some(DestinationView::Email { has_password: true, .. }) => "Leave it empty to keep the one that is set",
            _ => "Only with a user name",
        }
    }

    fn action(&self) -> String {
        self.known.as_ref().map_or_else(
            || "/notifications/channels".to_owned(),
            |channel| format!("/notifications/channels/{}", channel.id),
        )
    }

    /// The same by the API.
    fn command(&self) -> String {
        let destination = match self.kind {
            ChannelKind::Webhook => {
                r#"{"kind": "webhook", "url": "https://ci.example.org/hooks/kennel", "secret": "whsec_…"}"#
            }
            ChannelKind::Slack => r#"{"kind": "slack", "url": "https://hooks.slack.com/services/…"}"#,
            ChannelKind::Email => {
                r#"{"kind": "email", "host": "mail.example.org", "from": "kennel@example.org", "to": ["team@example.org"]}"#
            }
        };
        let (method, path) = match &self.known {
            Some(channel) => ("PUT", format!("/channels/{}", channel.id)),
            None => ("POST", "/channels".to_owned()),
        };
        format!(
            "curl -X {method} {}/api/v1/notifications{path} -H 'content-type: application/json' \\\n  -d '{{\"name\": \"on-call\", \"destination\": {destination}}}'",
            self.layout.origin()
        )
    }
}

/// What the form sends.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Written {
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    secret: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    port: String,
    #[serde(default)]
    security: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    allow_private: Option<String>,
    #[serde(default)]
    enabled: Option<String>,
}

impl Written {
    /// A channel as the form shows it.
    fn of(channel: &ChannelView) -> Self {
        let mut written = Self {
            name: channel.name.clone(),
            allow_private: channel.allow_private_addresses.then(|| "on".to_owned()),
            enabled: channel.enabled.then(|| "on".to_owned()),
            ..Self::default()
        };
        if let DestinationView::Email { host, port, security, username, from, to, .. } = &channel.destination {
            written.host.clone_from(host);
            written.port = port.to_string();
            written.security = security.to_string();
            written.username.clone_from(username);
            written.from.clone_from(from);
            written.to = to.join("\n");
        }
        written
    }

    fn kind(&self) -> ChannelKind {
        self.kind.parse().unwrap_or(ChannelKind::Webhook)
    }

    /// What was written, or what is wrong with a number in it.
    fn channel(&self, kind: ChannelKind) -> Result<WriteChannel, FormErrors> {
        let secret = |text: &str| Some(Secret(text.to_owned()));
        let destination = match kind {
            ChannelKind::Webhook => WriteDestination::Webhook { url: secret(&self.url), secret: secret(&self.secret) },
            ChannelKind::Slack => WriteDestination::Slack { url: secret(&self.url) },
            ChannelKind::Email => {
                let wrong = |_| {
                    let message =
                        format!("`{}` is no port; expected 1 to 65535, or nothing for the usual one", self.port);
                    FormErrors::from_iter([("destination.port", message)])
                };
                let port = Some(self.port.trim()).filter(|port| !port.is_empty());
                WriteDestination::Email {
                    host: self.host.clone(),
                    port: port.map(|port| port.parse().map_err(wrong)).transpose()?,
                    security: self.security.parse().unwrap_or_default(),
                    username: self.username.clone(),
                    password: secret(&self.password),
                    from: self.from.clone(),
                    to: self.to.split(['\n', ',', ';']).map(|to| to.trim().to_owned()).collect(),
                }
            }
        };
        Ok(WriteChannel {
            name: self.name.clone(),
            destination,
            allow_private_addresses: self.allow_private.is_some(),
            enabled: self.enabled.is_some(),
        })
    }
}

/// Which form to show.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    kind: String,
}

/// `GET /notifications/channels/new`
pub(super) async fn new(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let kind = wanted.kind.parse().unwrap_or(ChannelKind::Webhook);
    let written = Written { enabled: Some("on".to_owned()), ..Written::default() };
    form(&web, StatusCode::OK, None, kind, written, FormErrors::default())
}

/// `GET /notifications/channels/{id}`
pub(super) async fn edit(State(web): State<Web>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let channel = web.controller.channel(id).await.map_err(broken)?;
    let (kind, written) = (channel.destination.kind(), Written::of(&channel));
    form(&web, StatusCode::OK, Some(channel), kind, written, FormErrors::default())
}

fn form(
    web: &Web,
    status: StatusCode,
    known: Option<ChannelView>,
    kind: ChannelKind,
    written: Written,
    errors: FormErrors,
) -> Result<Response, Problem> {
    let layout = web.layout.at("settings");
    let page = ChannelPage { layout, known, kind, written, errors };
    Ok((status, fill(&page)?).into_response())
}

/// `POST /notifications/channels`
pub(super) async fn add(
    State(web): State<Web>,
    caller: Caller,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    save(&web, &caller, None, written).await
}

/// `POST /notifications/channels/{id}`
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    let known = web.controller.channel(id).await.map_err(broken)?;
    save(&web, &caller, Some(known), written).await
}

async fn save(web: &Web, caller: &Caller, known: Option<ChannelView>, written: Written) -> Result<Response, Problem> {
    let kind = known.as_ref().map_or_else(|| written.kind(), |channel| channel.destination.kind());
    let id = known.as_ref().map(|channel| channel.id);
    let errors = match written.channel(kind) {
        Ok(channel) => match web.controller.save_channel(caller, id, channel).await {
            Ok(_) => return Ok(Redirect::to("/notifications#channels").into_response()),
            Err(error) => form_errors(error)?,
        },
        Err(errors) => errors,
    };
    form(web, StatusCode::UNPROCESSABLE_ENTITY, known, kind, written, errors)
}

/// `POST /notifications/channels/{id}/test`: to what came of it.
pub(super) async fn test(State(web): State<Web>, caller: Caller, Path(id): Path<i64>) -> Result<Redirect, Problem> {
    let delivery = web.controller.try_channel(&caller, id).await.map_err(broken)?;
    Ok(Redirect::to(&format!("/notifications/deliveries/{}", delivery.id)))
}

/// `POST /notifications/channels/{id}/remove`
pub(super) async fn remove(State(web): State<Web>, caller: Caller, Path(id): Path<i64>) -> Result<Redirect, Problem> {
    web.controller.remove_channel(&caller, id).await.map_err(broken)?;
    Ok(Redirect::to("/notifications#channels"))
}
