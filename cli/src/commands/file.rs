//! `kennel file …`: the experiments, suites and targets that Kennel keeps, with their versions.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use kennel_model::api::{FileDiff, FileKind, FileSummary, FileVersion, SaveFile};
use serde::Serialize;

use super::run::read;
use crate::arguments::FileCommand;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;
use crate::report;

pub(super) async fn run(places: &Places, command: FileCommand) -> Result<ExitCode, Failure> {
    // What was asked for is read before a server is started.
    let source = match &command {
        FileCommand::Put { file, .. } => Some(text_of(file)?),
        _ => None,
    };
    let client = Client::open(places).await?;
    let result = ask(&client, command, source.unwrap_or_default()).await;
    client.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// A file's text; `-` is the standard input.
fn text_of(file: &Path) -> Result<String, Failure> {
    if file != Path::new("-") {
        return read(file);
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::bad_input(format!("cannot read the standard input: {error}"), Vec::new()))?;
    Ok(text)
}

async fn ask(client: &Client, command: FileCommand, source: String) -> Result<(), Failure> {
    match command {
        FileCommand::List { kind, removed, json } => {
            let query = if removed { "?removed=true" } else { "" };
            let files: Vec<FileSummary> = client.get(&format!("/files/{kind}{query}")).await?;
            show(&files, json, || {
                table(&["name", "version", "saved", "by", "description"], &files, |file| {
                    [&file.name, &file.version.to_string(), &file.saved_at, &file.author, &file.description]
                        .map(ToString::to_string)
                })
            });
        }
        FileCommand::Get { kind, name, version, json } => {
            let path = match version {
                Some(version) => format!("{}/versions/{version}", address(kind, &name)),
                None => address(kind, &name),
            };
            let file: FileVersion = client.get(&path).await?;
            show(&file, json, || file.source.trim_end().to_owned());
        }
        FileCommand::Put { kind, name, message, expected, json, .. } => {
            let request = SaveFile { source, message: message.unwrap_or_default(), expected };
            let saved: FileVersion = client.put(&address(kind, &name), &request).await?;
            show(&saved, json, || format!("saved {kind} `{}` as version {}", saved.name, saved.version));
        }
        FileCommand::History { kind, name, json } => {
            let versions: Vec<FileSummary> = client.get(&format!("{}/versions", address(kind, &name))).await?;
            show(&versions, json, || {
                table(&["version", "saved", "by", "message"], &versions, |version| {
                    [&version.version.to_string(), &version.saved_at, &version.author, &version.message]
                        .map(ToString::to_string)
                })
            });
        }
        FileCommand::Diff { kind, name, from, to, json } => {
            let pairs = [("from", from), ("to", to)];
            let given: Vec<String> =
                pairs.iter().filter_map(|(side, version)| Some(format!("{side}={}", (*version)?))).collect();
            let diff: FileDiff = client.get(&format!("{}/diff?{}", address(kind, &name), given.join("&"))).await?;
            show(&diff, json, || diff.unified.trim_end().to_owned());
        }
    }
    Ok(())
}

fn show<T: Serialize>(value: &T, json: bool, text: impl FnOnce() -> String) {
    if json { print_json(value) } else { print(&text()) }
}

fn table<T, const N: usize>(header: &[&str; N], rows: &[T], cells: impl Fn(&T) -> [String; N]) -> String {
    if rows.is_empty() {
        return "none".to_owned();
    }
    let mut table = report::table(header, N);
    for row in rows {
        table.add_row(cells(row));
    }
    table.to_string()
}

/// The path of a file in the API; its name may hold whatever a path may not.
fn address(kind: FileKind, name: &str) -> String {
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("/files/{kind}/{encoded}")
}
