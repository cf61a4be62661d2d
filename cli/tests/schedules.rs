//! Schedules, the queue and imports from the command line, with a real `kennel serve`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

#[path = "support/database.rs"]
mod database;
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use database::Database;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{HttpProcess, Kennel, Running, Serving, eventually, text};

/// Longest that anything here may take.
const OVER: Duration = Duration::from_secs(90);

const QUICK: &str = "{version: 1, name: quick, parameters: [{name: user, default: '1', type: number}], steps: [{name: breathe, wait: 10ms}]}";

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A Kennel that keeps the suite `quick`.
fn kennel() -> Kennel {
    let kennel = Kennel::new();
    let quick = kennel.file("quick.yaml", QUICK);
    kennel.expect(0, &["file", "put", "suite", "quick", quick.to_str().unwrap()]);
    kennel
}

/// An experiment on a target of this name at a real server.
fn experiment(http: &HttpProcess, name: &str, seconds: u32, more: &str) -> String {
    let target = http.target("");
    format!(
        "version: 1\nname: {name}\ntarget: {target}\nload: {{ model: closed, users: 1, duration: {seconds}s }}\nscenarios: [{{ name: s, steps: [{{ name: version, path: /version }}] }}]\n{more}\n"
    )
}

fn keep(serving: &Serving, kind: &str, name: &str, source: &str) {
    let (status, answer) = serving.put(&format!("/files/{kind}/{name}"), &json!({ "source": source }));
    assert!((200..300).contains(&status), "{answer:#}");
}

#[test]
fn a_schedule_is_made_shown_paused_run_and_removed() {
    let kennel = kennel();
    let output = kennel.run(&["schedule", "list"]);
    assert!(text(&output.stdout).contains("no schedules; `kennel schedule add nightly"), "{output:?}");
    assert!(text(&output.stderr).contains("no `kennel serve` is running"), "{output:?}");

    let serving = kennel.serve();
    let calendar =
        json!({"name": "feast", "zone": "UTC", "windows": [{"name": "New Year", "type": "yearly", "day": "01-01"}]});
    assert_eq!(serving.post("/calendars", &calendar).0, 201);
    let add = "schedule add nightly --suite quick --cron|30 2 * * MON-FRI|--zone Europe/Berlin --set user=7 --missed catch-up --catch-up-limit 3 --overlap queue --not-during feast --priority -5";
    let mut arguments: Vec<&str> = Vec::new();
    for (at, part) in add.split('|').enumerate() {
        if at == 1 { arguments.push(part) } else { arguments.extend(part.split(' ')) }
    }
    let added = kennel.expect(0, &arguments);
    assert!(added.starts_with("nightly: suite `quick`, ") && added.contains("; next "), "{added}");
    let kept = serving.get("/schedules/nightly");
    for (field, value) in [
        ("catch_up_limit", json!(3)),
        ("missed", json!("catch-up")),
        ("overlap", json!("queue")),
        ("priority", json!(-5)),
        ("parameters", json!({"user": "7"})),
        ("calendars", json!([{"calendar": "feast", "mode": "exclude"}])),
    ] {
        assert_eq!(kept[field], value, "{field}");
    }
    assert_eq!(kennel.expect(0, &["schedule", "next", "nightly", "--count", "3"]).lines().count(), 3);
    let calendars = kennel.expect(0, &["schedule", "calendars"]);
    assert_eq!(calendars.trim(), "feast: New Year (UTC); used by nightly");

    let paused = kennel.expect(0, &["schedule", "pause", "nightly", "--until", "2999-01-01T00:00:00Z"]);
    assert!(paused.contains("paused until 2999-01-01T00:00:00Z"), "{paused}");
    assert!(kennel.expect(0, &["schedule", "next", "nightly"]).contains("paused until"));
    assert!(kennel.expect(0, &["schedule", "resume", "nightly"]).contains("; next "));

    let run = json_of(&kennel.expect(0, &["schedule", "run", "nightly", "--json"]))["id"].as_str().unwrap().to_owned();
    let shown = eventually("the run by hand has its verdict in `schedule show`", OVER, || {
        let shown = kennel.expect(0, &["schedule", "show", "nightly"]);
        shown.contains(": passed").then_some(shown)
    });
    for part in [
        "with user=7",
        "missed: catch-up with up to 3; overlap: queue; priority -5",
        "not during `feast`",
        "(started by hand, by local)",
        &run[run.len() - 8..],
    ] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    let detail = json_of(&kennel.expect(0, &["suite", "show", &run, "--json"]));
    assert_eq!((&detail["origin"], &detail["parameters"]["user"]), (&json!("schedule"), &json!("7")), "{detail:#}");

    let frozen = kennel.expect(0, &["schedule", "freeze", "--reason", "release", "--until", "2999-01-01T00:00:00Z"]);
    assert!(frozen.contains("until 2999-01-01T00:00:00Z: release"), "{frozen}");
    let list = kennel.expect(0, &["schedule", "list"]);
    assert!(list.contains("frozen by local since") && list.contains("; frozen"), "{list}");
    assert!(kennel.expect(0, &["schedule", "next", "nightly"]).contains("frozen: release"));
    kennel.expect(0, &["schedule", "thaw"]);
    assert_eq!(serving.get("/freeze")["freeze"], Value::Null);

    kennel.expect(0, &["schedule", "remove", "nightly"]);
    assert_eq!(serving.get("/schedules"), json!([]));
    assert_eq!(json_of(&kennel.expect(0, &["suite", "show", &run, "--json"]))["id"], run.as_str(), "its run stays");
}

