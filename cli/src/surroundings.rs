//! What experiment files may refer to: targets in the data directory and the compiled scenarios.

use std::path::PathBuf;

use kennel_model::experiment::{Builtin, Surroundings, parse_target};
use kennel_model::target::Target;

use crate::places::Places;
use crate::reference_target::NAME;

/// What declares the reference system.
const UP: &str = "`kennel system up` starts and declares it";

/// Targets by file, and those that this process itself brought up.
#[derive(Debug)]
pub(crate) struct Known {
    targets: PathBuf,
    own: Vec<Target>,
}

impl Known {
    pub(crate) fn new(places: &Places, own: Vec<Target>) -> Self {
        Self { targets: places.targets(), own }
    }

    fn names(&self) -> String {
        let files = std::fs::read_dir(&self.targets).into_iter().flatten().flatten();
        let mut names: Vec<String> = files
            .filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
            .chain(self.own.iter().map(|target| target.name.clone()))
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

impl Surroundings for Known {
    fn target(&self, name: &str) -> Result<Target, String> {
        if let Some(target) = self.own.iter().find(|target| target.name == name) {
            return Ok(target.clone());
        }
        let plain = !name.is_empty()
            && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
            && !name.starts_with('.');
        let path = self.targets.join(format!("{name}.yaml"));
        let source = match std::fs::read_to_string(&path) {
            Ok(source) if plain => source,
            _ => {
                let known = self.names();
                let hint = if name == NAME { format!("; {UP}") } else { String::new() };
                return Err(match known.as_str() {
                    "" => format!("the name of a file in {}, which has none{hint}", self.targets.display()),
                    known => format!("one of {known}, as declared in {}{hint}", self.targets.display()),
                });
            }
        };
        parse_target(&path.display().to_string(), &source)
            .map_err(|problems| format!("a valid declaration: {problems}"))
    }

    fn way_to_declare(&self, name: &str) -> String {
        if name == NAME {
            return UP.to_owned();
        }
        let file = self.targets.join(format!("{name}.yaml"));
        format!("`kennel file put target {name} FILE` declares it, or a file {}", file.display())
    }

    fn targets(&self) -> Vec<Target> {
        let files = std::fs::read_dir(&self.targets).into_iter().flatten().flatten();
        let names = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()));
        let mut known = self.own.clone();
        for name in names {
            if let (false, Ok(target)) = (known.iter().any(|target| target.name == name), self.target(&name)) {
                known.push(target);
            }
        }
        known
    }

    fn experiment(&self, name: &str) -> Result<String, String> {
        let shipped = kennel_scenarios::library::EXPERIMENTS;
        let found = shipped.iter().find(|file| file.name == name);
        found.map(|file| file.source.to_owned()).ok_or_else(|| {
            let names: Vec<String> = shipped.iter().map(|file| format!("`{}`", file.name)).collect();
            format!("one of {}, or one that a running Kennel keeps", names.join(", "))
        })
    }

    fn builtins(&self) -> Vec<Builtin> {
        kennel_scenarios::builtin::described()
    }
}
