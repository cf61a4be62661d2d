//! Pages of notifications as a browser gets them: forms that keep what was typed, secrets that never come back, a test
//! button that posts to a real receiver, a log that is filtered by its address.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use std::net::SocketAddr;

use axum::routing::post;
use reqwest::StatusCode;
use support::House;
use support::browsing::{client, get, read, submit};
use support::scripted_agent::Script;

const HOSTILE: &str = "<script>alert(1)</script>\"'";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn house() -> House {
    House::open(Script::fast(), 0, Vec::new()).await
}

/// A receiver that takes everything.
async fn receiver() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = axum::Router::new().route("/hook", post(|| async { "taken <b>" }));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
    address
}

async fn add_webhook(house: &House, name: &str) {
    let url = format!("http://{}/hook?key=t0psecret", receiver().await);
    let form = [
        ("kind", "webhook"),
        ("name", name),
        ("url", &url),
        ("secret", SECRET),
        ("allow_private", "on"),
        ("enabled", "on"),
    ];
    let added = submit(house, "/notifications/channels", &form).await;
    assert_eq!(
        (added.status, added.location.as_str()),
        (StatusCode::SEE_OTHER, "/notifications#channels"),
        "{}",
        added.body
    );
}

#[tokio::test]
async fn an_empty_page_says_what_a_channel_is_and_how_to_add_one() {
    let house = house().await;
    let page = get(&house, "/notifications").await;
    assert_eq!(page.status, StatusCode::OK);
    page.holds(&["No channel yet", "/notifications/channels/new?kind=slack", "Nothing was sent yet"]);
    get(&house, "/notifications/rules/new").await.holds(&["A rule needs a channel to send to."]);
    get(&house, "/notifications/digest").await.holds(&["Digest preview", "Nothing ran."]);
    house.close().await;
}

#[tokio::test]
async fn a_form_that_is_wrong_says_so_beside_its_fields_and_keeps_what_was_typed() {
    let house = house().await;
    let form =
        [("kind", "webhook"), ("name", HOSTILE), ("url", "ftp://ci.example"), ("secret", "hunter2"), ("enabled", "on")];
    let page = submit(&house, "/notifications/channels", &form).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    page.holds(&[
        "id=\"url-error\"",
        "id=\"secret-error\"",
        "value=\"ftp://ci.example\"",
        "&#60;script&#62;",
        "aria-invalid=\"true\"",
    ]);
    page.lacks(&["<script>alert", "hunter2"]);

    let form = [
        ("kind", "email"),
        ("name", "m"),
        ("host", "mail.example"),
        ("port", "none"),
        ("from", "k@example.org"),
        ("to", "a@example.org\nb"),
    ];
    let page = submit(&house, "/notifications/channels", &form).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    page.holds(&["`none` is no port", "a@example.org\nb"]);

    add_webhook(&house, "ops").await;
    let form = [
        ("channel", "1"),
        ("timing", "daily"),
        ("hour", "31"),
        ("zone", "Mars"),
        ("quiet_from", "22:00"),
        ("quiet_zone", "UTC"),
        ("suite", HOSTILE),
    ];
    let page = submit(&house, "/notifications/rules", &form).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    page.holds(&["id=\"zone-error\"", "id=\"quiet_to-error\"", "`Mars` is no time zone", "value=\"22:00\""]);
    house.close().await;
}

#[tokio::test]
async fn a_channel_is_tried_out_and_its_secrets_never_come_back() {
    let house = house().await;
    add_webhook(&house, HOSTILE).await;
    let tested = submit(&house, "/notifications/channels/1/test", &[]).await;
    assert_eq!(tested.status, StatusCode::SEE_OTHER, "{}", tested.body);
    let delivery = get(&house, &tested.location).await;
    delivery.holds(&[
        "✓</span>sent",
        "Answer 200",
        "taken &#60;b&#62;",
        "webhook-signature: v1,",
        "tries this channel out",
    ]);
    let overview = get(&house, "/notifications").await;
    overview.holds(&["Test of channel &#60;script&#62;", "may reach private addresses", "?…"]);
    let form = get(&house, "/notifications/channels/1").await;
    form.holds(&["Leave it empty to keep", "value=\"\""]);
    for page in [delivery, overview, form] {
        page.lacks(&["t0psecret", &SECRET[6..], "<script>alert"]);
    }
    // What is left empty stays.
    let changed =
        submit(&house, "/notifications/channels/1", &[("name", "ops"), ("allow_private", "on"), ("enabled", "on")])
            .await;
    assert_eq!(changed.status, StatusCode::SEE_OTHER, "{}", changed.body);
    let tested = submit(&house, "/notifications/channels/1/test", &[]).await;
    get(&house, &tested.location).await.holds(&["Test of channel ops", "✓</span>sent"]);
    house.close().await;
}

