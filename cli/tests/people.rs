//! Accounts, tokens and invitations by the real command and the real server: who may do what, until when, and that no
//! secret is written down anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;
use support::provider::files_with;
use support::visitor::Visitor;
use support::{Kennel, Serving, ask, text};

const PASSWORD: &str = "seven unrelated words";
const OTHER_PASSWORD: &str = "eight other words, unrelated";

/// Runs a command with a text on its standard input.
fn tell(kennel: &Kennel, arguments: &[&str], input: &str) -> Output {
    let mut command = kennel.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Asserts that a command is refused with this exit code and says why on standard error, and nothing on standard output.
fn refused(output: &Output, code: i32, why: &str) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "--- stdout\n{out}\n--- stderr\n{err}");
    assert!(err.contains(why) && out.is_empty(), "`{why}` is missing\n--- stdout\n{out}\n--- stderr\n{err}");
}

fn add(kennel: &Kennel, name: &str, role: &str) {
    let output = tell(kennel, &["user", "add", name, "--role", role, "--password-stdin"], &format!("{PASSWORD}\n"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// A house with an admin `ada`, an operator `bob` and a viewer `vic`, served with everything logged.
fn house() -> (Kennel, Serving, PathBuf) {
    let kennel = Kennel::new();
    add(&kennel, "ada", "admin");
    let log = kennel.dir().join("kennel.log");
    let mut command = kennel.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("KENNEL_LOG", "trace").stderr(std::fs::File::create(&log).unwrap());
    let serving = kennel.serve_with(command);
    add(&kennel, "bob", "operator");
    add(&kennel, "vic", "viewer");
    (kennel, serving, log)
}

/// Logs in and gives the answer's status: 303 where it worked.
async fn log_in(serving: &Serving, visitor: &mut Visitor, name: &str, password: &str) -> u16 {
    visitor.send_form(&format!("{}/login", serving.url), &[("name", name), ("password", password)]).await.status
}

/// Whether a visitor's session works.
async fn is_in(serving: &Serving, visitor: &mut Visitor) -> bool {
    visitor.get(&format!("{}/account", serving.url)).await.status == 200
}

/// Who a token's holder is, or why it is refused.
fn holder(serving: &Serving, token: &str) -> Result<Value, (u16, String)> {
    let (status, answer) = ask("GET", &format!("{}/api/v1/me", serving.url), Some(token), None);
    if status == 200 { Ok(answer) } else { Err((status, answer["error"].as_str().unwrap().to_owned())) }
}

/// Makes a token by the command, as the owner of another one or as `local`.
fn token(kennel: &Kennel, by: Option<(&Serving, &str)>, arguments: &[&str]) -> Result<String, Output> {
    let mut command = kennel.command(&[&["token", "create"], arguments].concat());
    if let Some((serving, token)) = by {
        command.env("KENNEL_SERVER", &serving.url).env("KENNEL_TOKEN", token);
    }
    let output = command.output().unwrap();
    if output.status.success() { Ok(text(&output.stdout).trim().to_owned()) } else { Err(output) }
}

/// A token of a person's own, made on the page for it.
async fn own_token(serving: &Serving, visitor: &mut Visitor, role: &str, scope: &str) -> String {
    let address = format!("{}/tokens", serving.url);
    let csrf = visitor.get(&address).await.between("name=\"_csrf\" value=\"", "\"");
    let fields = [("_csrf", csrf.as_str()), ("name", "mine"), ("role", role), ("scope", scope), ("days", "30")];
    let page = visitor.send_form(&address, &fields).await;
    assert_eq!(page.status, 201, "{}", page.text);
    page.between("<pre id=\"secret\">", "</pre>")
}

/// Writes into the database behind Kennel's back: time does not pass faster for a test.
async fn rewrite(kennel: &Kennel, text: &'static str) {
    let file = kennel.dir().join("kennel.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut database = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    assert_eq!(sqlx::query(text).execute(&mut database).await.unwrap().rows_affected(), 1, "{text}");
    database.close().await.unwrap();
}

#[test]
fn accounts_are_kept_by_command_and_the_last_admin_stays() {
    let kennel = Kennel::new();
    assert!(kennel.expect(0, &["user", "list"]).contains("`kennel user add NAME --role admin` makes the first"));
    refused(&kennel.run(&["user", "add", "bob"]), 5, "the first account must be an admin");
    refused(&kennel.run(&["user", "add", "bob", "--role", "boss"]), 2, "viewer, operator");
    for (name, why) in [
        ("a b", "letters, digits and . _ - + @ only"),
        ("", "a name has 1 to 64 characters"),
        ("local", "what the audit log calls those without an account"),
        ("<script>", "letters, digits"),
    ] {
        refused(&kennel.run(&["user", "add", name, "--role", "admin"]), 2, why);
    }
    let by_stdin = ["user", "add", "ada", "--role", "admin", "--password-stdin"];
    for (password, why) in [("short\n", "10 characters"), ("", "10 characters"), ("ada ada ada ada\n", "")] {
        refused(&tell(&kennel, &by_stdin, password), 2, why);
    }
    assert_eq!(kennel.expect(0, &["user", "list", "--json"]).trim(), "[]", "nothing of that was kept");

    // Without a server the link has no host, and the command says that one is needed.
    let output = kennel.run(&["user", "add", " Ada ", "--role", "admin"]);
    assert!(text(&output.stdout).starts_with("/invitations/"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("ada chooses a password at this link, once, until 2"));
    assert!(text(&output.stderr).contains("Kennel must be running"));
    add(&kennel, "bob", "operator");
    refused(&kennel.run(&["user", "add", "BOB"]), 5, "there is an account `bob` already; choose another name");
    for arguments in [["user", "role", "ada", "viewer"].as_slice(), &["user", "disable", "ada"]] {
        refused(&kennel.run(arguments), 5, "`ada` is the only admin; make somebody else an admin first");
    }
    for arguments in [
        ["user", "role", "eve", "viewer"].as_slice(),
        &["user", "disable", "eve"],
        &["user", "enable", "../eve"],
        &["user", "password", "eve"],
    ] {
        refused(&kennel.run(arguments), 2, "`kennel user list` lists them");
    }
    kennel.expect(0, &["user", "role", "bob", "admin"]);
    kennel.expect(0, &["user", "disable", "ada"]);
    refused(&kennel.run(&["user", "role", "bob", "operator"]), 5, "`bob` is the only admin");
    kennel.expect(0, &["user", "enable", "ada"]);
    kennel.expect(0, &["user", "role", "ada", "viewer"]);
    let table = kennel.expect(0, &["user", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [["ada", "viewer", "invited", "never"], ["bob", "admin", "active", "never"]] {
        assert!(rows.iter().any(|cells| cells.starts_with(&row)), "{row:?} is not in\n{table}");
    }
    let list: Value = serde_json::from_str(&kennel.expect(0, &["user", "list", "--json"])).unwrap();
    assert_eq!(
        (&list[0]["name"], &list[0]["role"], &list[1]["role"]),
        (&"ada".into(), &"viewer".into(), &"admin".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_the_old_one_and_every_session() {
    let (kennel, serving, _) = house();
    let mut bob = Visitor::new();
    assert_eq!(log_in(&serving, &mut bob, "bob", "a wrong password").await, 401);
    assert_eq!(log_in(&serving, &mut bob, "Bob", PASSWORD).await, 303);
    assert!(is_in(&serving, &mut bob).await);
    let by_stdin = ["user", "password", "bob", "--password-stdin"];
    refused(&tell(&kennel, &by_stdin, "too short\n"), 2, "10 characters");
    assert!(is_in(&serving, &mut bob).await);
    let output = tell(&kennel, &by_stdin, &format!("{OTHER_PASSWORD}\n"));
    assert_eq!(text(&output.stderr).trim(), "bob has a new password and is logged out everywhere");
    assert!(!is_in(&serving, &mut bob).await);
    assert_eq!(log_in(&serving, &mut bob, "bob", PASSWORD).await, 401);
    assert_eq!(log_in(&serving, &mut bob, "bob", OTHER_PASSWORD).await, 303);
    assert!(is_in(&serving, &mut bob).await);
    kennel.expect(0, &["user", "role", "bob", "viewer"]);
    assert!(!is_in(&serving, &mut bob).await, "a session of the former role has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_person_is_out_at_once() {
    let (kennel, serving, _) = house();
    let mut bob = Visitor::new();
    log_in(&serving, &mut bob, "bob", PASSWORD).await;
    let token = own_token(&serving, &mut bob, "operator", "all").await;
    assert_eq!(holder(&serving, &token).unwrap()["name"], "bob (token mine)");
    let live = format!("{}/api/v1/queue/live", serving.url);
    let mut streams = [bob.stream(&live, None).await, Visitor::new().stream(&live, Some(&token)).await];
    for stream in &mut streams {
        assert!(!stream.chunk().await.unwrap().unwrap().is_empty(), "it says how things stand, and goes on");
    }
    let link = kennel.expect(0, &["user", "password", "bob"]).trim().to_owned();
    assert!(link.starts_with(&format!("{}/invitations/", serving.url)), "{link}");
    kennel.expect(0, &["user", "disable", "bob"]);
    for stream in streams {
        let end = tokio::time::timeout(Duration::from_secs(10), stream.bytes()).await;
        assert!(end.is_ok(), "what was open goes on");
    }
    assert!(!is_in(&serving, &mut bob).await);
    assert_eq!(holder(&serving, &token).unwrap_err().0, 401);
    assert!(holder(&serving, &token).unwrap_err().1.contains("belongs to an account that is disabled"));
    assert_eq!(log_in(&serving, &mut bob, "bob", PASSWORD).await, 401);
    assert_eq!(Visitor::new().get(&link).await.status, 410, "nor does a link let him in");
    // Enabled again, he logs in anew; his token works, as it was never revoked.
    kennel.expect(0, &["user", "enable", "bob"]);
    assert!(!is_in(&serving, &mut bob).await);
    assert_eq!(log_in(&serving, &mut bob, "bob", PASSWORD).await, 303);
    assert!(holder(&serving, &token).is_ok());
    // With a lower role it may do less.
    kennel.expect(0, &["user", "role", "bob", "viewer"]);
    assert_eq!(holder(&serving, &token).unwrap()["role"], "viewer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_works_once_and_not_for_ever() {
    let (kennel, serving, _) = house();
    let invite = || kennel.expect(0, &["user", "password", "vic"]).trim().to_owned();
    let first = invite();
    let second = invite();
    let mut vic = Visitor::new();
    assert_eq!(vic.get(&first).await.status, 410, "a newer link replaces the older one");
    for _ in 0..2 {
        let page = vic.get(&second).await;
        assert!(page.status == 200 && page.text.contains("For the account <strong>vic</strong>"), "{}", page.text);
    }
    for (password, again, why) in
        [(OTHER_PASSWORD, "something else", "The two passwords are not the same."), ("short", "short", "10 characters")]
    {
        let page = vic.send_form(&second, &[("password", password), ("again", again)]).await;
        assert!(page.status == 422 && page.text.contains(why), "{}", page.text);
    }
    assert_eq!(log_in(&serving, &mut Visitor::new(), "vic", PASSWORD).await, 303, "the old password still works");
    let mut other = Visitor::new();
    log_in(&serving, &mut other, "vic", PASSWORD).await;
    let taken = vic.send_form(&second, &[("password", OTHER_PASSWORD), ("again", OTHER_PASSWORD)]).await;
    assert_eq!(taken.status, 303, "{}", taken.text);
    assert!(is_in(&serving, &mut vic).await, "and is logged in");
    assert!(!is_in(&serving, &mut other).await, "other sessions have ended");
    let mut thief = Visitor::new();
    for answer in
        [thief.get(&second).await, thief.send_form(&second, &[("password", PASSWORD), ("again", PASSWORD)]).await]
    {
        assert_eq!(answer.status, 410);
        assert!(answer.text.contains("ask an admin for another one"), "{}", answer.text);
    }
    assert!(!is_in(&serving, &mut thief).await);
    assert_eq!(thief.get(&format!("{}/invitations/{}", serving.url, "0".repeat(64))).await.status, 410);

    let late = invite();
    rewrite(&kennel, "UPDATE invitations SET expires_at = '2026-01-01T00:00:00Z'").await;
    assert_eq!(thief.get(&late).await.status, 410);
    let answer = thief.send_form(&late, &[("password", PASSWORD), ("again", PASSWORD)]).await;
    assert_eq!(answer.status, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_it_is_for_from_anywhere_until_it_ends() {
    let (kennel, serving, _) = house();
    let elsewhere = Kennel::new();
    let by = |token: &str, arguments: &[&str]| {
        let mut command = elsewhere.command(arguments);
        if !token.is_empty() {
            command.env("KENNEL_TOKEN", token);
        }
        command.args(["--server", &format!("{}/", serving.url)]).output().unwrap()
    };
    refused(&by("", &["runs"]), 5, "put a token for it into the environment variable KENNEL_TOKEN");
    refused(&by("kennel_made_up", &["runs"]), 5, "this is no token of this Kennel");
    for (arguments, why) in [
        (["x", "--days", "4000"], "1 to 3650 days"),
        (["x", "--days", "-1"], "unexpected argument"),
        (["x", "--scope", "everything"], "read"),
        (["x", "--role", "boss"], "viewer, operator"),
        (["", "--role", "viewer"], "1 to 60 characters"),
    ] {
        refused(&token(&kennel, None, &arguments).unwrap_err(), 2, why);
    }
    refused(&kennel.run(&["token", "revoke", "no-such"]), 2, "`kennel token list` lists them");

    let all = token(&kennel, None, &["nightly", "--role", "operator"]).unwrap();
    let read = token(&kennel, None, &["wallboard", "--role", "viewer", "--scope", "read", "--days", "0"]).unwrap();
    let import = token(&kennel, None, &["ci", "--role", "operator", "--scope", "import", "--days", "7"]).unwrap();
    assert!(all.starts_with("kennel_") && all.len() == 7 + 64, "only the token is on standard output: {all}");

    assert_eq!(by(&all, &["runs", "--json"]).status.code(), Some(0));
    assert_eq!(by(&read, &["runs", "--json"]).status.code(), Some(0));
    refused(&by(&import, &["runs"]), 5, "this token is for `import` only");
    let results =
        elsewhere.file("junit.xml", "<testsuite name=\"s\"><testcase classname=\"c\" name=\"t\"/></testsuite>");
    let post = ["import", "results", results.to_str().unwrap(), "--suite", "checkout"];
    assert_eq!(by(&import, &post).status.code(), Some(0), "{}", text(&by(&import, &post).stderr));
    refused(&by(&read, &post), 5, "this needs the role operator");
    for arguments in [["user", "list"], ["user", "disable"]] {
        let arguments = [&arguments[..], if arguments[1] == "list" { &[] } else { &["ada"] }].concat();
        refused(&by(&all, &arguments), 5, "this needs the role admin");
    }
    refused(
        &token(&kennel, Some((&serving, &all)), &["more", "--role", "admin"]).unwrap_err(),
        5,
        "no more than its maker",
    );
    let (status, _) = ask("POST", &format!("{}/api/v1/runs", serving.url), Some(&read), Some(&json!({})));
    assert_eq!(status, 403);

    // What is listed, and what has an end.
    let list: Value = serde_json::from_str(&kennel.expect(0, &["token", "list", "--json"])).unwrap();
    let of = |name: &str| list.as_array().unwrap().iter().find(|token| token["name"] == name).unwrap().clone();
    assert_eq!(of("wallboard")["expires_at"], Value::Null);
    let days = |name: &str| {
        let moment = |field: &str| of(name)[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        (moment("expires_at") - moment("created_at")).total(jiff::Unit::Hour).unwrap() / 24.0
    };
    assert!((days("nightly") - 90.0).abs() < 0.01 && (days("ci") - 7.0).abs() < 0.01);
    assert!(of("nightly")["last_used_at"].is_string());
    let table = kennel.expect(0, &["token", "list"]);
    assert!(table.contains("wallboard") && table.contains("ever") && !table.contains(&all), "{table}");

    rewrite(&kennel, "UPDATE api_tokens SET expires_at = '2026-01-01T00:00:00Z' WHERE name = 'nightly'").await;
    assert_eq!(holder(&serving, &all).unwrap_err().0, 401);
    refused(&by(&all, &["runs"]), 5, "this token has expired; `kennel token create` makes another one");
    kennel.expect(0, &["token", "revoke", of("wallboard")["id"].as_str().unwrap()]);
    refused(&by(&read, &["runs"]), 5, "this token was revoked");
    let again = kennel.run(&["token", "revoke", of("wallboard")["id"].as_str().unwrap()]);
    refused(&again, 2, "of yours that still works");

    // Operators see and revoke their own only.
    let mut bob = Visitor::new();
    log_in(&serving, &mut bob, "bob", PASSWORD).await;
    let own = own_token(&serving, &mut bob, "operator", "all").await;
    let list = text(&by(&own, &["token", "list"]).stdout);
    assert!(list.contains("mine") && !list.contains("ci"), "{list}");
    refused(&by(&own, &["token", "revoke", of("ci")["id"].as_str().unwrap()]), 2, "there is no token");
    assert!(holder(&serving, &import).is_err_and(|(status, _)| status == 403), "it still is one");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_down() {
    let (kennel, serving, log) = house();
    let mut ada = Visitor::new();
    assert_eq!(log_in(&serving, &mut ada, "ada", "a wrong guess of mine").await, 401);
    log_in(&serving, &mut ada, "ada", PASSWORD).await;
    let cookie = ada.cookie("kennel").unwrap().to_owned();
    let token = own_token(&serving, &mut ada, "admin", "all").await;
    assert!(holder(&serving, &token).is_ok() && holder(&serving, "kennel_made_up_by_somebody").is_err());
    let link = kennel.expect(0, &["user", "password", "vic"]).trim().to_owned();
    let invitation = link.rsplit('/').next().unwrap().to_owned();
    let mut vic = Visitor::new();
    vic.get(&link).await;
    vic.send_form(&link, &[("password", "short of vic"), ("again", "")]).await;
    vic.send_form(&link, &[("password", OTHER_PASSWORD), ("again", OTHER_PASSWORD)]).await;
    tell(&kennel, &["user", "password", "bob", "--password-stdin"], "ten quite new words\n");
    let unused = kennel.expect(0, &["user", "password", "bob"]).trim().rsplit('/').next().unwrap().to_owned();
    let vics = vic.cookie("kennel").unwrap().to_owned();

    let secrets = [
        PASSWORD,
        "a wrong guess of mine",
        "kennel_made_up_by_somebody",
        "short of vic",
        OTHER_PASSWORD,
        "ten quite new words",
        &cookie,
        &vics,
        &token,
        &invitation,
        &unused,
    ];
    assert!(std::fs::metadata(&log).unwrap().len() > 10_000, "everything is logged");
    let mut told = String::new();
    for path in ["/audit-log?limit=1000", "/people", "/tokens", "/me", "/me/sessions"] {
        told.push_str(&ask("GET", &format!("{}/api/v1{path}", serving.url), Some(&token), None).1.to_string());
    }
    for path in ["/people", "/tokens", "/audit-log", "/audit-log.csv", "/account", "/settings"] {
        let page = ada.get(&format!("{}{path}", serving.url)).await;
        assert_eq!(page.status, 200, "{path}");
        told.push_str(&page.text);
    }
    for action in ["set password", "accept invitation", "create token", "log in", "fail to log in", "add account"] {
        assert!(told.contains(action), "{action} is not in the audit log");
    }
    for secret in secrets {
        assert!(!secret.is_empty() && !told.contains(secret), "{secret} is told");
        // Form encoding and JSON would write spaces otherwise.
        for written in [secret.to_owned(), secret.replace(' ', "+"), secret.replace(' ', "%20")] {
            let files = files_with(kennel.dir(), &written);
            assert_eq!(files, Vec::<PathBuf>::new(), "{written} is written down");
        }
    }
    // Only the owner of the data directory can read what commands on this machine send.
    let file = kennel.dir().join("server.json");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    assert_eq!(files_with(kennel.dir(), &serving.secret), [file]);
}

#[test]
fn links_begin_with_what_browsers_call_this_kennel() {
    let kennel = Kennel::new();
    add(&kennel, "ada", "admin");
    let command = kennel.command(&["serve", "--listen", "127.0.0.1:0", "--public-url", "https://Kennel.example.org/"]);
    let _serving = kennel.serve_with(command);
    let link = kennel.expect(0, &["user", "add", "bob"]);
    assert!(link.starts_with("https://kennel.example.org/invitations/"), "{link}");
}

#[test]
fn a_server_that_could_not_do_what_is_meant_does_not_start() {
    let kennel = Kennel::new();
    for (arguments, why) in [
        (["--listen", "0.0.0.0:0"].as_slice(), "without an admin Kennel serves loopback only"),
        (&["--public-url", "kennel.example.org"], "such as `https://kennel.example.org`"),
        (&["--oidc-admins", "qa"], "name it with --oidc-issuer"),
        (&["--oidc-issuer", "https://sso.example.org"], "--oidc-client-id"),
        (&["--oidc-issuer", "http://sso.example.org", "--oidc-client-id", "kennel"], "an https address"),
        (&["--oidc-issuer", "https://sso.example.org", "--oidc-client-id", "kennel"], "nobody could log in"),
        (&["--oidc-client-secret-file", "no-such-file"], "cannot read no-such-file"),
    ] {
        refused(&kennel.run(&[&["serve"], arguments].concat()), 2, why);
    }
}