#[test]
fn wrong_input_about_schedules_names_the_field_the_value_and_what_is_expected() {
    let kennel = kennel();
    let _serving = kennel.serve();
    let add = |more: &[&str], parts: &[&str]| {
        let mut arguments = vec!["schedule", "add", "x"];
        arguments.extend(more);
        kennel.refuses(&arguments, parts);
    };
    let daily = ["--cron", "@daily"];
    add(
        &["--suite", "quick", "--cron", "61 * * * *", "--zone", "Nowhere/City"],
        &["cron: `61 * * * *`", "expected five fields: minute, hour", "zone: there is no time zone `Nowhere/City`"],
    );
    add(&["--suite", "quick", "--cron", "0 0 31 2 *"], &["cron: `0 0 31 2 *`", "expected"]);
    add(
        &[&["--suite", "gone"], &daily[..]].concat(),
        &["subject: there is no suite `gone`; expected the name of a suite"],
    );
    add(
        &[&["--experiment", "gone"], &daily[..]].concat(),
        &["subject: there is no experiment `gone`; expected the name of an"],
    );
    add(
        &[&["--suite", "nightly"], &daily[..]].concat(),
        &["subject: suite `nightly` cannot run: unknown target `reference-system`"],
    );
    add(
        &[&["--suite", "quick", "--set", "user=many"], &daily[..]].concat(),
        &["parameters", "user", "many", "expected"],
    );
    add(&[&["--suite", "quick", "--set", "user"], &daily[..]].concat(), &["--set", "`user` is no `name=value`"]);
    add(
        &[&["--suite", "quick", "--not-during", "never"], &daily[..]].concat(),
        &["calendars[0].calendar: there is no calendar `never`; expected"],
    );
    add(&[&["--suite", "quick", "--priority", "101"], &daily[..]].concat(), &["priority: 101; expected -100 to 100"]);
    add(
        &[&["--suite", "quick", "--catch-up-limit", "51"], &daily[..]].concat(),
        &["catch_up_limit: 51 occurrences; expected 1 to 50"],
    );
    add(&[&["--suite", "quick", "--missed", "later"], &daily[..]].concat(), &["--missed", "later", "catch-up"]);
    add(&[&["--suite", "quick", "--overlap", "later"], &daily[..]].concat(), &["--overlap", "later", "replace"]);
    add(&["--suite", "quick"], &["--cron"]);
    kennel.refuses(
        &["schedule", "add", " ", "--suite", "quick", "--cron", "@daily"],
        &["name: `` is no name; expected 1 to 200"],
    );
    for command in ["show", "pause", "resume", "remove", "next", "run"] {
        kennel.refuses(
            &["schedule", command, "no/such one"],
            &["there is no schedule `no/such one`", "`kennel schedule list`"],
        );
    }
    kennel.expect(0, &["schedule", "add", "x", "--suite", "quick", "--cron", "@daily"]);
    let again = kennel.run(&["schedule", "add", "x", "--suite", "quick", "--cron", "@daily"]);
    assert!(
        !again.status.success() && text(&again.stderr).contains("another schedule is called `x`; choose another name")
    );
    for (until, why) in
        [("tomorrow", "`tomorrow` is no moment"), ("2020-01-01T00:00:00Z", "`2020-01-01T00:00:00Z` is over")]
    {
        let expected = "expected a later moment, with its offset";
        kennel.refuses(&["schedule", "pause", "x", "--until", until], &["until: ", why, expected]);
        kennel.refuses(&["schedule", "freeze", "--reason", "r", "--until", until], &["until: ", why, expected]);
    }
    kennel.refuses(&["schedule", "freeze", "--reason", " "], &["reason: ", "expected 1 to 500 printable characters"]);
}

