//! `kennel halt`: the red button from a terminal.

use std::process::ExitCode;
use std::time::Duration;

use kennel_model::api::{HaltView, RunSummary};
use kennel_model::run::RunId;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;

pub(super) async fn run(places: &Places, run: Option<String>, json: bool) -> Result<ExitCode, Failure> {
    let Some(client) = Client::running(places).await? else {
        return Err(Failure::could_not_run(format!(
            "no Kennel is running on the data directory {}; faults of one that died are reverted by its watchdog",
            places.data().display()
        )));
    };
    let halted = match run {
        Some(run) => {
            client.tell(&format!("/runs/{run}/halt")).await?;
            let summary: RunSummary = client.get(&format!("/runs/{run}")).await?;
            HaltView { halted: vec![summary.id] }
        }
        None => client.post("/halt", &serde_json::json!({})).await?,
    };
    let mut ended = Vec::new();
    for id in &halted.halted {
        ended.push(wait_until_over(&client, *id).await?);
    }
    if json {
        print_json(&ended);
    } else if ended.is_empty() {
        print("nothing was running");
    }
    for run in ended.iter().filter(|_| !json) {
        print(&format!("{} ({}): {}", run.id, run.name, run.reasons.join("; ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// A halt is done when load is off and every fault is reverted, and then the run is judged.
async fn wait_until_over(client: &Client, run: RunId) -> Result<RunSummary, Failure> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let summary: RunSummary = client.get(&format!("/runs/{run}")).await?;
        if summary.state.is_over() {
            return Ok(summary);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Failure::could_not_run(format!(
                "run {run} was told to halt and is still in state {}",
                summary.state
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
