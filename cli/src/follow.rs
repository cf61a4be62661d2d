//! Follows a run's live stream with a progress bar until it is judged.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kennel_model::api::{LiveEvent, RunDetail, RunSummary};
use kennel_model::fault::FaultState;
use kennel_model::run::{RunId, RunState};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::say;
use crate::waiting;

/// Ends when the run is over, and gives it whole.
pub(crate) async fn follow(client: &Client, run: RunId) -> Result<RunDetail, Failure> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {prefix:.bold} [{bar:30}] {pos}/{len}s {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = tokio::select! {
        result = events(client, run, &bar) => result,
        never = waiting::tell(client, run, |why| bar.suspend(|| say(why))) => match never {},
    };
    bar.finish_and_clear();
    result?;
    client.get(&format!("/runs/{run}")).await
}

async fn events(client: &Client, run: RunId, bar: &ProgressBar) -> Result<(), Failure> {
    loop {
        let mut stream = client.stream(&format!("/runs/{run}/live")).await?;
        let mut pending = Vec::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            pending.extend_from_slice(&chunk);
            // Events are separated by an empty line, and their data is one line (server-sent events, WHATWG HTML).
            while let Some(end) = pending.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = pending.drain(..end + 2).collect();
                for line in String::from_utf8_lossy(&event).lines() {
                    if let Some(event) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok()) {
                        show(&event, bar);
                    }
                }
            }
        }
        // The stream ends with the run; anything else is a broken connection, and the summary tells which.
        let summary: RunSummary = client.get(&format!("/runs/{run}")).await?;
        if summary.state.is_over() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn show(event: &LiveEvent, bar: &ProgressBar) {
    match event {
        LiveEvent::State { run } => {
            bar.set_length(run.planned_s.ceil() as u64);
            bar.set_prefix(run.state.to_string());
            if run.state == RunState::Queued {
                bar.set_message("waiting in the queue");
            }
            if run.state == RunState::Audit {
                bar.set_message("asking the target about its books");
            }
        }
        LiveEvent::Second { seconds } => {
            if let Some(all) = seconds.get("all") {
                bar.set_position(u64::from(all.second) + 1);
                let p99 = all.p99.map_or_else(String::new, |ms| format!(" · p99 {ms:.0} ms"));
                bar.set_message(format!("{} requests/s · {} errors{p99}", all.rate, all.errors));
            }
        }
        LiveEvent::Fault { fault } => match fault.state {
            FaultState::Active => bar.println(format!("  fault on:  {} ({})", fault.name, fault.description)),
            FaultState::Reverted => bar.println(format!("  fault off: {}", fault.name)),
            FaultState::Failed | FaultState::Stuck => {
                bar.println(format!("  fault {}: {}: {}", fault.state, fault.name, fault.detail));
            }
            _ => {}
        },
        LiveEvent::Warning { message } => bar.println(format!("  warning: {message}")),
        LiveEvent::Guard { .. } => {}
    }
}
