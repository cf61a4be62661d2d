//! `kennel runs`: the history, newest first.

use std::process::ExitCode;

use kennel_model::api::RunSummary;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;
use crate::report;

pub(super) async fn run(places: &Places, limit: u32, json: bool) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let runs: Result<Vec<RunSummary>, Failure> = client.get(&format!("/runs?limit={limit}")).await;
    client.close().await;
    let runs = runs?;
    if json {
        print_json(&runs);
    } else {
        print(&report::runs(&runs));
    }
    Ok(ExitCode::SUCCESS)
}
