//! Reading and setting the switches of a running system, from outside.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::config::Layout;
use crate::error::SystemError;
use crate::process;
use crate::rpc::caller::{exchange, http_client};
use crate::state::SystemState;
use crate::switches::SwitchView;

/// How long the registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is wanted of a switch.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The value to set; `None` sets it back to its default.
    pub value: Option<String>,
    /// The one instance that is to differ from the others.
    pub instance: Option<String>,
}

/// Switches as a command shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SwitchList(pub Vec<SwitchView>);

/// Every switch of the system of a directory.
///
/// # Errors
///
/// [`SystemError::NoSystem`], or [`SystemError::Switch`] when the registry does not answer.
pub async fn list(dir: &Path) -> Result<SwitchList, SystemError> {
    let state = running(dir)?;
    let body = ask(&state, Method::GET, "/switch", Bytes::new()).await?;
    parse(&body)
}

/// One switch of the system of a directory.
///
/// # Errors
///
/// As [`list`]; also when there is no such switch.
pub async fn read(dir: &Path, name: &str) -> Result<SwitchList, SystemError> {
    let state = running(dir)?;
    let body = ask(&state, Method::GET, &format!("/switch/{}", in_path(name)), Bytes::new()).await?;
    Ok(SwitchList(vec![parse(&body)?]))
}

/// Sets a switch. Instances obey within moments: they watch the registry.
///
/// # Errors
///
/// As [`read`]; also when there is no such value or instance.
pub async fn set(dir: &Path, wanted: &Wanted) -> Result<SwitchList, SystemError> {
    let state = running(dir)?;
    let mut path = format!("/switch/{}", in_path(&wanted.name));
    if let Some(instance) = &wanted.instance {
        let known: Vec<&str> = state.instances.iter().map(|one| one.instance.as_str()).collect();
        if !known.contains(&instance.as_str()) {
            let why = format!("there is no instance `{instance}`; expected one of {}", known.join(", "));
            return Err(SystemError::Switch { why });
        }
        path.push_str(&format!("?instance={}", in_path(instance)));
    }
    let body = serde_json::to_vec(&wanted.value).unwrap_or_default();
    let body = ask(&state, Method::PUT, &path, body.into()).await?;
    Ok(SwitchList(vec![parse(&body)?]))
}

pub(crate) fn running(dir: &Path) -> Result<SystemState, SystemError> {
    let layout = Layout::new(dir);
    let state = process::is_locked(&layout.lock())
        .then(|| std::fs::read(layout.state()).ok())
        .flatten()
        .and_then(|text| serde_json::from_slice(&text).ok());
    state.ok_or_else(|| SystemError::NoSystem { dir: dir.to_owned() })
}

async fn ask(state: &SystemState, method: Method, path: &str, body: Bytes) -> Result<Bytes, SystemError> {
    let client = http_client(PATIENCE);
    let uri = format!("{}{path}", state.registry);
    let asked = tokio::time::timeout(PATIENCE, exchange(&client, method, &uri, body, |_| {})).await;
    let Ok(Ok((status, answer))) = asked else {
        return Err(SystemError::Switch { why: format!("the registry at {} does not answer", state.registry) });
    };
    if status.is_success() {
        return Ok(answer);
    }
    let told: Option<String> = serde_json::from_slice::<serde_json::Value>(&answer)
        .ok()
        .and_then(|answer| Some(answer["error"].as_str()?.to_owned()));
    let why = told.unwrap_or_else(|| format!("the registry answered {status}"));
    Err(SystemError::Switch { why })
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, SystemError> {
    serde_json::from_slice(body)
        .map_err(|error| SystemError::Switch { why: format!("the registry's answer cannot be read: {error}") })
}

/// Text as one segment of a path: names of switches need nothing, anything else must not become another address.
fn in_path(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

impl fmt::Display for SwitchList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, switch) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            let others: Vec<&str> =
                switch.values.iter().filter(|value| **value != switch.value).map(String::as_str).collect();
            let mark = if switch.value == switch.default { "" } else { "  (not the default)" };
            writeln!(f, "{} = {}{mark}", switch.name, switch.value)?;
            for (instance, value) in &switch.instances {
                writeln!(f, "    {instance} = {value}")?;
            }
            write!(f, "    {}; or: {}", switch.meaning, others.join(", "))?;
            if !switch.labs.is_empty() {
                write!(f, "; turned in {}", switch.labs.join(", "))?;
            }
        }
        Ok(())
    }
}
