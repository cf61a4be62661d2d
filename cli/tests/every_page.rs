//! Every page in a real browser, full and empty, at both widths and in both themes: axe-core finds nothing against
//! WCAG 2.2 A and AA, nothing sticks out sideways, there is one h1 and a title, and the console is silent. The list of
//! pages is read from the router's source, so that a new page cannot be forgotten.
//!
//! `KENNEL_SCREENSHOTS=DIR` keeps a picture of each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/filled.rs"]
mod filled;
#[path = "support/person.rs"]
mod person;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use browser::{Browser, screenshots};
use filled::Filled;
use support::Kennel;

/// Widths of a desktop's window and a phone's.
const WIDTHS: [u32; 2] = [1440, 390];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

/// The routes in a source text that answer to GET.
fn routes_in(source: &str) -> Vec<String> {
    let mut routes = Vec::new();
    for call in source.split(".route(").skip(1) {
        let mut depth = 1_usize;
        let end = call.char_indices().find(|(_, letter)| {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let call = &call[..end.map_or(call.len(), |(at, _)| at)];
        let Some(route) = call.split('"').nth(1) else { continue };
        let method = call.split('"').nth(2).unwrap_or_default();
        if method.contains("get(") && route.starts_with('/') {
            routes.push(route.to_owned());
        }
    }
    routes
}

/// Every address that the pages answer to, as the router names it.
fn routes() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/src"), &mut files);
    let found: BTreeSet<String> =
        files.iter().flat_map(|file| routes_in(&std::fs::read_to_string(file).unwrap())).collect();
    assert!(found.len() >= 5, "{found:?}");
    found.into_iter().filter(|route| !filled::NOT_PAGES.contains(&route.as_str())).collect()
}

#[test]
fn routes_are_found_however_they_are_wrapped() {
    let source = r#"
        Router::new()
            .route("/a", get(show).post(save))
            .route(
                "/b/{id}",
                axum::routing::get(one),
            )
            .route("/c", post(only_write))
    "#;
    assert_eq!(routes_in(source), ["/a", "/b/{id}"]);
}

/// What is wrong with the page at an address, at both widths and in both themes.
async fn faults(browser: &Browser, url: &str, name: &str, address: &str) -> Vec<String> {
    browser.resize(WIDTHS[0], 900).await;
    browser.client.goto(&format!("{url}{address}")).await.unwrap();
    faults_shown(browser, name).await
}

/// As [`faults`], with the page that is open.
async fn faults_shown(browser: &Browser, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let address = browser.client.current_url().await.unwrap();
    let address = &address[url::Position::BeforePath..];
    for width in WIDTHS {
        browser.resize(width, 900).await;
        browser.complete().await;
        for theme in ["light", "dark"] {
            browser.theme(theme).await;
            for violation in browser.violations().await {
                faults.push(format!("{name} ({address}) at {width} px, {theme}: {violation}"));
            }
            if let Some(dir) = screenshots() {
                let theme = if theme == "dark" { "-dark" } else { "" };
                browser.whole_page(&dir.join(format!("{name}-{width}{theme}.png"))).await;
            }
        }
        let overflow = browser.sticks_out().await;
        if overflow > 0 {
            faults.push(format!("{name} ({address}) at {width} px: scrolls sideways by {overflow} px"));
        }
        let shape = browser.script("return [document.querySelectorAll('h1').length, document.title]").await;
        if shape[0] != 1 || shape[1].as_str().is_none_or(|title| !title.ends_with("Kennel") || title.len() < 10) {
            faults.push(format!("{name} ({address}): h1 and title are {shape}"));
        }
    }
    for complaint in browser.complaints().await {
        // The page of a problem is answered with its status, a file with problems with 422; and nobody has touched the
        // page, so the question about unsaved changes is not put.
        let expected = complaint.contains("Failed to load resource") && complaint.contains(address)
            || complaint.contains("/validate") && complaint.contains("422")
            || complaint.contains("'beforeunload'");
        if !expected {
            faults.push(format!("{name} ({address}): {complaint}"));
        }
    }
    faults
}

/// Addresses on this site that the page which is open leads to.
async fn links(browser: &Browser) -> BTreeSet<String> {
    let script = "return [...document.querySelectorAll('a[href]')].filter((a) => a.origin === location.origin)
                    .map((a) => a.pathname + a.search)";
    serde_json::from_value(browser.script(script).await).unwrap()
}

/// Those of the addresses at which nothing is.
async fn dead(browser: &Browser, links: &BTreeSet<String>) -> Vec<String> {
    let script = "
        const [links, done] = arguments;
        (async () => {
          const dead = [];
          for (const link of links) {
            const stop = new AbortController();
            const answer = await fetch(link, { signal: stop.signal });
            if (answer.status >= 400) dead.push(`${link} answers ${answer.status}`);
            stop.abort();
          }
          done(dead);
        })();";
    let found = browser.client.execute_async(script, vec![serde_json::json!(links)]).await.unwrap();
    serde_json::from_value(found).unwrap()
}

/// Looks at the pages that are made to be printed as they come out of a printer.
async fn print_reports(browser: &Browser, filled: &Filled) {
    browser.resize(1440, 900).await;
    for (name, address) in filled.reports() {
        browser.client.goto(&format!("{}{address}", filled.url())).await.unwrap();
        browser.complete().await;
        browser.theme("dark").await;
        // Narrow as a sheet of paper.
        browser.resize(720, 1000).await;
        browser.script("dispatchEvent(new Event('beforeprint'))").await;
        browser.print_media(true).await;
        let seen = "return [...document.querySelectorAll('.bar, .tabs, .filters, .button, .as-command, .crumbs, footer button')]
                      .filter((e) => e.checkVisibility()).map((e) => e.outerHTML)";
        assert_eq!(browser.script(seen).await, serde_json::json!([]), "{name}: nothing to click on is printed");
        let kept = "return [document.querySelector('h1').checkVisibility(),
                            [...document.querySelectorAll('main table')].filter((t) => t.checkVisibility()).length,
                            getComputedStyle(document.body).backgroundColor]";
        let kept = browser.script(kept).await;
        assert_eq!((&kept[0], &kept[2]), (&true.into(), &"rgb(255, 255, 255)".into()), "{name}: {kept}");
        assert!(kept[1].as_u64().unwrap() >= 1, "{name}: its tables are printed");
        // Charts are drawn anew for the new width a moment later.
        let fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        browser.until(&format!("{name} is as wide as the paper"), Duration::from_secs(5), fits).await;
        if let Some(dir) = screenshots() {
            browser.whole_page(&dir.join(format!("{name}-paper.png"))).await;
        }
        browser.print_media(false).await;
    }
}

