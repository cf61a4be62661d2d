//! The gate before every page and route: is this a name of this Kennel, who asks, may they, and does a change come from
//! one of our own pages.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use kennel_accounts::secret;
use kennel_model::Role;
use kennel_model::api::TokenScope;
use tower_sessions::cookie::SameSite;
use tower_sessions::{Expiry, Session, SessionManagerLayer};

use super::browser::{LONGEST, Sessions, address, held};
use super::live::{Proof, while_allowed};
use super::tokens::{LOCAL, Recognised};
use super::{Entrance, PeopleError, PublicUrl, csrf};
use crate::api::access::{Access, Need};
use crate::api::refuse;
use crate::{Caller, Controller};

/// Who asks, as far as the gate found out.
#[derive(Debug, Clone)]
pub struct Visit {
    caller: Option<Caller>,
    /// The account behind the caller.
    owner: String,
    scope: TokenScope,
    /// What forms send along; empty where no cookie vouches for the caller.
    csrf: String,
    open: bool,
    /// Where this Kennel is, as whoever asks knows it.
    origin: String,
}

impl Visit {
    fn nobody(open: bool) -> Self {
        let (owner, csrf, origin) = Default::default();
        Self { caller: None, owner, scope: TokenScope::All, csrf, open, origin }
    }

    /// An account that asks by a session.
    pub(super) fn of(caller: Caller) -> Self {
        Self { owner: caller.name.clone(), caller: Some(caller), ..Self::nobody(false) }
    }

    pub(super) fn local(open: bool) -> Self {
        Self { caller: Some(Caller::local()), owner: LOCAL.to_owned(), ..Self::nobody(open) }
    }

    /// Who asks. Behind the gate, routes that need a role know.
    pub(crate) fn caller(&self) -> &Caller {
        static NOBODY: Caller = Caller { name: String::new(), role: Role::Viewer };
        self.caller.as_ref().unwrap_or(&NOBODY)
    }

    /// Who is logged in, if anybody.
    #[must_use]
    pub fn known(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The account behind whoever asks: a token's owner, or `local`.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Whether somebody with an account asks through a browser.
    #[must_use]
    pub fn is_person(&self) -> bool {
        !self.csrf.is_empty()
    }

    /// What forms send as `_csrf` and scripts as `x-csrf-token`; empty where none is needed.
    #[must_use]
    pub fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Whether Kennel has no accounts yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// This Kennel's address, for links and commands to copy: its public URL, else what the request called it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Why;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Why> {
        parts.extensions.get::<Self>().cloned().ok_or(Why::NotLoggedIn)
    }
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nobody is logged in.
    #[error("log in first, or send a token as `Authorization: Bearer kennel_…`")]
    NotLoggedIn,
    /// What was sent is no token.
    #[error("this is no token of this Kennel; `kennel token create` makes one")]
    UnknownToken,
    /// The token worked once.
    #[error("this token {why}; `kennel token create` makes another one")]
    TokenOver {
        /// Why it does no longer.
        why: &'static str,
    },
    /// The role does not suffice.
    #[error("this needs the role {needed}; `{name}` has the role {has}", name = name.escape_debug())]
    Role {
        /// Who asks.
        name: String,
        /// The role they have.
        has: Role,
        /// The least that would do.
        needed: Role,
    },
    /// The token is for something else.
    #[error("this token is for `{scope}` only; make one with a wider scope")]
    Scope {
        /// What it is for.
        scope: TokenScope,
    },
    /// A change without the session's token.
    #[error("this form was made for another login, or not by Kennel at all; load the page again and send it once more")]
    Csrf,
    /// Without accounts, only this machine is served.
    #[error("Kennel has no accounts yet and serves only the machine it runs on; set up an administrator there")]
    NotHere,
    /// A host or another site that may not.
    #[error("{what}")]
    Foreign {
        /// What it was.
        what: String,
    },
    /// The route is in no table of access.
    #[error("nobody said who may use {route}, so nobody may; this is a mistake in Kennel")]
    Unlisted {
        /// Method and route.
        route: String,
    },
    /// The route takes other methods.
    #[error("this address takes {allowed} only")]
    Method {
        /// Which.
        allowed: String,
    },
    /// The session or the store failed.
    #[error("{why}")]
    Failed {
        /// How.
        why: String,
    },
}

impl Why {
    /// Status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotLoggedIn | Self::UnknownToken | Self::TokenOver { .. } => StatusCode::UNAUTHORIZED,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

impl IntoResponse for Why {
    fn into_response(self) -> Response {
        let mut response = refuse(self.status(), self.to_string());
        if self.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Method { allowed } = &self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        response
    }
}

/// A request that is not let in.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why not.
    pub why: Why,
    /// Who asked.
    pub visit: Visit,
    /// Whether it was made with a method that changes nothing.
    pub safe: bool,
    /// What was asked for: path and query.
    pub target: String,
}

