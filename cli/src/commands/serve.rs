//! `kennel serve`: the web pages and the API, with an agent on this machine, until told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::places::Places;
use crate::server::Server;

pub(super) async fn run(places: &Places, listen: SocketAddr, agent_config: Option<&Path>) -> Result<ExitCode, Failure> {
    if !listen.ip().is_loopback() {
        return Err(Failure::bad_input(
            format!(
                "{listen} would let the whole network start load and faults: Kennel has no accounts yet and serves loopback only; reach it through an SSH tunnel"
            ),
            Vec::new(),
        ));
    }
    let mut interrupt =
        Interrupt::listen().map_err(|e| Failure::could_not_run(format!("cannot listen for signals: {e}")))?;
    let file = crate::agent_file::read(places, agent_config)?;
    let server = Server::start(places, listen, Vec::new(), file).await;
    let server = server.map_err(|e| Failure::could_not_run(e.to_string()))?;
    print(&format!("Kennel is at {} (data in {}); Ctrl-C stops it", server.url, places.data().display()));
    interrupt.came().await;
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
