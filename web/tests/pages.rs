//! The pages as a browser gets them: real router, real socket, real controller, an agent that plays a script.

#[allow(dead_code, reason = "each test uses its own part")]
mod support;

use std::time::Duration;

use kennel_model::api::{LibraryEntry, LiveEvent};
use kennel_model::{RunId, RunState, Verdict};
use reqwest::StatusCode;
use support::browsing::{client, get, submit};
use support::scripted_agent::Script;
use support::{House, experiment};

const HOSTILE: &str = "<script>alert(1)</script>";

fn library() -> Vec<LibraryEntry> {
    let entry = |name: &str| LibraryEntry {
        name: name.to_owned(),
        description: format!("About {name}"),
        source: experiment(name, 8),
    };
    vec![entry("soak"), entry("order demo & more")]
}

async fn house() -> House {
    House::open(Script::fast(), 0, library()).await
}

/// A house whose runs of 600 seconds take half a minute.
async fn slow_house() -> House {
    House::open(Script { rush: 0, pace: Duration::from_millis(50), ..Script::fast() }, 0, library()).await
}

#[tokio::test]
async fn an_empty_list_teaches_and_its_button_starts_the_demo() {
    let house = house().await;
    let page = get(&house, "/").await;
    assert_eq!(page.status, StatusCode::OK);
    page.holds(&["No run yet", "id=\"start-demo\"", "name: &#34;order demo &#38; more&#34;"]);

    let source = experiment("order demo & more", 8);
    let started = submit(&house, "/runs/new", &[("experiment", &source), ("file", "demo"), ("action", "start")]).await;
    assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.body);
    let page = get(&house, started.header("location")).await;
    assert_eq!(page.status, StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn the_list_shows_runs_with_verdict_and_offers_to_compare_two() {
    let house = house().await;
    let first = house.run(&experiment("shoppers", 8)).await;
    let second = house.run(&experiment("shoppers", 8)).await;
    let page = get(&house, "/").await;
    page.holds(&["<caption", "action=\"/compare\"", "id=\"compare-button\"", "data-relative"]);
    let verdict = house.controller.run(first).await.unwrap().unwrap().summary.verdict.unwrap();
    page.holds(&[&format!("class=\"badge {verdict}\"")]);
    let at = |id: RunId| page.body.find(&format!("data-run-id=\"{id}\"")).expect("a row for each run");
    assert!(at(second) < at(first), "the newer run comes first");

    let picked = get(&house, &format!("/compare?run={second}&run={first}")).await;
    assert_eq!(picked.status, StatusCode::SEE_OTHER);
    assert_eq!(picked.header("location"), format!("/compare?a={first}&b={second}"));
    house.close().await;
}

#[tokio::test]
async fn older_runs_are_a_page_away() {
    let house = house().await;
    let mut ids = Vec::new();
    for _ in 0..52 {
        ids.push(house.start(&experiment("many", 4)).await);
    }
    let page = get(&house, "/").await;
    let rows = page.body.matches("class=\"run-row").count();
    assert_eq!(rows, 50);
    let next = page
        .body
        .split("rel=\"next\" href=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a link to older runs");
    let rest = get(&house, next).await;
    assert_eq!(rest.body.matches("class=\"run-row").count(), 2, "{}", rest.body);
    rest.holds(&[&format!("data-run-id=\"{}\"", ids[0])]);
    house.close().await;
}

#[tokio::test]
async fn runs_are_found_by_name_and_verdict_and_the_choice_stays_in_the_address() {
    let house = house().await;
    let odd = house.run(&experiment("100% _odd_ & <b>", 4)).await;
    for _ in 0..51 {
        house.start(&experiment("Many shoppers", 4)).await;
    }
    let page = get(&house, "/?name=many+SHOPPERS&verdict=").await;
    page.holds(&["value=\"many SHOPPERS\""]);
    assert_eq!(page.body.matches("class=\"run-row").count(), 50);
    let next =
        page.body.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("older runs");
    assert!(next.contains("name=many"), "{next}");
    let rest = get(&house, &next.replace("&#38;", "&").replace("&amp;", "&")).await;
    assert_eq!(rest.body.matches("class=\"run-row").count(), 1, "{}", rest.body);
    assert!(!rest.body.contains(&odd.to_string()));

    // What stands for anything in SQL stands for itself here.
    for (query, found) in
        [("name=100%25+_odd_", 1), ("name=_00", 0), ("name=%25", 1), ("name=shop&verdict=nonsense", 50)]
    {
        let page = get(&house, &format!("/?{query}")).await;
        assert_eq!(page.body.matches("class=\"run-row").count(), found, "{query}");
    }
    let verdict = house.controller.run(odd).await.expect("a store").expect("a run").summary.verdict.expect("a verdict");
    let other = if verdict == Verdict::Halted { Verdict::Passed } else { Verdict::Halted };
    assert_eq!(get(&house, &format!("/?name=odd&verdict={verdict}")).await.body.matches("class=\"run-row").count(), 1);
    let none = get(&house, &format!("/?name=odd&verdict={other}")).await;
    none.holds(&["No run is like that", "href=\"/\""]);
    house.close().await;
}

#[tokio::test]
async fn a_finished_run_shows_everything_known_of_it() {
    let house = house().await;
    let earlier = house.run(&experiment("shoppers", 12)).await;
    let id = house.run(&experiment("shoppers", 12)).await;
    let page = get(&house, &format!("/runs/{id}")).await;
    assert_eq!(page.status, StatusCode::OK);
    page.holds(&[
        "id=\"verdict\"",
        "id=\"state\"",
        "data-state=\"judged\"",
        "id=\"chart-rate\"",
        "id=\"chart-errors\"",
        "id=\"chart-times\"",
        "data-follow=\"false\"",
        "orders answer late",
        "latency 200ms ± 50ms on gateway -&#62; orders",
        "p99 &#60; 400ms",
        "steady state",
        "Guards",
        "Every paid order is known to shipping",
        "Load workers",
        "Whether customers notice",
        "list products",
        "<pre class=\"source\"",
        "id=\"again\"",
    ]);
    page.holds(&[&format!("<option value=\"{earlier}\">")]);
    assert!(!page.body.contains("id=\"halt\""), "nothing is left to halt");
    house.close().await;
}

#[tokio::test]
async fn a_live_run_can_be_halted_with_one_click_and_no_script() {
    let house = slow_house().await;
    let id = house.start(&experiment("shoppers", 600)).await;
    house.until(id, |state| !matches!(state, RunState::Queued | RunState::Preparing)).await;
    let page = get(&house, &format!("/runs/{id}")).await;
    page.holds(&[
        "id=\"halt\"",
        &format!("action=\"/runs/{id}/halt\""),
        "data-follow=\"true\"",
        "id=\"progress\"",
        "id=\"load-length\"",
        ">Loading…<",
        "of 10 min",
    ]);

    let halted = submit(&house, &format!("/runs/{id}/halt"), &[]).await;
    assert_eq!(halted.status, StatusCode::SEE_OTHER);
    assert_eq!(halted.header("location"), format!("/runs/{id}?halting=1"));
    house.until(id, RunState::is_over).await;
    let page = get(&house, halted.header("location")).await;
    page.holds(&["data-verdict=\"halted\""]);

    let again = submit(&house, &format!("/runs/{id}/halt"), &[]).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "halting what is over changes nothing");
    house.close().await;
}