/// Says to a browser that it is not let in; what is not under `/api/` is a page.
pub type Refuse = Arc<dyn Fn(Refused) -> Response + Send + Sync>;

#[derive(Clone)]
pub(super) struct Gate {
    pub(super) controller: Controller,
    entrance: Arc<Entrance>,
    access: Arc<Access>,
    refuse: Refuse,
}

/// Puts the gate around `router`. Apply it last, around everything that it is to guard.
pub fn guard(
    router: Router,
    controller: &Controller,
    entrance: Arc<Entrance>,
    access: Access,
    refuse: Refuse,
) -> Router {
    let is_secure = controller.public_url().is_some_and(|url| url.is_secure());
    let longest = i64::try_from(LONGEST.as_secs()).unwrap_or(i64::MAX);
    let sessions = SessionManagerLayer::new(Sessions(controller.inner.store.clone()))
        .with_name(entrance.cookie(is_secure))
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        .with_secure(is_secure)
        .with_path("/")
        // When the cookie is forgotten; the store decides when the session is over.
        .with_expiry(Expiry::OnInactivity(tower_sessions::cookie::time::Duration::seconds(longest)));
    let gate = Gate { controller: controller.clone(), entrance, access: Arc::new(access), refuse };
    router
        .layer(from_fn_with_state(gate.clone(), admit))
        .layer(sessions)
        .layer(from_fn_with_state(gate, only_known_names))
}

/// A path as it may stand in a log: whoever knows that of an invitation can take it.
#[must_use]
pub fn loggable(path: &str) -> &str {
    if path.starts_with("/invitations/") { "/invitations/…" } else { path }
}

fn is_api(path: &str) -> bool {
    path.starts_with("/api/")
}

/// What is asked for, to say why it is not given.
struct Asked {
    path: String,
    target: String,
    safe: bool,
}

impl Asked {
    fn of(method: &Method, uri: &Uri) -> Self {
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Self { path: uri.path().to_owned(), target, safe: method.is_safe() }
    }
}

impl Gate {
    fn turn_away(&self, why: Why, visit: Visit, asked: Asked) -> Response {
        if let Why::Unlisted { .. } | Why::Failed { .. } = &why {
            tracing::error!(path = loggable(&asked.path), error = %why, "a request was not let in");
        }
        if is_api(&asked.path) {
            return why.into_response();
        }
        (self.refuse)(Refused { why, visit, safe: asked.safe, target: asked.target })
    }

    /// Who sends this secret.
    pub(super) async fn by_token(&self, sent: &str) -> Result<Visit, Why> {
        let open = self.controller.is_open();
        if self.entrance.local_secret.as_ref().is_some_and(|own| secret::same(own.reveal(), sent)) {
            return Ok(Visit::local(open));
        }
        let recognised = self.controller.recognise(sent).await;
        match recognised.map_err(|error| Why::Failed { why: error.to_string() })? {
            Recognised::Works { caller, owner, scope } => {
                Ok(Visit { caller: Some(caller), owner, scope, ..Visit::nobody(open) })
            }
            Recognised::Unknown => Err(Why::UnknownToken),
            Recognised::Over { why } => Err(Why::TokenOver { why }),
        }
    }

