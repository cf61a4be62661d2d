//! `kennel suite …`: runs of suites, from a file or a name to a verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use kennel_model::api::{RerunSuite, RerunWhich, StartSuite, Started, SuiteRunDetail, SuiteSummary};
use kennel_model::run::{RunId, Verdict};

use crate::arguments::SuiteArguments;
use crate::client::Client;
use crate::failure::{Failure, INTERRUPTED};
use crate::follow_suite::follow;
use crate::interrupt::Interrupt;
use crate::output::{print, print_json, say};
use crate::places::Places;
use crate::suite_report;

pub(super) async fn run(places: &Places, command: SuiteArguments) -> Result<ExitCode, Failure> {
    match command {
        SuiteArguments::Run { suite, parameters, labels, json } => {
            let mut request = StartSuite { parameters: unique(parameters)?, labels, ..StartSuite::default() };
            // A file goes before a name: what lies here is what is meant.
            if Path::new(&suite).is_file() {
                request.source = Some(super::run::read(Path::new(&suite))?);
            } else if suite.contains(['/', '.']) {
                return Err(Failure::bad_input(format!("cannot read {suite}: there is no such file"), Vec::new()));
            } else {
                request.suite = Some(suite);
            }
            conduct(places, "/suite-runs", &request, json).await
        }
        SuiteArguments::Rerun { run, failed, steps, parameters, json } => {
            let which = match (failed, steps.is_empty()) {
                (true, _) => RerunWhich::Failed,
                (false, false) => RerunWhich::Steps,
                (false, true) => RerunWhich::All,
            };
            let request = RerunSuite { which, steps, parameters: unique(parameters)? };
            conduct(places, &format!("/suite-runs/{run}/rerun"), &request, json).await
        }
        SuiteArguments::List { json } => list(places, json).await,
        SuiteArguments::Show { run, json, junit } => show(places, &run, json, junit.as_deref()).await,
    }
}

/// Values of parameters, each given once.
pub(super) fn unique(parameters: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for (name, value) in parameters {
        if values.insert(name.clone(), value).is_some() {
            return Err(Failure::bad_input(format!("--set gives `{name}` twice"), Vec::new()));
        }
    }
    Ok(values)
}

/// Starts a run, follows it to its end and prints it. Ctrl-C cancels it; its tear-down still runs.
async fn conduct<B: serde::Serialize>(
    places: &Places,
    path: &str,
    request: &B,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut interrupt =
        Interrupt::listen().map_err(|e| Failure::could_not_run(format!("cannot listen for signals: {e}")))?;
    let client = Client::open(places).await?;
    let result = follow_to_the_end(&client, path, request, &mut interrupt, json).await;
    client.close().await;
    result
}

async fn follow_to_the_end<B: serde::Serialize>(
    client: &Client,
    path: &str,
    request: &B,
    interrupt: &mut Interrupt,
    json: bool,
) -> Result<ExitCode, Failure> {
    let started: Started = client.post(path, request).await?;
    say(&format!("live at {}/suite-runs/{}", client.url(), started.id));
    let mut interruptions = 0;
    let detail = {
        let mut following = std::pin::pin!(follow(client, started.id));
        loop {
            tokio::select! {
                detail = &mut following => break detail?,
                () = interrupt.came() => {
                    interruptions += 1;
                    if interruptions == 1 {
                        say("cancelling; the tear-down still runs (Ctrl-C once more ends that too)");
                    }
                    // Refused when the run has just ended by itself, which is what following it will tell.
                    let _ = client.tell(&format!("/suite-runs/{}/cancel", started.id)).await;
                }
            }
        }
    };
    tell(client, &detail, json);
    Ok(ExitCode::from(if interruptions > 0 { INTERRUPTED } else { code(&detail) }))
}

async fn list(places: &Places, json: bool) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let suites: Result<Vec<SuiteSummary>, Failure> = client.get("/suites").await;
    client.close().await;
    let suites = suites?;
    if json {
        print_json(&suites);
    } else {
        print(&suite_report::suites(&suites));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(places: &Places, run: &str, json: bool, junit: Option<&Path>) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let detail: Result<SuiteRunDetail, Failure> = client.get(&format!("/suite-runs/{run}")).await;
    let written = match (&detail, junit) {
        (Ok(detail), Some(file)) => write_junit(&client, detail.summary.id, file).await,
        _ => Ok(()),
    };
    if let (Ok(detail), None) = (&detail, junit) {
        tell(&client, detail, json);
    }
    client.close().await;
    written?;
    Ok(ExitCode::from(if junit.is_some() { 0 } else { code(&detail?) }))
}

async fn write_junit(client: &Client, run: RunId, file: &Path) -> Result<(), Failure> {
    let xml = client.text(&format!("/suite-runs/{run}/junit")).await?;
    if file.as_os_str() == "-" {
        print(&xml);
        return Ok(());
    }
    std::fs::write(file, xml).map_err(|e| Failure::could_not_run(format!("cannot write {}: {e}", file.display())))
}

fn tell(client: &Client, detail: &SuiteRunDetail, json: bool) {
    if json {
        print_json(detail);
    } else {
        let page = client.page_at(&format!("/suite-runs/{}", detail.summary.id));
        print(&suite_report::run(detail, page.as_deref()));
    }
}

fn code(detail: &SuiteRunDetail) -> u8 {
    detail.summary.verdict.map_or(0, Verdict::exit_code)
}