#[tokio::test]
async fn a_halting_run_says_so() {
    let house = slow_house().await;
    let id = house.start(&experiment("shoppers", 600)).await;
    house.until(id, |state| !matches!(state, RunState::Queued | RunState::Preparing)).await;
    get(&house, &format!("/runs/{id}?halting=1")).await.holds(&["id=\"halt\" disabled>Halting…"]);
    house.close().await;
}

#[tokio::test]
async fn the_live_stream_that_pages_follow_ends_with_the_verdict() {
    let house = slow_house().await;
    let early_fault = experiment("shoppers", 600).replace("start: 150s", "start: 20s");
    let id = house.start(&early_fault).await;
    house.until(id, |state| !matches!(state, RunState::Queued | RunState::Preparing)).await;
    let mut stream = client().get(house.url(&format!("/api/v1/runs/{id}/live"))).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(!stream.headers().contains_key("content-encoding"), "a compressed stream would be held back");
    let mut text = String::new();
    let mut told = false;
    while let Some(chunk) = stream.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&chunk));
        if !told && text.contains("\"event\":\"second\"") && text.contains("\"event\":\"fault\"") {
            told = true;
            house.controller.halt(id).await.unwrap();
        }
    }
    assert!(text.contains("\"state\":\"judged\""), "{text}");
    assert!(
        !text.lines().any(|line| line.starts_with("event:")),
        "browsers' onmessage hears unnamed events only:\n{text}"
    );
    let events: Vec<LiveEvent> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data.trim()).ok())
        .collect();
    assert!(
        events.iter().any(|event| matches!(event, LiveEvent::Second { seconds } if seconds.contains_key("all"))),
        "{text}"
    );
    assert!(events.iter().any(|event| matches!(event, LiveEvent::Fault { .. })), "{text}");
    house.close().await;
}

