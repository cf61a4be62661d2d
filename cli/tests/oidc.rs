//! Single sign-on: the real binary against a real OpenID Connect provider. People are known by it and get the role that
//! their groups give them; whatever comes back that proves nothing lets nobody in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/person.rs"]
mod person;
mod support;

use std::time::Duration;

use browser::Browser;
use serde_json::{Value, json};
use support::provider::{CLIENT_SECRET, GROUPS, House, PASSWORD, files_with};
use support::visitor::{Answer, Visitor};
use url::Url;

fn groups(groups: &[&str]) -> Value {
    json!({ "groups": groups })
}

/// Who a visitor is here, by the page of one's own account; nobody where that leads to the login.
async fn who(house: &House, visitor: &mut Visitor) -> Option<(String, String)> {
    let page = visitor.get(&house.at("/account")).await;
    match page.location {
        Some(next) => {
            assert_eq!((page.status, next.path()), (303, "/login"));
            None
        }
        None => Some((page.between("<dt>Name</dt><dd>", "</dd>"), page.between("<dt>Role</dt><dd>", "</dd>"))),
    }
}

fn is(name: &str, role: &str) -> Option<(String, String)> {
    Some((name.to_owned(), role.to_owned()))
}

/// Asserts that an answer is the login page which says what went wrong, and that the visitor is nobody.
async fn refused(house: &House, visitor: &mut Visitor, answer: &Answer, status: u16, why: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.error().contains(why), "`{why}` is not in `{}`", answer.error());
    assert_eq!(who(house, visitor).await, None, "{why}");
}

