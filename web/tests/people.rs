//! Who gets in: every route of the API against every kind of visitor, logging in, forms of other sites, sessions' ends.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use std::time::Duration;

use axum::http::header;
use kennel_controller::api::access::{Need, TABLE};
use kennel_model::Role;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use support::House;
use support::scripted_agent::Script;

/// A session's cookie, and what its forms send along.
type Session = (String, String);
/// Whether somebody may use what has this need.
type May = fn(Need) -> bool;

const PASSWORD: &str = "correct horse battery";

async fn house() -> House {
    House::open(Script { rush: 0, pace: Duration::from_millis(20), audit_examples: Vec::new() }, 0, Vec::new()).await
}

fn client() -> Client {
    Client::builder().redirect(Policy::none()).timeout(Duration::from_secs(30)).build().expect("a client")
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie(answer: &Response) -> String {
    let set = answer.headers().get(header::SET_COOKIE).expect("a cookie").to_str().expect("text");
    set.split(';').next().expect("a pair").to_owned()
}

/// What this page's forms send along.
fn csrf_of(page: &str) -> String {
    let csrf = page.split("name=\"csrf-token\" content=\"").nth(1).and_then(|rest| rest.split('"').next());
    csrf.expect("a token for forms").to_owned()
}

/// Logs in; gives the session's cookie and what its forms send along.
async fn log_in(house: &House, name: &str, password: &str) -> Session {
    let answer = client()
        .post(house.url("/login"))
        .form(&[("name", name), ("password", password)])
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = cookie(&answer);
    let page = client()
        .get(house.url("/"))
        .header(header::COOKIE, &cookie)
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    (cookie, csrf_of(&page))
}

/// A house with an administrator, `ann`, who is logged in.
async fn administered() -> (House, String, String) {
    let house = house().await;
    let form = [("name", "ann"), ("password", PASSWORD), ("again", PASSWORD)];
    let answer = client().post(house.url("/setup")).form(&form).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await.expect("text"));
    let (cookie, csrf) = log_in(&house, "ann", PASSWORD).await;
    (house, cookie, csrf)
}

async fn token(house: &House, session: &Session, role: &str, scope: &str) -> String {
    let body = json!({ "name": format!("{role} {scope}"), "role": role, "scope": scope });
    let request = client().post(house.url("/api/v1/tokens")).header(header::COOKIE, &session.0);
    let answer: Value = request
        .header("x-csrf-token", &session.1)
        .json(&body)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    answer["secret"].as_str().unwrap_or_else(|| panic!("{answer:#}")).to_owned()
}

/// Somebody who asks, and what they may.
struct Visitor {
    name: &'static str,
    token: Option<String>,
    /// Whether a route of this need is for them, and whether it changes something.
    may: fn(Need, bool) -> bool,
}

