//! `kennel run FILE`: one experiment, from its file to its verdict.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kennel_model::api::{StartRun, Started};
use kennel_model::run::{RunId, Verdict};

use crate::client::Client;
use crate::failure::{Failure, INTERRUPTED};
use crate::follow::follow;
use crate::interrupt::Interrupt;
use crate::output::{print, print_json, say};
use crate::places::Places;
use crate::report;

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|e| Failure::bad_input(format!("cannot read {}: {e}", file.display()), Vec::new()))
}

pub(super) async fn run(
    places: &Places,
    file: &Path,
    raw_log: Option<PathBuf>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let experiment = read(file)?;
    let mut interrupt =
        Interrupt::listen().map_err(|e| Failure::could_not_run(format!("cannot listen for signals: {e}")))?;
    let client = Client::open(places).await?;
    // The agent writes to a folder of its own; what was asked for is moved from there.
    let raw_name = raw_log.as_ref().map(|_| format!("{}.csv", RunId::new()));
    let request = StartRun { experiment, file: Some(file.display().to_string()), raw_log: raw_name.clone() };
    let result = conduct(&client, &request, &mut interrupt, json).await;
    client.close().await;
    if let (Some(path), Some(name), Ok(_)) = (raw_log, raw_name, &result) {
        deliver(&places.raw_log(&name), &path)?;
    }
    result
}

/// Moves a finished raw log to where it was asked for, also across file systems. A run that never started has none.
fn deliver(from: &Path, to: &Path) -> Result<(), Failure> {
    if !from.exists() {
        return Ok(());
    }
    let moved = std::fs::rename(from, to).or_else(|_| std::fs::copy(from, to).and_then(|_| std::fs::remove_file(from)));
    moved.map_err(|e| {
        Failure::could_not_run(format!(
            "the raw log is at {}, but cannot be moved to {}: {e}",
            from.display(),
            to.display()
        ))
    })
}

/// Starts a run, follows it to its end and prints it. Ctrl-C halts it first.
pub(super) async fn conduct(
    client: &Client,
    request: &StartRun,
    interrupt: &mut Interrupt,
    json: bool,
) -> Result<ExitCode, Failure> {
    let started: Started = client.post("/runs", request).await?;
    say(&format!("live at {}/runs/{}", client.url(), started.id));
    let mut interrupted = false;
    let detail = {
        let following = follow(client, started.id);
        let mut following = std::pin::pin!(following);
        loop {
            tokio::select! {
                detail = &mut following => break detail?,
                () = interrupt.came() => {
                    // A second Ctrl-C must not cut off the undoing, and the halt itself is quick.
                    if !std::mem::replace(&mut interrupted, true) {
                        // Refused when the run has just ended by itself, which is what following it will tell.
                        let _ = client.tell(&format!("/runs/{}/halt", started.id)).await;
                    }
                }
            }
        }
    };
    if json {
        print_json(&detail);
    } else {
        print(&report::run(&detail, client.page(detail.summary.id).as_deref()));
    }
    let code = detail.summary.verdict.map_or_else(|| Verdict::Error.exit_code(), Verdict::exit_code);
    Ok(ExitCode::from(if interrupted { INTERRUPTED } else { code }))
}
