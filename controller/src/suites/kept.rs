//! What suites may refer to: kept and shipped experiments, declared targets, and the commands that attached agents offer.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use kennel_model::api::{FileKind, FileVersion, LibraryEntry};
use kennel_model::document::Problems;
use kennel_model::experiment::{Builtin, Surroundings};
use kennel_model::protocol::AgentDescription;
use kennel_model::suite;
use kennel_model::target::Target;

use crate::Controller;
use crate::store::{Store, StoreError};
use crate::surroundings::KeptTargets;

/// Files that Kennel keeps and ships, beside what is known from outside.
pub(crate) struct Known {
    outside: Arc<dyn Surroundings + Send + Sync>,
    /// Texts by name; what is kept goes before what ships.
    experiments: BTreeMap<String, String>,
    /// The attached agents; `None` when it does not matter who is there right now.
    agents: Option<Vec<AgentDescription>>,
}

/// Where the text of a suite comes from.
#[derive(Debug, Clone)]
pub(crate) struct KeptSuite {
    pub(crate) source: String,
    /// Version, where Kennel keeps it; it ships otherwise.
    pub(crate) version: Option<u32>,
}

impl Controller {
    /// What a suite may refer to now. With `asking_agents`, commands that no attached agent offers are unknown.
    pub(crate) async fn known(&self, asking_agents: bool) -> Result<Known, StoreError> {
        let kept = self.inner.store.files(FileKind::Experiment).await?;
        let agents = asking_agents.then(|| self.inner.agents.descriptions()).filter(|agents| !agents.is_empty());
        let outside = Arc::clone(&self.inner.config.surroundings);
        Ok(Known { agents, ..Known::new(outside, self.library(), kept) })
    }

    /// The suite of a name, kept before shipped.
    pub(crate) async fn kept_suite(&self, name: &str) -> Result<Option<KeptSuite>, StoreError> {
        if let Some(file) = self.inner.store.file(FileKind::Suite, name).await? {
            return Ok(Some(KeptSuite { source: file.source, version: Some(file.version) }));
        }
        let shipped = self.inner.config.suites.iter().find(|entry| is_named(entry, name));
        Ok(shipped.map(|entry| KeptSuite { source: entry.source.clone(), version: None }))
    }
}

/// Whether a shipped suite goes by a name: its short one, or the one within its file.
fn is_named(entry: &LibraryEntry, name: &str) -> bool {
    entry.name == name || name_within(&entry.source).is_some_and(|within| within == name)
}

/// The `name:` of a file.
pub(crate) fn name_within(source: &str) -> Option<String> {
    let document = kennel_model::document::Document::parse("", source).ok()?;
    document.value()["name"].as_str().map(str::to_owned)
}

/// What files may refer to in a data directory, read without being the Kennel that owns it: what it keeps, what ships,
/// and what lies `outside`. Which commands agents offer is not known.
///
/// # Errors
/// When there is a store that cannot be read.
pub async fn surroundings_at(
    data_dir: &Path,
    outside: Arc<dyn Surroundings + Send + Sync>,
    library: &[LibraryEntry],
) -> Result<Box<dyn Surroundings + Send + Sync>, StoreError> {
    let file = Store::file_in(data_dir);
    let (targets, experiments) = if file.exists() {
        let store = Store::open_to_read(&file).await?;
        let kept = (store.files(FileKind::Target).await, store.files(FileKind::Experiment).await);
        store.close().await;
        (kept.0?, kept.1?)
    } else {
        (Vec::new(), Vec::new())
    };
    let targets = Arc::new(KeptTargets::new(outside, &targets));
    Ok(Box::new(Known::new(targets, library, experiments)))
}

impl Known {
    fn new(outside: Arc<dyn Surroundings + Send + Sync>, library: &[LibraryEntry], kept: Vec<FileVersion>) -> Self {
        let shipped = library.iter().flat_map(|entry| {
            // Both names by which a shipped experiment goes: its short one, and the one within its file.
            let within = name_within(&entry.source);
            within.into_iter().chain([entry.name.clone()]).map(|name| (name, entry.source.clone()))
        });
        let mut experiments: BTreeMap<String, String> = shipped.collect();
        experiments.extend(kept.into_iter().map(|file| (file.name, file.source)));
        Self { outside, experiments, agents: None }
    }

    /// Reads and checks a suite's file whole.
    ///
    /// # Errors
    /// Every problem in it.
    pub(crate) fn read(
        &self,
        file: &str,
        source: &str,
        values: &BTreeMap<String, String>,
    ) -> Result<suite::ValidSuite, Problems> {
        suite::parse_with(file, source, values, self)
    }
}

impl Known {
    /// A number that changes when something that a suite may refer to does.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.experiments.hash(&mut hasher);
        // Targets and builtins have no order of their own to hash by; how they are written down has.
        format!("{:?} {:?}", self.targets(), self.builtins()).hash(&mut hasher);
        format!("{:?}", self.agents).hash(&mut hasher);
        hasher.finish()
    }

    /// What has to be declared before a suite can run, when nothing but that is wrong with it.
    pub(crate) fn needs(&self, problems: &Problems) -> Option<String> {
        let mut missing: BTreeSet<&str> = BTreeSet::new();
        for problem in &problems.problems {
            missing.insert(unknown_target(&problem.message)?);
        }
        let each = missing
            .into_iter()
            .map(|name| format!("target `{name}`, which is not declared here; {}", self.outside.way_to_declare(name)));
        Some(each.collect::<Vec<_>>().join("; "))
    }
}

/// The target that a problem, also one of an experiment within a suite, says is unknown.
fn unknown_target(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("unknown target `")?;
    // An experiment with more than that wrong lists it behind.
    rest.strip_suffix('`').filter(|name| !name.contains('`'))
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

impl Surroundings for Known {
    fn target(&self, name: &str) -> Result<Target, String> {
        self.outside.target(name)
    }

    fn way_to_declare(&self, name: &str) -> String {
        self.outside.way_to_declare(name)
    }

    fn targets(&self) -> Vec<Target> {
        self.outside.targets()
    }

    fn builtins(&self) -> Vec<Builtin> {
        self.outside.builtins()
    }

    fn experiment(&self, name: &str) -> Result<String, String> {
        self.experiments.get(name).cloned().ok_or_else(|| match listed(self.experiments.keys()) {
            known if known.is_empty() => "an experiment that Kennel keeps; it keeps none".to_owned(),
            known => format!("one of {known}"),
        })
    }

    fn commands(&self, labels: &[String]) -> Option<Vec<String>> {
        let agents = self.agents.as_ref()?;
        let fit = agents.iter().filter(|agent| labels.iter().all(|label| agent.labels.contains(label)));
        let mut commands: Vec<String> =
            fit.flat_map(|agent| agent.commands.iter().map(|command| command.name.clone())).collect();
        commands.sort();
        commands.dedup();
        Some(commands)
    }
}
