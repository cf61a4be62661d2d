//! Who may use which route: one table, and nothing that is not in it is open to anybody. Pages have a table of the same
//! kind beside them.

use axum::http::Method;

use crate::people::Why;

/// What a route asks of whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: no login either.
    Anyone,
    /// At least a viewer. A read-only token may, if the method changes nothing.
    Viewer,
    /// At least a viewer, and nothing is changed although it is a POST.
    Check,
    /// At least an operator, or a token for imports.
    Import,
    /// At least an operator.
    Operator,
    /// An admin.
    Admin,
}

/// Method, route as the router writes it, and what it asks.
pub type Rule = (&'static str, &'static str, Need);

/// Every route of the API.
pub const TABLE: &[Rule] = &[
    // About Kennel
    ("GET", "/api/v1/health", Need::Anyone),
    ("GET", "/api/v1/library", Need::Viewer),
    ("GET", "/api/v1/openapi.json", Need::Viewer),
    ("GET", "/api/v1/schema", Need::Viewer),
    // Runs
    ("GET", "/api/v1/runs", Need::Viewer),
    ("POST", "/api/v1/runs", Need::Operator),
    ("GET", "/api/v1/runs/{id}", Need::Viewer),
    ("GET", "/api/v1/runs/{id}/series", Need::Viewer),
    ("GET", "/api/v1/runs/{id}/live", Need::Viewer),
    ("POST", "/api/v1/runs/{id}/halt", Need::Operator),
    ("POST", "/api/v1/halt", Need::Operator),
    ("POST", "/api/v1/validate", Need::Check),
    ("GET", "/api/v1/compare", Need::Viewer),
    // Results
    ("GET", "/api/v1/annotations/{run}", Need::Viewer),
    ("PUT", "/api/v1/annotations/{run}/labels", Need::Operator),
    ("POST", "/api/v1/annotations/{run}/notes", Need::Operator),
    ("DELETE", "/api/v1/annotations/{run}/pin", Need::Operator),
    ("PUT", "/api/v1/annotations/{run}/pin", Need::Operator),
    ("GET", "/api/v1/artifacts/{id}", Need::Viewer),
    ("GET", "/api/v1/compare/suite-runs", Need::Viewer),
    ("GET", "/api/v1/failing", Need::Viewer),
    ("POST", "/api/v1/imports", Need::Import),
    ("GET", "/api/v1/storage", Need::Viewer),
    ("PUT", "/api/v1/storage", Need::Admin),
    ("GET", "/api/v1/suite-runs/{id}/artifacts", Need::Viewer),
    ("GET", "/api/v1/suite-runs/{id}/tests", Need::Viewer),
    ("GET", "/api/v1/suite-runs/{id}/tests/{test}", Need::Viewer),
    ("GET", "/api/v1/suites/{name}/matrix", Need::Viewer),
    ("GET", "/api/v1/suites/{name}/trend", Need::Viewer),
    ("GET", "/api/v1/tests", Need::Viewer),
    ("GET", "/api/v1/tests/{id}", Need::Viewer),
    ("POST", "/api/v1/tests/{id}/join", Need::Operator),
    ("DELETE", "/api/v1/tests/{id}/mute", Need::Operator),
    ("PUT", "/api/v1/tests/{id}/mute", Need::Operator),
    ("POST", "/api/v1/tests/{id}/notes", Need::Operator),
    // Suites
    ("GET", "/api/v1/agents", Need::Viewer),
    ("GET", "/api/v1/suites", Need::Viewer),
    ("GET", "/api/v1/suites/{name}", Need::Viewer),
    ("POST", "/api/v1/suites/validate", Need::Check),
    ("GET", "/api/v1/suite-runs", Need::Viewer),
    ("POST", "/api/v1/suite-runs", Need::Operator),
    ("GET", "/api/v1/suite-runs/{id}", Need::Viewer),
    ("GET", "/api/v1/suite-runs/{id}/junit", Need::Viewer),
    ("GET", "/api/v1/suite-runs/{id}/live", Need::Viewer),
    ("GET", "/api/v1/suite-runs/{id}/log", Need::Viewer),
    ("POST", "/api/v1/suite-runs/{id}/cancel", Need::Operator),
    ("POST", "/api/v1/suite-runs/{id}/rerun", Need::Operator),
    // Schedules
    ("GET", "/api/v1/calendar-windows", Need::Viewer),
    ("GET", "/api/v1/calendars", Need::Viewer),
    ("POST", "/api/v1/calendars", Need::Operator),
    ("DELETE", "/api/v1/calendars/{name}", Need::Operator),
    ("GET", "/api/v1/calendars/{name}", Need::Viewer),
    ("PUT", "/api/v1/calendars/{name}", Need::Operator),
    ("DELETE", "/api/v1/freeze", Need::Operator),
    ("GET", "/api/v1/freeze", Need::Viewer),
    ("PUT", "/api/v1/freeze", Need::Operator),
    ("DELETE", "/api/v1/queue/{id}", Need::Operator),
    ("GET", "/api/v1/schedule-occurrences", Need::Viewer),
    ("GET", "/api/v1/schedule-plan", Need::Viewer),
    ("GET", "/api/v1/schedule-preview", Need::Viewer),
    ("GET", "/api/v1/schedules", Need::Viewer),
    ("POST", "/api/v1/schedules", Need::Operator),
    ("DELETE", "/api/v1/schedules/{id}", Need::Operator),
    ("GET", "/api/v1/schedules/{id}", Need::Viewer),
    ("PUT", "/api/v1/schedules/{id}", Need::Operator),
    ("GET", "/api/v1/schedules/{id}/next", Need::Viewer),
    ("GET", "/api/v1/schedules/{id}/occurrences", Need::Viewer),
    ("POST", "/api/v1/schedules/{id}/pause", Need::Operator),
    ("POST", "/api/v1/schedules/{id}/resume", Need::Operator),
    ("POST", "/api/v1/schedules/{id}/run", Need::Operator),
    ("GET", "/api/v1/queue", Need::Viewer),
    ("GET", "/api/v1/queue/live", Need::Viewer),
    ("GET", "/api/v1/queue/{id}", Need::Viewer),
    ("POST", "/api/v1/queue/{id}/front", Need::Operator),
    // Files
    ("GET", "/api/v1/files/{kind}", Need::Viewer),
    ("POST", "/api/v1/files/{kind}", Need::Operator),
    ("GET", "/api/v1/files/{kind}/{name}", Need::Viewer),
    ("PUT", "/api/v1/files/{kind}/{name}", Need::Operator),
    ("DELETE", "/api/v1/files/{kind}/{name}", Need::Operator),
    ("POST", "/api/v1/files/{kind}/{name}/rename", Need::Operator),
    ("POST", "/api/v1/files/{kind}/{name}/restore", Need::Operator),
    ("GET", "/api/v1/files/{kind}/{name}/versions", Need::Viewer),
    ("GET", "/api/v1/files/{kind}/{name}/versions/{version}", Need::Viewer),
    ("GET", "/api/v1/files/{kind}/{name}/diff", Need::Viewer),
    ("GET", "/api/v1/files/{kind}/{name}/download", Need::Viewer),
    ("GET", "/api/v1/surroundings", Need::Viewer),
    // Notifications: channels hold addresses that are secrets
    ("GET", "/api/v1/notifications/channels", Need::Operator),
    ("POST", "/api/v1/notifications/channels", Need::Admin),
    ("GET", "/api/v1/notifications/channels/{id}", Need::Operator),
    ("PUT", "/api/v1/notifications/channels/{id}", Need::Admin),
    ("DELETE", "/api/v1/notifications/channels/{id}", Need::Admin),
    ("POST", "/api/v1/notifications/channels/{id}/test", Need::Admin),
    ("GET", "/api/v1/notifications/rules", Need::Operator),
    ("POST", "/api/v1/notifications/rules", Need::Admin),
    ("GET", "/api/v1/notifications/rules/{id}", Need::Operator),
    ("PUT", "/api/v1/notifications/rules/{id}", Need::Admin),
    ("DELETE", "/api/v1/notifications/rules/{id}", Need::Admin),
    ("GET", "/api/v1/notifications/digest", Need::Operator),
    ("GET", "/api/v1/notifications/deliveries", Need::Operator),
    ("GET", "/api/v1/notifications/deliveries/{id}", Need::Operator),
    ("POST", "/api/v1/notifications/deliveries/{id}/retry", Need::Admin),
    ("GET", "/api/v1/notifications/settings", Need::Operator),
    ("PUT", "/api/v1/notifications/settings", Need::Admin),
    // People
    ("GET", "/api/v1/me", Need::Viewer),
    ("PUT", "/api/v1/me/password", Need::Viewer),
    ("GET", "/api/v1/me/sessions", Need::Viewer),
    ("DELETE", "/api/v1/me/sessions", Need::Viewer),
    ("GET", "/api/v1/people", Need::Admin),
    ("POST", "/api/v1/people", Need::Admin),
    ("PATCH", "/api/v1/people/{name}", Need::Admin),
    ("PUT", "/api/v1/people/{name}/password", Need::Admin),
    ("POST", "/api/v1/people/{name}/invitation", Need::Admin),
    ("DELETE", "/api/v1/people/{name}/sessions", Need::Admin),
    ("GET", "/api/v1/tokens", Need::Viewer),
    ("POST", "/api/v1/tokens", Need::Viewer),
    ("DELETE", "/api/v1/tokens/{id}", Need::Viewer),
    ("GET", "/api/v1/audit-log", Need::Admin),
];