/// Asserts that the client secret is in nothing that Kennel wrote, answers, or sent a browser to.
async fn is_discreet(house: &House, visitors: &[&Visitor]) {
    assert!(std::fs::metadata(&house.log).unwrap().len() > 10_000, "everything is logged");
    assert_eq!(files_with(house.kennel.dir(), CLIENT_SECRET), Vec::<std::path::PathBuf>::new());
    for path in ["/audit-log?limit=1000", "/people", "/tokens", "/me"] {
        assert!(!house.serving.get(path).to_string().contains(CLIENT_SECRET), "{path}");
    }
    let mut root = Visitor::new();
    root.send_form(&house.at("/login"), &[("name", "root"), ("password", PASSWORD)]).await;
    for path in ["/settings", "/settings/sign-on", "/people", "/audit-log", "/login"] {
        let page = root.get(&house.at(path)).await;
        assert!(page.status < 400 && !page.text.contains(CLIENT_SECRET), "{path}");
    }
    for address in visitors.iter().flat_map(|visitor| &visitor.asked) {
        assert!(!address.as_str().contains(CLIENT_SECRET), "{address}");
    }
    let seen = support::processes_mentioning(house.kennel.dir().to_str().unwrap());
    assert!(seen.iter().all(|line| !line.contains(CLIENT_SECRET)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_the_role_of_their_groups_and_are_known_again() {
    let house = House::new(&json!({}), GROUPS);
    support::provider::add_user(&house.kennel, "dora", "viewer", PASSWORD);
    let people = |bob: &[&str]| {
        let named = |name: &str, groups: &[&str]| json!({ "preferred_username": name, "groups": groups });
        json!({ "people": {
            "1001": named("Ann", &["staff", "qa-leads", "qa"]),
            "1002": named("bob", bob),
            "1003": named("carl", &["staff"]),
            "1004": named("dora", &["qa"]),
            "1005": { "groups": ["qa"], "email": "eve@example.org" },
            "<b>x</b> local": groups(&["sre"]),
        } })
    };
    house.provider.control(&people(&["qa"]));
    let (mut ann, mut bob, mut carl, mut dora, mut eve) =
        (Visitor::new(), Visitor::new(), Visitor::new(), Visitor::new(), Visitor::new());

    // New people.
    let back = house.sign_on(&mut ann, "1001").await;
    assert_eq!((back.status, back.location.unwrap().path()), (303, "/runs/new"), "where they wanted to go");
    assert_eq!(who(&house, &mut ann).await, is("ann", "admin"));
    house.sign_on(&mut bob, "1002").await;
    assert_eq!(who(&house, &mut bob).await, is("bob", "operator"));
    assert_eq!(bob.get(&house.at("/people")).await.status, 403);
    let back = house.sign_on(&mut carl, "1003").await;
    refused(&house, &mut carl, &back, 403, "`carl` is in no group that may use this Kennel").await;
    house.sign_on(&mut eve, "1005").await;
    assert_eq!(who(&house, &mut eve).await, is("eve@example.org", "operator"), "by address where there is no name");
    house.sign_on(&mut dora, "1004").await;
    assert_eq!(who(&house, &mut dora).await, is("dora-2", "operator"), "a name that is taken is not taken over");
    let mut odd = Visitor::new();
    house.sign_on(&mut odd, "<b>x</b> local").await;
    assert_eq!(who(&house, &mut odd).await, is("b-x--b--local", "operator"));

    // The same people again, in other browsers, and with another role.
    let mut again = Visitor::new();
    house.provider.control(&people(&["qa", "qa-leads"]));
    house.sign_on(&mut again, "1002").await;
    assert_eq!(who(&house, &mut again).await, is("bob", "admin"));
    assert_eq!(who(&house, &mut bob).await, None, "a session with the former role has ended");
    let accounts = house.serving.get("/people");
    let names: Vec<&str> = accounts.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ann", "b-x--b--local", "bob", "dora", "dora-2", "eve@example.org", "root"]);

    // Whoever is disabled here stays out, whatever the provider says.
    house.kennel.expect(0, &["user", "disable", "bob"]);
    assert_eq!(who(&house, &mut again).await, None);
    let back = house.sign_on(&mut again, "1002").await;
    refused(&house, &mut again, &back, 403, "the account `bob` is disabled").await;

    let issuer = &house.provider.issuer;
    let expected = [
        ["ann", "sign on", "account ann", &format!("new, role admin, by {issuer}")],
        ["bob", "sign on", "account bob", &format!("new, role operator, by {issuer}")],
        ["nobody", "fail to sign on", "person carl", "is in no group"],
        ["bob", "change role", "account bob", "from operator to admin, as the provider says"],
        ["bob", "sign on", "account bob", &format!("by {issuer}")],
        ["nobody", "fail to sign on", "account bob", "is disabled"],
    ];
    let acts = house.acts();
    let mut rest = acts.iter();
    for line in expected {
        let found = rest.any(|act| act[..3] == line[..3] && act[3].contains(line[3]));
        assert!(found, "{line:?} is not in its place in {acts:#?}");
    }
    is_discreet(&house, &[&ann, &bob, &carl, &dora, &eve, &again]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_nothing_lets_nobody_in() {
    let house = House::new(&json!({}), GROUPS);
    house.provider.control(&json!({ "people": { "ann": groups(&["qa"]), "mallory": groups(&["qa"]) } }));
    let with = |back: &Url, name: &str, value: Option<&str>| {
        let mut other = back.clone();
        let kept: Vec<(String, String)> = back.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
        other.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(value.map(|value| (name, value)));
        other
    };

    // Not begun here at all.
    let mut ann = Visitor::new();
    let answer = ann.get(&house.at("/login/sign-on/back?code=abc&state=def")).await;
    refused(&house, &mut ann, &answer, 403, "was not begun in this browser").await;
    let answer = ann.get(&house.at("/login/sign-on/back?state=x&error=a&error_description=Call+0800+EVIL")).await;
    refused(&house, &mut ann, &answer, 403, "was not begun in this browser").await;
    assert!(!answer.text.contains("EVIL"), "a stranger's words are not on our page");

    // Another state, or none: what a link of somebody else's login brings.
    for state in [Some("another"), Some(""), None] {
        let mut ann = Visitor::new();
        let back = house.brought(&mut ann, "ann").await;
        let answer = ann.get(with(&back, "state", state).as_str()).await;
        refused(&house, &mut ann, &answer, 403, "was not begun in this browser").await;
        let answer = ann.get(back.as_str()).await;
        refused(&house, &mut ann, &answer, 403, "was not begun in this browser").await;
    }
    let mut ann = Visitor::new();
    let back = house.brought(&mut ann, "ann").await;
    let words = with(&with(&with(&back, "state", Some("no")), "code", None), "error_description", Some("EVIL"));
    let answer = ann.get(words.as_str()).await;
    refused(&house, &mut ann, &answer, 403, "was not begun in this browser").await;
    assert!(!answer.text.contains("EVIL"), "a stranger's words are not on our page");

    // The code of somebody else's login, in a login of one's own: PKCE gives it away.
    let (mut ann, mut mallory) = (Visitor::new(), Visitor::new());
    let own = house.brought(&mut ann, "ann").await;
    let planted = house.brought(&mut mallory, "mallory").await;
    let code = planted.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let answer = ann.get(with(&own, "code", Some(&code)).as_str()).await;
    refused(&house, &mut ann, &answer, 403, "the sign-on provider refused: invalid_grant").await;

    // A login that worked does not work twice, in this browser or in another.
    let mut ann = Visitor::new();
    let back = house.brought(&mut ann, "ann").await;
    assert_eq!(ann.get(back.as_str()).await.status, 303);
    assert_eq!(who(&house, &mut ann).await, is("ann", "operator"));
    let mut thief = Visitor::new();
    let answer = thief.get(back.as_str()).await;
    refused(&house, &mut thief, &answer, 403, "was not begun in this browser").await;
    let own = house.brought(&mut thief, "mallory").await;
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let answer = thief.get(with(&own, "code", Some(&code)).as_str()).await;
    refused(&house, &mut thief, &answer, 403, "the sign-on provider refused: invalid_grant").await;

    // An answer of another provider, and one of somebody who changed their mind.
    let mut ann = Visitor::new();
    let back = house.brought(&mut ann, "ann").await;
    let answer = ann.get(with(&back, "iss", Some("https://evil.example")).as_str()).await;
    refused(&house, &mut ann, &answer, 403, "it comes from another provider").await;
    let mut ann = Visitor::new();
    let begun = ann.get(&house.at("/login/sign-on")).await;
    let page = ann.follow(begun, "").await;
    let abort = ann.get(&page.between("<a href=\"", "\"")).await;
    let back = ann.follow(abort, "/login/sign-on/back").await.location.unwrap();
    let answer = ann.get(back.as_str()).await;
    refused(&house, &mut ann, &answer, 403, "the sign-on provider refused: End-User aborted interaction").await;

    // Tokens that are wrong, each in its own way.
    for (forge, why) in [
        ("nonce", "nonce"),
        ("audience", "audience"),
        ("issuer", "issuer"),
        ("expired", "expired"),
        ("unsigned", "not to be trusted"),
        ("key", "not to be trusted"),
        ("hash", "its access token is another"),
        ("none", "it sent no ID token"),
    ] {
        house.provider.control(&json!({ "forge": forge }));
        let mut ann = Visitor::new();
        let answer = house.sign_on(&mut ann, "ann").await;
        refused(&house, &mut ann, &answer, 403, why).await;
        assert!(answer.error().contains("not to be trusted"), "{}", answer.error());
    }
    house.provider.control(&json!({ "forge": "" }));
    let mut ann = Visitor::new();
    house.sign_on(&mut ann, "ann").await;
    assert_eq!(who(&house, &mut ann).await, is("ann", "operator"), "what is right still works");

    let failures: Vec<String> =
        house.acts().into_iter().filter(|act| act[1] == "fail to sign on").map(|act| act[3].clone()).collect();
    for why in ["invalid_grant", "another provider", "aborted", "nonce", "audience", "issuer", "expired"] {
        assert!(failures.iter().any(|detail| detail.contains(why)), "{why} is not in {failures:#?}");
    }
    assert!(failures.iter().all(|detail| !detail.contains("not begun")), "a stranger cannot fill the audit log");
    is_discreet(&house, &[&ann, &thief]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_another_or_gone_keeps_nobody_from_logging_in_with_a_password() {
    let mut house = House::new(&json!({}), GROUPS);
    house.provider.control(&json!({ "people": { "ann": groups(&["qa"]) }, "issuer": "https://evil.example" }));
    let mut ann = Visitor::new();
    let answer = ann.get(&house.at("/login/sign-on")).await;
    refused(&house, &mut ann, &answer, 502, "cannot be used: ").await;
    assert!(answer.error().contains("https://evil.example") && answer.error().contains("log in with a password"));

    house.provider.control(&json!({ "issuer": "" }));
    let back = house.brought(&mut ann, "ann").await;
    house.provider.process.signal(nix::sys::signal::Signal::SIGKILL);
    house.provider.process.code(Duration::from_secs(10));
    let answer = ann.get(back.as_str()).await;
    refused(&house, &mut ann, &answer, 502, "cannot be used: ").await;

    let mut root = Visitor::new();
    root.send_form(&house.at("/login"), &[("name", "root"), ("password", PASSWORD)]).await;
    assert_eq!(who(&house, &mut root).await, is("root", "admin"));
    // Nor does leaving ask it.
    let page = root.get(&house.at("/account")).await;
    let csrf = page.between("name=\"_csrf\" value=\"", "\"");
    let left = root.send_form(&house.at("/logout"), &[("_csrf", &csrf)]).await;
    let left = root.follow(left, "").await;
    assert!(left.text.contains("You are logged out."), "{}", left.text);
    assert!(left.text.contains(&format!("{}/session/end", house.provider.issuer)), "{}", left.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_differ_in_keys_claims_and_how_they_take_the_secret() {
    let flags = ["--oidc-claim", "realm_access.roles", "--oidc-admins", "kennel-admin", "--oidc-others", "viewer"];
    let options = json!({ "algorithm": "ES256", "post": true, "inToken": true });
    let house = House::new(&options, &[&flags[..], &["--oidc-scopes", "profile,groups"]].concat());
    let roles = |roles: &[&str]| json!({ "preferred_username": "ann", "realm_access": { "roles": roles } });
    house.provider.control(&json!({ "people": { "1": roles(&["kennel-admin"]) } }));
    let mut ann = Visitor::new();
    house.sign_on(&mut ann, "1").await;
    assert_eq!(who(&house, &mut ann).await, is("ann", "admin"));

    // It has changed its key since it was asked last.
    house.provider.control(&json!({ "people": { "1": roles(&[]) }, "rotated": true }));
    let mut ann = Visitor::new();
    house.sign_on(&mut ann, "1").await;
    assert_eq!(who(&house, &mut ann).await, is("ann", "viewer"), "no group: the role of everybody else");
    is_discreet(&house, &[&ann]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_is_said_to_be_one() {
    let house = House::with(&json!({}), |provider, command| {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        std::fs::write(&file, "another secret than the provider's\n").unwrap();
        command.args(["--oidc-issuer", &provider.issuer, "--oidc-client-id", "kennel", "--oidc-label", "Our provider"]);
        command.args(["--oidc-others", "viewer"]).arg("--oidc-client-secret-file").arg(file);
    });
    let mut ann = Visitor::new();
    let answer = house.sign_on(&mut ann, "ann").await;
    refused(&house, &mut ann, &answer, 502, "its client id or client secret is wrong: tell an administrator").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sets_it_up_in_the_browser_and_somebody_logs_in() {
    let house = House::with(&json!({}), |_, _| {});
    house.provider.control(&json!({ "people": { "ann": groups(&["qa"]), "carl": groups(&[]) } }));
    let soon = Duration::from_secs(20);
    let browser = Browser::open().await;
    let log_in = async || {
        browser.client.goto(&house.at("/login?next=/settings/sign-on")).await.unwrap();
        browser.enter("Name", "root").await;
        browser.enter("Password", PASSWORD).await;
        browser.choose_in("main", "Log in").await;
        browser.reads("Redirect address for the provider", soon).await;
    };

    // The provider is asked before anything is saved.
    log_in().await;
    browser.enter("Issuer", "http://127.0.0.1:9").await;
    browser.enter("Client id", "kennel").await;
    browser.enter("Shown as", "Our provider").await;
    browser.enter("Scopes beside openid", "profile, groups").await;
    browser.enter("Groups of operators", "qa, sre").await;
    browser.choose("Save").await;
    browser.reads("cannot be used", soon).await;
    assert_eq!(browser.violations().await, Vec::<String>::new());
    browser.picture("sign-on-refused").await;
    browser.enter("Issuer", &house.provider.issuer).await;
    browser.choose("Save").await;
    browser.reads("Saved.", soon).await;
    browser.choose_in("header", "Log out").await;
    browser.reads("You are logged out.", soon).await;

    // Through the provider's own pages, and back.
    let pass = async |login: &str| {
        browser.choose_in("main", "Log in with Our provider").await;
        browser.until("the provider's page", soon, "return document.querySelector('[name=login]') !== null").await;
        browser.fill("[name=login]", login).await;
        browser.fill("[name=password]", "any").await;
        browser.click("button[type=submit]").await;
        browser
            .until("the question for consent", soon, "return document.querySelector('[value=consent]') !== null")
            .await;
        browser.click("button[type=submit]").await;
    };
    assert_eq!(browser.violations().await, Vec::<String>::new());
    pass("ann").await;
    let home = format!("return location.href === '{}'", house.at("/"));
    browser.until("back at Kennel", soon, &home).await;
    assert_eq!(browser.text("header .who a").await, "ann");
    assert_eq!(house.acts().last().unwrap()[..3], ["ann", "sign on", "account ann"]);
    browser.choose_in("header", "Log out").await;
    browser.reads("Log out at the sign-on provider too", soon).await;
    browser.picture("logged-out").await;

    // Somebody else, who may not.
    browser.client.delete_all_cookies().await.unwrap();
    browser.client.goto(&house.provider.issuer).await.unwrap();
    browser.client.delete_all_cookies().await.unwrap();
    browser.client.goto(&house.at("/login")).await.unwrap();
    pass("carl").await;
    browser.reads("is in no group that may use this Kennel", soon).await;
    assert_eq!(browser.violations().await, Vec::<String>::new());
    browser.picture("sign-on-no-role").await;
    browser.close().await;
}
