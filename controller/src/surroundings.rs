//! What files may refer to: targets that Kennel keeps come first, then whatever lies outside.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kennel_model::api::FileVersion;
use kennel_model::experiment::{Builtin, Surroundings, parse_target};
use kennel_model::target::Target;

/// Kept targets before the surroundings that the controller was opened with.
pub(crate) struct KeptTargets {
    outside: Arc<dyn Surroundings + Send + Sync>,
    /// The current version of each, as the store has it; written when one is saved, renamed or removed.
    kept: RwLock<BTreeMap<String, Target>>,
}

impl KeptTargets {
    /// With the targets that the store holds. One that an older Kennel took and this one does not is left out.
    pub(crate) fn new(outside: Arc<dyn Surroundings + Send + Sync>, files: &[FileVersion]) -> Self {
        let kept = Self { outside, kept: RwLock::default() };
        kept.set(files);
        kept
    }

    /// Takes the current versions of all kept targets over.
    pub(crate) fn set(&self, files: &[FileVersion]) {
        let read = files.iter().filter_map(|file| match parse_target(&file.name, &file.source) {
            Ok(target) => Some((file.name.clone(), target)),
            Err(problems) => {
                tracing::warn!(target = file.name, %problems, "a kept target is no longer valid");
                None
            }
        });
        let read = read.collect();
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    fn kept_names(&self) -> Vec<String> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.keys().map(|name| format!("`{name}`")).collect()
    }
}

impl Surroundings for KeptTargets {
    fn target(&self, name: &str) -> Result<Target, String> {
        if let Some(target) = self.kept.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(target.clone());
        }
        self.outside.target(name).map_err(|outside| {
            let kept = self.kept_names();
            if kept.is_empty() { outside } else { format!("{} (kept here), or {outside}", kept.join(", ")) }
        })
    }

    fn way_to_declare(&self, name: &str) -> String {
        self.outside.way_to_declare(name)
    }

    fn targets(&self) -> Vec<Target> {
        let mut all: BTreeMap<String, Target> =
            self.outside.targets().into_iter().map(|target| (target.name.clone(), target)).collect();
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        all.extend(kept.iter().map(|(name, target)| (name.clone(), target.clone())));
        all.into_values().collect()
    }

    fn experiment(&self, name: &str) -> Result<String, String> {
        self.outside.experiment(name)
    }

    fn commands(&self, labels: &[String]) -> Option<Vec<String>> {
        self.outside.commands(labels)
    }

    fn builtins(&self) -> Vec<Builtin> {
        self.outside.builtins()
    }
}