#[tokio::test]
async fn the_editor_is_filled_from_the_library_or_from_a_run() {
    let house = house().await;
    let blank = get(&house, "/runs/new").await;
    blank.holds(&[
        "id=\"experiment\"",
        "id=\"validate\"",
        "id=\"start\"",
        "href=\"/runs/new?from=order%20demo%20%26%20more\"",
        "About soak",
    ]);
    assert!(!blank.body.contains("scenarios:"), "the editor starts empty");

    let filled = get(&house, "/runs/new?from=order%20demo%20%26%20more").await;
    filled.holds(&["name: &#34;order demo &#38; more&#34;", "aria-current=\"true\""]);

    let id = house.run(&experiment("of a run", 4)).await;
    get(&house, &format!("/runs/new?run={id}")).await.holds(&["name: &#34;of a run&#34;"]);

    let unknown = get(&house, "/runs/new?from=nothing").await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    unknown.holds(&["The library holds no experiment named `nothing`."]);
    house.close().await;
}

#[tokio::test]
async fn every_problem_of_a_bad_file_is_listed_with_its_place_and_nothing_starts() {
    let house = house().await;
    let bad = experiment("bad", 8)
        .replace("kind: latency", "kind: latencee")
        .replace("rate: 120/s", "rate: fast")
        .replace('\n', "\r\n");
    for action in ["start", "validate"] {
        let page = submit(&house, "/runs/new", &[("experiment", &bad), ("action", action)]).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        page.holds(&[
            "id=\"problems\"",
            "2 problems",
            "data-line=\"7\"",
            ">7:13</a>",
            "load.stages[0].rate",
            "`fast` is not valid here",
            "expected a rate such as",
            "faults[0].kind",
            "latencee",
        ]);
        assert!(page.body.contains("model: open\n  stages"), "the text comes back as it was written");
    }
    assert!(house.controller.runs(10, None).await.unwrap().is_empty());
    house.close().await;
}

#[tokio::test]
async fn validating_tells_what_would_happen_and_starts_nothing() {
    let house = house().await;
    let page = submit(&house, "/runs/new", &[("experiment", &experiment("good", 90)), ("action", "validate")]).await;
    assert_eq!(page.status, StatusCode::OK);
    page.holds(&[
        "id=\"valid\"",
        "“good” would run for 1 min 30 s at up to 120/s against shop, with 2 faults and 3 objectives.",
    ]);
    assert!(house.controller.runs(10, None).await.unwrap().is_empty());
    house.close().await;
}

#[tokio::test]
async fn two_runs_are_compared_in_words_and_can_be_narrowed_to_one_request() {
    let house = house().await;
    let a = house.run(&experiment("shoppers", 12)).await;
    let b = house.run(&experiment("shoppers", 16)).await;
    let page = get(&house, &format!("/compare?a={a}&b={b}")).await;
    assert_eq!(page.status, StatusCode::OK);
    page.holds(&[
        "id=\"chart-p50\"",
        "id=\"chart-p99\"",
        "Differences",
        "whole run",
        "error rate",
        "id=\"warnings\"",
        "<option value=\"all\" selected>",
    ]);

    let whole = get(&house, &format!("/compare?a={a}&b={b}&request=")).await;
    whole.holds(&["data-request=\"all\"", "data-request=\"create order\""]);

    let narrow = get(&house, &format!("/compare?a={a}&b={b}&request=pay%20order")).await;
    narrow.holds(&["data-request=\"pay order\"", "<option value=\"pay order\" selected>"]);
    assert!(!narrow.body.contains("data-request=\"create order\""));

    get(&house, "/compare?a=last-1&b=last").await.holds(&[&format!("data-a=\"{a}\" data-b=\"{b}\"")]);
    let lonely = get(&house, &format!("/compare?run={a}")).await;
    assert_eq!(lonely.status, StatusCode::UNPROCESSABLE_ENTITY);
    lonely.holds(&["A comparison takes two runs; one was named."]);
    get(&house, "/compare?a=last").await.holds(&["A comparison takes two runs; one was named."]);
    get(&house, "/compare").await.holds(&["A comparison takes two runs; none was named."]);
    house.close().await;
}

