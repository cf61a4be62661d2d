//! `kennel token`: what programs send instead of a password.

use std::process::ExitCode;

use kennel_model::api::{CreatedToken, NewToken, TokenView};

use super::user::in_path;
use crate::arguments::TokenCommand;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json, say};
use crate::places::Places;
use crate::report;

pub(super) async fn run(places: &Places, command: TokenCommand) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let result = act(&client, command).await;
    client.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn act(client: &Client, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, role, scope, days, json } => {
            let created: CreatedToken =
                client.post("/tokens", &NewToken { name, role, scope, days: Some(days) }).await?;
            if json {
                print_json(&created);
            } else {
                let until = created.token.expires_at.as_deref().unwrap_or("it is revoked");
                say(&format!("token {} works until {until}; it is shown this once:", created.token.id));
                print(&created.secret);
            }
        }
        TokenCommand::List { json } => {
            let tokens: Vec<TokenView> = client.get("/tokens").await?;
            if json { print_json(&tokens) } else { print(&table(&tokens)) }
        }
        TokenCommand::Revoke { id } => {
            let token: TokenView = client.delete(&format!("/tokens/{}", in_path(&id))).await?;
            say(&format!("token {} (“{}”) is revoked", token.id, token.name));
        }
    }
    Ok(())
}

fn table(tokens: &[TokenView]) -> String {
    if tokens.is_empty() {
        return "no tokens yet; `kennel token create NAME` makes one".to_owned();
    }
    let header = ["id", "for", "owner", "role", "use", "works until", "last used"];
    let mut table = report::table(&header, header.len());
    for token in tokens {
        let until = match (&token.revoked_at, &token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(moment)) => moment,
            (None, None) => "ever",
        };
        let last = token.last_used_at.as_deref().unwrap_or("never");
        let cells = [&token.id, &token.name, &token.owner, token.role.word(), token.scope.word(), until, last];
        table.add_row(cells);
    }
    table.to_string()
}
