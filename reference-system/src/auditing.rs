//! The audit from outside: of a running system through its auditor, of a stopped one from its files.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;

use crate::audit::{AuditReport, Design, History, OnlineView, Verdict, audit_stopped};
use crate::config::{Layout, SystemConfig};
use crate::error::SystemError;
use crate::process;
use crate::rpc::caller::{exchange, http_client};
use crate::servers::Tier;
use crate::state::SystemState;

/// How much longer than the wait for rest the auditor may take to read and check everything.
const READING: Duration = Duration::from_secs(60);
/// How often a watched auditor is asked.
const LOOK: Duration = Duration::from_secs(1);

/// Audits the system of a directory, after waiting at most `wait` until it is at rest. `history` is the record of a
/// load's writes, one JSON object per line.
///
/// # Errors
///
/// [`SystemError::NoSystem`] where there never was one, [`SystemError::Audit`] when the history cannot be read,
/// [`SystemError::Unaudited`] when the auditor does not answer, or the rows lie on servers that are down.
pub async fn audit(dir: &Path, history: Option<&Path>, wait: Duration) -> Result<AuditReport, SystemError> {
    let layout = Layout::new(dir);
    let text = match history {
        Some(path) => {
            let read = std::fs::read(path).map_err(|source| SystemError::File { path: path.to_owned(), source })?;
            Some(read)
        }
        None => None,
    };
    let told = text.as_deref().map(History::parse).transpose();
    let told = told.map_err(|bad| SystemError::Audit { why: bad.to_string() })?;
    if process::is_locked(&layout.lock()) {
        let state = std::fs::read(layout.state()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let state: SystemState = state.ok_or_else(|| SystemError::Unaudited {
            why: format!("the system in {} is not ready yet; wait until `system status` says so", dir.display()),
        })?;
        return ask(&state, text, wait).await;
    }
    let config = SystemConfig::read(&layout).map_err(|_| SystemError::NoSystem { dir: dir.to_owned() })?;
    if config.stores.tier() == Tier::Real {
        let why =
            format!("the rows of {} lie on servers that are down with it; start it with `system up`", dir.display());
        return Err(SystemError::Unaudited { why });
    }
    Ok(audit_stopped(&config.stores, Design::of(&config), told.as_ref()).await)
}

/// Tells what the auditor of a running system finds, one line for each of its rounds, until Ctrl-C or for `how_long`.
///
/// # Errors
///
/// [`SystemError::NotRunning`] where none runs, [`SystemError::Process`] when nothing can be written to `out`.
pub async fn watch(
    dir: &Path,
    how_long: Option<Duration>,
    json: bool,
    out: &mut impl Write,
) -> Result<(), SystemError> {
    let layout = Layout::new(dir);
    let end = async {
        match how_long {
            Some(time) => tokio::time::sleep(time).await,
            // Without signals it ends with the system.
            None => tokio::signal::ctrl_c().await.unwrap_or(()),
        }
    };
    tokio::pin!(end);
    let client = http_client(Duration::from_secs(3));
    let mut last = (0, 0);
    while process::is_locked(&layout.lock()) {
        let state =
            std::fs::read(layout.state()).ok().and_then(|text| serde_json::from_slice::<SystemState>(&text).ok());
        if let Some(state) = state
            && let Some(view) = online(&client, &state).await
            && (view.at_ms, view.rounds) != last
            && view.rounds > 0
        {
            last = (view.at_ms, view.rounds);
            let line = if json { serde_json::to_string(&view).unwrap_or_default() } else { view.to_string() };
            let written = writeln!(out, "{line}").and_then(|()| out.flush());
            written
                .map_err(|source| SystemError::Process { what: "tell what the auditor finds".to_owned(), source })?;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = &mut end => return Ok(()),
        }
    }
    Ok(())
}

async fn online(client: &Client<HttpConnector, Full<Bytes>>, state: &SystemState) -> Option<OnlineView> {
    let uri = format!("{}/online", state.auditor);
    let asked = tokio::time::timeout(LOOK, exchange(client, Method::GET, &uri, Bytes::new(), |_| {})).await;
    serde_json::from_slice(&asked.ok()?.ok()?.1).ok()
}

async fn ask(state: &SystemState, history: Option<Vec<u8>>, wait: Duration) -> Result<AuditReport, SystemError> {
    let failed = |why: String| SystemError::Unaudited { why };
    let client = http_client(Duration::from_secs(3));
    let uri = format!("{}/audit?quiesce_ms={}", state.auditor, wait.as_millis());
    let (method, body) = history.map_or((Method::GET, Bytes::new()), |text| (Method::POST, text.into()));
    let asked = tokio::time::timeout(wait + READING, exchange(&client, method, &uri, body, |_| {})).await;
    let Ok(Ok((status, answer))) = asked else {
        return Err(failed(format!("the auditor at {} does not answer; see `system logs auditor-1`", state.auditor)));
    };
    if !status.is_success() {
        return Err(failed(format!("the auditor answered {status}: {}", String::from_utf8_lossy(&answer))));
    }
    serde_json::from_slice(&answer).map_err(|error| failed(format!("the auditor's answer cannot be read: {error}")))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        })
    }
}

/// The time of day of a moment.
fn clock(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

impl fmt::Display for OnlineView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", clock(self.at_ms))?;
        for finding in &self.invariants {
            write!(f, "  {} {} ({} checked)", finding.id, finding.verdict, finding.checked)?;
        }
        let told = self.invariants.iter().filter(|finding| finding.verdict != Verdict::Valid);
        for finding in told {
            let first = finding.first_seen_ms.map(|at_ms| format!(" first at {}:", clock(at_ms))).unwrap_or_default();
            write!(f, "\n           {}:{first} {}", finding.id, finding.examples.first().map_or("", String::as_str))?;
        }
        Ok(())
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.invariants {
            writeln!(f, "{:<8} {:<4} {} ({} checked)", finding.verdict, finding.id, finding.title, finding.checked)?;
            for example in &finding.examples {
                writeln!(f, "           {example}")?;
            }
            let more = finding.violations.saturating_sub(finding.examples.len() as u64);
            if more > 0 {
                writeln!(f, "           and {more} more")?;
            }
            if let Some(first) = finding.first_seen_ms {
                writeln!(f, "           first seen at {}", clock(first))?;
            }
        }
        let rest = if self.quiet { "at rest" } else { "not at rest" };
        write!(f, "{}: {} orders, the system {rest}", self.verdict, self.orders)
    }
}