/// Tables of access, joined.
#[derive(Debug, Clone, Default)]
pub struct Access {
    rules: Vec<Rule>,
}

impl Access {
    /// The API's table, and those of others that stand behind the same gate.
    #[must_use]
    pub fn with(others: &[Rule]) -> Self {
        Self { rules: [TABLE, others].concat() }
    }

    /// What a request asks of whoever makes it. Where no route matches there is nothing to protect, but also nothing
    /// to tell to strangers.
    pub(crate) fn need(&self, method: &Method, pattern: Option<&str>) -> Result<Need, Why> {
        // The router gives its fallbacks a path of their own.
        let Some(pattern) = pattern.filter(|pattern| !pattern.contains("__private__axum")) else {
            return Ok(Need::Viewer);
        };
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let same: Vec<&Rule> = self.rules.iter().filter(|(_, path, _)| *path == pattern).collect();
        if let Some((_, _, need)) = same.iter().find(|(name, _, _)| method == name) {
            return Ok(*need);
        }
        if same.is_empty() {
            return Err(Why::Unlisted { route: format!("{method} {pattern}") });
        }
        let allowed: Vec<&str> = same.iter().map(|(name, _, _)| *name).collect();
        Err(Why::Method { allowed: allowed.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_covers_exactly_the_routes_of_the_api() {
        let document = serde_json::to_value(crate::api::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let routes: BTreeSet<(String, &str)> = paths
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.as_str()))
            })
            .collect();
        let listed: BTreeSet<(String, &str)> =
            TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), *path)).collect();
        let missing: Vec<_> = routes.difference(&listed).collect();
        assert!(missing.is_empty(), "say in controller/src/api/access.rs who may use {missing:?}");
        let gone: Vec<_> = listed.difference(&routes).collect();
        assert!(gone.is_empty(), "controller/src/api/access.rs lists routes that do not exist: {gone:?}");
        assert_eq!(TABLE.len(), listed.len(), "a route is listed twice");
    }

    #[test]
    fn a_route_that_nobody_listed_is_nobodys() {
        let access = Access::with(&[("GET", "/page", Need::Viewer)]);
        assert_eq!(access.need(&Method::HEAD, Some("/page")), Ok(Need::Viewer));
        assert_eq!(access.need(&Method::POST, Some("/page")), Err(Why::Method { allowed: "GET".to_owned() }));
        assert!(matches!(access.need(&Method::GET, Some("/other")), Err(Why::Unlisted { .. })));
        assert_eq!(access.need(&Method::GET, None), Ok(Need::Viewer), "a stranger learns not what is missing");
    }
}