#[test]
fn a_scheduled_experiment_fires_waits_for_its_target_runs_and_is_judged() {
    let (kennel, http) = (kennel(), HttpProcess::start());
    let serving = kennel.serve();
    keep(&serving, "experiment", "good", &experiment(&http, "good", 2, "objectives: [error_rate <= 0%]"));
    keep(&serving, "experiment", "bad", &experiment(&http, "bad", 2, "objectives: ['p50 < 1us']"));
    for (name, priority) in [("good", "1"), ("bad", "0")] {
        kennel.expect(
            0,
            &[
                "schedule",
                "add",
                name,
                "--experiment",
                name,
                "--cron",
                "* * * * *",
                "--missed",
                "once",
                "--overlap",
                "queue",
                "--priority",
                priority,
            ],
        );
    }
    serving.process.signal(Signal::SIGTERM);
    drop(serving);
    Database::open(kennel.dir()).minutes_pass(3);

    let serving = kennel.serve();
    // Both are due at once and want the same target: the one of higher priority runs, the other says why it waits.
    let mut was_queued = false;
    let ended = eventually("both have run", OVER, || {
        let queue = serving.get("/queue");
        let waiting = queue["waiting"].as_array().unwrap();
        was_queued |= waiting.iter().any(|one| {
            one["name"] == "bad"
                && one["reason"].as_str().unwrap().contains("target `http` is used by experiment `good`")
        });
        let latest = |name: &str| -> Option<Value> {
            let shown = serving.get(&format!("/schedules/{name}"));
            shown["latest"].as_array()?.iter().find(|one| one["verdict"].is_string()).cloned()
        };
        Some((latest("good")?, latest("bad")?))
    });
    assert!(was_queued, "the one of lower priority never waited for the target");
    assert_eq!((&ended.0["verdict"], &ended.1["verdict"]), (&json!("passed"), &json!("failed")), "{ended:#?}");
    for (name, word) in [("good", "passed"), ("bad", "failed")] {
        let shown = kennel.expect(0, &["schedule", "show", name]);
        assert!(shown.contains("started, run ") && shown.contains(&format!(": {word}\n")), "{shown}");
        assert!(shown.contains("missed (Kennel was down or busy"), "what one run made up for is told: {shown}");
        // The next minute may just have brought another run.
        eventually("the list tells how the last one ended", OVER, || {
            kennel.expect(0, &["schedule", "list"]).contains(&format!("; last {word}")).then_some(())
        });
    }
    let run = ended.1["run"].as_str().unwrap();
    let code = kennel.run(&["show", run, "--json"]);
    assert_eq!(code.status.code(), Some(1), "the verdict of a scheduled run is a run's as any other");
    let shown = json_of(&text(&code.stdout));
    assert_eq!((&shown["name"], &shown["state"]), (&json!("bad"), &json!("judged")), "{shown:#}");
    let runs = kennel.expect(0, &["runs"]);
    assert!(runs.contains("good") && runs.contains("bad"), "{runs}");
}

