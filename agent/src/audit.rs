//! Audits: asks the target about its business invariants once it has gone quiet.

use std::time::Duration;

use kennel_model::protocol::{AuditReport, AuditVerdict, InvariantReport};
use kennel_model::target::AuditEndpoint;
use serde::Deserialize;

use crate::boundary::Boundary;
use crate::history::History;

/// How long an audit may take, the target's own quiescence included.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(120);

/// What an audit endpoint answers.
#[derive(Debug, Deserialize)]
struct Answer {
    verdict: AuditVerdict,
    #[serde(default)]
    invariants: Vec<InvariantReport>,
}

/// Asks one audit endpoint, handing it the history of the load's writes if it wants that. Whatever goes wrong makes the
/// verdict `unknown`, never `valid`.
pub(crate) async fn ask(audit: &AuditEndpoint, boundary: &Boundary, history: Option<&History>) -> AuditReport {
    let unknown = |problem: String| AuditReport {
        name: audit.name.clone(),
        verdict: AuditVerdict::Unknown,
        invariants: Vec::new(),
        problem: Some(problem),
    };
    let (client, url) = match boundary.http_client(&audit.url, AUDIT_TIMEOUT).await {
        Ok(client) => client,
        Err(error) => return unknown(error.to_string()),
    };
    let request = match history {
        None => client.get(url),
        Some(history) => match history.lines() {
            Ok(lines) => client.post(url).header("content-type", "application/x-ndjson").body(lines),
            Err(error) => return unknown(format!("the history of writes cannot be read: {error}")),
        },
    };
    let answer = match request.send().await {
        Ok(answer) if answer.status().is_success() => answer.json::<Answer>().await,
        Ok(answer) => {
            let status = answer.status();
            let text: String = answer.text().await.unwrap_or_default().chars().take(200).collect();
            return unknown(format!("{} answered {status}: {text}", audit.url));
        }
        Err(error) => return unknown(format!("{} did not answer: {error}", audit.url)),
    };
    match answer {
        Ok(answer) => AuditReport {
            name: audit.name.clone(),
            // An answer that contradicts itself is judged by its worst part.
            verdict: answer
                .invariants
                .iter()
                .map(|i| i.verdict)
                .chain([answer.verdict])
                .max()
                .unwrap_or(answer.verdict),
            invariants: answer.invariants,
            problem: None,
        },
        Err(error) => unknown(format!("{} did not answer an audit: {error}", audit.url)),
    }
}
