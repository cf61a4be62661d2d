//! `kennel demo`: the reference system, a minute of load and faults on it, and what came of it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use kennel_model::api::StartRun;
use kennel_scenarios::library;
use reference_system::{RunningSystem, SystemOptions};

use super::run::conduct;
use super::system;
use crate::client::Client;
use crate::failure::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::output::say;
use crate::places::Places;
use crate::reference_target;
use crate::server::{Server, ServerError};

pub(super) async fn run(places: &Places, exit: bool, port: u16, json: bool) -> Result<ExitCode, Failure> {
    let mut interrupt =
        Interrupt::listen().map_err(|e| Failure::could_not_run(format!("cannot listen for signals: {e}")))?;
    if let Some(other) = Client::running(places).await? {
        return Err(Failure::could_not_run(format!(
            "another Kennel is at {} on the same data directory; stop it, or give this one its own with --data",
            other.url()
        )));
    }
    let dir = tempfile::Builder::new().prefix("kennel-demo-").tempdir();
    let dir = dir.map_err(|e| Failure::could_not_run(format!("cannot make a temporary directory: {e}")))?;
    let started = {
        let mut starting = std::pin::pin!(start_system(dir.path()));
        tokio::select! {
            started = &mut starting => started?,
            () = interrupt.came() => {
                // What is half up must come down before its directory goes.
                if let Ok(started) = starting.await {
                    started.stop().await.map_err(|e| Failure::could_not_run(e.to_string()))?;
                }
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    };
    let result = with_system(places, &started, port, exit, json, &mut interrupt).await;
    let stopped = started.stop().await;
    let code = result?;
    stopped.map_err(|e| Failure::could_not_run(e.to_string()))?;
    dir.close().map_err(|e| Failure::could_not_run(format!("cannot remove the temporary directory: {e}")))?;
    Ok(code)
}

async fn start_system(dir: &std::path::Path) -> Result<RunningSystem, Failure> {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner.set_message("starting the order system and sending a first order through it");
    let mut options = SystemOptions::new(dir.join("system"), system::launcher()?);
    options.toxiproxy_command = Some(system::proxy_command()?);
    let started = reference_system::start(options).await;
    spinner.finish_and_clear();
    started.map_err(|e| Failure::could_not_run(e.to_string()))
}

async fn with_system(
    places: &Places,
    started: &RunningSystem,
    port: u16,
    exit: bool,
    json: bool,
    interrupt: &mut Interrupt,
) -> Result<ExitCode, Failure> {
    let target = reference_target::declare(started.state());
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let file = crate::agent_file::read(places, None)?;
    let server = match Server::start(places, at(port), vec![target.clone()], file.clone()).await {
        Err(ServerError::Listen { .. }) => Server::start(places, at(0), vec![target], file).await,
        other => other,
    };
    let server = server.map_err(|e| Failure::could_not_run(e.to_string()))?;
    say(&format!("order system: {} ({} processes)", started.state().gateway, started.state().instances.len()));
    say(&format!("web pages:    {}", server.url));
    let result = async {
        let client = Client::of(&server)?;
        let demo = library::EXPERIMENTS.iter().find(|file| file.name == "demo");
        let demo = demo.ok_or_else(|| Failure::could_not_run("the library has no experiment `demo`"))?;
        let request =
            StartRun { experiment: demo.source.to_owned(), file: Some("demo.yaml".to_owned()), raw_log: None };
        conduct(&client, &request, interrupt, json).await
    }
    .await;
    if let Ok(code) = &result
        && !exit
        && *code != ExitCode::from(INTERRUPTED)
    {
        say(&format!("The web pages stay up at {} until Ctrl-C.", server.url));
        interrupt.came().await;
    }
    server.stop().await;
    result
}