#[test]
fn the_queue_tells_place_and_reason_and_lets_go_and_pass() {
    let (kennel, http) = (kennel(), HttpProcess::start());
    let serving = kennel.serve();
    assert_eq!(kennel.expect(0, &["queue"]).trim(), "nothing runs and nothing waits");
    let holder = serving.start(&experiment(&http, "holder", 60, ""));
    eventually("the first holds the target", OVER, || {
        kennel.expect(0, &["queue"]).contains("runs     experiment `holder`").then_some(())
    });
    let second = serving.start(&experiment(&http, "second", 1, ""));
    let third = serving.start(&experiment(&http, "third", 1, ""));
    let queue = eventually("two wait", OVER, || {
        let queue = kennel.expect(0, &["queue"]);
        (queue.lines().count() == 3).then_some(queue)
    });
    let lines: Vec<&str> = queue.lines().collect();
    let short = |id: &str| id.replace('-', "")[24..].to_owned();
    for (line, place, name) in [(1, 1, "second"), (2, 2, "third")] {
        let begin = format!("waits  {place} experiment `{name}`, run ");
        assert!(lines[line].starts_with(&begin), "{queue}");
        assert!(lines[line].contains("target `http` is used by experiment `holder`, run "), "{queue}");
    }
    assert!(lines[2].contains("; 1 ahead of it"), "{queue}");
    let view = json_of(&kennel.expect(0, &["queue", "--json"]));
    assert_eq!(
        (&view["waiting"][1]["position"], &view["waiting"][1]["held_by"]),
        (&json!(2), &json!(holder)),
        "{view:#}"
    );

    kennel.expect(0, &["queue", "front", &third]);
    assert!(kennel.expect(0, &["queue"]).lines().nth(1).unwrap().contains("`third`"));
    kennel.expect(0, &["queue", "cancel", &short(&second)]);
    eventually("the cancelled one is gone", OVER, || {
        (!kennel.expect(0, &["queue"]).contains("`second`")).then_some(())
    });
    let cancelled = eventually("it is judged", OVER, || {
        let run = serving.get(&format!("/runs/{second}"));
        (run["state"] == "judged").then_some(run)
    });
    assert_eq!(cancelled["verdict"], "halted", "{cancelled:#}");
    for command in ["cancel", "front"] {
        kennel.refuses(&["queue", command, "nothing"], &["no run `nothing` waits; `kennel queue` lists what does"]);
        kennel.refuses(&["queue", command, &holder], &["waits; `kennel queue` lists"]);
        kennel.refuses(&["queue", command], &["<RUN>"]);
    }
    kennel.expect(0, &["halt", &holder]);
    let third = eventually("the last one runs", OVER, || {
        let run = serving.get(&format!("/runs/{third}"));
        (run["state"] == "judged").then_some(run)
    });
    assert_eq!(third["verdict"], "passed", "{third:#}");
}

