//! Channels, rules and deliveries. Secrets only ever go in: no view holds one.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::run::RunId;
use crate::words::words;

words! {
    /// Something that people may want to be told.
    NotificationEvent {
        /// What last passed, or never ran before, failed.
        FirstFailure = "first-failure",
        /// A run failed, whatever the one before did.
        EveryFailure = "every-failure",
        /// What last failed passed.
        Recovery = "recovery",
        /// A test fails or an objective is missed that did not in the run before.
        Regression = "regression",
        /// A run could not be carried out, though the one before could.
        RunError = "run-error",
        /// A schedule was due and nothing ran.
        MissedSchedule = "missed-schedule",
        /// A digest.
        Digest = "digest",
        /// Somebody tries a channel out.
        Test = "test",
    }
}

impl NotificationEvent {
    /// What a rule may ask for; the others come about by themselves.
    pub const CHOICES: [Self; 6] = [
        Self::FirstFailure,
        Self::EveryFailure,
        Self::Recovery,
        Self::Regression,
        Self::RunError,
        Self::MissedSchedule,
    ];

    /// As people say it of all of them.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::FirstFailure => "first failures",
            Self::EveryFailure => "every failure",
            Self::Recovery => "recoveries",
            Self::Regression => "regressions",
            Self::RunError => "run errors",
            Self::MissedSchedule => "missed schedules",
            Self::Digest => "digests",
            Self::Test => "tests",
        }
    }

    /// As people say it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::FirstFailure => "first failure",
            Self::EveryFailure => "every failure",
            Self::Recovery => "recovery",
            Self::Regression => "regression",
            Self::RunError => "run error",
            Self::MissedSchedule => "missed schedule",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

words! {
    /// What a notification is about.
    NotificationSubject {
        /// A suite.
        Suite = "suite",
        /// An experiment that ran by itself.
        Experiment = "experiment",
        /// A schedule.
        Schedule = "schedule",
        /// Everything that a rule covers.
        Everything = "everything",
    }
}

words! {
    /// How a channel speaks.
    ChannelKind {
        /// Signed JSON to an address of your own.
        Webhook = "webhook",
        /// Slack, or whatever understands its incoming webhooks (Mattermost, Rocket.Chat, Discord's `/slack`).
        Slack = "slack",
        /// Mail over SMTP.
        Email = "email",
    }
}

words! {
    /// How a mail server is spoken to.
    #[derive(Default)]
    MailSecurity {
        /// In plain text at first, encrypted before anything is said; port 587.
        #[default]
        Starttls = "starttls",
        /// Encrypted from the first byte; port 465.
        Tls = "tls",
        /// Not encrypted; for a relay on the same machine, port 25.
        Plain = "plain",
    }
}

words! {
    /// Where a delivery is in its life.
    DeliveryState {
        /// To be sent when its time comes.
        Waiting = "waiting",
        /// The other side took it.
        Sent = "sent",
        /// Given up.
        Failed = "failed",
    }
}

words! {
    /// A day of the week.
    #[derive(Default)]
    Weekday {
        /// The first.
        #[default]
        Monday = "monday",
        /// The second.
        Tuesday = "tuesday",
        /// The third.
        Wednesday = "wednesday",
        /// The fourth.
        Thursday = "thursday",
        /// The fifth.
        Friday = "friday",
        /// The sixth.
        Saturday = "saturday",
        /// The seventh.
        Sunday = "sunday",
    }
}

/// A text that no log, view or message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A place where notifications go, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteChannel {
    /// Its name, unique.
    pub name: String,
    /// Where it leads.
    pub destination: WriteDestination,
    /// Whether it may reach loopback and private addresses, where other services of yours may listen.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Whether it is in use.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// Where a channel leads. When a channel is changed, what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WriteDestination {
    /// Signed JSON to an address of your own.
    Webhook {
        /// Where to post.
        #[serde(default)]
        url: Option<Secret>,
        /// What to sign with: `whsec_` and 24 to 64 bytes in base64.
        #[serde(default)]
        secret: Option<Secret>,
    },
    /// Slack, or whatever understands its incoming webhooks.
    Slack {
        /// The incoming webhook's address; whoever knows it may post.
        #[serde(default)]
        url: Option<Secret>,
    },
    /// Mail over SMTP.
    Email {
        /// Name or address of the mail server.
        host: String,
        /// Its port; 587, 465 or 25 by security unless given.
        #[serde(default)]
        port: Option<u16>,
        /// How it is spoken to.
        #[serde(default)]
        security: MailSecurity,
        /// Name to log in with; empty for none.
        #[serde(default)]
        username: String,
        /// Password to log in with.
        #[serde(default)]
        password: Option<Secret>,
        /// Sender, as in `Kennel <kennel@example.org>`.
        from: String,
        /// Who gets it.
        to: Vec<String>,
    },
}

/// A place where notifications go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub destination: DestinationView,
    /// Whether it may reach loopback and private addresses.
    pub allow_private_addresses: bool,
    /// Whether it is in use.
    pub enabled: bool,
    /// What became of what was sent last; absent before anything was.
    pub last: Option<LastDelivery>,
}