#[tokio::test]
async fn every_route_is_open_to_whom_it_is_for_and_to_nobody_else() {
    let (house, cookie, csrf) = administered().await;
    let session = (cookie, csrf);
    let mut visitors = vec![
        Visitor { name: "nobody", token: None, may: |need, _| need == Need::Anyone },
        Visitor {
            name: "a made-up token",
            token: Some(format!("kennel_{}", "0".repeat(64))),
            may: |need, _| need == Need::Anyone,
        },
    ];
    for (name, role, scope, may) in [
        (
            "viewer",
            "viewer",
            "all",
            (|need, _| matches!(need, Need::Anyone | Need::Viewer | Need::Check)) as fn(Need, bool) -> bool,
        ),
        ("operator", "operator", "all", |need, _| need != Need::Admin),
        ("admin", "admin", "all", |_, _| true),
        ("admin who only reads", "admin", "read", |need, changes| need == Need::Anyone || !changes),
        ("admin who only imports", "admin", "import", |need, _| matches!(need, Need::Anyone | Need::Import)),
    ] {
        visitors.push(Visitor { name, token: Some(token(&house, &session, role, scope).await), may });
    }
    let revoked = token(&house, &session, "admin", "all").await;
    let list: Value =
        client().get(house.url("/api/v1/tokens")).bearer_auth(&revoked).send().await.unwrap().json().await.unwrap();
    let tokens = list.as_array().or_else(|| list["tokens"].as_array()).unwrap_or_else(|| panic!("{list:#}"));
    let id = tokens.iter().filter(|token| token["name"] == "admin all").map(|token| token["id"].as_str().unwrap());
    for id in id {
        // Both of that name: the one that stays is made anew.
        let gone = client().delete(house.url(&format!("/api/v1/tokens/{id}")));
        gone.header(header::COOKIE, &session.0).header("x-csrf-token", &session.1).send().await.unwrap();
    }
    visitors.push(Visitor { name: "a revoked token", token: Some(revoked), may: |need, _| need == Need::Anyone });
    let anew = token(&house, &session, "admin", "all").await;
    visitors.iter_mut().filter(|visitor| visitor.name == "admin").for_each(|admin| admin.token = Some(anew.clone()));

    let mut wrong = Vec::new();
    for (method, route, need) in TABLE {
        let path: String =
            route.split('/').map(|part| if part.starts_with('{') { "0" } else { part }).collect::<Vec<_>>().join("/");
        for visitor in &visitors {
            // A dry check of a file is a POST, and changes nothing.
            let changes = *method != "GET" && *need != Need::Check;
            let may = (visitor.may)(*need, changes);
            let mut request = client().request(Method::from_bytes(method.as_bytes()).unwrap(), house.url(&path));
            if let Some(token) = &visitor.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            // One's own password and sessions belong to people, not to tokens.
            let is_own = route.starts_with("/api/v1/me");
            if may == is_refused && !(is_own && may) {
                wrong.push(format!("{method} {route} ({need:?}) answers {status} to {}", visitor.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    house.close().await;
}

#[tokio::test]
async fn every_page_is_open_to_whom_it_is_for_and_to_nobody_else() {
    let (house, cookie, csrf) = administered().await;
    let mut visitors: Vec<(&str, Option<Session>, May)> = vec![("nobody", None, |need| need == Need::Anyone)];
    for (role, may) in [
        ("viewer", (|need| matches!(need, Need::Anyone | Need::Viewer | Need::Check)) as May),
        ("operator", |need| need != Need::Admin),
        ("admin", |_| true),
    ] {
        let body = json!({ "name": format!("bob-{role}"), "role": role, "password": PASSWORD });
        let request = client().post(house.url("/api/v1/people")).header(header::COOKIE, &cookie);
        let answer = request.header("x-csrf-token", &csrf).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
        visitors.push((role, Some(log_in(&house, &format!("bob-{role}"), PASSWORD).await), may));
    }
    let mut wrong = Vec::new();
    for (method, route, need) in kennel_web::access::TABLE {
        // Logging out would end the test; set-up is over, and a provider's answer that nobody asked for is refused.
        if matches!(*route, "/logout" | "/account/sessions" | "/setup" | "/login/sign-on/back") {
            continue;
        }
        let path: String =
            route.split('/').map(|part| if part.starts_with('{') { "0" } else { part }).collect::<Vec<_>>().join("/");
        for (name, session, may) in &visitors {
            let mut request = client().request(Method::from_bytes(method.as_bytes()).unwrap(), house.url(&path));
            if let Some((cookie, csrf)) = session {
                request = request.header(header::COOKIE, cookie).header("x-csrf-token", csrf);
            }
            let answer = request.send().await.unwrap();
            let leads = answer.headers().get(header::LOCATION).map_or("", |place| place.to_str().unwrap());
            let is_refused = match answer.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
                status => status == StatusCode::SEE_OTHER && leads.starts_with("/login"),
            };
            if may(*need) == is_refused {
                wrong.push(format!("{method} {route} ({need:?}) answers {} {leads} to {name}", answer.status()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    house.close().await;
}

#[tokio::test]
async fn a_session_begins_anew_at_login_and_its_cookie_is_not_for_scripts_or_other_sites() {
    let (house, _, _) = administered().await;
    let planted = "kennel-0=AAAAAAAAAAAAAAAAAAAAAA";
    let answer = client()
        .post(house.url("/login"))
        .header(header::COOKIE, planted)
        .form(&[("name", "ann"), ("password", PASSWORD)])
        .send()
        .await
        .unwrap();
    let set = answer.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(set.contains(flag), "{flag} is missing in {set}");
    }
    let first = cookie(&answer);
    assert!(!first.ends_with("AAAAAAAAAAAAAAAAAAAAAA"));
    // A session that is known already is not kept either.
    let page = client().get(house.url("/")).header(header::COOKIE, &first).send().await.unwrap().text().await.unwrap();
    let form = [("name", "ann"), ("password", PASSWORD), ("_csrf", &csrf_of(&page))];
    let again = client().post(house.url("/login")).header(header::COOKIE, &first).form(&form).send().await.unwrap();
    assert_ne!(cookie(&again), first, "the session's identity changes at login");
    house.close().await;
}

#[tokio::test]
async fn a_change_needs_the_sessions_own_token_and_comes_from_these_pages() {
    let (house, cookie, csrf) = administered().await;
    let halt = || client().post(house.url("/api/v1/halt")).header(header::COOKIE, &cookie);
    let status = async |request: RequestBuilder| request.send().await.unwrap().status();
    assert_eq!(status(halt()).await, StatusCode::FORBIDDEN);
    assert_eq!(status(halt().header("x-csrf-token", "guessed")).await, StatusCode::FORBIDDEN);
    let foreign = halt().header("x-csrf-token", &csrf).header(header::ORIGIN, "https://evil.example");
    assert_eq!(status(foreign).await, StatusCode::FORBIDDEN);
    assert_eq!(status(halt().header("x-csrf-token", &csrf)).await, StatusCode::ACCEPTED);
    let (_, other) = log_in(&house, "ann", PASSWORD).await;
    assert_eq!(status(halt().header("x-csrf-token", &other)).await, StatusCode::FORBIDDEN, "another login's token");
    house.close().await;
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down_and_says_the_same_of_names_that_exist_and_that_do_not() {
    let (house, _, _) = administered().await;
    let guess = async |name: &str| {
        let answer =
            client().post(house.url("/login")).form(&[("name", name), ("password", "wrong")]).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap().replace(name, ""))
    };
    let (known, unknown) = (guess("ann").await, guess("bob").await);
    assert_eq!(known.0, StatusCode::UNAUTHORIZED);
    assert!(known == unknown, "the answer tells which names exist");
    let mut slowed = false;
    for _ in 0..12 {
        slowed |= guess("ann").await.0 == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(slowed, "twelve guesses in a row were all looked at");
    house.close().await;
}

#[tokio::test]
async fn sessions_end_with_the_account_and_set_up_happens_once() {
    let (house, cookie, csrf) = administered().await;
    let form = [("name", "eve"), ("password", PASSWORD), ("again", PASSWORD)];
    client().post(house.url("/setup")).form(&form).send().await.unwrap();
    let accounts = house.controller.accounts().await.unwrap();
    assert_eq!(accounts.len(), 1, "nobody else sets Kennel up: {accounts:?}");
    assert_eq!(accounts[0].role, Role::Admin);
    let me = async |cookie: &str| {
        client().get(house.url("/api/v1/me")).header(header::COOKIE, cookie).send().await.unwrap().status()
    };
    assert_eq!(me(&cookie).await, StatusCode::OK);
    let out = client().post(house.url("/logout")).header(header::COOKIE, &cookie).form(&[("_csrf", csrf)]).send().await;
    assert_eq!(out.unwrap().status(), StatusCode::SEE_OTHER);
    assert_eq!(me(&cookie).await, StatusCode::UNAUTHORIZED, "a cookie that was logged out");
    for next in ["https://evil.example/", "//evil.example", "/\\evil.example"] {
        let form = [("name", "ann"), ("password", PASSWORD), ("next", next)];
        let answer = client().post(house.url("/login")).form(&form).send().await.unwrap();
        let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert!(
            place.starts_with('/') && !place.starts_with("//") && !place.contains("evil"),
            "{next} leads to {place}"
        );
    }
    house.close().await;
}
