//! The compose file: what Docker Compose makes of it, whether each service is bounded, watched and not root, and whether
//! what it tells our own containers to do is what the command understands.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr::{LoadableYamlNode as _, Yaml};
use support::{Kennel, program, text};

const PASSWORD: &str = "a-password-of-the-test";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What `docker compose config` prints: everything resolved. `None` where no Compose is installed.
fn config() -> Option<String> {
    let plugin = || {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        docker
    };
    let installed = |mut command: Command| command.arg("version").output().is_ok_and(|told| told.status.success());
    let mut compose = if installed(plugin()) {
        plugin()
    } else if installed(Command::new("docker-compose")) {
        Command::new("docker-compose")
    } else {
        return None;
    };
    let told = compose.arg("config").current_dir(repository()).env("KENNEL_ADMIN_PASSWORD", PASSWORD).output().unwrap();
    assert!(told.status.success(), "{}", text(&told.stderr));
    Some(text(&told.stdout))
}

struct Service<'a>(&'a Yaml<'a>);

impl Service<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.as_mapping_get(name)?.as_str()
    }

    fn words(&self, name: &str) -> Vec<String> {
        let words = self.0.as_mapping_get(name).and_then(Yaml::as_sequence);
        words.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let all = self.0.as_mapping_get("environment").and_then(Yaml::as_mapping);
        let pairs = all.into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value.as_str()?.to_owned()))).collect()
    }
}

#[test]
fn compose_resolves_the_file_and_each_service_is_bounded_watched_and_not_root() {
    let Some(config) = config() else {
        println!("not checked: neither `docker compose` nor `docker-compose` is installed");
        return;
    };
    let documents = Yaml::load_from_str(&config).unwrap();
    let services = documents[0].as_mapping_get("services").and_then(Yaml::as_mapping).expect("services");
    let names: Vec<&str> = services.keys().filter_map(Yaml::as_str).collect();
    for wanted in
        ["kennel", "system", "postgres", "redis", "etcd", "toxiproxy", "rabbitmq-1", "rabbitmq-2", "rabbitmq-3"]
    {
        assert!(names.contains(&wanted), "no {wanted} in {names:?}");
    }
    let kennel = Kennel::new();
    for (name, service) in services {
        let (name, service) = (name.as_str().unwrap(), Service(service));
        assert!(service.0.as_mapping_get("mem_limit").is_some(), "{name} may use all memory");
        let user = service.text("user").unwrap_or_else(|| panic!("{name} runs as whatever its image says"));
        assert!(!user.is_empty() && user != "root" && !user.starts_with("0"), "{name} runs as {user}");
        // The one that makes the first administrator ends by itself.
        assert!(name == "admin" || service.0.as_mapping_get("healthcheck").is_some(), "nobody knows how {name} is");
        if service.text("image") != Some("kennel:local") || name == "admin" {
            continue;
        }
        let command = service.words("command");
        let mut asked: Vec<&str> = command.iter().map(String::as_str).collect();
        asked.push("--help");
        let help = kennel.expect(0, &asked);
        for variable in service.environment().keys() {
            assert!(help.contains(&format!("[env: {variable}")), "{name}: no command reads {variable}\n{help}");
        }
    }
}

#[test]
fn the_first_administrator_is_made_once() {
    let Some(config) = config() else {
        println!("not checked: neither `docker compose` nor `docker-compose` is installed");
        return;
    };
    let documents = Yaml::load_from_str(&config).unwrap();
    let admin = documents[0].as_mapping_get("services").and_then(|services| services.as_mapping_get("admin"));
    let admin = Service(admin.expect("a service that makes the administrator"));
    let mut words = admin.words("entrypoint");
    words.extend(admin.words("command"));
    let kennel = Kennel::new();
    let path = format!("{}:{}", Path::new(program()).parent().unwrap().display(), std::env::var("PATH").unwrap());
    for _ in 0..2 {
        let mut command = Command::new(&words[0]);
        // Compose writes a dollar that is meant for the container twice.
        command.args(words[1..].iter().map(|word| word.replace("$$", "$")));
        command.env("PATH", &path).env("KENNEL_DATA", kennel.dir()).envs(admin.environment());
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        let users = kennel.expect(0, &["user", "list"]);
        assert_eq!(users.matches("admin").count(), 2, "one administrator, whose role is admin:\n{users}");
    }
}

#[test]
fn the_image_is_built_from_what_the_repository_has() {
    let dockerfile = std::fs::read_to_string(repository().join("deploy/Dockerfile")).unwrap();
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let version = |text: &str, before: &str| {
        let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before}")).1;
        rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>()
    };
    assert_eq!(version(&dockerfile, "FROM rust:"), version(&manifest, "rust-version = \""), "the compiler we promise");
    assert!(dockerfile.contains("cargo build --release --locked --package kennel"));
    let last_user = dockerfile.lines().rev().find_map(|line| line.strip_prefix("USER "));
    assert_eq!(last_user, Some("kennel"), "not root");
}