#[tokio::test]
async fn what_does_not_exist_gets_a_page_that_helps() {
    let house = house().await;
    let unknown = "/runs/019ab4c6-6f0e-7cc1-8a43-0f6a1c2a7b11";
    for path in [unknown, "/runs/zzz", "/runs/%ff%00", "/nowhere", "/static/0/nothing.js", "/runs/zzz/halt/more"] {
        let page = get(&house, path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
        page.holds(&["id=\"problem\"", "href=\"/\"", "id=\"theme\""]);
    }
    get(&house, unknown).await.holds(&["There is no run 019ab4c6-6f0e-7cc1-8a43-0f6a1c2a7b11."]);
    assert_eq!(submit(&house, &format!("{unknown}/halt"), &[]).await.status, StatusCode::NOT_FOUND);
    let wrong = submit(&house, "/", &[]).await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    wrong.holds(&["Not possible here"]);
    house.close().await;
}

#[tokio::test]
async fn names_are_shown_and_never_run() {
    let house = house().await;
    let a = house.run(&experiment(HOSTILE, 4)).await;
    let b = house.run(&experiment(HOSTILE, 4)).await;
    let quoted = format!("/runs/{}", "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E");
    for path in [
        "/".to_owned(),
        format!("/runs/{a}"),
        format!("/runs/new?run={a}"),
        format!("/compare?a={a}&b={b}&request={HOSTILE}"),
        quoted,
    ] {
        let page = get(&house, &path).await;
        assert!(!page.body.contains(HOSTILE), "{path} lets markup through:\n{}", page.body);
        page.holds(&["&#60;script&#62;alert(1)"]);
    }
    house.close().await;
}

#[tokio::test]
async fn every_answer_carries_a_strict_policy_and_no_page_needs_less() {
    let house = house().await;
    let id = house.run(&experiment("shoppers", 8)).await;
    let pages = [
        "/".to_owned(),
        "/runs/new".to_owned(),
        format!("/runs/{id}"),
        format!("/compare?a={id}&b={id}"),
        "/nowhere".to_owned(),
    ];
    let others = [format!("/api/v1/runs/{id}"), "/favicon.ico".to_owned(), "/static/0/style.css".to_owned()];
    for path in pages.iter().chain(&others) {
        let policy = get(&house, path).await.header("content-security-policy").to_owned();
        assert!(policy.starts_with("default-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    for path in &pages {
        let page = get(&house, path).await;
        for script in page.body.split("<script").skip(1) {
            assert!(
                script.split('>').next().is_some_and(|tag| tag.contains("src=\"/static/")),
                "{path} has an inline script: {script:.80}"
            );
        }
        for banned in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.body.contains(banned), "{path} holds `{banned}`");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn pages_of_other_sites_can_start_and_halt_nothing() {
    let house = house().await;
    let form = [("experiment", experiment("foreign", 4)), ("action", "start".to_owned())];
    let answer =
        client().post(house.url("/runs/new")).header("origin", "http://evil.example").form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let answer = client().get(house.url("/")).header("host", "evil.example").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(house.controller.runs(10, None).await.unwrap().is_empty());
    house.close().await;
}

#[tokio::test]
async fn assets_have_their_type_and_are_kept_for_good_under_their_digest() {
    let house = house().await;
    let id = house.run(&experiment("shoppers", 4)).await;
    let page = get(&house, &format!("/runs/{id}")).await;
    let mut kinds = Vec::new();
    for part in page.body.split(['"', '\'']).filter(|part| part.starts_with("/static/")) {
        let asset = get(&house, part).await;
        assert_eq!(asset.status, StatusCode::OK, "{part}");
        assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable", "{part}");
        kinds.push(asset.header("content-type").to_owned());
        let known = client().get(house.url(part)).header("if-none-match", asset.header("etag")).send().await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED, "{part}");
    }
    for kind in ["text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"] {
        assert!(kinds.iter().any(|found| found == kind), "no {kind} among {kinds:?}");
    }
    assert_eq!(
        get(&house, "/static/0/style.css").await.header("cache-control"),
        "no-cache",
        "an old address must not be kept"
    );
    assert_eq!(page.header("cache-control"), "no-store");
    house.close().await;
}

#[tokio::test]
async fn modules_import_only_what_is_served() {
    let house = house().await;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/static")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "js") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for import in text.lines().filter(|line| line.starts_with("import ")) {
            let module = import.split('"').nth(1).expect("a module's address");
            let file = module.strip_prefix("./").expect("a relative address");
            let served = get(&house, &format!("/static/0/{file}")).await;
            assert_eq!(served.status, StatusCode::OK, "{} imports {module}", path.display());
        }
    }
    house.close().await;
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    for folder in ["static", "templates", "templates/parts"] {
        for entry in std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for (number, line) in text.lines().enumerate() {
                // What a field suggests is loaded by nobody.
                let line = line.replace("http://www.w3.org/2000/svg", "").replace("placeholder=\"https://", "");
                let foreign = line.contains("http://") || line.contains("https://") || line.contains("src=\"//");
                assert!(!foreign, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_chart_library_comes_with_its_version_and_license() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/static/vendor/uplot-1.6.32");
    let script = std::fs::read_to_string(format!("{folder}/uPlot.iife.min.js")).unwrap();
    assert!(script.contains("(v1.6.32)"), "the folder's name tells another version");
    assert!(std::fs::read_to_string(format!("{folder}/LICENSE")).unwrap().contains("MIT"));
}
