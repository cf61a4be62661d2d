//! `kennel compare A B`: two runs side by side.

use std::process::ExitCode;

use kennel_model::api::ComparisonView;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;
use crate::report;

pub(super) async fn run(places: &Places, a: &str, b: &str, all: bool, json: bool) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let comparison: Result<ComparisonView, Failure> = client.get(&format!("/compare?a={a}&b={b}")).await;
    client.close().await;
    let comparison = comparison?;
    if json {
        print_json(&comparison);
    } else {
        print(&report::comparison(&comparison, all));
    }
    Ok(ExitCode::SUCCESS)
}
