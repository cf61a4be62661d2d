//! Who may use which page: one table, and nothing that is not in it is open to anybody. The API's table is
//! `controller/src/api/access.rs`.

use kennel_controller::api::access::{Need, Rule};

/// Every page and asset.
pub const TABLE: &[Rule] = &[
    ("GET", "/static/{digest}/{*path}", Need::Anyone),
    ("GET", "/favicon.ico", Need::Anyone),
    // Runs
    ("GET", "/", Need::Viewer),
    ("GET", "/runs/new", Need::Operator),
    ("POST", "/runs/new", Need::Operator),
    ("GET", "/runs/{id}", Need::Viewer),
    ("POST", "/runs/{id}/halt", Need::Operator),
    ("GET", "/compare", Need::Viewer),
    // Results
    ("GET", "/failing", Need::Viewer),
    ("GET", "/import", Need::Operator),
    ("POST", "/import", Need::Operator),
    ("GET", "/muted", Need::Viewer),
    ("POST", "/runs/{id}/labels", Need::Operator),
    ("POST", "/runs/{id}/notes", Need::Operator),
    ("GET", "/settings/storage", Need::Viewer),
    ("POST", "/settings/storage", Need::Admin),
    ("GET", "/suite-runs/{id}/artifacts", Need::Viewer),
    ("POST", "/suite-runs/{id}/labels", Need::Operator),
    ("POST", "/suite-runs/{id}/notes", Need::Operator),
    ("POST", "/suite-runs/{id}/pin", Need::Operator),
    ("GET", "/suite-runs/{run}/tests/{id}", Need::Viewer),
    ("GET", "/tests", Need::Viewer),
    ("GET", "/tests/{id}", Need::Viewer),
    ("POST", "/tests/{id}/join", Need::Operator),
    ("POST", "/tests/{id}/mute", Need::Operator),
    ("POST", "/tests/{id}/notes", Need::Operator),
    ("POST", "/tests/{id}/unmute", Need::Operator),
    // Suites
    ("GET", "/suite-runs/{id}", Need::Viewer),
    ("GET", "/suite-runs/{id}/log", Need::Viewer),
    ("GET", "/suites", Need::Viewer),
    ("GET", "/suites/{name}", Need::Viewer),
    ("POST", "/suite-runs/{id}/cancel", Need::Operator),
    ("POST", "/suite-runs/{id}/rerun", Need::Operator),
    ("POST", "/suites/{name}/run", Need::Operator),
    ("GET", "/suites/{name}/results", Need::Viewer),
    // Schedules
    ("GET", "/calendars", Need::Viewer),
    ("GET", "/calendars/new", Need::Operator),
    ("GET", "/calendars/{name}", Need::Viewer),
    ("GET", "/queue", Need::Viewer),
    ("GET", "/schedules", Need::Viewer),
    ("GET", "/schedules/calendar", Need::Viewer),
    ("GET", "/schedules/new", Need::Operator),
    ("GET", "/schedules/{id}", Need::Viewer),
    ("GET", "/schedules/{id}/edit", Need::Operator),
    ("POST", "/calendars/freeze", Need::Operator),
    ("POST", "/calendars/new", Need::Operator),
    ("POST", "/calendars/thaw", Need::Operator),
    ("POST", "/calendars/{name}", Need::Operator),
    ("POST", "/calendars/{name}/remove", Need::Operator),
    ("POST", "/queue/{run}/cancel", Need::Operator),
    ("POST", "/queue/{run}/front", Need::Operator),
    ("POST", "/schedules/new", Need::Operator),
    ("POST", "/schedules/{id}/edit", Need::Operator),
    ("POST", "/schedules/{id}/pause", Need::Operator),
    ("POST", "/schedules/{id}/remove", Need::Operator),
    ("POST", "/schedules/{id}/resume", Need::Operator),
    ("POST", "/schedules/{id}/run", Need::Operator),
    // Files
    ("GET", "/experiments", Need::Viewer),
    ("GET", "/experiments/new", Need::Operator),
    ("POST", "/experiments/new", Need::Operator),
    ("POST", "/experiments/upload", Need::Operator),
    ("GET", "/experiments/{name}/edit", Need::Viewer),
    ("POST", "/experiments/{name}/edit", Need::Operator),
    ("GET", "/experiments/{name}/history", Need::Viewer),
    ("POST", "/experiments/{name}/remove", Need::Operator),
    ("POST", "/experiments/{name}/restore", Need::Operator),
    ("POST", "/experiments/{name}/run", Need::Operator),
    ("GET", "/suites/new", Need::Operator),
    ("POST", "/suites/new", Need::Operator),
    ("POST", "/suites/upload", Need::Operator),
    ("GET", "/suites/{name}/edit", Need::Viewer),
    ("POST", "/suites/{name}/edit", Need::Operator),
    ("GET", "/suites/{name}/history", Need::Viewer),
    ("POST", "/suites/{name}/remove", Need::Operator),
    ("POST", "/suites/{name}/restore", Need::Operator),
    ("GET", "/targets", Need::Viewer),
    ("GET", "/targets/new", Need::Operator),
    ("POST", "/targets/new", Need::Operator),
    ("POST", "/targets/upload", Need::Operator),
    ("GET", "/targets/{name}/edit", Need::Viewer),
    ("POST", "/targets/{name}/edit", Need::Operator),
    ("GET", "/targets/{name}/history", Need::Viewer),
    ("POST", "/targets/{name}/remove", Need::Operator),
    ("POST", "/targets/{name}/restore", Need::Operator),
    // Notifications
    ("GET", "/notifications", Need::Operator),
    ("POST", "/notifications/settings", Need::Admin),
    ("GET", "/notifications/digest", Need::Operator),
    ("POST", "/notifications/channels", Need::Admin),
    ("GET", "/notifications/channels/new", Need::Admin),
    ("GET", "/notifications/channels/{id}", Need::Admin),
    ("POST", "/notifications/channels/{id}", Need::Admin),
    ("POST", "/notifications/channels/{id}/test", Need::Admin),
    ("POST", "/notifications/channels/{id}/remove", Need::Admin),
    ("POST", "/notifications/rules", Need::Admin),
    ("GET", "/notifications/rules/new", Need::Admin),
    ("GET", "/notifications/rules/{id}", Need::Admin),
    ("POST", "/notifications/rules/{id}", Need::Admin),
    ("POST", "/notifications/rules/{id}/remove", Need::Admin),
    ("GET", "/notifications/deliveries/{id}", Need::Operator),
    ("POST", "/notifications/deliveries/{id}/retry", Need::Admin),
    // People
    ("GET", "/setup", Need::Anyone),
    ("POST", "/setup", Need::Anyone),
    ("GET", "/login", Need::Anyone),
    ("POST", "/login", Need::Anyone),
    ("GET", "/login/sign-on", Need::Anyone),
    ("GET", "/login/sign-on/back", Need::Anyone),
    ("POST", "/logout", Need::Anyone),
    ("GET", "/invitations/{secret}", Need::Anyone),
    ("POST", "/invitations/{secret}", Need::Anyone),
    ("GET", "/account", Need::Viewer),
    ("POST", "/account/password", Need::Viewer),
    ("POST", "/account/sessions", Need::Viewer),
    ("GET", "/tokens", Need::Viewer),
    ("POST", "/tokens", Need::Viewer),
    ("POST", "/tokens/{id}/revoke", Need::Viewer),
    ("GET", "/settings", Need::Viewer),
    ("GET", "/settings/sign-on", Need::Admin),
    ("POST", "/settings/sign-on", Need::Admin),
    ("GET", "/people", Need::Admin),
    ("POST", "/people", Need::Admin),
    ("POST", "/people/{name}", Need::Admin),
    ("POST", "/people/{name}/invitation", Need::Admin),
    ("GET", "/audit-log", Need::Admin),
    ("GET", "/audit-log.csv", Need::Admin),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Method and path of every route. The router tells only `Debug` what it holds: `routes` by number with a handler
    /// or `None` per method, and `paths` by number.
    fn routes() -> BTreeSet<(String, String)> {
        let text = format!("{:?}", crate::site());
        // What follows are the fallbacks, with numbers of their own.
        let text = text.split("fallback_router").next().unwrap();
        let mut paths = BTreeMap::new();
        for part in text.split("RouteId(").skip(1) {
            let (number, rest) = part.split_once(')').unwrap();
            if let Some(path) = rest.strip_prefix(": \"") {
                paths.insert(number, path.split('"').next().unwrap());
            }
        }
        let mut routes = BTreeSet::new();
        for part in text.split("RouteId(").skip(1) {
            let (number, rest) = part.split_once(')').unwrap();
            let Some(rest) = rest.strip_prefix(": MethodRouter") else { continue };
            for method in ["get", "post", "put", "patch", "delete"] {
                let held = rest.split(&format!(" {method}: ")).nth(1).unwrap_or_else(|| panic!("{method} in {rest}"));
                if !held.starts_with("None") {
                    routes.insert((method.to_uppercase(), paths[number].to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn the_table_covers_exactly_the_pages() {
        let routes = routes();
        assert!(routes.contains(&("POST".to_owned(), "/login".to_owned())), "{routes:?}");
        let listed: BTreeSet<(String, String)> =
            TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        let missing: Vec<_> = routes.difference(&listed).collect();
        assert!(missing.is_empty(), "say in web/src/access.rs who may use {missing:?}");
        let gone: Vec<_> = listed.difference(&routes).collect();
        assert!(gone.is_empty(), "web/src/access.rs lists pages that do not exist: {gone:?}");
        assert_eq!(TABLE.len(), listed.len(), "a page is listed twice");
    }
}
