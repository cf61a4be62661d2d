//! A system in the foreground, as containers want it: it prints what its processes write, and goes when its process goes.

#![allow(clippy::unwrap_used, reason = "a test may fail at any line")]

mod world;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use world::{eventually, launcher, runs, signal};

fn hold(dir: &Path) -> (Child, Vec<String>) {
    let mut command = Command::new(launcher().program);
    command.args(["up", "--foreground", "--dir"]).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let mut told = Vec::new();
    for line in lines {
        let last = line.contains(" instances ") && line.contains("seed");
        told.push(line);
        if last {
            break;
        }
    }
    (child, told)
}

fn pids(dir: &Path) -> Vec<u32> {
    let files = std::fs::read_dir(dir.join("run")).expect("the folder of pids").flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|kind| kind == "pid"));
    files.filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok()).collect()
}

async fn all_gone(pids: &[u32]) {
    eventually("all processes are gone", || async { (!pids.iter().any(|pid| runs(*pid))).then_some(()) }).await;
}

#[tokio::test]
async fn it_stays_until_it_is_told_to_stop_and_its_status_says_whether_all_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, told) = hold(dir.path());
    assert_eq!(told.first().map(String::as_str), Some("ready"), "{told:?}");
    let status = || {
        let asked = Command::new(launcher().program).args(["status", "--dir"]).arg(dir.path()).output().unwrap();
        asked.status.code()
    };
    assert_eq!(status(), Some(0));
    let all = pids(dir.path());
    assert!(all.len() > 20, "{all:?}");
    let one = std::fs::read_to_string(dir.path().join("run/sms-1.pid")).unwrap().trim().parse().unwrap();
    world::kill(one);
    assert_eq!(status(), Some(1), "somebody is not ready");
    signal(child.id(), Signal::SIGTERM);
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    all_gone(&all).await;
    assert!(!dir.path().join("system.json").exists());
}

#[tokio::test]
async fn it_goes_with_its_process_however_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _) = hold(dir.path());
    let all = pids(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    all_gone(&all).await;
}
