//! `kennel user`: who may use this Kennel.

use std::io::Read as _;
use std::process::ExitCode;

use kennel_model::api::{AccountView, AddedAccount, ChangeAccount, Invitation, NewAccount, Password, SetPassword};

use crate::arguments::UserCommand;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json, say};
use crate::places::Places;
use crate::report;

pub(super) async fn run(places: &Places, command: UserCommand) -> Result<ExitCode, Failure> {
    let password = match &command {
        UserCommand::Add { password_stdin: true, .. } | UserCommand::Password { password_stdin: true, .. } => {
            Some(from_stdin()?)
        }
        _ => None,
    };
    let client = Client::open(places).await?;
    let result = act(&client, command, password).await;
    client.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn act(client: &Client, command: UserCommand, password: Option<Password>) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, role, json, .. } => {
            let added: AddedAccount = client.post("/people", &NewAccount { name, role, password }).await?;
            if json {
                print_json(&added);
                return Ok(());
            }
            say(&format!("added {} as {}", added.account.name, added.account.role));
            if let Some(invitation) = added.invitation {
                tell(client, &invitation);
            }
        }
        UserCommand::List { json } => {
            let accounts: Vec<AccountView> = client.get("/people").await?;
            if json { print_json(&accounts) } else { print(&table(&accounts)) }
        }
        UserCommand::Role { name, role } => {
            change(client, &name, ChangeAccount { role: Some(role), disabled: None }).await?
        }
        UserCommand::Disable { name } => {
            change(client, &name, ChangeAccount { role: None, disabled: Some(true) }).await?
        }
        UserCommand::Enable { name } => {
            change(client, &name, ChangeAccount { role: None, disabled: Some(false) }).await?
        }
        UserCommand::Password { name, .. } => match password {
            Some(password) => {
                client.set(&format!("/people/{}/password", in_path(&name)), &SetPassword { password }).await?;
                say(&format!("{name} has a new password and is logged out everywhere"));
            }
            None => {
                let path = format!("/people/{}/invitation", in_path(&name));
                let invitation: Invitation = client.post(&path, &serde_json::json!({})).await?;
                tell(client, &invitation);
            }
        },
    }
    Ok(())
}

async fn change(client: &Client, name: &str, change: ChangeAccount) -> Result<(), Failure> {
    let account: AccountView = client.patch(&format!("/people/{}", in_path(name)), &change).await?;
    let state = if account.disabled { ", disabled" } else { "" };
    say(&format!("{}: {}{state}", account.name, account.role));
    Ok(())
}

fn tell(client: &Client, invitation: &Invitation) {
    say(&format!(
        "{} chooses a password at this link, once, until {}; Kennel must be running:",
        invitation.account, invitation.expires_at
    ));
    print(&client.link(&invitation.path));
}

/// A name as a part of a path: whatever is no letter, digit or mark of a name is written in hexadecimal.
pub(super) fn in_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The first line of standard input: a password as an argument could be read by everybody on this machine.
fn from_stdin() -> Result<Password, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Failure::bad_input(format!("cannot read the password from standard input: {e}"), Vec::new()))?;
    Ok(Password(text.lines().next().unwrap_or_default().to_owned()))
}

fn table(accounts: &[AccountView]) -> String {
    if accounts.is_empty() {
        return "no accounts yet; `kennel user add NAME --role admin` makes the first".to_owned();
    }
    let header = ["name", "role", "state", "last login"];
    let mut table = report::table(&header, header.len());
    for account in accounts {
        let state = if account.disabled {
            "disabled"
        } else if account.invited_until.is_some() {
            "invited"
        } else {
            "active"
        };
        let last = account.last_login_at.as_deref().unwrap_or("never");
        table.add_row([account.name.as_str(), account.role.word(), state, last]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::in_path;

    #[test]
    fn a_name_leaves_no_path() {
        assert_eq!(in_path("ann.lee"), "ann.lee");
        assert_eq!(in_path("../a b?c#d"), "..%2Fa%20b%3Fc%23d");
    }
}
