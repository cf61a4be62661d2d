//! `kennel show RUN`: one run as it was judged.

use std::process::ExitCode;

use kennel_model::api::RunDetail;
use kennel_model::run::Verdict;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;
use crate::report;

pub(super) async fn run(places: &Places, run: &str, json: bool) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let detail: Result<RunDetail, Failure> = client.get(&format!("/runs/{run}")).await;
    client.close().await;
    let detail = detail?;
    if json {
        print_json(&detail);
    } else {
        print(&report::run(&detail, None));
    }
    Ok(ExitCode::from(detail.summary.verdict.map_or(0, Verdict::exit_code)))
}
