//! One delivery with exactly what is sent, and what a digest would say.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};
use kennel_controller::Caller;
use kennel_model::api::{DeliveryDetail, DeliveryState, DeliveryView, DigestView, NotificationSubject, RuleView};
use serde::Deserialize;

use super::{broken, state_class, state_glyph};
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;
use crate::{Web, notation};

#[derive(Template)]
#[template(path = "notifications/delivery.html")]
struct DeliveryPage {
    layout: Layout,
    delivery: DeliveryView,
    head: String,
    /// JSON with a line per value, and mail as it is.
    body: String,
}

impl DeliveryPage {
    /// The page of the run that it is about.
    fn run_page(&self) -> String {
        match (self.delivery.run, self.delivery.subject_kind) {
            (Some(run), NotificationSubject::Suite) => format!("/suite-runs/{run}"),
            (Some(run), _) => format!("/runs/{run}"),
            (None, _) => String::new(),
        }
    }

    fn is_waiting(&self) -> bool {
        self.delivery.state == DeliveryState::Waiting
    }
}

/// `GET /notifications/deliveries/{id}`
pub(super) async fn show(State(web): State<Web>, Path(id): Path<String>) -> Result<Html<String>, Problem> {
    let DeliveryDetail { delivery, head, body } = web.controller.delivery(&id).await.map_err(broken)?;
    fill(&DeliveryPage { layout: web.layout.at("settings"), delivery, head, body })
}

/// `POST /notifications/deliveries/{id}/retry`
pub(super) async fn send_again(
    State(web): State<Web>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Redirect, Problem> {
    let delivery = web.controller.send_again(&caller, &id).await.map_err(broken)?;
    Ok(Redirect::to(&format!("/notifications/deliveries/{}", delivery.id)))
}

#[derive(Template)]
#[template(path = "notifications/digest.html")]
struct DigestPage {
    layout: Layout,
    digest: DigestView,
    rule: Option<RuleView>,
}

/// Which digest to show.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    rule: Option<i64>,
}

/// `GET /notifications/digest`
pub(super) async fn digest(State(web): State<Web>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let digest = web.controller.preview_digest(wanted.rule).await.map_err(broken)?;
    let rule = match wanted.rule {
        Some(id) => Some(web.controller.notification_rule(id).await.map_err(broken)?),
        None => None,
    };
    fill(&DigestPage { layout: web.layout.at("settings"), digest, rule })
}
