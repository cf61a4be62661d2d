//! What a new file begins with: a template of the library, or the least that the editor can build on.

use kennel_controller::{Controller, StoreError};
use kennel_model::api::FileKind;
use serde_json::Value;

/// A template to begin with.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) description: String,
}

/// The templates of a kind.
pub(crate) fn templates(controller: &Controller, kind: FileKind) -> Vec<Start> {
    let starts = controller.shipped(kind).iter();
    starts.map(|entry| Start { name: entry.name.clone(), description: entry.description.clone() }).collect()
}

/// The text of a template.
pub(crate) fn template(controller: &Controller, kind: FileKind, name: &str) -> Option<String> {
    controller.shipped(kind).iter().find(|entry| entry.name == name).map(|entry| entry.source.clone())
}

/// The text of a new file without template; it refers to a known target if there is one.
pub(crate) async fn blank(controller: &Controller, kind: FileKind) -> Result<String, StoreError> {
    let known = controller.surroundings().await?.targets;
    let target = known.first().and_then(|target| target["name"].as_str());
    // JSON text is YAML text.
    let reference = target.map(|name| format!("target: {}\n", Value::from(name)));
    Ok(match kind {
        FileKind::Target => TARGET.to_owned(),
        FileKind::Experiment => format!("{EXPERIMENT_HEAD}{}{EXPERIMENT_TAIL}", reference.as_deref().unwrap_or(INLINE)),
        FileKind::Suite => format!("{SUITE_HEAD}{}steps: []\n", reference.as_deref().unwrap_or(INLINE)),
    })
}

const TARGET: &str = "\
# A system that experiments and suites may reach.
name: my-system
base_url: http://127.0.0.1:8080
# Traffic and faults reach these hosts and nothing else.
allowed_hosts:
  - 127.0.0.1:8080
limits:
  max_rate: 100/s
";

const INLINE: &str = "\
target:
  name: my-system
  base_url: http://127.0.0.1:8080
  # Traffic and faults reach these hosts and nothing else.
  allowed_hosts:
    - 127.0.0.1:8080
";

const EXPERIMENT_HEAD: &str = "\
# What happens to the system under this load?
version: 1
name: my experiment
";

const EXPERIMENT_TAIL: &str = "
load:
  model: open
  stages:
    - { rate: 10/s, duration: 60s }
  warm_up: 5s

scenarios:
  - name: visitor
    steps:
      - { name: home, path: / }

objectives:
  - error_rate < 1%
  - p99 < 500ms
";

const SUITE_HEAD: &str = "\
version: 1
name: my suite
";