/// What became of a channel's last delivery that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastDelivery {
    /// The delivery.
    pub id: String,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// When it was tried last.
    pub at: String,
    /// What the other side said, or why it could not be reached.
    pub answer: String,
}

/// Where a channel leads, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DestinationView {
    /// Signed JSON to an address of your own.
    Webhook {
        /// Where it posts, without the query.
        address: String,
    },
    /// Slack, or whatever understands its incoming webhooks.
    Slack {
        /// The server, without the path that lets one post.
        address: String,
    },
    /// Mail over SMTP.
    Email {
        /// Name or address of the mail server.
        host: String,
        /// Its port.
        port: u16,
        /// How it is spoken to.
        security: MailSecurity,
        /// Name to log in with; empty for none.
        username: String,
        /// Whether a password is kept.
        has_password: bool,
        /// Sender.
        from: String,
        /// Who gets it.
        to: Vec<String>,
    },
}

impl DestinationView {
    /// How it speaks.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        match self {
            Self::Webhook { .. } => ChannelKind::Webhook,
            Self::Slack { .. } => ChannelKind::Slack,
            Self::Email { .. } => ChannelKind::Email,
        }
    }

    /// Where it leads, in a few words.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Webhook { address } | Self::Slack { address } => address.clone(),
            Self::Email { host, to, .. } => format!("{} by way of {host}", to.join(", ")),
        }
    }
}

/// Who is told what and when, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteRule {
    /// Number of the channel.
    pub channel: i64,
    /// What to tell; for a digest, which changes it lists.
    pub events: Vec<NotificationEvent>,
    /// What to tell it of.
    #[serde(default)]
    pub only: RuleFilter,
    /// When to tell it.
    #[serde(default)]
    pub timing: Timing,
    /// Hours in which nothing is sent; what comes up waits until they are over.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// Whether it is in use.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// What a rule is about: everything that meets all of these. Empty ones ask nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFilter {
    /// Name of a suite.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suite: String,
    /// Name of an experiment. Without it, experiments that run as steps of a suite are told of by the suite.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub experiment: String,
    /// A label of the suite's run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// A branch, as the label `branch:NAME` of the suite's run says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub branch: String,
}

/// When a rule tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(tag = "when", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Timing {
    /// As soon as it happens.
    #[default]
    Immediately,
    /// Once a day, all together.
    Daily {
        /// Full hour, 0 to 23.
        hour: u8,
        /// Time zone by its IANA name.
        zone: String,
    },
    /// Once a week, all together.
    Weekly {
        /// On which day.
        day: Weekday,
        /// Full hour, 0 to 23.
        hour: u8,
        /// Time zone by its IANA name.
        zone: String,
    },
}

/// Hours in which nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// From this time of day on, `HH:MM`.
    pub from: String,
    /// To this time of day, `HH:MM`; on the next day where it is not after `from`.
    pub to: String,
    /// Time zone by its IANA name.
    pub zone: String,
}

/// Who is told what and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    /// Its number.
    pub id: i64,
    /// The rule.
    #[serde(flatten)]
    pub rule: WriteRule,
    /// Name of the channel.
    pub channel_name: String,
    /// The rule in a sentence.
    pub words: String,
    /// When its next digest is due.
    pub next_digest_at: Option<String>,
}

/// Something that was sent, is to be sent, or could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Its identity, the same at every attempt: receivers tell repetitions by it.
    pub id: String,
    /// Number of the channel; absent when it is gone.
    pub channel: Option<i64>,
    /// Name of the channel.
    pub channel_name: String,
    /// Number of the rule; absent for tests of a channel and when the rule is gone.
    pub rule: Option<i64>,
    /// What it tells.
    pub event: NotificationEvent,
    /// What kind of thing it is about.
    pub subject_kind: NotificationSubject,
    /// Name of what it is about.
    pub subject: String,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// Its first line.
    pub title: String,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// Status of the last answer: of HTTP, or of SMTP.
    pub code: Option<u16>,
    /// What the other side said last, or why it could not be reached.
    pub answer: String,
    /// When it came up.
    pub created_at: String,
    /// When it was tried last.
    pub tried_at: Option<String>,
    /// When it will be tried next.
    pub next_try_at: Option<String>,
}

/// A delivery with exactly what goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// Headers as they were sent last; empty before the first attempt and for mail, whose body holds them.
    pub head: String,
    /// The body: JSON, or the mail.
    pub body: String,
}

/// What a digest would say now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestView {
    /// Its first line.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its parts.
    pub sections: Vec<MessageSection>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct MessageSection {
    /// What it is about.
    pub heading: String,
    /// Its lines.
    pub lines: Vec<MessageLine>,
}

/// A line of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct MessageLine {
    /// What it says.
    pub text: String,
    /// Where there is more, as a path on this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// What all notifications have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationSettings {
    /// What browsers call this Kennel, such as `https://kennel.example.org`: links in messages begin with it, and
    /// without it messages carry none.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Whether it was given at start, by `--public-url` or `KENNEL_PUBLIC_URL`; it then cannot be changed here.
    #[serde(default)]
    #[schema(read_only)]
    pub given_at_start: bool,
}
