//! A real OpenID Connect provider in a process of its own, and a Kennel whose people log in by it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its own part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use url::Url;

use crate::support::visitor::{Answer, Visitor};
use crate::support::{Kennel, Running, Serving, ask, free_port, test_tools};

/// What only Kennel and the provider know.
pub const CLIENT_SECRET: &str = "correct-horse-battery-staple-0123456789";
/// The password of `root`, who is an admin without any provider.
pub const PASSWORD: &str = "seven unrelated words";
/// Groups that give roles.
pub const GROUPS: &[&str] =
    &["--oidc-scopes", "profile,email,groups", "--oidc-admins", "qa-leads", "--oidc-operators", "qa,sre"];

/// The provider.
pub struct Provider {
    pub process: Running,
    pub issuer: String,
    /// Kept open: node ends when it says something that nobody hears.
    _said: BufReader<ChildStdout>,
}

impl Provider {
    /// Starts one that sends browsers back to a Kennel on this port; `options` as `oidc/provider.mjs` says.
    pub fn start(port: u16, options: &Value) -> Self {
        let mut given = json!({
            "redirect": format!("http://127.0.0.1:{port}/login/sign-on/back"),
            "secret": CLIENT_SECRET,
            "algorithm": "RS256",
        });
        for (name, value) in options.as_object().unwrap() {
            given[name] = value.clone();
        }
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/provider.mjs"))
            .args([test_tools().join("node/node_modules").to_str().unwrap(), &given.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let process = Running(child);
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("the provider does not start; run ./test once: it installs the test tools. It said: {line}")
        });
        Self { process, issuer: said["issuer"].as_str().unwrap().to_owned(), _said: output }
    }

    /// Changes what it does from now on.
    pub fn control(&self, change: &Value) {
        assert_eq!(ask("POST", &format!("{}/control", self.issuer), None, Some(change)).0, 200);
    }

    /// Does what a person does there: logs in, agrees, and is sent back; gives where to, which nobody has visited yet.
    pub async fn pass(&self, visitor: &mut Visitor, mut answer: Answer, login: &str) -> Url {
        const BACK: &str = "/login/sign-on/back";
        loop {
            answer = visitor.follow(answer, BACK).await;
            if let Some(back) = answer.location {
                return back;
            }
            assert_eq!((answer.status, answer.url.origin()), (200, Url::parse(&self.issuer).unwrap().origin()));
            let action = answer.between("action=\"", "\"");
            let fields: &[(&str, &str)] = if answer.text.contains("name=\"login\"") {
                &[("prompt", "login"), ("login", login), ("password", "any")]
            } else {
                &[("prompt", "consent")]
            };
            answer = visitor.send_form(&action, fields).await;
        }
    }
}

/// A Kennel with an admin, `root`, and its provider.
pub struct House {
    pub kennel: Kennel,
    pub provider: Provider,
    pub serving: Serving,
    /// Everything that Kennel logs, down to the last detail.
    pub log: PathBuf,
}

impl House {
    /// With the provider given at start, as the flags say beside its address and the client's id.
    pub fn new(options: &Value, flags: &[&str]) -> Self {
        Self::with(options, |provider, command| {
            let told =
                ["--oidc-issuer", &provider.issuer, "--oidc-client-id", "kennel", "--oidc-label", "Our provider"];
            command.args(told).args(flags);
        })
    }

    /// Told of the provider by `tell`, or not at all.
    pub fn with(options: &Value, tell: impl FnOnce(&Provider, &mut Command)) -> Self {
        let (kennel, port) = (Kennel::new(), free_port());
        let provider = Provider::start(port, options);
        add_user(&kennel, "root", "admin", PASSWORD);
        let log = kennel.dir().join("kennel.log");
        let mut command = kennel.command(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.env("KENNEL_OIDC_CLIENT_SECRET", CLIENT_SECRET).env("KENNEL_LOG", "trace");
        command.stderr(std::fs::File::create(&log).unwrap());
        tell(&provider, &mut command);
        let serving = kennel.serve_with(command);
        Self { kennel, provider, serving, log }
    }

    /// An address of this Kennel.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.serving.url)
    }

    /// Begins a login, as the button on the login page does, and goes through it at the provider.
    pub async fn brought(&self, visitor: &mut Visitor, login: &str) -> Url {
        let page = visitor.get(&self.at("/login?next=/runs/new")).await;
        assert!(page.text.contains("Log in with Our provider"), "{}", page.text);
        let link = page.between("id=\"sign-on\" href=\"", "\"");
        let begun = visitor.get(&self.at(&link)).await;
        assert_eq!(begun.status, 303, "{}", begun.text);
        self.provider.pass(visitor, begun, login).await
    }

    /// Logs in by the provider: the answer to what the browser brought back.
    pub async fn sign_on(&self, visitor: &mut Visitor, login: &str) -> Answer {
        let back = self.brought(visitor, login).await;
        visitor.get(back.as_str()).await
    }

    /// Lines of the audit log about signing on, oldest first: who, action, subject, detail.
    pub fn acts(&self) -> Vec<[String; 4]> {
        let acts = self.serving.get("/audit-log?limit=1000");
        let mut lines: Vec<[String; 4]> = acts
            .as_array()
            .unwrap()
            .iter()
            .map(|act| ["who", "action", "subject", "detail"].map(|field| act[field].as_str().unwrap().to_owned()))
            .collect();
        lines.reverse();
        lines
    }
}

/// Adds an account with a password by `kennel user add`.
pub fn add_user(kennel: &Kennel, name: &str, role: &str, password: &str) {
    let mut command = kennel.command(&["user", "add", name, "--role", role, "--password-stdin"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// Files below a folder that hold a text.
pub fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files_with(&entry, text));
        } else if std::fs::read(&entry).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        {
            found.push(entry);
        }
    }
    found
}
