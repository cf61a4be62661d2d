//! What people do with notifications: set up channels and rules, try them out, look at what was sent, send it again.

use std::time::Duration;

use jiff::Timestamp;
use kennel_model::RunId;
use kennel_model::api::{
    ChannelView, DeliveryDetail, DeliveryState, DeliveryView, DigestView, NotificationEvent, NotificationSettings,
    NotificationSubject, RuleFilter, RuleView, Timing, WriteChannel, WriteRule,
};
use kennel_notifications::destination::Destination;
use kennel_notifications::message::Message;
use kennel_notifications::problem::{FieldProblem, FieldProblems};
use kennel_notifications::rule;
use kennel_notifications::timing::next_digest;

use super::{digests, text};
use crate::caller::Caller;
use crate::controller::Controller;
use crate::people::PublicUrlError;
use crate::store::{DeliveryFilter, NewDelivery, StoreError, StoredChannel, StoredRule};

/// How long whoever tries a channel out waits for what comes of it.
const TRIAL: Duration = Duration::from_secs(20);

/// What was asked about notifications cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    /// What was written is not valid.
    #[error("{0}")]
    Invalid(#[from] FieldProblems),
    /// There is no such channel, rule or delivery.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its identity, as it was given.
        id: String,
    },
    /// A delivery's channel is gone.
    #[error("the channel of this delivery was removed; there is nowhere to send it")]
    ChannelGone,
    /// The channel is not in use.
    #[error("channel {name} is switched off; switch it on to send something")]
    SwitchedOff {
        /// Its name.
        name: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotificationError {
    fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    fn field(field: &'static str, message: String) -> Self {
        Self::Invalid(FieldProblems(vec![FieldProblem { field, message }]))
    }
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryQuery {
    /// Number of a channel.
    pub channel: Option<i64>,
    /// Where they are in their life.
    pub state: Option<DeliveryState>,
    /// What they tell.
    pub event: Option<NotificationEvent>,
    /// Part of what they are about; empty for all.
    pub text: String,
    /// Only those older than this one.
    pub before: Option<String>,
    /// How many at most.
    pub limit: u32,
}

impl Controller {
    /// Every channel, by name, without secrets.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn channels(&self) -> Result<Vec<ChannelView>, StoreError> {
        let mut last = self.inner.store.last_deliveries().await?;
        let channels = self.inner.store.channels().await?.into_iter().map(|channel| {
            let at = last.iter().position(|(id, _)| *id == channel.id);
            ChannelView { last: at.map(|at| last.swap_remove(at).1), ..view(channel) }
        });
        Ok(channels.collect())
    }

    /// One channel, without secrets.
    ///
    /// # Errors
    /// When there is none or the store cannot be read.
    pub async fn channel(&self, id: i64) -> Result<ChannelView, NotificationError> {
        let channels = self.channels().await?;
        channels.into_iter().find(|channel| channel.id == id).ok_or_else(|| NotificationError::not_found("channel", id))
    }

    /// Keeps a channel, a new one where `id` is absent. Secrets that are not given stay as they are.
    ///
    /// # Errors
    /// When it is not valid, its name is taken, it does not exist, or the store fails.
    pub async fn save_channel(
        &self,
        caller: &Caller,
        id: Option<i64>,
        written: WriteChannel,
    ) -> Result<ChannelView, NotificationError> {
        let before = match id {
            Some(id) => {
                let stored = self.inner.store.channel(id).await?;
                Some(stored.ok_or_else(|| NotificationError::not_found("channel", id))?)
            }
            None => None,
        };
        let old = before.as_ref().map(|channel| &channel.destination);
        let (name, destination) = Destination::read(&written.name, written.destination, old)?;
        let allow_private = written.allow_private_addresses;
        let saved = self.inner.store.save_channel(id, &name, &destination, allow_private, written.enabled).await?;
        let Some(saved) = saved else {
            return Err(NotificationError::field("name", format!("there is a channel named `{name}` already")));
        };
        let action = if id.is_some() { "change a notification channel" } else { "add a notification channel" };
        let place = destination.view().place();
        let private = if allow_private { "; private addresses allowed" } else { "" };
        self.record(caller, action, &name, &format!("{place}{private}")).await?;
        self.inner.wake_notifier.notify_one();
        self.channel(saved).await
    }

    /// Removes a channel with its rules.
    ///
    /// # Errors
    /// When there is none or the store fails.
    pub async fn remove_channel(&self, caller: &Caller, id: i64) -> Result<(), NotificationError> {
        let channel = self.channel(id).await?;
        if !self.inner.store.remove_channel(id).await? {
            return Err(NotificationError::not_found("channel", id));
        }
        self.record(caller, "remove a notification channel", &channel.name, "").await?;
        Ok(())
    }

    /// Sends a test message and waits a while for what comes of it.
    ///
    /// # Errors
    /// When there is no such channel, it is switched off, or the store fails.
    pub async fn try_channel(&self, caller: &Caller, id: i64) -> Result<DeliveryView, NotificationError> {
        let channel = self.inner.store.channel(id).await?;
        let channel = channel.ok_or_else(|| NotificationError::not_found("channel", id))?;
        if !channel.enabled {
            return Err(NotificationError::SwitchedOff { name: channel.name });
        }
        let message = trial(&channel.name, &caller.name);
        let delivery = RunId::new().to_string();
        let body = channel.destination.render(&message, &delivery, self.inner.public_url.origin().as_deref());
        let now = text(Timestamp::now());
        let new = NewDelivery {
            id: delivery.clone(),
            channel: channel.id,
            channel_name: channel.name.clone(),
            rule: None,
            event: message.event,
            subject_kind: message.subject_kind,
            subject: message.subject,
            run: None,
            title: message.title,
            body: body.map_err(StoreError::broken("channel"))?,
            send_at: now,
        };
        self.inner.store.insert_delivery(&new).await?;
        self.record(caller, "try a notification channel", &channel.name, "").await?;
        self.inner.wake_notifier.notify_one();
        let deadline = tokio::time::Instant::now() + TRIAL;
        loop {
            let tried = self.delivery(&delivery).await?.delivery;
            if tried.attempts > 0 || tokio::time::Instant::now() > deadline {
                return Ok(tried);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every rule, each with its sentence.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn notification_rules(&self) -> Result<Vec<RuleView>, StoreError> {
        Ok(self.inner.store.rules().await?.into_iter().map(rule_view).collect())
    }

    /// One rule.
    ///
    /// # Errors
    /// When there is none or the store cannot be read.
    pub async fn notification_rule(&self, id: i64) -> Result<RuleView, NotificationError> {
        let rules = self.notification_rules().await?;
        rules.into_iter().find(|rule| rule.id == id).ok_or_else(|| NotificationError::not_found("rule", id))
    }

    /// Keeps a rule, a new one where `id` is absent.
    ///
    /// # Errors
    /// When it is not valid, its channel or it does not exist, or the store fails.
    pub async fn save_notification_rule(
        &self,
        caller: &Caller,
        id: Option<i64>,
        written: WriteRule,
    ) -> Result<RuleView, NotificationError> {
        let channel = written.channel;
        let checked = rule::check(written);
        if self.inner.store.channel(channel).await?.is_none() {
            let missing = FieldProblem {
                field: "channel",
                message: "choose a channel; add one first if there is none".to_owned(),
            };
            let mut problems = vec![missing];
            problems.extend(checked.err().into_iter().flat_map(|problems| problems.0));
            return Err(FieldProblems(problems).into());
        }
        let rule = checked?;
        let now = Timestamp::now();
        let next = if rule.enabled { next_digest(&rule.timing, now).map(text) } else { None };
        let saved = self.inner.store.save_rule(id, &rule, &text(now), next.as_deref()).await?;
        let saved = saved.ok_or_else(|| NotificationError::not_found("rule", id.unwrap_or_default()))?;
        let view = self.notification_rule(saved).await?;
        let action = if id.is_some() { "change a notification rule" } else { "add a notification rule" };
        self.record(caller, action, &view.channel_name, &view.words).await?;
        self.inner.wake_notifier.notify_one();
        Ok(view)
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// When there is none or the store fails.
    pub async fn remove_notification_rule(&self, caller: &Caller, id: i64) -> Result<(), NotificationError> {
        let rule = self.notification_rule(id).await?;
        if !self.inner.store.remove_rule(id).await? {
            return Err(NotificationError::not_found("rule", id));
        }
        self.record(caller, "remove a notification rule", &rule.channel_name, &rule.words).await?;
        Ok(())
    }

    /// What a digest would say now: of one rule, or of everything in the last week.
    ///
    /// # Errors
    /// When there is no such rule or the store cannot be read.
    pub async fn preview_digest(&self, rule: Option<i64>) -> Result<DigestView, NotificationError> {
        let stored = match rule {
            Some(id) => {
                let rules = self.inner.store.rules().await?;
                let rule = rules.into_iter().find(|rule| rule.id == id);
                Some(rule.ok_or_else(|| NotificationError::not_found("rule", id))?)
            }
            None => None,
        };
        let everything = WriteRule {
            channel: 0,
            events: Vec::new(),
            only: RuleFilter::default(),
            timing: Timing::Immediately,
            quiet_hours: None,
            enabled: true,
        };
        let from =
            stored.as_ref().filter(|rule| rule.rule.timing != Timing::Immediately).map(|rule| rule.digest_from.clone());
        let rule = stored.map_or(everything, |stored| stored.rule);
        let public_url = self.inner.public_url.origin();
        Ok(digests::preview(&self.inner.store, &rule, from.as_deref(), public_url.as_deref()).await?)
    }

    /// What was sent and is to be sent, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<DeliveryView>, StoreError> {
        let DeliveryQuery { channel, state, event, text, before, limit } = query;
        self.inner.store.deliveries(&DeliveryFilter { channel, state, event, text, before, limit }).await
    }

    /// One delivery with exactly what is sent.
    ///
    /// # Errors
    /// When there is none or the store cannot be read.
    pub async fn delivery(&self, id: &str) -> Result<DeliveryDetail, NotificationError> {
        self.inner.store.delivery(id).await?.ok_or_else(|| NotificationError::not_found("delivery", id))
    }

    /// Has a delivery sent now, whatever came of it before.
    ///
    /// # Errors
    /// When there is none, its channel is gone or switched off, or the store fails.
    pub async fn send_again(&self, caller: &Caller, id: &str) -> Result<DeliveryView, NotificationError> {
        let delivery = self.delivery(id).await?.delivery;
        let channel = delivery.channel.ok_or(NotificationError::ChannelGone)?;
        let channel = self.inner.store.channel(channel).await?.ok_or(NotificationError::ChannelGone)?;
        if !channel.enabled {
            return Err(NotificationError::SwitchedOff { name: channel.name });
        }
        if !self.inner.store.send_again(id).await? {
            return Err(NotificationError::ChannelGone);
        }
        self.record(caller, "send a notification again", &channel.name, &delivery.title).await?;
        self.inner.wake_notifier.notify_one();
        Ok(self.delivery(id).await?.delivery)
    }

    /// What all notifications have in common.
    #[must_use]
    pub fn notification_settings(&self) -> NotificationSettings {
        NotificationSettings { public_url: self.inner.public_url.origin(), given_at_start: self.is_public_url_given() }
    }

    /// Keeps what all notifications have in common.
    ///
    /// # Errors
    /// When the public URL is none, another one was given at start, or the store fails.
    pub async fn save_notification_settings(
        &self,
        caller: &Caller,
        settings: &NotificationSettings,
    ) -> Result<NotificationSettings, NotificationError> {
        match self.set_public_url(caller, settings.public_url.as_deref().unwrap_or_default()).await {
            Ok(()) => Ok(self.notification_settings()),
            Err(PublicUrlError::Store(error)) => Err(error.into()),
            Err(error) => Err(NotificationError::field("public_url", error.to_string())),
        }
    }
}

fn view(channel: StoredChannel) -> ChannelView {
    ChannelView {
        id: channel.id,
        destination: channel.destination.view(),
        name: channel.name,
        allow_private_addresses: channel.allow_private,
        enabled: channel.enabled,
        last: None,
    }
}

fn rule_view(stored: StoredRule) -> RuleView {
    RuleView {
        id: stored.id,
        words: rule::words(&stored.rule, &stored.channel_name),
        rule: stored.rule,
        channel_name: stored.channel_name,
        next_digest_at: stored.next_digest_at,
    }
}

/// What somebody who tries a channel out gets.
fn trial(channel: &str, who: &str) -> Message {
    Message {
        event: NotificationEvent::Test,
        at: text(Timestamp::now()),
        subject_kind: NotificationSubject::Everything,
        subject: String::new(),
        branch: String::new(),
        run: None,
        verdict: None,
        title: format!("Test of channel {channel}"),
        sentences: vec![format!("{who} tries this channel out. If you can read this, it works.")],
        sections: Vec::new(),
        link: Some("/notifications".to_owned()),
    }
}
