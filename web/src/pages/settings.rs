//! The way to everything that is set up once, at `/settings`.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

use crate::Web;
use crate::layout::Layout;
use crate::pages::fill;
use crate::pages::problem::Problem;

/// The routes of this page.
pub(crate) fn routes() -> Router<Web> {
    Router::new().route("/settings", get(show))
}

/// A place to go to.
struct Entry {
    href: &'static str,
    title: &'static str,
    about: &'static str,
    /// The least role that may go there.
    role: &'static str,
}

const ENTRIES: [Entry; 8] = [
    Entry { href: "/account", title: "Your account", about: "Password, and where you are logged in", role: "viewer" },
    Entry { href: "/people", title: "People", about: "Who may use this Kennel, and what each may do", role: "admin" },
    Entry { href: "/tokens", title: "API tokens", about: "For programs and other CI systems", role: "viewer" },
    Entry {
        href: "/settings/sign-on",
        title: "Single sign-on",
        about: "Log in by an OpenID Connect provider",
        role: "admin",
    },
    Entry {
        href: "/notifications",
        title: "Notifications",
        about: "Who hears of what, and by which way",
        role: "operator",
    },
    Entry { href: "/calendars", title: "Calendars", about: "Holidays and times without load", role: "viewer" },
    Entry {
        href: "/settings/storage",
        title: "Storage",
        about: "What takes up room, and how long artifacts stay",
        role: "viewer",
    },
    Entry { href: "/audit-log", title: "Audit log", about: "Who did what, and when", role: "admin" },
];

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    layout: Layout,
    agents: Vec<String>,
}

async fn show(State(web): State<Web>) -> Result<Html<String>, Problem> {
    fill(&SettingsPage { layout: web.layout.at("settings"), agents: web.controller.agents() })
}
