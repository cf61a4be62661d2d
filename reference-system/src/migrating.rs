//! Asking for a migration from outside, and watching it: the work is done by a role of the system, and goes on whatever
//! becomes of the one who asked.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::arguments::{MigrateAction, MigrateArgs};
use crate::error::SystemError;
use crate::migration::ROLE;
use crate::migration::course::{Asked, Request};
use crate::migration::status::MigrationStatus;
use crate::rpc::caller::{Broken, exchange, http_client};
use crate::rpc::failure::FailureBody;
use crate::state::SystemState;
use crate::switching::running;

/// How long the role may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a migration is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How often a line is shown while nothing else changes but counts.
const SHOW: Duration = Duration::from_secs(1);

/// Does what was asked, and gives how the migration is doing then. `show` takes lines of progress.
///
/// # Errors
///
/// [`SystemError::Usage`] when goal or pace come with a word that has no use for them; [`SystemError::Migration`], with
/// what to do: when there is no old table, when the order makes no sense now, or when
/// the goal of `run` is not reached and nothing moves any more.
pub async fn run(
    dir: &Path,
    args: &MigrateArgs,
    show: &mut (dyn FnMut(&str) -> std::io::Result<()> + Send),
) -> Result<MigrationStatus, SystemError> {
    let action = args.action.unwrap_or(match args.to {
        Some(_) => MigrateAction::Run,
        None => MigrateAction::Status,
    });
    let goes = !matches!(action, MigrateAction::Status | MigrateAction::Pause);
    if !goes && (args.to.is_some() || args.calm.is_some() || args.rate.is_some()) {
        let why = "--to, --calm and --rate go with run, start, continue or back".to_owned();
        return Err(SystemError::Usage { why });
    }
    let state = running(dir)?;
    let asked = match action {
        MigrateAction::Status => return ask(&state, None).await,
        MigrateAction::Start => Asked::Start,
        MigrateAction::Continue => Asked::Continue,
        MigrateAction::Run => Asked::Run,
        MigrateAction::Pause => Asked::Pause,
        MigrateAction::Back => Asked::Back,
    };
    let calm_ms = args.calm.map(|calm| i64::try_from(calm.as_millis()).unwrap_or(i64::MAX));
    let status = ask(&state, Some(Request { asked, to: args.to, calm_ms, rate: args.rate })).await?;
    match action {
        MigrateAction::Run | MigrateAction::Back => {
            watch(&state, status, args.wait.saturating_add(args.calm.unwrap_or_default()), show).await
        }
        _ => Ok(status),
    }
}

async fn watch(
    state: &SystemState,
    mut status: MigrationStatus,
    wait: Duration,
    show: &mut (dyn FnMut(&str) -> std::io::Result<()> + Send),
) -> Result<MigrationStatus, SystemError> {
    let goal = status.goal;
    let (mut moved, mut mark) = (Instant::now(), status.mark());
    let (mut shown, mut line) = (Instant::now(), String::new());
    loop {
        if status.mark() != mark {
            (moved, mark) = (Instant::now(), status.mark());
        }
        let gate = status.gate.first().map(|reason| format!("  gate: {reason}")).unwrap_or_default();
        let next = format!("{}{gate}", status.line());
        let phase = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        if next != line && (phase(&next) != phase(&line) || shown.elapsed() >= SHOW) {
            // Whoever cannot be shown progress still gets the result.
            let _ = show(&next);
            (shown, line) = (Instant::now(), next);
        }
        if status.has_arrived() && status.phase == goal {
            return Ok(status);
        }
        if status.goal != goal || status.paused {
            let how = if status.paused { "was paused" } else { "was sent elsewhere, or gave up" };
            return Err(stopped(&status, how));
        }
        if moved.elapsed() >= wait {
            return Err(stopped(&status, "does not move; the system goes on trying"));
        }
        tokio::time::sleep(POLL).await;
        match ask(state, None).await {
            Ok(next) => status = next,
            // The role may have been killed: it comes back and goes on.
            Err(error) if moved.elapsed() >= wait => return Err(error),
            Err(_) => {}
        }
    }
}

fn stopped(status: &MigrationStatus, how: &str) -> SystemError {
    let mut why = format!("the migration {how}: it is in {}, its goal is {}", status.phase, status.goal);
    for reason in status.gate.iter().chain(&status.obstacle) {
        why.push_str(&format!("\n  {reason}"));
    }
    SystemError::Migration { why }
}

async fn ask(state: &SystemState, request: Option<Request>) -> Result<MigrationStatus, SystemError> {
    let failed = |why: String| SystemError::Migration { why };
    let role = state.instances.iter().find(|one| one.service == ROLE).ok_or_else(|| {
        failed(format!(
            "the system in {} has no old order table; start one in an empty directory with `system up --migration`",
            state.dir.display()
        ))
    })?;
    let (method, body) = match request {
        None => (Method::GET, Bytes::new()),
        Some(request) => (Method::POST, serde_json::to_vec(&request).unwrap_or_default().into()),
    };
    let client = http_client(Duration::from_secs(3));
    let uri = format!("http://{}/migration", role.address);
    let deadline = Instant::now() + PATIENCE;
    let asked = loop {
        let asked = exchange(&client, method.clone(), &uri, body.clone(), |_| {});
        let asked = tokio::time::timeout_at(deadline, asked).await;
        // It has done nothing yet, and may be about to come back.
        let comes = matches!(asked, Ok(Err(Broken::Refused) | Ok((StatusCode::SERVICE_UNAVAILABLE, _))));
        if !comes || Instant::now() + POLL >= deadline {
            break asked;
        }
        tokio::time::sleep(POLL).await;
    };
    let Ok(Ok((status, answer))) = asked else {
        return Err(failed(format!("{0} does not answer; see `system logs {0}`", role.instance)));
    };
    if status == StatusCode::OK {
        return serde_json::from_slice(&answer)
            .map_err(|error| failed(format!("the answer of {} cannot be read: {error}", role.instance)));
    }
    let told = serde_json::from_slice::<FailureBody>(&answer);
    Err(failed(told.map_or_else(|_| format!("{} answered {status}", role.instance), |body| body.error)))
}
