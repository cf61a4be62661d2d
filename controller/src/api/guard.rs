//! Protection of an interface without login: no writes from other sites, no DNS rebinding.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::problem::problem;

/// Lets requests through to `router` only when their `Host` is loopback (or the address the server is bound to), so
/// that no foreign name can be pointed at it; and writes only when they come from no other site.
///
/// Apply it last, around everything that it is to guard.
pub fn guard_local(router: Router, bound: Option<SocketAddr>) -> Router {
    router.layer(from_fn_with_state(bound.map(|address| address.ip()), guard))
}

async fn guard(State(bound): State<Option<IpAddr>>, request: Request, next: Next) -> Response {
    let host = host(&request);
    match refusal(request.method(), host.as_deref(), request.headers(), bound) {
        None => next.run(request).await,
        Some(why) => problem(StatusCode::FORBIDDEN, why).into_response(),
    }
}

fn host(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| request.uri().authority().map(Authority::as_str)).map(str::to_ascii_lowercase)
}

/// Why a request is refused, if it is.
fn refusal(method: &Method, host: Option<&str>, headers: &HeaderMap, bound: Option<IpAddr>) -> Option<String> {
    let Some(host) = host else {
        return Some("the request names no host".to_owned());
    };
    if !is_local(host, bound) {
        return Some(format!("`{host}` is not a name of this machine; use localhost or 127.0.0.1"));
    }
    if method.is_safe() {
        return None;
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority != Some(host) {
            return Some(format!("a page of `{origin}` may not change anything here"));
        }
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        let site = site.to_str().unwrap_or_default();
        if site != "same-origin" && site != "none" {
            return Some(format!("a {site} page may not change anything here"));
        }
    }
    None
}

fn is_local(host: &str, bound: Option<IpAddr>) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || bound == Some(address),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn allows(method: Method, host: &str, pairs: &[(&'static str, &str)]) -> bool {
        refusal(&method, Some(host), &headers(pairs), None).is_none()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["localhost", "localhost:80", "127.0.0.1:8080", "127.8.9.1", "[::1]:80", "kennel.localhost:1"] {
            assert!(allows(Method::GET, host, &[]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "192.168.1.9", "127.0.0.1.evil.example", "", "a b"] {
            assert!(!allows(Method::GET, host, &[]), "{host}");
        }
        assert!(refusal(&Method::GET, None, &HeaderMap::new(), None).is_some());
    }

    #[test]
    fn the_bound_address_is_answered_too() {
        let bound = Some("192.168.1.9".parse().unwrap());
        assert!(refusal(&Method::GET, Some("192.168.1.9:80"), &HeaderMap::new(), bound).is_none());
        assert!(refusal(&Method::GET, Some("192.168.1.8:80"), &HeaderMap::new(), bound).is_some());
    }

    #[test]
    fn writes_come_from_no_other_site() {
        let host = "127.0.0.1:80";
        assert!(allows(Method::POST, host, &[]));
        assert!(allows(Method::POST, host, &[("origin", "http://127.0.0.1:80"), ("sec-fetch-site", "same-origin")]));
        assert!(allows(Method::POST, host, &[("sec-fetch-site", "none")]));
        assert!(allows(Method::GET, host, &[("origin", "http://evil.example")]));
        for (name, value) in [
            ("origin", "http://evil.example"),
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
}