#[test]
fn a_run_that_must_wait_says_why_at_the_terminal() {
    let (kennel, http) = (kennel(), HttpProcess::start());
    let serving = kennel.serve();
    let holder = serving.start(&experiment(&http, "holder", 60, ""));
    eventually("the first holds the target", OVER, || kennel.expect(0, &["queue"]).contains("`holder`").then_some(()));
    let file = kennel.file("waits.yaml", &experiment(&http, "waits", 1, ""));
    let suite = kennel.file(
        "suite.yaml",
        &format!(
            "{{version: 1, name: suite, target: {}, steps: [{{name: up, check: {{url: /version}}}}]}}",
            http.target("")
        ),
    );
    let follow = |arguments: &[&str]| {
        let mut command = kennel.command(arguments);
        let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
        let told = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("waits, place "));
        (running, told.expect("it says why it waits before it ends"), lines)
    };
    let (mut run, told, rest) = follow(&["run", file.to_str().unwrap()]);
    assert!(
        told.starts_with("waits, place 1 in the queue: target `http` is used by experiment `holder`, run "),
        "{told}"
    );
    let (mut suite, suite_told, suite_rest) = follow(&["suite", "run", suite.to_str().unwrap()]);
    assert!(
        suite_told.starts_with("waits, place 2 in the queue: target `http` is used by experiment `holder`"),
        "{suite_told}"
    );
    kennel.expect(0, &["halt", &holder]);
    assert_eq!((run.code(OVER), suite.code(OVER)), (Some(0), Some(0)));
    // The same reason is not said again each time it is looked at.
    for said in [rest.map(Result::unwrap).collect::<Vec<_>>(), suite_rest.map(Result::unwrap).collect()] {
        assert!(said.iter().filter(|line| line.contains("`holder`")).count() <= 1, "{said:#?}");
    }
}

const JUNIT: &str = "<testsuite name='s'><testcase classname='c' name='good'/><testcase classname='c' name='bad'><failure message='no soup'>at 3</failure></testcase></testsuite>";

#[test]
fn results_are_imported_from_the_command_line() {
    let kennel = Kennel::new();
    let serving = kennel.serve();
    let good = kennel.file("good.xml", JUNIT);
    let good = good.to_str().unwrap();
    let said = kennel
        .expect(0, &["import", "results", good, "--suite", "shop", "--label", "branch:main", "--label", "nightly"]);
    assert!(
        said.starts_with("shop: failed; 1 passed, 1 failed, 0 errors, 0 skipped\n") && said.contains("/suite-runs/"),
        "{said}"
    );
    let imported =
        json_of(&kennel.expect(1, &["import", "results", good, "--suite", "shop", "--exit-by-verdict", "--json"]));
    let run = serving.get(&format!("/suite-runs/{}", imported["run"]["id"].as_str().unwrap()));
    assert_eq!(
        (&run["origin"], &run["suite"], &run["verdict"]),
        (&json!("import"), &json!("shop"), &json!("failed")),
        "{run:#}"
    );
    assert!(kennel.expect(0, &["suite", "list"]).contains("shop"));

    let mut piped = kennel.command(&["import", "results", "-", "--suite", "piped", "--format", "junit"]);
    let output = piped.stdin(std::fs::File::open(good).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let before = serving.get("/suite-runs?limit=50");
    let refused = |name: &str, content: &str, parts: &[&str]| {
        let file = kennel.file(name, content);
        kennel
            .refuses(&["import", "results", file.to_str().unwrap(), "--suite", "shop"], &[&[name][..], parts].concat());
    };
    refused("broken.xml", "<testsuite>\n<testcase name='a'>\n</testsuite>", &["was not imported", "line 3"]);
    refused("text.xml", "all tests passed", &["was not imported"]);
    refused("none.xml", "<testsuite/>", &["was not imported: it holds no test"]);
    refused(
        "entity.xml",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\n<testsuite><testcase name='&x;'/></testsuite>",
        &["was not imported", "DOCTYPE"],
    );
    kennel.refuses(&["import", "results", "no-such.xml", "--suite", "shop"], &["cannot read no-such.xml"]);
    kennel.refuses(&["import", "results", good], &["--suite"]);
    kennel.refuses(&["import", "results", good, "--suite", " "], &["suite: "]);
    kennel.refuses(&["import", "results", good, "--suite", &"x".repeat(201)], &["suite: ", "200"]);
    kennel.refuses(&["import", "results", good, "--suite", "shop", "--format", "word"], &["--format", "word", "junit"]);
    kennel
        .refuses(&["import", "results", good, "--suite", "shop", "--format", "robot"], &["good.xml was not imported"]);
    assert_eq!(serving.get("/suite-runs?limit=50"), before, "what was refused left nothing behind");
}
