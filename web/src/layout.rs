//! What the frame around every page needs to know: the assets' address, the place in the navigation, who looks at it.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use kennel_controller::Caller;
use kennel_controller::people::Visit;
use kennel_model::Role;

tokio::task_local! {
    /// Who asked for the page that this task writes. Set by [`visit`] for as long as a handler works, so that a page
    /// need not pass it from its extractors to its template.
    static VISITOR: Arc<Visitor>;
}

/// Who looks at a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitor {
    /// Who is logged in; nobody on the pages that need no login.
    caller: Option<Caller>,
    /// What forms and scripts send along to show that they come from these pages; empty where none is needed.
    csrf: String,
    /// Whether there are no accounts yet.
    open: bool,
    /// This Kennel's address as the visitor knows it.
    origin: String,
}

impl From<&Visit> for Visitor {
    fn from(visit: &Visit) -> Self {
        Self {
            caller: visit.known().cloned(),
            csrf: visit.csrf().to_owned(),
            open: visit.is_open(),
            origin: visit.origin().to_owned(),
        }
    }
}

/// Middleware that lets every page know who asked for it.
pub(crate) async fn visit(request: Request, next: Next) -> Response {
    let visitor = request.extensions().get::<Visit>().map(Visitor::from).unwrap_or_default();
    VISITOR.scope(Arc::new(visitor), next.run(request)).await
}

/// This Kennel's address as whoever asked for this page knows it, for links and commands to copy.
pub(crate) fn origin() -> String {
    VISITOR.try_with(|visitor| visitor.origin.clone()).unwrap_or_default()
}

/// An entry of the navigation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// What pages call it by, see [`Layout::at`].
    pub(crate) name: &'static str,
    /// What people read.
    pub(crate) title: &'static str,
    /// Where it leads.
    pub(crate) href: &'static str,
    /// The letter that leads there after `g`.
    pub(crate) key: char,
}

/// The navigation, in the order of use.
const PLACES: [Place; 7] = [
    Place { name: "runs", title: "Runs", href: "/", key: 'r' },
    Place { name: "suites", title: "Suites", href: "/suites", key: 's' },
    Place { name: "failing", title: "Failing", href: "/failing", key: 'f' },
    Place { name: "schedules", title: "Schedules", href: "/schedules", key: 'd' },
    Place { name: "queue", title: "Queue", href: "/queue", key: 'q' },
    Place { name: "experiments", title: "Experiments", href: "/experiments", key: 'e' },
    Place { name: "settings", title: "Settings", href: "/settings", key: 'c' },
];

/// The frame around a page: header, navigation, footer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// Digest of all assets, part of their addresses.
    digest: Arc<str>,
    /// Which entry of the navigation is the current page.
    place: &'static str,
    visitor: Arc<Visitor>,
}

impl Layout {
    /// The frame of pages whose assets have this digest.
    pub(crate) fn new(digest: String) -> Self {
        Self { digest: digest.into(), place: "", visitor: Arc::default() }
    }

    /// The frame for whoever asked, with an entry of the navigation marked as current.
    pub(crate) fn at(&self, place: &'static str) -> Self {
        let visitor = VISITOR.try_with(Arc::clone).unwrap_or_default();
        Self { digest: Arc::clone(&self.digest), place, visitor }
    }

    /// The frame for somebody whom a page before this one has not let in.
    pub(crate) fn seen_by(&self, visit: &Visit) -> Self {
        Self { digest: Arc::clone(&self.digest), place: "", visitor: Arc::new(Visitor::from(visit)) }
    }

    /// Who is logged in, with an account of their own.
    pub(crate) fn person(&self) -> Option<&str> {
        let caller = self.visitor.caller.as_ref().filter(|_| !self.visitor.csrf.is_empty());
        caller.map(|caller| caller.name.as_str())
    }

    /// Whether there are no accounts yet, so that anyone on this machine may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.visitor.open
    }

    /// This Kennel's address, see [`origin`].
    pub(crate) fn origin(&self) -> &str {
        &self.visitor.origin
    }

    /// Whether that entry is the current one.
    pub(crate) fn is_at(&self, place: &str) -> bool {
        self.place == place
    }

    /// The entries of the navigation.
    #[expect(clippy::unused_self, reason = "templates reach it through the layout")]
    pub(crate) fn places(&self) -> [Place; 7] {
        PLACES
    }

    /// Digest of all assets.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Address of an asset; another one whenever any asset changes, so browsers may keep it for good.
    pub(crate) fn asset(&self, path: &str) -> String {
        format!("/static/{}/{path}", self.digest)
    }

    /// Whether the visitor may do what needs this role: `viewer`, `operator` or `admin`. What one may not do is not
    /// shown.
    pub(crate) fn may(&self, role: &str) -> bool {
        let has = self.visitor.caller.as_ref().map(|caller| caller.role);
        role.parse::<Role>().is_ok_and(|needed| has >= Some(needed))
    }

    /// What forms send as `_csrf` (`parts/csrf.html`) and scripts as `x-csrf-token` (`csrf.js`).
    pub(crate) fn csrf(&self) -> &str {
        &self.visitor.csrf
    }

    /// Version of Kennel.
    pub(crate) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_by(role: Option<Role>) -> Layout {
        let caller = role.map(|role| Caller { name: "ann".to_owned(), role });
        Layout { visitor: Arc::new(Visitor { caller, ..Visitor::default() }), ..Layout::new(String::new()) }
    }

    #[test]
    fn a_role_may_do_what_the_roles_before_it_may() {
        for (has, may) in [
            (None, [false, false, false]),
            (Some(Role::Viewer), [true, false, false]),
            (Some(Role::Operator), [true, true, false]),
            (Some(Role::Admin), [true, true, true]),
        ] {
            let layout = seen_by(has);
            assert_eq!(["viewer", "operator", "admin"].map(|role| layout.may(role)), may, "{has:?}");
            assert!(!layout.may("emperor"), "no such role");
        }
    }
}