#[tokio::test]
async fn a_rule_is_read_back_as_it_was_written_and_said_in_words() {
    let house = house().await;
    add_webhook(&house, "ops").await;
    let form = [
        ("channel", "1"),
        ("recovery", "on"),
        ("suite", "night & day"),
        ("branch", "main"),
        ("timing", "weekly"),
        ("day", "friday"),
        ("hour", "9"),
        ("zone", "Europe/Berlin"),
        ("quiet_from", "22:00"),
        ("quiet_to", "07:00"),
        ("quiet_zone", "UTC"),
        ("enabled", "on"),
    ];
    assert_eq!(submit(&house, "/notifications/rules", &form).await.location, "/notifications#rules");
    let words = "Send ops a digest of suite “night &#38; day” on branch “main” every Friday at 09:00 (Europe/Berlin), but not between 22:00 and 07:00 (UTC).";
    get(&house, "/notifications").await.holds(&[words, "Next digest", "/notifications/digest?rule=1"]);
    get(&house, "/notifications/digest?rule=1").await.holds(&[words]);
    let page = get(&house, "/notifications/rules/1").await;
    page.holds(&[
        "name=\"recovery\" checked",
        "value=\"friday\" selected",
        "value=\"weekly\" selected",
        "value=\"night &#38; day\"",
        "value=\"07:00\"",
    ]);
    page.lacks(&["name=\"first_failure\" checked"]);
    assert_eq!(submit(&house, "/notifications/rules/1/remove", &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(get(&house, "/notifications/rules/1").await.status, StatusCode::NOT_FOUND);
    house.close().await;
}

#[tokio::test]
async fn the_log_is_filtered_by_its_address_and_offers_to_send_again() {
    let house = house().await;
    add_webhook(&house, "first").await;
    add_webhook(&house, "second 100%").await;
    for channel in [1, 2] {
        submit(&house, &format!("/notifications/channels/{channel}/test"), &[]).await;
    }
    let page = get(&house, "/notifications?channel=2&state=sent&event=test").await;
    page.holds(&["Test of channel second 100%", "value=\"2\" selected"]);
    page.lacks(&["Test of channel first"]);
    get(&house, "/notifications?text=100%25").await.lacks(&["Test of channel first"]);
    get(&house, "/notifications?text=%25&state=failed").await.holds(&["Nothing was sent that meets these filters."]);
    get(&house, "/notifications?channel=nonsense&state=nonsense").await.holds(&["Test of channel first"]);
    let link = page.body.split("href=\"/notifications/deliveries/").nth(1).and_then(|rest| rest.split('"').next());
    let id = link.expect("a link to the delivery");
    assert_eq!(
        submit(&house, &format!("/notifications/deliveries/{id}/retry"), &[]).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(get(&house, "/notifications/deliveries/nonsense").await.status, StatusCode::NOT_FOUND);
    house.close().await;
}

#[tokio::test]
async fn the_public_url_is_checked_and_then_everything_begins_with_it() {
    let house = house().await;
    let page = submit(&house, "/notifications/settings", &[("public_url", "javascript:alert(1)")]).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    page.holds(&["id=\"public_url-error\"", "value=\"javascript:alert(1)\""]);
    get(&house, "/queue").await.holds(&[&format!("curl http://{}/api", house.address)]);
    let saved = submit(&house, "/notifications/settings", &[("public_url", "https://kennel.example/")]).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER);
    get(&house, "/notifications").await.holds(&["value=\"https://kennel.example\""]);
    get(&house, "/queue").await.holds(&["curl https://kennel.example/api"]);
    let called = read(client().get(house.url("/queue")).header("host", "kennel.example")).await;
    assert_eq!(called.status, StatusCode::OK, "Kennel answers to its name");
    house.close().await;
}

#[tokio::test]
async fn a_public_url_given_at_start_wins_and_the_page_says_why() {
    let house = House::called(Script::fast(), 0, Vec::new(), Some("https://kennel.example")).await;
    let page = get(&house, "/notifications").await;
    page.holds(&["<code>https://kennel.example</code>", "<code>--public-url</code>", "wins over anything set here"]);
    page.lacks(&["name=\"public_url\""]);
    let refused = submit(&house, "/notifications/settings", &[("public_url", "https://other.example")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused.holds(&["`https://kennel.example` was given at start, by `--public-url` or KENNEL_PUBLIC_URL, and wins"]);
    for path in ["/", "/queue", "/suites", "/calendars", "/settings/storage", "/tests", "/import"] {
        let page = get(&house, path).await;
        assert!(!page.body.contains(&format!("http://{}", house.address)), "{path}: {}", page.body);
    }
    get(&house, "/import").await.holds(&["curl -X POST 'https://kennel.example/api/v1/imports"]);
    house.close().await;
}
