//! Follows the live stream of a suite's run line by line until it is over.

use std::time::Duration;

use kennel_model::api::{Outcome, StepKind, StepState, StepView, SuiteEvent, SuiteRunDetail};
use kennel_model::run::RunId;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::say;
use crate::waiting;

/// Ends when the run is over, and gives it whole.
pub(crate) async fn follow(client: &Client, run: RunId) -> Result<SuiteRunDetail, Failure> {
    tokio::select! {
        detail = events(client, run) => detail,
        never = waiting::tell(client, run, say) => match never {},
    }
}

async fn events(client: &Client, run: RunId) -> Result<SuiteRunDetail, Failure> {
    let mut told = Vec::new();
    loop {
        let mut stream = client.stream(&format!("/suite-runs/{run}/live")).await?;
        let mut pending = Vec::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            pending.extend_from_slice(&chunk);
            // Events are separated by an empty line, and their data is one line (server-sent events, WHATWG HTML).
            while let Some(end) = pending.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = pending.drain(..end + 2).collect();
                for line in String::from_utf8_lossy(&event).lines() {
                    if let Some(event) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok()) {
                        show(&event, &mut told);
                    }
                }
            }
        }
        // The stream ends with the run; anything else is a broken connection, and the run tells which.
        let detail: SuiteRunDetail = client.get(&format!("/suite-runs/{run}")).await?;
        if detail.summary.state == StepState::Ended {
            for step in &detail.steps {
                tell(step, &mut told);
            }
            return Ok(detail);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn show(event: &SuiteEvent, told: &mut Vec<(String, u32, StepState)>) {
    match event {
        SuiteEvent::Step { step } => tell(step, told),
        SuiteEvent::Run { .. } | SuiteEvent::Log { .. } => {}
    }
}

/// One line when a step begins and one when it is over, each once.
fn tell(step: &StepView, told: &mut Vec<(String, u32, StepState)>) {
    let key = (step.path.clone(), step.attempt, step.state);
    if step.state == StepState::Queued || told.contains(&key) {
        return;
    }
    told.push(key);
    let attempt = if step.attempt > 1 { format!(" (attempt {})", step.attempt) } else { String::new() };
    match (step.state, step.outcome) {
        (StepState::Running, _) if step.kind != StepKind::Parallel => say(&format!("  … {}{attempt}", step.name)),
        (StepState::Ended, Some(outcome)) => {
            let sign = match outcome {
                Outcome::Passed => '✓',
                Outcome::Failed => '✕',
                Outcome::Error => '!',
                Outcome::Skipped => '–',
            };
            let message = step.message.lines().next().unwrap_or_default();
            say(&format!("  {sign} {}{attempt}: {outcome}, {message}", step.name));
        }
        _ => {}
    }
}
