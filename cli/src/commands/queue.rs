//! `kennel queue …`: what runs, what waits and why.

use std::process::ExitCode;

use kennel_model::RunId;
use kennel_model::api::{QueueEntry, QueueView};

use crate::arguments::QueueArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json, say};
use crate::places::Places;

pub(super) async fn run(places: &Places, command: Option<QueueArguments>, json: bool) -> Result<ExitCode, Failure> {
    let client = Client::open(places).await?;
    let done = carry_out(&client, command, json).await;
    client.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(client: &Client, command: Option<QueueArguments>, json: bool) -> Result<(), Failure> {
    let queue: QueueView = client.get("/queue").await?;
    match command {
        None if json => print_json(&queue),
        None => tell(&queue),
        Some(QueueArguments::Cancel { run }) => {
            let run = named(&queue, &run)?;
            client.remove(&format!("/queue/{run}")).await?;
            say(&format!("cancelled run {run}"));
        }
        Some(QueueArguments::Front { run }) => {
            let run = named(&queue, &run)?;
            client.tell(&format!("/queue/{run}/front")).await?;
            say(&format!("run {run} goes first now"));
        }
    }
    Ok(())
}

/// The waiting run whose id is, or begins or ends with, this text.
fn named(queue: &QueueView, text: &str) -> Result<RunId, Failure> {
    let fits = |entry: &&QueueEntry| {
        let (id, short) = (entry.id.to_string(), entry.id.to_string().replace('-', ""));
        id == text || short.starts_with(text) || short.ends_with(text)
    };
    let found: Vec<&QueueEntry> = queue.waiting.iter().filter(fits).collect();
    match found.as_slice() {
        [entry] => Ok(entry.id),
        [] => Err(Failure::bad_input(format!("no run `{text}` waits; `kennel queue` lists what does"), Vec::new())),
        many => Err(Failure::bad_input(
            format!("`{text}` could be any of {} runs; give more of it", many.len()),
            Vec::new(),
        )),
    }
}

fn tell(queue: &QueueView) {
    if queue.running.is_empty() && queue.waiting.is_empty() {
        print("nothing runs and nothing waits");
    }
    for holder in &queue.running {
        let left = holder.expected_left_s.map_or_else(String::new, |left| format!(", about {left:.0} s left"));
        let (kind, name, id) = (holder.kind, &holder.name, holder.id.short());
        print(&format!("runs     {kind} `{name}`, run {id}, since {}{left}", holder.since));
    }
    for entry in &queue.waiting {
        let (kind, name, id) = (entry.kind, &entry.name, entry.id.short());
        let start = entry.expected_start_at.as_ref().map_or_else(String::new, |at| format!("; starts about {at}"));
        print(&format!("waits {:>2} {kind} `{name}`, run {id}: {}{start}", entry.position, entry.reason));
    }
}
