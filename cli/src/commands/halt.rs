//! `kennel halt`: the red button from a terminal.

use std::process::ExitCode;

use kennel_model::api::{HaltView, RunSummary};

use super::{Failure, print, print_json};
use crate::client::Client;
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
    if json {
        print_json(&halted);
    } else if halted.halted.is_empty() {
        print("nothing was running");
    } else {
        let ids: Vec<String> = halted.halted.iter().map(ToString::to_string).collect();
        print(&format!("halting {}", ids.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}
