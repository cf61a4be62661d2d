//! The form of a rule, new or known.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use kennel_controller::Caller;
use kennel_model::api::{ChannelView, NotificationEvent, QuietHours, RuleFilter, RuleView, Timing, Weekday, WriteRule};
use serde::Deserialize;

use super::{broken, form_errors};
use crate::Web;
use crate::form_errors::FormErrors;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

#[derive(Template)]
#[template(path = "notifications/rule.html")]
struct RulePage {
    layout: Layout,
    /// The rule as it is kept; absent for a new one.
    known: Option<RuleView>,
    channels: Vec<ChannelView>,
    written: Written,
    errors: FormErrors,
}

impl RulePage {
    fn action(&self) -> String {
        self.known
            .as_ref()
            .map_or_else(|| "/notifications/rules".to_owned(), |rule| format!("/notifications/rules/{}", rule.id))
    }

    /// The same by the API.
    fn command(&self) -> String {
        let (method, path) = match &self.known {
            Some(rule) => ("PUT", format!("/rules/{}", rule.id)),
            None => ("POST", "/rules".to_owned()),
        };
        format!(
            "curl -X {method} {}/api/v1/notifications{path} -H 'content-type: application/json' \\\n  -d '{{\"channel\": 1, \"events\": [\"first-failure\", \"recovery\"], \"only\": {{\"suite\": \"nightly\"}}}}'",
            self.layout.origin()
        )
    }
}

/// What the form sends.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Written {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    first_failure: Option<String>,
    #[serde(default)]
    every_failure: Option<String>,
    #[serde(default)]
    recovery: Option<String>,
    #[serde(default)]
    regression: Option<String>,
    #[serde(default)]
    run_error: Option<String>,
    #[serde(default)]
    missed_schedule: Option<String>,
    #[serde(default)]
    suite: String,
    #[serde(default)]
    experiment: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    branch: String,
    #[serde(default)]
    timing: String,
    #[serde(default)]
    day: String,
    #[serde(default)]
    hour: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    quiet_from: String,
    #[serde(default)]
    quiet_to: String,
    #[serde(default)]
    quiet_zone: String,
    #[serde(default)]
    enabled: Option<String>,
}

impl Written {
    /// A new rule as the form offers it: what people want to be told unless they say otherwise.
    fn offered() -> Self {
        let on = || Some("on".to_owned());
        Self {
            first_failure: on(),
            recovery: on(),
            regression: on(),
            enabled: on(),
            hour: "8".to_owned(),
            ..Self::default()
        }
    }

    /// A rule as the form shows it.
    fn of(rule: &WriteRule) -> Self {
        let mut written = Self {
            channel: rule.channel.to_string(),
            suite: rule.only.suite.clone(),
            experiment: rule.only.experiment.clone(),
            label: rule.only.label.clone(),
            branch: rule.only.branch.clone(),
            enabled: rule.enabled.then(|| "on".to_owned()),
            hour: "8".to_owned(),
            ..Self::default()
        };
        for event in &rule.events {
            if let Some(field) = written.field(*event) {
                *field = Some("on".to_owned());
            }
        }
        match &rule.timing {
            Timing::Immediately => {}
            Timing::Daily { hour, zone } => {
                (written.timing, written.hour, written.zone) = ("daily".to_owned(), hour.to_string(), zone.clone());
            }
            Timing::Weekly { day, hour, zone } => {
                (written.timing, written.hour, written.zone) = ("weekly".to_owned(), hour.to_string(), zone.clone());
                written.day = day.to_string();
            }
        }
        if let Some(quiet) = &rule.quiet_hours {
            written.quiet_from.clone_from(&quiet.from);
            written.quiet_to.clone_from(&quiet.to);
            written.quiet_zone.clone_from(&quiet.zone);
        }
        written
    }

    fn field(&mut self, event: NotificationEvent) -> Option<&mut Option<String>> {
        match event {
            NotificationEvent::FirstFailure => Some(&mut self.first_failure),
            NotificationEvent::EveryFailure => Some(&mut self.every_failure),
            NotificationEvent::Recovery => Some(&mut self.recovery),
            NotificationEvent::Regression => Some(&mut self.regression),
            NotificationEvent::RunError => Some(&mut self.run_error),
            NotificationEvent::MissedSchedule => Some(&mut self.missed_schedule),
            NotificationEvent::Digest | NotificationEvent::Test => None,
        }
    }

