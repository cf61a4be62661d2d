//! `kennel serve`: the web pages and the API, with an agent on this machine, until told to stop.

use std::process::ExitCode;

use kennel_controller::people::{Entrance, Secret, SignOnSettings};

use crate::arguments::ServeArguments;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::places::Places;
use crate::server::{Server, ServerError};

pub(super) async fn run(places: &Places, arguments: ServeArguments) -> Result<ExitCode, Failure> {
    let listen = arguments.listen;
    let file = crate::agent_file::read(places, arguments.agent_config.as_deref())?;
    let public_url = arguments.public_url.clone();
    let entrance = entrance(arguments)?;
    let mut interrupt =
        Interrupt::listen().map_err(|e| Failure::could_not_run(format!("cannot listen for signals: {e}")))?;
    let server =
        Server::start_at(places, listen, Vec::new(), file, (entrance, public_url)).await.map_err(
            |error| match error {
                ServerError::Open { .. } => Failure::bad_input(error.to_string(), Vec::new()),
                error => Failure::could_not_run(error.to_string()),
            },
        )?;
    print(&format!("Kennel is at {} (data in {}); Ctrl-C stops it", server.url, places.data().display()));
    interrupt.came().await;
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// What the server is told about people.
fn entrance(arguments: ServeArguments) -> Result<Entrance, Failure> {
    let client_secret = match &arguments.oidc_client_secret_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Failure::bad_input(format!("cannot read {}: {e}", file.display()), Vec::new()))?;
            Some(Secret::new(text.trim()))
        }
        // Not an argument: everybody on this machine can read those.
        None => std::env::var("KENNEL_OIDC_CLIENT_SECRET").ok().filter(|text| !text.is_empty()).map(Secret::new),
    };
    let meant = arguments.oidc_client_id.is_some()
        || arguments.oidc_others.is_some()
        || [&arguments.oidc_admins, &arguments.oidc_operators, &arguments.oidc_viewers].iter().any(|it| !it.is_empty());
    if meant && arguments.oidc_issuer.is_none() {
        let why = "single sign-on needs a provider; name it with --oidc-issuer, or leave the other --oidc- flags out";
        return Err(Failure::bad_input(why, Vec::new()));
    }
    let sign_on = arguments.oidc_issuer.map(|issuer| SignOnSettings {
        issuer,
        client_id: arguments.oidc_client_id.unwrap_or_default(),
        label: arguments.oidc_label,
        scopes: arguments.oidc_scopes,
        claim: arguments.oidc_claim,
        admins: arguments.oidc_admins,
        operators: arguments.oidc_operators,
        viewers: arguments.oidc_viewers,
        others: arguments.oidc_others,
    });
    if let Some(settings) = &sign_on {
        settings.check().map_err(|error| Failure::bad_input(error.to_string(), Vec::new()))?;
    }
    Ok(Entrance { sign_on, client_secret, ..Entrance::default() })
}