fn report(faults: &[String]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        let _ = writeln!(text, "{fault}");
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_and_fits_when_it_is_full() {
    let filled = Filled::new();
    let browser = Browser::open().await;
    filled.log_in(&browser).await;
    let (mut wrong, mut led) = (Vec::new(), BTreeSet::new());
    for route in routes().into_iter().filter(|route| !filled::BEFORE_LOGIN.contains(&route.as_str())) {
        let addresses = filled.addresses(&route);
        assert!(!addresses.is_empty(), "no address is known for the page {route}: name one in support/filled.rs");
        for (name, address) in addresses {
            wrong.extend(faults(&browser, filled.url(), &name, &address).await);
            led.extend(links(&browser).await);
        }
    }
    wrong.extend(dead(&browser, &led).await);
    wrong.extend(faults(&browser, filled.url(), "not-found", "/runs/no-such-run").await);
    assert!(wrong.is_empty(), "{}", report(&wrong));
    print_reports(&browser, &filled).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_and_teaches_when_it_is_empty() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    let browser = Browser::open().await;
    filled::log_in(&serving, &browser).await;
    let mut wrong = Vec::new();
    // Without accounts nobody logs in.
    for route in routes().into_iter().filter(|route| !route.contains('{') && route != "/login") {
        let name = format!("empty{}", if route == "/" { "-runs".to_owned() } else { route.replace('/', "-") });
        let address = filled::address_when_empty(&route);
        wrong.extend(faults(&browser, &serving.url, &name, &address).await);
    }
    assert!(wrong.is_empty(), "{}", report(&wrong));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_let_people_in_or_turn_them_away_are_accessible() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    filled::add_people(&serving);
    let browser = Browser::open().await;
    let url = &serving.url;
    let soon = Duration::from_secs(20);
    let mut wrong = Vec::new();

    // For those who are not in.
    wrong.extend(faults(&browser, url, "login", "/people").await);
    assert_eq!(browser.text("h1").await, "Log in", "whoever is not logged in is led to the login");
    wrong.extend(faults(&browser, url, "login-left", "/login?left=1").await);
    wrong.extend(faults(&browser, url, "login-after-setup", "/setup").await);
    browser.fill("#name", "ada").await;
    browser.fill("#password", "not her password").await;
    browser.click(".login form .button").await;
    browser.reads("do not belong together", soon).await;
    wrong.extend(faults_shown(&browser, "login-wrong").await);
    let (_, invitation) = serving.post("/people/bob/invitation", &serde_json::json!({}));
    let invitation = invitation["path"].as_str().unwrap();
    wrong.extend(faults(&browser, url, "invitation", invitation).await);
    browser.fill("#password", "ten quite new words").await;
    browser.fill("#again", "and others").await;
    browser.click(".login form .button").await;
    browser.reads("The two passwords are not the same.", soon).await;
    wrong.extend(faults_shown(&browser, "invitation-wrong").await);
    browser.fill("#password", "ten quite new words").await;
    browser.fill("#again", "ten quite new words").await;
    browser.click(".login form .button").await;
    browser.until("bob is in", soon, "return document.querySelector('.who a')?.textContent === 'bob'").await;
    wrong.extend(faults(&browser, url, "invitation-gone", invitation).await);

    // For those who may not.
    filled::log_in_as(&serving, &browser, "vic").await;
    for (name, address) in [("not-allowed", "/people"), ("not-allowed-run", "/runs/new")] {
        wrong.extend(faults(&browser, url, name, address).await);
        browser.reads("`vic` has the role viewer", soon).await;
        let offered = browser.text("#problem .tools").await;
        assert_eq!(offered, "All runs", "nothing is offered that would be refused again");
    }
    for (name, address) in [("runs-viewer", "/"), ("suites-viewer", "/suites"), ("settings-viewer", "/settings")] {
        wrong.extend(faults(&browser, url, name, address).await);
        wrong.extend(dead(&browser, &links(&browser).await).await);
    }

    // What an administrator is shown once, and what goes wrong.
    filled::log_in_as(&serving, &browser, "ada").await;
    for (name, address, field, text, button, says) in [
        ("invited", "/people", "Name", "eve", "Make a one-time link", "Send this link to eve"),
        ("invited-wrong", "/people", "Name", "a b", "Make a one-time link", "letters, digits and . _ - + @ only"),
        ("token-made", "/tokens", "What it is for", "<i>nightly</i>", "Make token", "Copy it now"),
        ("token-wrong", "/tokens", "What it is for", " ", "Make token", "1 to 60 characters"),
        ("password-wrong", "/account", "Present password", "not hers", "Change password", "not your present password"),
    ] {
        browser.resize(WIDTHS[0], 900).await;
        browser.client.goto(&format!("{url}{address}")).await.unwrap();
        browser.complete().await;
        browser.enter(field, text).await;
        if address == "/account" {
            browser.fill("#new", "ten quite new words").await;
            browser.fill("#again", "ten quite new words").await;
        }
        browser.choose_in("main", button).await;
        browser.reads(says, soon).await;
        wrong.extend(faults_shown(&browser, name).await);
    }
    browser.client.goto(&format!("{url}/people")).await.unwrap();
    browser.resize(WIDTHS[0], 900).await;
    browser.script("document.querySelector('#role-ada').value = 'viewer'; document.querySelector('#role-ada').form.requestSubmit()").await;
    browser.reads("`ada` is the only admin", soon).await;
    wrong.extend(faults_shown(&browser, "people-last-admin").await);
    assert!(wrong.is_empty(), "{}", report(&wrong));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_a_mouse_gets_everywhere() {
    let filled = Filled::with_runs();
    let browser = Browser::open().await;
    filled.log_in(&browser).await;
    let url = filled.url();
    let soon = Duration::from_secs(10);
    browser.client.goto(&format!("{url}/")).await.unwrap();
    browser.complete().await;

    // The first stop is the way past the navigation, and it can be seen.
    browser.press("\u{E004}").await;
    let skip = "const e = document.activeElement; return e.textContent === 'Skip to content' && e.getBoundingClientRect().top >= 0";
    assert_eq!(browser.script(skip).await, true, "the first stop is the skip link");
    browser.press("\u{E007}").await;
    assert_eq!(browser.script("return document.activeElement.id").await, "content");

    // From there, every stop of the page shows that it has the focus.
    let mut stops = Vec::new();
    for _ in 0..40 {
        browser.press("\u{E004}").await;
        let stop = browser
            .script(
                "const e = document.activeElement, s = getComputedStyle(e);
                 return [e.textContent.trim().slice(0, 40) || e.id, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]",
            )
            .await;
        if browser.script("return document.activeElement === document.body").await == true {
            break;
        }
        assert_eq!(stop[1], true, "no focus is to be seen on {}", stop[0]);
        stops.push(stop[0].to_string());
    }
    assert!(stops.len() > 5, "{stops:?}");
    assert!(stops.iter().any(|stop| stop.contains("Start a run")), "{stops:?}");

    // Help, and the way out of it.
    browser.press("?").await;
    browser.until("the shortcuts", soon, "return document.getElementById('shortcuts').open").await;
    browser.press("\u{E00C}").await;
    browser.until("the shortcuts are closed", soon, "return !document.getElementById('shortcuts').open").await;

    // Down the list and into a run.
    browser.press("j").await;
    let first = browser.script("return document.activeElement.href").await;
    browser.press("j").await;
    let second = browser.script("return document.activeElement.href").await;
    assert!(first.as_str().unwrap().contains("/runs/") && first != second, "{first} {second}");
    browser.press("k").await;
    assert_eq!(browser.script("return document.activeElement.href").await, first);
    browser.press("\u{E007}").await;
    browser.until("the run's page", soon, "return document.getElementById('run') !== null").await;

    // A letter goes to each place, and a field swallows letters.
    let places = browser
        .script("return [...document.querySelectorAll('[data-goto]')].map((a) => [a.dataset.goto, a.pathname])")
        .await;
    let places: Vec<(String, String)> = serde_json::from_value(places).unwrap();
    assert!(places.len() >= 5, "{places:?}");
    for (key, path) in places {
        browser.complete().await;
        // In one go: on a busy machine two questions of a driver may be further apart than two keys of a person.
        browser.press(&format!("g{key}")).await;
        browser.until(&path, soon, &format!("return location.pathname === '{path}'")).await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shortcuts_can_be_switched_off() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    let browser = Browser::open().await;
    filled::log_in(&serving, &browser).await;
    browser.client.goto(&format!("{}/", serving.url)).await.unwrap();
    browser.complete().await;
    browser.click("footer [data-opens=shortcuts]").await;
    browser.click("#shortcuts-on").await;
    browser.click("#shortcuts button").await;
    browser.press("?").await;
    assert_eq!(browser.script("return document.getElementById('shortcuts').open").await, false);
    browser.client.refresh().await.unwrap();
    browser.complete().await;
    browser.press("?").await;
    assert_eq!(
        browser.script("return document.getElementById('shortcuts').open").await,
        false,
        "kept for the next page"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_opens_the_menu_without_a_script() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    let browser = Browser::open().await;
    filled::log_in(&serving, &browser).await;
    browser.resize(390, 844).await;
    browser.client.goto(&format!("{}/", serving.url)).await.unwrap();
    let seen = "return [...document.querySelectorAll('header nav a')].filter((a) => a.checkVisibility()).length";
    assert_eq!(browser.script(seen).await, 0, "closed at first");
    browser.click("#menu > summary").await;
    assert!(browser.script(seen).await.as_i64().unwrap() >= 5);
    let shape = browser.script("return document.querySelector('#menu').tagName").await;
    assert_eq!(shape, "DETAILS", "which opens without any script");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_are_shown_in_the_viewers_zone_and_the_zone_is_named() {
    let filled = Filled::with_runs();
    let browser = Browser::open().await;
    filled.log_in(&browser).await;
    browser.time_zone("Asia/Kolkata").await;
    browser.client.goto(&format!("{}/", filled.url())).await.unwrap();
    browser.complete().await;
    assert!(
        browser.text("#zone").await.contains("Asia/Kolkata (UTC+05:30)")
            || browser.text("#zone").await.contains("Asia/Calcutta (UTC+05:30)"),
        "{}",
        browser.text("#zone").await
    );
    let shown = browser
        .script(
            "const t = document.querySelector('main time:not([data-relative])');
             const at = new Date(new Date(t.dateTime).getTime() + 5.5 * 3600e3).toISOString();
             return [t.textContent, at.slice(0, 19).replace('T', ' ')]",
        )
        .await;
    assert_eq!(shown[0], shown[1]);
    browser.close().await;
}
