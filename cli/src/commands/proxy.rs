//! `kennel proxy`: the fault proxy alone, behind the HTTP API of Toxiproxy.

use std::process::ExitCode;

use kennel_proxy::FaultProxy;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::print;

pub(super) async fn run(host: &str, port: u16) -> Result<ExitCode, Failure> {
    let mut interrupt =
        Interrupt::listen().map_err(|e| Failure::could_not_run(format!("cannot listen for signals: {e}")))?;
    let failed =
        |e: std::io::Error| Failure::could_not_run(format!("cannot serve the fault proxy on {host}:{port}: {e}"));
    let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let shutdown = CancellationToken::new();
    let proxy = FaultProxy::new(shutdown.clone());
    print(&format!("fault proxy with the Toxiproxy API at http://{address}; Ctrl-C stops it"));
    let served = tokio::select! {
        served = kennel_proxy::serve(listener, proxy.clone(), shutdown.clone()) => served,
        () = interrupt.came() => Ok(()),
    };
    shutdown.cancel();
    proxy.shutdown().await;
    served.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