    fn asks(&self, event: &NotificationEvent) -> bool {
        let mut written = self.clone();
        written.field(*event).is_some_and(|field| field.is_some())
    }

    fn rule(&self) -> WriteRule {
        // What is no hour is refused as such when the rule is checked.
        let hour = self.hour.trim().parse().unwrap_or(u8::MAX);
        let zone = self.zone.clone();
        let quiet = [&self.quiet_from, &self.quiet_to].iter().any(|time| !time.trim().is_empty());
        WriteRule {
            channel: self.channel.parse().unwrap_or_default(),
            events: NotificationEvent::CHOICES.into_iter().filter(|event| self.asks(event)).collect(),
            only: RuleFilter {
                suite: self.suite.clone(),
                experiment: self.experiment.clone(),
                label: self.label.clone(),
                branch: self.branch.clone(),
            },
            timing: match self.timing.as_str() {
                "daily" => Timing::Daily { hour, zone },
                "weekly" => Timing::Weekly { day: self.day.parse().unwrap_or_default(), hour, zone },
                _ => Timing::Immediately,
            },
            quiet_hours: quiet.then(|| QuietHours {
                from: self.quiet_from.clone(),
                to: self.quiet_to.clone(),
                zone: self.quiet_zone.clone(),
            }),
            enabled: self.enabled.is_some(),
        }
    }
}

/// What an event means, beside its box.
fn explained(event: &NotificationEvent) -> &'static str {
    match event {
        NotificationEvent::FirstFailure => "it failed, and the run before did not",
        NotificationEvent::EveryFailure => "it failed, whatever the run before did",
        NotificationEvent::Recovery => "it passes again",
        NotificationEvent::Regression => "a test or an objective fails that did not before",
        NotificationEvent::RunError => "it could not be carried out",
        NotificationEvent::MissedSchedule => "it was due and did not run",
        NotificationEvent::Digest | NotificationEvent::Test => "",
    }
}

/// `GET /notifications/rules/new`
pub(super) async fn new(State(web): State<Web>) -> Result<Response, Problem> {
    form(&web, StatusCode::OK, None, Written::offered(), FormErrors::default()).await
}

/// `GET /notifications/rules/{id}`
pub(super) async fn edit(State(web): State<Web>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let rule = web.controller.notification_rule(id).await.map_err(broken)?;
    let written = Written::of(&rule.rule);
    form(&web, StatusCode::OK, Some(rule), written, FormErrors::default()).await
}

async fn form(
    web: &Web,
    status: StatusCode,
    known: Option<RuleView>,
    written: Written,
    errors: FormErrors,
) -> Result<Response, Problem> {
    let channels = web.controller.channels().await?;
    let layout = web.layout.at("settings");
    let page = RulePage { layout, known, channels, written, errors };
    Ok((status, fill(&page)?).into_response())
}

/// `POST /notifications/rules`
pub(super) async fn add(
    State(web): State<Web>,
    caller: Caller,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    save(&web, &caller, None, written).await
}

/// `POST /notifications/rules/{id}`
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(written): Form<Written>,
) -> Result<Response, Problem> {
    let known = web.controller.notification_rule(id).await.map_err(broken)?;
    save(&web, &caller, Some(known), written).await
}

async fn save(web: &Web, caller: &Caller, known: Option<RuleView>, written: Written) -> Result<Response, Problem> {
    let id = known.as_ref().map(|rule| rule.id);
    match web.controller.save_notification_rule(caller, id, written.rule()).await {
        Ok(_) => Ok(Redirect::to("/notifications#rules").into_response()),
        Err(error) => {
            let errors = form_errors(error)?;
            form(web, StatusCode::UNPROCESSABLE_ENTITY, known, written, errors).await
        }
    }
}

/// `POST /notifications/rules/{id}/remove`
pub(super) async fn remove(State(web): State<Web>, caller: Caller, Path(id): Path<i64>) -> Result<Redirect, Problem> {
    web.controller.remove_notification_rule(&caller, id).await.map_err(broken)?;
    Ok(Redirect::to("/notifications#rules"))
}