    async fn identify(&self, request: &Parts) -> Result<Visit, Why> {
        let open = self.controller.is_open();
        let failed = |why: String| Why::Failed { why };
        if is_api(request.uri.path())
            && let Some(sent) = bearer(&request.headers)
        {
            return self.by_token(sent).await;
        }
        if open {
            let far = address(request.extensions.get::<ConnectInfo<SocketAddr>>()).is_some_and(|ip| !ip.is_loopback());
            let wide = self.entrance.bound.is_some_and(|bound| !bound.ip().is_loopback());
            return if far || wide { Err(Why::NotHere) } else { Ok(Visit::local(true)) };
        }
        let Some(session) = request.extensions.get::<Session>() else { return Ok(Visit::nobody(false)) };
        let Some((name, csrf)) = held(session).await.map_err(|error| failed(error.to_string()))? else {
            return Ok(Visit::nobody(false));
        };
        match self.controller.account(&name).await {
            Ok(account) if !account.disabled => {
                Ok(Visit { csrf, ..Visit::of(Caller { name: account.name, role: account.role }) })
            }
            Ok(_) | Err(PeopleError::NoSuchAccount { .. }) => Ok(Visit::nobody(false)),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// What an API client sends to say who it is.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = sent.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let asked = Asked::of(&method, &parts.uri);
    let pattern = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let need = gate.access.need(&method, pattern.as_deref());
    let mut visit = match gate.identify(&parts).await {
        Ok(visit) => visit,
        // Whoever may not say who he is can still see what anyone may see.
        Err(_) if need == Ok(Need::Anyone) => Visit::nobody(gate.controller.is_open()),
        Err(why) => return gate.turn_away(why, Visit::nobody(gate.controller.is_open()), asked),
    };
    if let Err(why) = allowed(need.clone(), &visit, &method) {
        return gate.turn_away(why, visit, asked);
    }
    let proof = method.is_safe().then(|| Proof::of(&parts.headers, parts.extensions.get()));
    visit.origin = gate.controller.origin(host(&parts).as_deref().unwrap_or("localhost"));
    let mut request = Request::from_parts(parts, body);
    if visit.is_person() && !method.is_safe() {
        match csrf::verify(request, visit.csrf()).await {
            Some(verified) => request = verified,
            None => return gate.turn_away(Why::Csrf, visit, asked),
        }
    }
    if let Some(caller) = &visit.caller {
        request.extensions_mut().insert(caller.clone());
    }
    request.extensions_mut().insert(visit);
    request.extensions_mut().insert(Arc::clone(&gate.entrance));
    let response = next.run(request).await;
    match proof {
        Some(proof) => while_allowed(gate, proof, need, response),
        None => response,
    }
}

/// Whether a visitor may use a route.
pub(super) fn allowed(need: Result<Need, Why>, visit: &Visit, method: &Method) -> Result<(), Why> {
    let need = match need {
        // While there are no accounts there is nothing to protect from each other, and a route that is new in a table
        // of its own still works.
        Err(Why::Unlisted { .. }) if visit.open && visit.owner == LOCAL => return Ok(()),
        Err(why @ Why::Unlisted { .. }) => {
            return Err(if visit.caller.is_some() { why } else { Why::NotLoggedIn });
        }
        // The router says itself which methods it takes, to whoever may know that the route is there.
        Err(Why::Method { .. }) if visit.open && visit.owner == LOCAL => return Ok(()),
        Err(why) => return Err(if visit.caller.is_some() { why } else { Why::NotLoggedIn }),
        Ok(need) => need,
    };
    let least = match need {
        Need::Anyone => return Ok(()),
        Need::Viewer | Need::Check => Role::Viewer,
        Need::Import | Need::Operator => Role::Operator,
        Need::Admin => Role::Admin,
    };
    let Some(caller) = &visit.caller else { return Err(Why::NotLoggedIn) };
    if caller.role < least {
        return Err(Why::Role { name: caller.name.clone(), has: caller.role, needed: least });
    }
    let fits = match visit.scope {
        TokenScope::All => true,
        TokenScope::Read => method.is_safe() || need == Need::Check,
        TokenScope::Import => need == Need::Import,
    };
    if fits { Ok(()) } else { Err(Why::Scope { scope: visit.scope }) }
}

async fn only_known_names(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let public_url = gate.controller.public_url();
    let host = host(&parts);
    match foreign(&parts.method, host.as_deref(), &parts.headers, gate.entrance.bound, public_url.as_ref()) {
        None => next.run(Request::from_parts(parts, body)).await,
        Some(what) => {
            let asked = Asked::of(&parts.method, &parts.uri);
            gate.turn_away(Why::Foreign { what }, Visit::nobody(false), asked)
        }
    }
}

fn host(request: &Parts) -> Option<String> {
    let named = request.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| request.uri.authority().map(Authority::as_str)).map(str::to_ascii_lowercase)
}

/// Why a request is foreign, if it is: a host that is no name of this Kennel (DNS rebinding), or a change asked for by
/// another site.
fn foreign(
    method: &Method,
    host: Option<&str>,
    headers: &HeaderMap,
    bound: Option<SocketAddr>,
    public_url: Option<&PublicUrl>,
) -> Option<String> {
    let Some(host) = host else {
        return Some("the request names no host".to_owned());
    };
    if !is_name(host, bound, public_url) {
        return Some(format!(
            "`{}` is not a name of this machine; use localhost or 127.0.0.1, or start Kennel with --public-url",
            host.escape_debug()
        ));
    }
    if method.is_safe() {
        return None;
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let public = public_url.is_some_and(|url| url.origin() == origin);
        if authority != Some(host) && !public {
            return Some(format!("a page of `{}` may not change anything here", origin.escape_debug()));
        }
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        let site = site.to_str().unwrap_or_default();
        if site != "same-origin" && site != "none" {
            return Some(format!("a {} page may not change anything here", site.escape_debug()));
        }
    }
    None
}

fn is_name(host: &str, bound: Option<SocketAddr>, public_url: Option<&PublicUrl>) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if public_url.is_some_and(|url| url.authority() == host) {
        return true;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        // A rebound name is a name: numbers are what somebody typed who knows this machine's address.
        Ok(address) => {
            let bound = bound.map(|bound| bound.ip());
            address.is_loopback() || bound == Some(address) || bound.is_some_and(|bound| bound.is_unspecified())
        }
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn refusal(method: &Method, host: Option<&str>, pairs: &[(&'static str, &str)], bound: &str) -> Option<String> {
        let public_url = "https://kennel.example.org".parse().unwrap();
        foreign(method, host, &headers(pairs), bound.parse().ok(), Some(&public_url))
    }

    fn allows(method: Method, host: &str, pairs: &[(&'static str, &str)]) -> bool {
        refusal(&method, Some(host), pairs, "").is_none()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "localhost:80",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]:80",
            "kennel.localhost:1",
            "kennel.example.org",
        ] {
            assert!(allows(Method::GET, host, &[]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "192.168.1.9",
            "127.0.0.1.evil.example",
            "",
            "a b",
            "kennel.example.org:8080",
            "a.kennel.example.org",
        ] {
            assert!(!allows(Method::GET, host, &[]), "{host}");
        }
        assert!(refusal(&Method::GET, None, &[], "").is_some());
    }

    #[test]
    fn the_bound_address_is_answered_too() {
        let get = |host: &str, bound: &str| refusal(&Method::GET, Some(host), &[], bound).is_none();
        assert!(get("192.168.1.9", "192.168.1.9:80") && !get("192.168.1.8:80", "192.168.1.9:80"));
        assert!(get("192.168.1.8:80", "0.0.0.0:80") && !get("evil.example", "0.0.0.0:80"));
    }

    #[test]
    fn writes_come_from_no_other_site() {
        let host = "127.0.0.1:80";
        assert!(allows(Method::POST, host, &[]));
        assert!(allows(Method::POST, host, &[("origin", "http://127.0.0.1:80"), ("sec-fetch-site", "same-origin")]));
        assert!(allows(Method::POST, host, &[("origin", "https://kennel.example.org")]), "behind a proxy");
        assert!(allows(Method::POST, host, &[("sec-fetch-site", "none")]));
        assert!(allows(Method::GET, host, &[("origin", "http://evil.example")]));
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "http://kennel.example.org"),
            ("origin", "http://127.0.0.1:81"),
            ("origin", "http://localhost:80"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(!allows(Method::POST, host, &[(name, value)]), "{name}: {value}");
            assert!(!allows(Method::DELETE, host, &[(name, value)]), "{name}: {value}");
        }
    }

    #[test]
    fn the_path_of_an_invitation_is_not_logged() {
        assert_eq!(loggable("/invitations/0123abcd"), "/invitations/…");
        assert_eq!(loggable("/people/ann/invitation"), "/people/ann/invitation");
    }

    #[test]
    fn a_scope_narrows_what_a_role_may() {
        let visit = |role, scope| Visit {
            caller: Some(Caller { name: "ann".to_owned(), role }),
            scope,
            ..Visit::nobody(false)
        };
        let may = |need, role, scope, method: Method| allowed(Ok(need), &visit(role, scope), &method).is_ok();
        use TokenScope::{All, Import, Read};
        assert!(may(Need::Admin, Role::Admin, All, Method::POST));
        assert!(may(Need::Admin, Role::Admin, Read, Method::GET));
        assert!(!may(Need::Admin, Role::Operator, All, Method::GET));
        assert!(!may(Need::Viewer, Role::Admin, Read, Method::POST), "reading changes nothing");
        assert!(may(Need::Check, Role::Viewer, Read, Method::POST));
        assert!(may(Need::Import, Role::Operator, Import, Method::POST));
        assert!(!may(Need::Import, Role::Viewer, Import, Method::POST));
        assert!(!may(Need::Import, Role::Operator, Read, Method::POST));
        assert!(!may(Need::Viewer, Role::Admin, Import, Method::GET));
    }

    #[test]
    fn what_no_table_lists_is_refused_once_there_are_accounts() {
        let unlisted = || Err(Why::Unlisted { route: "GET /x".to_owned() });
        let admin = Visit { caller: Some(Caller::local()), ..Visit::nobody(false) };
        assert!(matches!(allowed(unlisted(), &admin, &Method::GET), Err(Why::Unlisted { .. })));
        let nobody = Visit::nobody(false);
        assert_eq!(allowed(unlisted(), &nobody, &Method::GET), Err(Why::NotLoggedIn));
        assert_eq!(allowed(unlisted(), &Visit::local(true), &Method::GET), Ok(()));
    }
}
